//! What must hold for any line that the program might write, and any request that it might be asked.

use crate::Request;
use crate::claude_code::run::Run;
use crate::claude_code::{Ask, AskTerms, AskedRole, Step, Turn, fingerprints, input};
use crate::event::EventFrame;
use crate::lines::LineDecoder;
use crate::model::ModelTraits;
use crate::sse;

const LIMIT: usize = 1 << 16;

/// Where the pipe cuts does not matter, and what goes out is a Messages stream that ends at most once.
pub fn claude_turn(input: &[u8]) {
    let whole = play(input, input.len().max(1));
    for size in [1, 3, 7] {
        assert_eq!(whole, play(input, size), "in pieces of {size} bytes");
    }
    let mut decoder = sse::EventDecoder::with_limit(LIMIT);
    let written: Vec<u8> = whole.0.iter().flat_map(EventFrame::to_sse).collect();
    let mut events = decoder.read(&written);
    let mut stops = 0;
    while let Ok(Some(event)) = events.next() {
        stops += usize::from(event.name == Some("message_stop"));
        assert!(stops == 0 || event.name == Some("message_stop"), "nothing follows the end");
    }
    assert!(stops <= 1, "an answer ends once");
}

fn play(source: &[u8], size: usize) -> (Vec<EventFrame>, String) {
    let (mut decoder, mut turn, mut run) =
        (LineDecoder::with_limit(LIMIT), Turn::begun(Vec::new()), Run::default());
    let (mut out, mut told, mut last) = (Vec::new(), Vec::new(), String::new());
    for piece in source.chunks(size) {
        decoder.buffer().extend_from_slice(piece);
        while let Ok(Some(line)) = decoder.pull() {
            let step = turn.line(&line, &mut out);
            if matches!(step, Step::Over(_) | Step::Failed(_)) {
                last = format!("{step:?}");
            }
            let _ = run.line(&line, &mut told);
        }
    }
    (out, last)
}

/// Whatever is asked becomes lines that are JSON, one each, and a print that depends on what is said alone.
pub fn claude_ask(input: &[u8]) {
    let Ok(request) = Request::parse(input) else { return };
    let terms = AskTerms {
        traits: ModelTraits::of(request.model.as_deref().unwrap_or_default()),
        strict: false,
    };
    let Ok(ask) = Ask::read(&request, &terms) else { return };
    let mut lines = vec![
        input::initialize("i", &ask),
        input::settings("s", &ask),
        input::thinking("t", ask.thinking),
    ];
    for message in &ask.messages {
        lines.push(match message.role {
            AskedRole::User => input::user(&message.blocks, true),
            AskedRole::Assistant => input::assistant(&message.blocks, &ask.model, "m"),
        });
    }
    for line in lines {
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "one line: {line:?}");
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(&line).is_ok(), "JSON: {line:?}");
    }
    let extra: crate::json::Members = serde_json::from_str(&ask.extra).expect("an object");
    let known = ["temperature", "top_p", "top_k", "stop_sequences", "tool_choice", "output_config"];
    assert!(
        extra.iter().all(|(key, _)| known.contains(&key)),
        "nothing else comes along: {}",
        ask.extra
    );
    let prints = fingerprints(&ask);
    assert_eq!(prints.len(), ask.messages.len() + 1);
    assert_eq!(prints, fingerprints(&Ask::read(&request, &terms).expect("it was read before")));
}
