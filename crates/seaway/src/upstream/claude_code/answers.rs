//! Replies in Messages: streams, whole messages, lists, and what the program says instead.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use seaway_wire::claude_code::login::Limit;
use seaway_wire::claude_code::output::ListedModel as Listed;
use seaway_wire::claude_code::{Ask, Failure};
use seaway_wire::event::EventFrame;
use seaway_wire::json::{Members, quote};
use seaway_wire::messages::{Change, Fold};
use seaway_wire::model::Model;

use super::QUIET;
use super::answer_stream::AnswerStream;
use crate::upstream::gate::Permit;
use crate::upstream::{BoxError, Payload, Reply, ReplyBody, ReplyFrame, sandbox};

/// The longest wait that clients obey; told to wait longer, they give up or ignore it.
const LONGEST_WAIT: i64 = 60;
/// The API's words for a prompt that is too long, as far as the program lets us see them.
const TOO_LONG: &str = "prompt is too long";
/// The wait after a 429 of which nothing more is known.
const USUAL_WAIT: i64 = 5;

/// An answer as it comes.
pub(super) fn streamed(first: EventFrame, answer: AnswerStream) -> Reply {
    events(pieces(first, answer).boxed())
}

fn pieces(
    first: EventFrame,
    answer: AnswerStream,
) -> impl Stream<Item = Result<ReplyFrame, BoxError>> + Send {
    futures_util::stream::unfold((Some(first), answer), |(first, mut answer)| async move {
        if let Some(first) = first {
            return Some((Ok(ReplyFrame::Event(first)), (None, answer)));
        }
        match answer.next().await {
            Ok(Some(event)) => Some((Ok(ReplyFrame::Event(event)), (None, answer))),
            Ok(None) => None,
            Err(failure) => Some((Err(BoxError::from(failure.message)), (None, answer))),
        }
    })
}

fn events(stream: BoxStream<'static, Result<ReplyFrame, BoxError>>) -> Reply {
    let mut headers = HeaderMap::from_iter([(
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    )]);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Reply {
        status: StatusCode::OK,
        headers,
        body: ReplyBody::Events(stream),
        attempts: 1,
        permit: Permit::free(),
        changes: Vec::new(),
    }
}

/// An answer that was read to its end.
pub(super) fn folded(fold: Fold) -> Reply {
    match fold.finish() {
        Ok(folded) => Reply::json(200, folded.body),
        Err(error) => Reply::error(502, "api_error", &error.to_string()),
    }
}

/// An answer that lets itself be waited for: an event at once and every now and then, the rest when it is there. What
/// would stand in a header is a comment then.
pub(super) fn awaited(
    answering: impl Future<Output = Result<(EventFrame, AnswerStream, Vec<Change>), EventFrame>>
    + Send
    + 'static,
) -> Reply {
    let ping = || (Ok(ReplyFrame::Event(EventFrame::new("{\"type\":\"ping\"}"))), None);
    let waiting = futures_util::stream::unfold(
        (Box::pin(answering), true, false),
        move |(mut answering, first, over)| async move {
            if over {
                return None;
            }
            if first {
                return Some((ping(), (answering, false, false)));
            }
            match tokio::time::timeout(QUIET, &mut answering).await {
                Err(_) => Some((ping(), (answering, false, false))),
                Ok(Ok((first, answer, notes))) => {
                    let notes: Vec<String> =
                        notes.iter().map(|note| format!("{} {}", note.name, note.path)).collect();
                    let note = if notes.is_empty() {
                        Bytes::new()
                    } else {
                        format!(": seaway-note: {}\n\n", notes.join(", ")).into()
                    };
                    Some((
                        (Ok(ReplyFrame::Bytes(note)), Some((first, answer))),
                        (answering, false, true),
                    ))
                }
                Ok(Err(event)) => {
                    Some(((Ok(ReplyFrame::Event(event)), None), (answering, false, true)))
                }
            }
        },
    );
    let whole = waiting.flat_map(|(frame, rest)| {
        let rest = rest.map_or_else(
            || futures_util::stream::empty().boxed(),
            |(first, answer)| pieces(first, answer).boxed(),
        );
        futures_util::stream::once(async { frame }).chain(rest)
    });
    events(whole.boxed())
}

/// Families of models, as they stand in their names and in the program's aliases.
const FAMILIES: [&str; 5] = ["opus", "sonnet", "haiku", "fable", "mythos"];

