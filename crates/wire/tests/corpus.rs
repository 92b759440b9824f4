//! Recorded streams and requests through every machine, one folder a case. A stream is `upstream.sse`, and
//! becomes `message.json`, the `chat.sse` of its chunks and the `responses.sse` of its events; a Chat request is
//! `request.json`, one of Responses `responses_request.json`, and each becomes the `messages.json` that two models are asked.
//!
//! `UPDATE_CORPUS=1 cargo test -p seaway-wire --test corpus` writes the snapshots anew; read
//! the difference before you keep it. The same properties are fuzzed (fuzz/), with these
//! files as seeds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(
    clippy::disallowed_methods,
    reason = "whoever runs it may have it write what it would compare"
)]

use std::path::{Path, PathBuf};

use seaway_wire::chat::{self, ChatShape, ChatStamp};
use seaway_wire::event::{FromSse, Translator};
use seaway_wire::messages::{Change, Fold};
use seaway_wire::model::ModelTraits;
use seaway_wire::openai::Terms;
use seaway_wire::responses::{self, Before};
use seaway_wire::stage::Out;
use seaway_wire::{Fault, Request, properties};

/// The folders that hold a file of this name, with its text.
fn cases(input: &str) -> Vec<(PathBuf, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let folders = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let mut cases: Vec<_> = folders
        .filter_map(|path| Some((path.clone(), std::fs::read_to_string(path.join(input)).ok()?)))
        .collect();
    cases.sort();
    assert!(cases.len() >= 8, "the corpus is there");
    cases
}

fn streams() -> Vec<(PathBuf, String)> {
    cases("upstream.sse")
}

/// Holds what came against a snapshot, or writes it anew.
#[track_caller]
fn matches(snapshot: &Path, came: &str) {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        std::fs::write(snapshot, format!("{}\n", came.trim_end())).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(snapshot).unwrap().trim_end(),
        came.trim_end(),
        "{}",
        snapshot.display()
    );
}

fn chunks(source: &[u8], size: usize) -> String {
    let stream = chat::ChatStream::new(
        ChatShape { include_usage: true, ..ChatShape::default() },
        ChatStamp { id: "id".into(), created: 1 },
    );
    let (mut stream, mut out) = (FromSse::new(stream), Out::new());
    source.chunks(size).for_each(|piece| stream.translate(piece, &mut out));
    stream.sink_mut().finish(&mut out);
    String::from_utf8(out.iter().flat_map(|frame| frame.iter().copied()).collect()).unwrap()
}

#[test]
fn every_recorded_stream_becomes_its_chunks() {
    for (path, source) in streams() {
        let whole = chunks(source.as_bytes(), source.len());
        matches(&path.join("chat.sse"), &whole);
        for size in [1, 2, 3, 5, 64, 1000] {
            assert_eq!(
                chunks(source.as_bytes(), size),
                whole,
                "{} in pieces of {size} bytes",
                path.display()
            );
        }
    }
}

/// The chunks and the completion are two ways to say one message.
#[test]
fn every_message_becomes_its_completion() {
    for (path, message) in cases("message.json") {
        let completion = chat::completion(
            message.as_bytes(),
            &ChatShape::default(),
            &ChatStamp { id: "id".into(), created: 1 },
        );
        matches(&path.join("chat.json"), &completion.unwrap());
    }
}

fn events(source: &[u8], size: usize) -> String {
    let stream = responses::ResponsesStream::new(
        responses::ResponsesShape { encrypted: true, ..Default::default() },
        moment(),
    );
    let (mut stream, mut out) = (FromSse::new(stream), Out::new());
    source.chunks(size).for_each(|piece| stream.translate(piece, &mut out));
    let stream = stream.sink_mut();
    let kept = stream.take_kept().is_some();
    stream.settle(kept, &mut out);
    stream.finish(&mut out);
    String::from_utf8(out.iter().flat_map(|frame| frame.iter().copied()).collect()).unwrap()
}

fn moment() -> responses::ResponsesStamp {
    responses::ResponsesStamp { id: "id".into(), created: 1, clock: || 2 }
}

#[test]
fn every_recorded_stream_becomes_its_events() {
    for (path, source) in streams() {
        let whole = events(source.as_bytes(), source.len());
        matches(&path.join("responses.sse"), &whole);
        for size in [1, 2, 3, 5, 64, 1000] {
            assert_eq!(
                events(source.as_bytes(), size),
                whole,
                "{} in pieces of {size} bytes",
                path.display()
            );
        }
    }
}

/// At every cut: what is left out makes a stream that failed, or changes nothing.
#[test]
fn a_stream_of_events_that_is_cut_never_looks_whole() {
    let short: Vec<_> = streams().into_iter().filter(|(_, source)| source.len() < 4_000).collect();
    assert!(short.len() >= 6, "there are streams short enough to be cut everywhere");
    for (path, source) in short {
        let whole = events(source.as_bytes(), source.len());
        for at in 0..source.len() {
            let cut = events(&source.as_bytes()[..at], 997);
            assert!(
                cut == whole || cut.contains("event: response.failed\n"),
                "{} cut at {at}",
                path.display()
            );
        }
    }
}

