//! Turns that the real program (2.1.329) wrote, with its ids made short: each becomes the Messages stream beside it.
//!
//! `UPDATE_CORPUS=1 cargo test -p seaway-wire --test claude_code` writes the streams anew; read the
//! difference before you keep it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(
    clippy::disallowed_methods,
    reason = "whoever runs it may have it write what it would compare"
)]

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::select;
use seaway_wire::claude_code::{ClientTool, Step, Turn};
use seaway_wire::event::EventFrame;
use seaway_wire::lines::LineDecoder;
use seaway_wire::properties;

fn cases() -> Vec<(PathBuf, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/claude_code");
    let files = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    let mut cases: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "the turns are there");
    cases
}

/// What a client gets of a turn, and how it ends.
fn play(source: &str, size: usize) -> String {
    let tool = |name: &str| ClientTool { name: name.to_owned(), manifest: "{}".to_owned() };
    let tools = if source.contains("\"tools\":[\"get_weather\"") {
        vec![tool("get_weather"), tool("Read")]
    } else {
        Vec::new()
    };
    let (mut decoder, mut turn, mut out) =
        (LineDecoder::with_limit(1 << 20), Turn::begun(tools), Vec::new());
    for piece in source.as_bytes().chunks(size) {
        decoder.buffer().extend_from_slice(piece);
        while let Some(line) = decoder.pull().unwrap() {
            let end = match turn.line(&line, &mut out) {
                Step::Over(after) => format!("over: {after:?}, {} calls held", turn.calls().len()),
                Step::Failed(failure) => {
                    format!("failed: {} {}", failure.status_or_typical(), failure.body())
                }
                Step::Quiet | Step::Wrote | Step::Say(_) | Step::Limit(_) => continue,
            };
            return format!("{}{end}\n", written(&out));
        }
    }
    format!("{}unfinished\n", written(&out))
}

fn written(events: &[EventFrame]) -> String {
    events.iter().map(|event| String::from_utf8(event.to_sse().to_vec()).unwrap()).collect()
}

#[test]
fn every_recorded_turn_becomes_its_stream() {
    for (path, source) in cases() {
        let whole = play(&source, source.len());
        let snapshot = path.with_extension("sse");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(&snapshot, &whole).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&snapshot).unwrap(), whole, "{}", snapshot.display());
        for size in 1..300 {
            assert_eq!(play(&source, size), whole, "{} in pieces of {size} bytes", path.display());
        }
    }
}

/// Whatever lines are lost, come twice or in another order: the properties hold.
#[test]
fn lines_in_any_order_never_make_two_answers() {
    let lines: Vec<String> = cases()
        .iter()
        .flat_map(|(_, source)| source.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let any = prop::collection::vec(select(lines), 0..14);
    proptest!(ProptestConfig::with_cases(300), |(lines in any)| properties::claude_turn(lines.join("\n").as_bytes()));
}

fn block() -> impl Strategy<Value = String> {
    select(vec![
        r#"{"type":"text","text":"a\nb"}"#,
        r#"{"type":"text","text":""}"#,
        "{\"type\":\"text\",\n\"text\":\"ü🌊\\ud83d\",\"cache_control\":{\"type\":\"ephemeral\"}}",
        r#"{"type":"tool_use","id":"t","name":"n","input":{"a":1.0}}"#,
        r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"r","cache_control":{}}]}"#,
        r#"{"type":"tool_result","tool_use_id":"t","content":"r","is_error":true}"#,
        r#"{"type":"thinking","thinking":"t","signature":"s"}"#,
        r#"{"type":"image","source":{"type":"file","file_id":"f"}}"#,
        r#"{"type":"new_block","x":[]}"#,
        "7",
    ])
    .prop_map(str::to_owned)
}

fn message() -> impl Strategy<Value = String> {
    let content = prop_oneof![
        prop::collection::vec(block(), 0..4).prop_map(|blocks| format!("[{}]", blocks.join(","))),
        Just("\"text\"".to_owned()),
        Just("null".to_owned())
    ];
    (select(vec!["user", "user", "assistant", "system", "tool"]), content)
        .prop_map(|(role, content)| format!("{{\"role\":\"{role}\",\"content\":{content}}}"))
}

#[test]
fn requests_of_every_shape_become_lines() {
    let members = select(vec![
        "",
        r#","temperature":0.5,"stop_sequences":["\n"],"metadata":{"user_id":"u"}"#,
        r#","system":[{"type":"text","text":"S\n"}],"tools":[{"name":"n","input_schema":{"type":"object",
            "x":1}}],"tool_choice":{"type":"any","y":2}"#,
        r#","thinking":{"type":"enabled","budget_tokens":2000},"output_config":{"effort":"low","format":{"type":"json_schema","schema":{}}}"#,
        r#","mcp_servers":[],"CLAUDE":1,"model2":null"#,
    ]);
    let request = (
        select(vec!["claude-opus-5-5", "claude-sonnet-4-5", "m"]),
        prop::collection::vec(message(), 0..6),
        members,
    )
        .prop_map(|(model, messages, members)| {
            format!(
                "{{\"model\":\"{model}\",\"max_tokens\":9,\"messages\":[{}]{members}}}",
                messages.join(",\n")
            )
        });
    proptest!(ProptestConfig::with_cases(500), |(body in request)| properties::claude_ask(body.as_bytes()));
}