/// True if that model is what somebody means who asks so: the same one, also by a longer name, or what an alias of
/// the program's stands for.
pub(super) fn is_meant(asked: &str, answers: &str) -> bool {
    let plain = |id: &str| id.split('[').next().unwrap_or_default().to_ascii_lowercase();
    let (asked, answers) = (plain(asked), plain(answers));
    // A date at its end makes it no other.
    let undated = |id: &str| {
        id.rsplit_once('-')
            .filter(|(_, end)| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or_else(|| id.to_owned(), |(id, _)| id.to_owned())
    };
    match (Model::parse(&asked), Model::parse(&answers)) {
        (Some(one), Some(other)) => one == other,
        _ if asked.contains("claude") => undated(&asked) == undated(&answers),
        _ => FAMILIES.iter().all(|family| !asked.contains(family) || answers.contains(family)),
    }
}

/// Where the program has words of its own for people at its prompt, they are put in the API's; the figures that the API
/// gave with them the program keeps to itself.
pub(super) fn put_right(mut failure: Failure, model: &str) -> Failure {
    let Some(status) = failure.status else { return failure };
    // The program's own words stand around the API's.
    let prefixes = [
        format!("Failed to authenticate. API Error: {status} "),
        format!("API Error: Request rejected ({status}) \u{b7} "),
        format!("API Error: {status} "),
        "API Error: ".to_owned(),
    ];
    let said = prefixes
        .iter()
        .find_map(|prefix| failure.message.strip_prefix(prefix.as_str()))
        .unwrap_or(&failure.message);
    let said = said.split(" This is a server-side issue").next().unwrap_or(said).trim_end();
    let said = if status >= 500 { said.strip_suffix('.').unwrap_or(said) } else { said };
    failure.message = match (status, failure.class.as_deref()) {
        (404, Some("model_not_found")) => format!("model: {model}"),
        (413, _) => "request exceeds the maximum size".to_owned(),
        (400, Some("invalid_request")) if said.eq_ignore_ascii_case(TOO_LONG) => TOO_LONG.to_owned(),
        (401, _) => {
            "invalid authentication credentials: the API does not accept what Claude Code is signed in with; run `seaway login`, or look at this upstream's credential".to_owned()
        }
        _ => said.to_owned(),
    };
    failure
}

/// The API's refusal, as the program tells it, once it is put right.
pub(super) fn refused(failure: &Failure) -> Reply {
    let mut failure = failure.clone();
    let status = failure.status_or_typical();
    let until = failure.limit.as_ref().and_then(|limit| limit.resets_at);
    let wait = until.map(|at| (at - jiff::Timestamp::now().as_second()).max(1));
    if let Some(at) = until.and_then(|at| jiff::Timestamp::from_second(at).ok()) {
        let limit = failure.limit.as_ref();
        let whose = limit.and_then(Limit::family).map_or_else(
            || "the plan's limit".to_owned(),
            |family| format!("the plan's limit for {family} models"),
        );
        let kind = limit
            .and_then(|limit| limit.rate_limit_type.as_deref())
            .map(|kind| format!(" (`{kind}`)"))
            .unwrap_or_default();
        failure.message =
            format!("{}: {whose}{kind} is reached; it resets at {at}", failure.message);
    }
    let mut reply = Reply::json(status, failure.body());
    let mut set = |name: &str, value: String| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            reply.headers.insert(name, value);
        }
    };
    if let Some(id) = failure.request_id.clone() {
        set("request-id", id);
    }
    for (name, value) in failure.limit.iter().flat_map(unified) {
        set(&name, value);
    }
    // The program does not say how long the API asked to wait; without a wait, OpenAI's clients take it for an empty account.
    let usual = wait.is_none() && status == 429;
    if let Some(wait) = wait.or(usual.then_some(USUAL_WAIT)) {
        set("retry-after", wait.to_string());
    }
    // Clients that are told to wait longer than they would ask again after a wait of their own.
    if failure.is_final
        || matches!(status, 401 | 403)
        || wait.is_some_and(|wait| wait > LONGEST_WAIT)
    {
        set("x-should-retry", "false".into());
    }
    if usual {
        reply.changes.push(Change {
            name: "retry-after".into(),
            path: "a usual wait; Claude Code does not tell the API's".into(),
        });
    }
    if failure.message == TOO_LONG {
        reply.changes.push(Change {
            name: "error.message".into(),
            path: "without the figures, which Claude Code does not tell".into(),
        });
    }
    reply
}

