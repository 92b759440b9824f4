//! Malformed input: a 400 in the caller's dialect, never a dropped connection, never a 500.

use crate::support::{ASK, Gateway};

#[tokio::test]
async fn malformed_bodies_are_told_where() {
    let gateway = Gateway::start(&[("upstream.sandbox.kind", "sandbox")]).await;
    let mut client = gateway.client().await;
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    let table = [
        ("[]", "expected a JSON object"),
        ("\"text\"", "expected a JSON object"),
        ("{", "member name"),
        ("{\"model\":\"m\",}", "member name"),
        (&deep, "nested too deeply"),
        ("{\"model\":7}", "model: input should be a string"),
        ("{\"model\":\"m\",\"stream\":1}", "stream: input should be true or false"),
        ("{\"model\":\"m\",\"model\":\"n\"}", "the same member twice"),
        ("{\"model\":\"\\ud83d\",\"messages\":[]}", "model: input should be a string"),
        (
            "{\"model\":\"sandbox-opus-1\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}",
            "messages.0.content.0",
        ),
        (
            "{\"model\":\"sandbox-opus-1\",\"max_tokens\":\"many\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
            "max_tokens: Input",
        ),
    ];
    for (body, what) in table {
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            if path.ends_with("count_tokens") && what.starts_with("max_tokens") {
                continue;
            }
            let answer = client.post(path, body).await;
            let json = answer.json();
            assert_eq!(
                (answer.status, &json["type"], &json["error"]["type"]),
                (400, &"error".into(), &"invalid_request_error".into()),
                "{body:.60}"
            );
            let message = json["error"]["message"].as_str().unwrap();
            assert!(message.contains(what), "{message}");
        }
    }
    let empty = client.post("/v1/messages", "").await;
    assert_eq!(empty.status, 400);
}

#[tokio::test]
async fn bytes_that_are_no_http_do_not_disturb_others() {
    let gateway = Gateway::start(&[("upstream.sandbox.kind", "sandbox")]).await;
    for garbage in [
        "\0\0\0\0",
        "GET\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: local-key\r\nContent-Length: nine\r\n\r\n{}",
    ] {
        let mut client = gateway.client().await;
        client.write(garbage).await;
        let answer = client.head().await;
        assert_eq!(answer.status, 400, "{garbage:?}");
    }
    assert_eq!(gateway.client().await.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn an_encoded_body_is_read_or_refused_by_name() {
    let gateway =
        Gateway::start(&[("upstream.sandbox.kind", "sandbox"), ("body_limit", "100000")]).await;
    let ask = ASK.as_bytes();
    let bomb = vec![b' '; 200_000];
    let table: [(&str, Vec<u8>, u16, &str); 9] = [
        ("gzip", gzip(ask), 200, "message"),
        ("GZip", gzip(ask), 200, "message"),
        ("identity", ask.to_vec(), 200, "message"),
        ("zstd", zstd(ask), 200, "message"),
        ("gzip, zstd", zstd(&gzip(ask)), 200, "message"),
        ("gzip", gzip(&bomb), 413, "100000"),
        ("zstd", zstd(&bomb), 413, "100000"),
        ("gzip", ask.to_vec(), 400, "`gzip`"),
        ("br", ask.to_vec(), 400, "`br`; send it plain, or as `gzip`"),
    ];
    for (encoding, body, status, words) in table {
        let mut client = gateway.client().await;
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nx-api-key: local-key\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client.write(head).await;
        client.write(body).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{encoding}: {}", answer.text());
        assert!(answer.text().contains(words), "{encoding}: {}", answer.text());
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}