/// The events and the whole response are two ways to say one message.
#[test]
fn every_message_becomes_the_response_that_its_events_end_with() {
    for (path, message) in cases("message.json") {
        let (object, kept) = responses::response(
            message.as_bytes(),
            responses::ResponsesShape { encrypted: true, ..Default::default() },
            moment(),
        )
        .unwrap();
        let source = std::fs::read_to_string(path.join("upstream.sse")).unwrap();
        let events = events(source.as_bytes(), source.len());
        let last = events.lines().rfind(|line| line.starts_with("data: ")).unwrap();
        let last = &last[last.find("\"response\":").unwrap() + 11..];
        // A whole message has of a call that was cut off only what was surely said.
        let cut = last.contains("\"status\":\"failed\"")
            || last.contains("\"status\":\"incomplete\",\"call_id\"");
        if !cut {
            assert_eq!(format!("{object}}}"), last, "{}", path.display());
            assert_eq!(kept.map(|kept| kept.object), Some(object));
        }
        properties::responses_again(br#"{"model":"m","input":"q"}"#, message.as_bytes());
    }
}

/// What each of two models is asked, and what is noted; or why not.
fn asked(
    source: &str,
    translate: impl Fn(&Request<'_>, &Terms<'_>) -> Result<(String, Vec<Change>), Fault>,
) -> String {
    let mut came = String::new();
    for model in ["claude-haiku-4-5", "claude-opus-5-5"] {
        let request = Request::parse(source.as_bytes()).unwrap();
        match translate(
            &request,
            &Terms {
                model,
                traits: ModelTraits::of(model),
                strict: false,
                max_tokens: None,
                marked: false,
                web_search: None,
            },
        ) {
            Ok((body, changes)) => {
                let notes: Vec<String> = changes
                    .iter()
                    .map(|change| format!("{} {}", change.name, change.path))
                    .collect();
                came.push_str(&format!("{body}\n{}\n", notes.join(", ")));
            }
            Err(fault) => came.push_str(&format!("{}\n", fault.message)),
        }
    }
    came
}

#[test]
fn every_chat_request_becomes_its_messages_request() {
    for (path, source) in cases("request.json") {
        let came = asked(&source, |request, terms| {
            chat::to_messages(request, terms)
                .map(|translated| (translated.body, translated.changes))
        });
        matches(&path.join("messages.json"), &came);
    }
}

#[test]
fn every_responses_request_becomes_its_messages_request() {
    for (path, source) in cases("responses_request.json") {
        let before = Before::default();
        let came = asked(&source, |request, terms| {
            responses::to_messages(request, &before, terms)
                .map(|translated| (translated.body, translated.changes))
        });
        matches(&path.join("messages.json"), &came);
    }
}

fn fold(source: &[u8], size: usize) -> String {
    let mut fold = FromSse::<Fold>::default();
    source.chunks(size).for_each(|piece| fold.push(piece));
    fold.into_sink().finish().map_or_else(|error| format!("error: {error}"), |folded| folded.body)
}

#[test]
fn every_recorded_stream_folds_into_its_message() {
    for (path, source) in streams() {
        let body = fold(source.as_bytes(), source.len());
        matches(&path.join("message.json"), &body);
        for size in [1, 2, 3, 5, 64, 1000] {
            assert_eq!(
                fold(source.as_bytes(), size),
                body,
                "{} in pieces of {size} bytes",
                path.display()
            );
        }
    }
}

#[test]
fn framing_does_not_matter() {
    for (path, source) in streams() {
        let body = fold(source.as_bytes(), 64);
        let chat = chunks(source.as_bytes(), 64);
        let framings = [
            source.replace('\n', "\r\n"),
            source.replace("data: ", "data:"),
            source.replace("event: ", ": comment\nid: 1\nevent: "),
            format!("\u{feff}{source}"),
        ];
        for framed in framings {
            assert_eq!(fold(framed.as_bytes(), 7), body, "{}", path.display());
            assert_eq!(chunks(framed.as_bytes(), 7), chat, "{}", path.display());
        }
    }
}

#[test]
fn what_is_fuzzed_holds_on_the_corpus_and_on_its_cuts() {
    for (_, source) in streams() {
        properties::sse(source.as_bytes());
        properties::fold(source.as_bytes());
        properties::chat_stream(source.as_bytes());
        properties::responses_stream(source.as_bytes());
        for at in (0..source.len()).step_by(211) {
            properties::sse(&source.as_bytes()[..at]);
            properties::fold(&source.as_bytes()[..at]);
            properties::chat_stream(&source.as_bytes()[..at]);
            properties::responses_stream(&source.as_bytes()[..at]);
        }
        for data in source.lines().filter_map(|line| line.strip_prefix("data: ")) {
            properties::raw_object(data.as_bytes());
        }
    }
    for (_, source) in cases("request.json") {
        properties::chat_request(source.as_bytes());
        properties::chat_prefix(source.as_bytes());
        for at in (0..source.len()).step_by(53) {
            properties::chat_request(&source.as_bytes()[..at]);
        }
    }
    for (_, source) in cases("responses_request.json") {
        for at in (0..=source.len()).step_by(31) {
            properties::responses_request(&source.as_bytes()[..at]);
        }
        properties::responses_request(source.as_bytes());
    }
    for body in [
        r#"{"model":"m","system":"s","tools":[{"strict":true}],"messages":[{"role":"user","content":"x"}],"top_p":1,"temperature":0.5,"metadata":{},"stream":false}"#,
        "{}",
        "{",
        "[]",
        "",
    ] {
        properties::raw_object(body.as_bytes());
    }
}
