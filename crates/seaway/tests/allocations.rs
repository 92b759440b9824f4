//! How often the gateway asks for memory, counted on all of its threads. The client and the upstream here ask for none.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use seaway::app::App;
use seaway::config::{Config, Environment, Listen, Sources};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Pieces of memory for a request of 1 KB, its answer and its record. The goal is 25.
const A_REQUEST: u64 = 82;
/// For a thousand events of a stream: reads share a buffer, and no event asks for its own.
const A_THOUSAND_EVENTS: u64 = 20;

const REQUESTS: u64 = 400;
const EVENT: &[u8] = b"74\r\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"w\"}}\n\n\r\n";
const END: &[u8] = b"33\r\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n\r\n0\r\n\r\n";
const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: 83\r\n\r\n{\"type\":\"message\",\"model\":\"claude-x\",\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}\n";

/// Reads until `ends` says of what came that it is all.
fn read(stream: &mut TcpStream, buffer: &mut [u8], ends: impl Fn(&[u8]) -> bool) -> usize {
    let mut length = 0;
    while !ends(&buffer[..length]) {
        match stream.read(&mut buffer[length..]) {
            Ok(0) | Err(_) => return 0,
            Ok(more) => length += more,
        }
    }
    length
}

/// True for a head and a body of the length that it says.
fn is_whole(message: &[u8]) -> bool {
    let find = |text: &[u8]| message.windows(text.len()).position(|here| here == text);
    let Some((head, length)) = find(b"\r\n\r\n").zip(find(b"content-length: ")) else {
        return false;
    };
    let digits = message[length + 16..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    message.len() >= head + 4 + length
}

/// Answers what comes with as many events as its path asks for, or with a whole message.
fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 16 << 10];
    stream.set_nodelay(true).unwrap();
    while read(&mut stream, &mut buffer, is_whole) > 0 {
        // `POST /v1/messages?N `
        let asked = buffer.iter().skip(18).take_while(|byte| byte.is_ascii_digit());
        let events = asked.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if events == 0 {
            stream.write_all(WHOLE).unwrap();
            continue;
        }
        stream.write_all(STREAM).unwrap();
        for _ in 0..events {
            stream.write_all(EVENT).unwrap();
        }
        stream.write_all(END).unwrap();
    }
}

/// Starts a gateway before an upstream, which runs for as long as its runtime.
async fn start(upstream: SocketAddr, state: &std::path::Path) -> (App, SocketAddr) {
    let folder = state.to_string_lossy().into_owned();
    let url = format!("http://{upstream}");
    let flags = [
        ("listen", "127.0.0.1:0"),
        ("state_dir", folder.as_str()),
        ("keys", r#"{"tester":"local-key"}"#),
        ("upstream.up.kind", "messages"),
        ("upstream.up.base_url", url.as_str()),
        ("upstream.up.api_key", "upstream-key"),
    ];
    let flags = flags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let environment = Environment::of([("XDG_STATE_HOME".to_owned(), folder.clone())]);
    let file = state.join("seaway.toml");
    std::fs::write(&file, "").unwrap();
    let sources = Sources { file: Some(file), flags, environment };
    let app = App::start(Config::load(&sources).unwrap(), sources).await.unwrap();
    let address = app.addresses.iter().find_map(Listen::socket_address).unwrap();
    (app, address)
}

/// How many pieces of memory are asked for while a call runs, in the whole process.
fn allocations(call: impl FnOnce()) -> u64 {
    let before = dhat::HeapStats::get().total_blocks;
    call();
    dhat::HeapStats::get().total_blocks - before
}

/// One test, since the allocator counts for the whole process.
#[test]
fn a_request_asks_for_little_memory_and_an_event_for_none() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    let state = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let (_app, address) = runtime.block_on(start(upstream, state.path()));
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let text = "What does a lighthouse keeper do all day? ".repeat(21);
    let body = format!(
        r#"{{"model":"claude-x","max_tokens":99,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: test/1\r\nx-api-key: local-key\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut ask = |request: &str, ends: fn(&[u8]) -> bool| {
        client.write_all(request.as_bytes()).unwrap();
        let length = read(&mut client, &mut buffer, ends);
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200 "), "{length} bytes");
    };
    let (whole, few, many) =
        (request("/v1/messages"), request("/v1/messages?100"), request("/v1/messages?1100"));
    let over = |message: &[u8]| message.ends_with(b"\r\n0\r\n\r\n");
    for _ in 0..20 {
        ask(&whole, is_whole);
        ask(&few, over);
    }
    let a_request = allocations(|| (0..REQUESTS).for_each(|_| ask(&whole, is_whole))) / REQUESTS;
    let few = allocations(|| (0..20).for_each(|_| ask(&few, over)));
    let many = allocations(|| (0..20).for_each(|_| ask(&many, over)));
    let events = many.saturating_sub(few) / 20;
    println!("{a_request} a request, {events} a thousand events");
    assert!(a_request <= A_REQUEST, "{a_request} a request, more than {A_REQUEST}");
    assert!(events <= A_THOUSAND_EVENTS, "{events} a thousand events");
}
