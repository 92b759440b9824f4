//! The load generator. One thread, so that it leaves the other core to who is measured.
//!
//! `load stream|plain|leave|hold ADDRESS PATH BODYFILE CONNECTIONS SECONDS [KEY [HEADER]…]` writes JSON.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::upstream::now;

type BoxError = Box<dyn std::error::Error>;

#[derive(Default)]
struct Figures {
    /// Microseconds from a request to its first event, or whole plain answer.
    first: Vec<f64>,
    /// Microseconds from an event's writing to its arrival.
    delay: Vec<f64>,
    answers: u64,
    events: u64,
}

struct Plan {
    address: String,
    request: Vec<u8>,
    until: Instant,
    figures: Rc<RefCell<Figures>>,
}

pub async fn run(arguments: &[String]) -> Result<(), BoxError> {
    let [kind, address, path, body, connections, seconds, rest @ ..] = arguments else {
        return Err(
            "expected KIND ADDRESS PATH BODYFILE CONNECTIONS SECONDS [KEY [HEADER]…]".into()
        );
    };
    let body = std::fs::read(body)?;
    let key = rest.first().map_or("none", String::as_str);
    let headers: String = rest.iter().skip(1).map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nx-api-key: {key}\r\nauthorization: Bearer {key}\r\n{headers}content-type: application/json\r\nanthropic-version: 2023-06-01\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.into_bytes(), body].concat();
    let (connections, seconds): (usize, f64) = (connections.parse()?, seconds.parse()?);
    let plan = Rc::new(Plan {
        address: address.clone(),
        request,
        until: Instant::now() + Duration::from_secs_f64(seconds),
        figures: Rc::default(),
    });
    let local = tokio::task::LocalSet::new();
    let told = match kind.as_str() {
        "stream" | "plain" => {
            local.run_until(drive(plan, connections, kind == "stream", seconds)).await
        }
        "leave" => local.run_until(leave(plan, connections)).await,
        "hold" => local.run_until(hold(plan, connections)).await,
        _ => Err(format!("unknown kind `{kind}`").into()),
    };
    println!("{}", told?);
    Ok(())
}

async fn drive(
    plan: Rc<Plan>,
    connections: usize,
    stream: bool,
    seconds: f64,
) -> Result<Value, BoxError> {
    let tasks: Vec<_> =
        (0..connections).map(|_| tokio::task::spawn_local(worker(plan.clone(), stream))).collect();
    for task in tasks {
        task.await?.map_err(|error| error.to_string())?;
    }
    let mut figures = plan.figures.borrow_mut();
    let per_second = |count: u64| count as f64 / seconds;
    let (answers, events) = (per_second(figures.answers), per_second(figures.events));
    let figures = &mut *figures;
    Ok(json!({
        "answers_per_s": answers, "events_per_s": events,
        "first_us": quantiles(&mut figures.first), "delay_us": quantiles(&mut figures.delay),
    }))
}

fn quantiles(values: &mut [f64]) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values.get(((values.len() as f64 - 1.0) * part) as usize).copied();
    json!({"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": values.last(), "n": values.len()})
}

async fn worker(plan: Rc<Plan>, stream: bool) -> Result<(), String> {
    let mut socket = connect(&plan).await?;
    let mut held = Vec::with_capacity(64 << 10);
    while Instant::now() < plan.until {
        let begun = Instant::now();
        socket.write_all(&plan.request).await.map_err(|error| error.to_string())?;
        if stream {
            if !read_stream(&mut socket, &mut held, &plan, begun).await? {
                socket = connect(&plan).await?;
            }
        } else {
            if !read_plain(&mut socket, &mut held, &plan, begun).await? {
                socket = connect(&plan).await?;
            }
        }
        plan.figures.borrow_mut().answers += 1;
    }
    Ok(())
}

async fn connect(plan: &Plan) -> Result<TcpStream, String> {
    let socket = TcpStream::connect(&plan.address).await.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(socket)
}

