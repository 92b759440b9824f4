//! Recorded streams through every machine: one folder a case, `upstream.sse` in, `message.json` out.
//!
//! `UPDATE_CORPUS=1 cargo test -p seaway-wire --test corpus` writes the snapshots anew; read
//! the difference before you keep it. The same properties are fuzzed (fuzz/), with these
//! files as seeds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::PathBuf;

use seaway_wire::messages::Fold;
use seaway_wire::properties;

fn cases() -> Vec<(PathBuf, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let folders = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let mut cases: Vec<_> = folders.map(|path| (path.clone(), std::fs::read_to_string(path.join("upstream.sse")).unwrap())).collect();
    cases.sort();
    assert!(cases.len() >= 8, "the corpus is there");
    cases
}

fn fold(source: &[u8], size: usize) -> String {
    let mut fold = Fold::default();
    source.chunks(size).for_each(|piece| fold.push(piece));
    fold.finish().map_or_else(|error| format!("error: {error}"), |folded| folded.body)
}

#[test]
fn every_recorded_stream_folds_into_its_message() {
    for (path, source) in cases() {
        let snapshot = path.join("message.json");
        let body = fold(source.as_bytes(), source.len());
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&snapshot, format!("{body}\n")).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&snapshot).unwrap().trim_end(), body, "{}", path.display());
        for size in [1, 2, 3, 5, 64, 1000] {
            assert_eq!(fold(source.as_bytes(), size), body, "{} in pieces of {size} bytes", path.display());
        }
    }
}

#[test]
fn framing_does_not_matter() {
    for (path, source) in cases() {
        let body = fold(source.as_bytes(), 64);
        let framings = [source.replace('\n', "\r\n"), source.replace("data: ", "data:"), source.replace("event: ", ": comment\nid: 1\nevent: "), format!("\u{feff}{source}")];
        for framed in framings {
            assert_eq!(fold(framed.as_bytes(), 7), body, "{}", path.display());
        }
    }
}

#[test]
fn what_is_fuzzed_holds_on_the_corpus_and_on_its_cuts() {
    for (_, source) in cases() {
        properties::sse(source.as_bytes());
        properties::fold(source.as_bytes());
        for at in (0..source.len()).step_by(211) {
            properties::sse(&source.as_bytes()[..at]);
            properties::fold(&source.as_bytes()[..at]);
        }
        for data in source.lines().filter_map(|line| line.strip_prefix("data: ")) {
            properties::raw_object(data.as_bytes());
        }
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
