//! What must hold for any bytes: what is taken here, hyper reads in the same way.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::body::BodyDecoder;
use crate::head::{RequestRead, request, response};

/// A request as somebody read it.
type Asked = (Method, String, HeaderMap, Bytes);
/// An answer as somebody read it; `None` in the place of a body that broke off.
type Told = (StatusCode, HeaderMap, Option<Bytes>);

/// A client sends these bytes and nothing more: every request that is taken here is the one that hyper sees in its place.
///
/// # Panics
///
/// If it does not hold.
pub fn requests(sent: &[u8]) {
    let ours = our_requests(sent);
    if ours.is_empty() {
        return;
    }
    let theirs = block_on(their_requests(sent));
    for (number, ours) in ours.iter().enumerate() {
        assert_eq!(Some(ours), theirs.get(number), "request {number}");
    }
}

/// A server answers a `POST` with these bytes and closes: an answer that is whole here is whole for hyper, and the same; one
/// that breaks off here is not whole for hyper unless this crate is the stricter one.
///
/// # Panics
///
/// If it does not hold.
pub fn responses(sent: &[u8]) {
    let Some(ours) = our_response(sent) else { return };
    let theirs = block_on(their_response(sent));
    let theirs = theirs.expect("hyper reads every head that is read here");
    assert_eq!((ours.0, &ours.1), (theirs.0, &theirs.1), "its head");
    if ours.2.is_some() {
        assert_eq!(ours.2, theirs.2, "its body");
    }
    // However it is cut, it is the same.
    for cut in 0..sent.len().min(64) {
        assert_eq!(
            our_response_in(&[&sent[..cut], &sent[cut..]]).as_ref(),
            Some(&ours),
            "at {cut}"
        );
    }
}

fn our_requests(sent: &[u8]) -> Vec<Asked> {
    let (mut buffer, mut all) = (BytesMut::from(sent), Vec::new());
    while let Ok(RequestRead::Plain(head)) = request(&mut buffer, |_, _| true) {
        let Ok(length) = usize::try_from(head.length) else { break };
        if buffer.len() < length {
            break;
        }
        let body = buffer.split_to(length).freeze();
        all.push((head.method, head.target.as_str().to_owned(), head.headers, body));
        if !head.keeps {
            break;
        }
    }
    all
}

fn our_response(sent: &[u8]) -> Option<Told> {
    our_response_in(&[sent])
}

fn our_response_in(pieces: &[&[u8]]) -> Option<Told> {
    let mut pieces = pieces.iter();
    let mut buffer = BytesMut::new();
    let head = loop {
        if let Some(head) = response(&mut buffer, false).ok()? {
            break head;
        }
        buffer.extend_from_slice(pieces.next()?);
    };
    let (mut decoder, mut body) = (BodyDecoder::new(head.framing), BytesMut::new());
    let whole = loop {
        match decoder.decode(&mut buffer) {
            Err(_) => break false,
            Ok(_) if decoder.is_done() && body.len() > (1 << 20) => break false,
            Ok(bytes) if !bytes.is_empty() => body.extend_from_slice(&bytes),
            Ok(_) if decoder.is_done() => break true,
            Ok(_) => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => break decoder.closed().is_ok(),
            },
        }
    };
    Some((head.status, head.headers, whole.then(|| body.freeze())))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without IO can be made").block_on(future)
}

async fn their_requests(sent: &[u8]) -> Vec<Asked> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let (seen, mut all) = mpsc::unbounded_channel();
    let service =
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let seen = seen.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let asked: Asked = (head.method, head.uri.to_string(), head.headers, body);
                let _ended = seen.send(asked);
                Ok::<_, hyper::Error>(http::Response::new(Full::<Bytes>::default()))
            }
        });
    let serving = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(near), service);
    let writing = async {
        let _closed = far.write_all(sent).await;
        let _closed = far.shutdown().await;
        let mut answers = Vec::new();
        let _closed = tokio::io::AsyncReadExt::read_to_end(&mut far, &mut answers).await;
    };
    let _ended = tokio::join!(serving, writing);
    let mut seen = Vec::new();
    while let Ok(asked) = all.try_recv() {
        seen.push(asked);
    }
    seen
}

async fn their_response(sent: &[u8]) -> Option<Told> {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let made = hyper::client::conn::http1::handshake(TokioIo::new(near)).await;
    let (mut asking, connection) = made.ok()?;
    let answering = async {
        // What comes before it is asked for is no answer.
        let mut first = [0; 1];
        let _came = tokio::io::AsyncReadExt::read(&mut far, &mut first).await;
        let _closed = far.write_all(sent).await;
        let _closed = far.shutdown().await;
        far
    };
    let told = async {
        let request =
            http::Request::post("/").header("host", "x").body(Empty::<Bytes>::new()).ok()?;
        let (head, body) = asking.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
        Some((head.status, head.headers, body))
    };
    let (told, _far, _ended) = tokio::join!(told, answering, connection);
    told
}