async fn more(socket: &mut TcpStream, held: &mut Vec<u8>) -> Result<(), String> {
    match socket.read_buf(held).await {
        Ok(0) => Err("the connection ended early".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads an answer. False if the server closes the connection behind it, as some do.
async fn read_plain(
    socket: &mut TcpStream,
    held: &mut Vec<u8>,
    plan: &Plan,
    begun: Instant,
) -> Result<bool, String> {
    let head = loop {
        if let Some(end) = memchr::memmem::find(held, b"\r\n\r\n") {
            break end + 4;
        }
        more(socket, held).await?;
    };
    let text = std::str::from_utf8(&held[..head]).map_err(|error| error.to_string())?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(format!("not 200: {text}"));
    }
    let length = text.lines().find_map(|line| {
        line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
    });
    let closes = text.lines().any(|line| line.eq_ignore_ascii_case("connection: close"));
    match length.and_then(|(_, value)| value.trim().parse::<usize>().ok()) {
        Some(length) => {
            while held.len() < head + length {
                more(socket, held).await?;
            }
        }
        // A chunked answer: there is one request at a time, so its end is the end of what came.
        None => {
            while !held.ends_with(b"\r\n0\r\n\r\n") {
                more(socket, held).await?;
            }
        }
    }
    held.clear();
    plan.figures.borrow_mut().first.push(begun.elapsed().as_secs_f64() * 1e6);
    Ok(!closes)
}

/// What stands before the text of a delta, in Messages, in Chat and in Responses.
const DELTAS: [&[u8]; 4] = [
    b"\"text_delta\",\"text\":\"",
    b"\"delta\":{\"content\":\"",
    b"\"content\":\"",
    b"\"delta\":\"",
];

/// Reads a stream to its end. False if the server closes the connection behind it, as some do.
async fn read_stream(
    socket: &mut TcpStream,
    held: &mut Vec<u8>,
    plan: &Plan,
    begun: Instant,
) -> Result<bool, String> {
    let (mut seen, mut first) = (0, true);
    loop {
        if let Err(error) = more(socket, held).await {
            let last: [&[u8]; 2] = [b"data: [DONE]", b"event: message_stop"];
            let ended = last.iter().any(|last| memchr::memmem::find(held, last).is_some());
            held.clear();
            return if ended { Ok(false) } else { Err(error) };
        }
        let arrived = now();
        let mut figures = plan.figures.borrow_mut();
        while let Some(start) = DELTAS.iter().find_map(|delta| {
            Some(seen + memchr::memmem::find(&held[seen..], delta)? + delta.len())
        }) {
            let Some(length) = memchr::memchr(b'"', &held[start..]) else { break };
            seen = start + length;
            // Chat's first chunk has an empty text.
            let Some(written) = std::str::from_utf8(&held[start..seen])
                .ok()
                .and_then(|text| text.parse::<u128>().ok())
            else {
                continue;
            };
            figures.delay.push(arrived.saturating_sub(written) as f64 / 1e3);
            figures.events += 1;
            if std::mem::take(&mut first) {
                figures.first.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
        if held.ends_with(b"\r\n0\r\n\r\n") {
            let head = memchr::memmem::find(held, b"\r\n\r\n").unwrap_or_default();
            let closes = held[..head].to_ascii_lowercase();
            let closes = memchr::memmem::find(&closes, b"\r\nconnection: close").is_some();
            held.clear();
            return Ok(!closes);
        }
        if held.starts_with(b"HTTP/1.1 4") || held.starts_with(b"HTTP/1.1 5") {
            return Err(String::from_utf8_lossy(held).into_owned());
        }
    }
}

async fn open_streams(plan: &Plan, connections: usize) -> Result<Vec<TcpStream>, BoxError> {
    let mut sockets = Vec::new();
    for _ in 0..connections {
        let mut socket = connect(plan).await?;
        socket.write_all(&plan.request).await?;
        let mut held = Vec::new();
        while memchr::memmem::find(&held, b"message_start").is_none() {
            more(&mut socket, &mut held).await?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Opens streams and leaves all at once: when did the upstream notice the last one?
async fn leave(plan: Rc<Plan>, connections: usize) -> Result<Value, BoxError> {
    let sockets = open_streams(&plan, connections).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let left = now();
    drop(sockets);
    Ok(json!({ "left_at": left as u64 }))
}

/// Keeps streams open until its time is up, for looking at memory.
async fn hold(plan: Rc<Plan>, connections: usize) -> Result<Value, BoxError> {
    let sockets = open_streams(&plan, connections).await?;
    eprintln!("holding");
    tokio::time::sleep_until(plan.until.into()).await;
    Ok(json!({ "held": sockets.len() }))
}