/// A plan's limit in the API's own headers.
fn unified(limit: &Limit) -> Vec<(String, String)> {
    const NAME: &str = "anthropic-ratelimit-unified";
    let mut headers = vec![(format!("{NAME}-status"), "rejected".to_owned())];
    headers.extend(limit.resets_at.map(|at| (format!("{NAME}-reset"), at.to_string())));
    headers.extend(
        limit.rate_limit_type.clone().map(|kind| (format!("{NAME}-representative-claim"), kind)),
    );
    for (kind, window) in &limit.unified_windows {
        let short = kind.replace("five_hour", "5h").replace("seven_day", "7d");
        headers.extend(
            window
                .utilization
                .map(|used| (format!("{NAME}-{short}-utilization"), used.to_string())),
        );
        headers
            .extend(window.resets_at.map(|at| (format!("{NAME}-{short}-reset"), at.to_string())));
    }
    headers
}

/// The models that the program knows, as the Models API lists them.
pub(super) fn list(models: &[Listed]) -> Reply {
    let mut seen: Vec<&str> = Vec::new();
    let mut listed = Vec::new();
    let named = |model: &&Listed| model.value != "default";
    for model in models.iter().filter(named).chain(models) {
        let Some(id) = id_of(model).filter(|id| !seen.contains(id)) else { continue };
        seen.push(id);
        listed.push(entry(id, model));
    }
    Reply::json(200, format!("{{\"data\":[{}],\"has_more\":false}}", listed.join(",")))
}

/// A model, by its id or by what the program calls it.
pub(super) fn model(models: &[Listed], id: &str) -> Reply {
    let found = models.iter().find_map(|model| {
        id_of(model).filter(|known| *known == id || model.value == id).map(|id| entry(id, model))
    });
    found.map_or_else(
        || Reply::error(404, "not_found_error", &format!("model: {id}")),
        |entry| Reply::json(200, entry),
    )
}

fn id_of(model: &Listed) -> Option<&str> {
    model.resolved_model.as_deref().or(Some(model.value.as_str())).filter(|id| *id != "default")
}

fn entry(id: &str, model: &Listed) -> String {
    let mut entry = Members::default();
    entry.set("type", quote("model"));
    entry.set("id", quote(id));
    // The first words of it are its full name, such as `Opus 5.5 · Best for …`.
    let words = model.description.as_deref().and_then(|text| text.split(" \u{b7} ").next());
    let name =
        words.filter(|words| words.len() < 30).or(model.display_name.as_deref()).unwrap_or(id);
    entry.set("display_name", quote(&format!("Claude {name}")));
    entry.write()
}

/// A count of tokens that says that it is an estimate: the program has no way to ask for one.
pub(super) fn estimate(body: &Payload) -> Reply {
    let Payload::Whole(bytes) = body else {
        return Reply::error(400, "invalid_request_error", "the request body must come whole");
    };
    match serde_json::from_slice(bytes) {
        Ok(request) => {
            let reply = Reply::json(
                200,
                format!("{{\"input_tokens\":{},\"estimated\":true}}", sandbox::estimate(&request)),
            );
            Reply {
                changes: vec![Change { name: "input_tokens".into(), path: "estimated".into() }],
                ..reply
            }
        }
        Err(error) => Reply::error(
            400,
            "invalid_request_error",
            &format!("the request body is not valid: {error}"),
        ),
    }
}

/// What is to be said of a request beside its answer.
pub(super) fn notes(ask: &Ask<'_>, headers: &HeaderMap) -> Vec<Change> {
    let mut changes = ask.changes.clone();
    if headers.contains_key("anthropic-beta") {
        changes.push(Change { name: "anthropic-beta".into(), path: "not passed on".into() });
    }
    changes
}

#[cfg(test)]
mod tests {
    use seaway_wire::claude_code::login::Window;

    use super::*;
    use crate::upstream::read_whole;

    fn models() -> Vec<Listed> {
        let model = |value: &str, resolved: &str, description: &str| Listed {
            value: value.into(),
            resolved_model: Some(resolved.into()),
            display_name: Some("Default (recommended)".into()),
            description: Some(description.into()),
        };
        vec![
            model("default", "claude-opus-5-5", "Use the default model"),
            model("opus", "claude-opus-5-5", "Opus 5.5 · Best"),
            model("haiku", "claude-haiku-5-5", "Haiku 5.5 · Fast"),
        ]
    }

    async fn text(reply: Reply) -> String {
        let body = read_whole(reply.body, 1 << 20, None).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn each_model_is_listed_once() {
        let listed = text(list(&models())).await;
        assert_eq!(listed.matches("\"id\":\"claude-opus-5-5\"").count(), 1, "{listed}");
        assert!(listed.contains("\"display_name\":\"Claude Haiku 5.5\""), "{listed}");
        assert!(text(model(&models(), "haiku")).await.contains("claude-haiku-5-5"));
        assert_eq!(model(&models(), "gpt").status, 404);
    }

    fn limited(kind: &str, wait: i64) -> Failure {
        let at = jiff::Timestamp::now().as_second() + wait;
        let windows =
            [(kind.to_owned(), Window { utilization: Some(1.0), resets_at: Some(at) })].into();
        let limit = Limit {
            resets_at: Some(at),
            rate_limit_type: Some(kind.to_owned()),
            unified_windows: windows,
            ..Limit::default()
        };
        Failure {
            status: Some(429),
            kind: Some("rate_limit_error".into()),
            message: "You've hit your limit".into(),
            limit: Some(limit),
            ..Failure::default()
        }
    }

    #[tokio::test]
    async fn a_plans_limit_says_when_it_resets_and_that_nobody_need_ask_before() {
        let reply = refused(&limited("five_hour", 9000));
        let header = |name: &str| {
            reply
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!((reply.status.as_u16(), header("x-should-retry").as_str()), (429, "false"));
        assert!(
            (8990..=9000).contains(&header("retry-after").parse::<i64>().unwrap()),
            "{}",
            header("retry-after")
        );
        assert_eq!(
            (
                header("anthropic-ratelimit-unified-status"),
                header("anthropic-ratelimit-unified-representative-claim")
            ),
            ("rejected".into(), "five_hour".into())
        );
        assert_eq!(header("anthropic-ratelimit-unified-5h-utilization"), "1");
        let said = text(reply).await;
        assert!(
            said.contains("the plan's limit (`five_hour`) is reached; it resets at 20"),
            "{said}"
        );
        let said = text(refused(&limited("seven_day_opus", 9000))).await;
        assert!(
            said.contains("the plan's limit for opus models (`seven_day_opus`) is reached"),
            "{said}"
        );
        let soon = refused(&limited("five_hour", 30));
        assert!(!soon.headers.contains_key("x-should-retry"), "that long a client waits");
    }

    #[test]
    fn the_programs_words_for_its_prompt_are_put_in_the_apis() {
        let table = [
            (400, None, "API Error: 400 messages.0.content: odd", "messages.0.content: odd"),
            (
                429,
                Some("rate_limit"),
                "API Error: Request rejected (429) \u{b7} slow down",
                "slow down",
            ),
            (
                404,
                Some("model_not_found"),
                "There's an issue with the selected model (m). Run --model to pick a different model.",
                "model: claude-nope",
            ),
            (
                413,
                Some("invalid_request"),
                "Request too large (max 32MB). Remove older images or compact the conversation.",
                "request exceeds the maximum size",
            ),
            (400, Some("invalid_request"), "Prompt is too long", "prompt is too long"),
            (
                529,
                Some("server_error"),
                "API Error: 529 Overloaded. This is a server-side issue, usually temporary \u{2014} try again in a moment.",
                "Overloaded",
            ),
            (
                403,
                Some("authentication_failed"),
                "Failed to authenticate. API Error: 403 no access to this",
                "no access to this",
            ),
            (
                401,
                Some("authentication_failed"),
                "Not logged in \u{b7} Please run /login",
                "invalid authentication credentials: the API does not accept what Claude Code is signed in with; run `seaway login`, or look at this upstream's credential",
            ),
        ];
        for (status, class, said, expect) in table {
            let failure = Failure {
                status: Some(status),
                class: class.map(str::to_owned),
                message: said.into(),
                ..Failure::default()
            };
            assert_eq!(put_right(failure, "claude-nope").message, expect, "{said}");
        }
        let noted =
            refused(&Failure { status: Some(429), message: "slow".into(), ..Failure::default() });
        assert_eq!((noted.headers["retry-after"].to_str().unwrap(), noted.changes.len()), ("5", 1));
    }

    #[test]
    fn a_model_is_the_one_that_was_meant_or_is_told() {
        for (asked, answers) in [
            ("claude-opus-4-5", "claude-opus-4-5-20251101"),
            ("claude-sonnet-5-5[1m]", "claude-sonnet-5-5"),
            ("opus", "claude-opus-5-5"),
            ("default", "claude-sonnet-5-5"),
            ("claude-new", "claude-new"),
        ] {
            assert!(is_meant(asked, answers), "{asked} {answers}");
        }
        for (asked, answers) in [
            ("claude-opus-4-20250514", "claude-opus-5-5"),
            ("claude-opus-4-1-20250805", "claude-opus-5-5"),
            ("claude-new", "claude-opus-5-5"),
            ("sonnet", "claude-opus-5-5"),
        ] {
            assert!(!is_meant(asked, answers), "{asked} {answers}");
        }
    }
}
