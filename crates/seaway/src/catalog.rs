//! The models that upstreams list, kept for a while.

mod codex;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use seaway_wire::Endpoint;
use seaway_wire::json::{Members, quote};
use seaway_wire::model::Capabilities;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

pub use codex::{OF_CODEX, codex_models, undated};

use crate::auth::CARRIERS;
use crate::config::UpstreamName;
use crate::fault::{Fault, FaultKind};
use crate::refreshed::{Fetched, Refreshed};
use crate::tunnel::{Login, TunnelError};
use crate::upstream::{Call, Reply, Upstream, read_whole};

const GOOD_FOR: Duration = Duration::from_secs(300);
/// A failure is forgotten soon: not for ever.
const BAD_FOR: Duration = Duration::from_secs(10);
/// How long a list may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a request waits for it.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// Models that are named where a family has none.
const NAMED: usize = 10;
/// The largest list that is read.
const LIMIT: usize = 8 << 20;

/// One upstream's models, each as the upstream wrote it.
pub type Models = Arc<Vec<Members>>;

/// An upstream listed no models; what it said instead, if anything.
#[derive(Debug, Clone)]
pub struct NoList {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub message: String,
    /// There was no answer at all: why, as any other request would be told.
    pub failure: Option<(FaultKind, Option<&'static str>, Option<Duration>)>,
}

type ListResult = Result<Models, Arc<NoList>>;

/// Whose list it is: an upstream's, or, where it shows each credential its own, what one credential sees there.
type ListKey = (UpstreamName, Option<[u8; 32]>);

/// Credentials whose lists are kept, at the most.
const MOST_LISTS: usize = 256;

/// The lists, each fetched by one for all who want it.
#[derive(Debug)]
pub struct Catalog {
    lists: Mutex<HashMap<ListKey, Refreshed<ListResult>>>,
    tasks: TaskTracker,
}

/// A family's name stands for nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    #[error("model: `{family}` stands for the newest that upstream `{upstream}` lists, and there is no list: {}; name a model in full", .why.message)]
    NoList { family: String, upstream: UpstreamName, why: Arc<NoList> },
    #[error("model: upstream `{upstream}` lists no `{family}`; there are {}", .listed.join(", "))]
    NoneOf { family: String, upstream: UpstreamName, listed: Vec<String> },
}

impl From<Unresolved> for Fault {
    fn from(unresolved: Unresolved) -> Self {
        let message = unresolved.to_string();
        let unknown = |message| Self::new(FaultKind::NotFound, message).code("model_not_found");
        let Unresolved::NoList { why, .. } = unresolved else {
            return unknown(message).param("model");
        };
        let mut fault = match why.failure {
            Some((kind, ..)) => Self::new(kind, message),
            None => match why.status.as_u16() {
                // The upstream has no such list, so it will have none the next time.
                404 | 405 | 501 => unknown(message),
                401 => Self::new(FaultKind::Unauthenticated, message),
                403 => Self::new(FaultKind::Forbidden, message),
                429 => Self::new(FaultKind::RateLimited, message),
                529 => Self::new(FaultKind::Overloaded, message),
                _ => Self::new(FaultKind::BadReply, message),
            },
        };
        if let Some((_, layer, wait)) = why.failure {
            (fault.layer, fault.retry_after) = (layer, wait);
        }
        fault.param("model")
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Members>,
}

impl Catalog {
    /// Nothing is listed yet. What is, is fetched in `tasks`.
    pub fn new(tasks: TaskTracker) -> Self {
        Self { lists: Mutex::default(), tasks }
    }

    /// Lists an upstream's models. Cancel safe: a list that was asked for comes to the others that wait.
    ///
    /// # Errors
    ///
    /// [`NoList`] with the upstream's own answer.
    pub async fn models(
        &self,
        upstream: &Arc<Upstream>,
        client: &HeaderMap,
    ) -> Result<Models, Arc<NoList>> {
        self.within(PATIENCE, upstream, client).await
    }

    /// Lists those of an upstream's models that a client's own query asks for, such as `lifecycle[]=deprecated`. It is
    /// the upstream's to read, and what it answers is nobody else's list.
    ///
    /// # Errors
    ///
    /// [`NoList`] with the upstream's own answer.
    pub async fn narrowed(
        &self,
        upstream: &Arc<Upstream>,
        client: &HeaderMap,
        query: &str,
    ) -> Result<Models, Arc<NoList>> {
        let own = own_headers();
        let headers = if upstream.passes_credentials() { client } else { &own };
        fetch_in_time(upstream, headers, query).await
    }

    /// Waits no longer than that for a list, but for a login on the way to it.
    async fn within(
        &self,
        patience: Duration,
        upstream: &Arc<Upstream>,
        client: &HeaderMap,
    ) -> Result<Models, Arc<NoList>> {
        let (list, headers) = self.list(upstream, client);
        // A login takes what it takes; the list is not late for that.
        if let Some(tunnel) = upstream.tunnel().filter(|_| !list.is_known()) {
            let told = |error: TunnelError| NoList {
                failure: Some((error.kind, Some(error.layer.name()), error.retry_after)),
                ..unreachable(error.message)
            };
            tunnel.up(Login::Batch).await.map_err(|error| Arc::new(told(error)))?;
        }
        let asked = upstream.clone();
        let fetched = list.get(move || async move {
            let value = fetch_in_time(&asked, &headers, "").await;
            let lasting = value.is_ok();
            Fetched { value, fresh: if lasting { GOOD_FOR } else { BAD_FOR }, lasting }
        });
        match tokio::time::timeout(patience, fetched).await {
            Ok(Ok(listed)) => listed,
            Ok(Err(gone)) => Err(Arc::new(unreachable(gone.to_string()))),
            Err(_) => Err(Arc::new(late(upstream, patience))),
        }
    }

    /// Where a list is kept, and what it is asked for with.
    fn list(&self, upstream: &Upstream, client: &HeaderMap) -> (Refreshed<ListResult>, HeaderMap) {
        let mut headers = own_headers();
        let mut whose = (upstream.name.clone(), None);
        // A passed credential may see other models than the next one, and may need what the client sends beside it.
        if upstream.passes_credentials() {
            let mut hash = blake3::Hasher::new();
            let names = client.keys().filter(|name| {
                CARRIERS.contains(name)
                    || name.as_str().starts_with("anthropic-")
                    || name.as_str().starts_with("openai-")
            });
            for name in names {
                for value in client.get_all(name) {
                    hash.update(name.as_str().as_bytes())
                        .update(b"\n")
                        .update(value.as_bytes())
                        .update(b"\n");
                }
            }
            whose.1 = Some(*hash.finalize().as_bytes());
            headers = client.clone();
        }
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= MOST_LISTS && !lists.contains_key(&whose) {
            lists.retain(|(_, credential), _| credential.is_none());
        }
        (lists.entry(whose).or_insert_with(|| Refreshed::new(self.tasks.clone())).clone(), headers)
    }

    /// Returns what an upstream tells of a model's capabilities, if it does.
    pub async fn capabilities(
        &self,
        upstream: &Arc<Upstream>,
        client: &HeaderMap,
        id: &str,
    ) -> Option<Capabilities> {
        let models = self.within(SHORT_PATIENCE, upstream, client).await.ok()?;
        let model = models.iter().find(|model| {
            model.get("id").and_then(|raw| serde_json::from_str::<String>(raw).ok()).as_deref()
                == Some(id)
        })?;
        serde_json::from_str(&model.write()).ok()
    }

    /// Returns the newest model of a family such as `opus`.
    ///
    /// # Errors
    ///
    /// [`Unresolved`] if there is none, or no list within two seconds.
    pub async fn newest(
        &self,
        upstream: &Arc<Upstream>,
        client: &HeaderMap,
        family: &str,
    ) -> Result<String, Unresolved> {
        let (wanted, name) = (|| family.to_owned(), || upstream.name.clone());
        let models = self
            .within(SHORT_PATIENCE, upstream, client)
            .await
            .map_err(|why| Unresolved::NoList { family: wanted(), upstream: name(), why })?;
        let mut fits: Vec<_> = models
            .iter()
            .filter(|model| text(model, "id").is_some_and(|id| id.to_lowercase().contains(family)))
            .collect();
        // Stable, so that without dates the upstream's own order counts.
        fits.sort_by_key(|model| std::cmp::Reverse(text(model, "created_at").unwrap_or_default()));
        let newest = fits.into_iter().next().and_then(asked_as);
        newest.ok_or_else(|| Unresolved::NoneOf {
            family: wanted(),
            upstream: name(),
            listed: models.iter().filter_map(asked_as).take(NAMED).collect(),
        })
    }

    /// Returns how an upstream writes a model's name, if it lists one that is the same but for case and punctuation.
    pub async fn listed(
        &self,
        upstream: &Arc<Upstream>,
        client: &HeaderMap,
        name: &str,
    ) -> Option<String> {
        find(&self.within(SHORT_PATIENCE, upstream, client).await.ok()?, name)
    }
}

fn text(model: &Members, key: &str) -> Option<String> {
    model.get(key).and_then(|raw| serde_json::from_str(raw).ok())
}

/// The name to ask for a model by: some lists tell another one than they show.
pub fn asked_as(model: &Members) -> Option<String> {
    text(model, "internal_id").filter(|id| !id.is_empty()).or_else(|| text(model, "id"))
}

/// Finds a model by the name that some platform has for it: exactly, else but for case and punctuation, else but for
/// what platforms put around a name, the order of its words, and its date.
fn find(models: &[Members], name: &str) -> Option<String> {
    let names = |model: &Members| {
        ["id", "internal_id"].into_iter().filter_map(|key| text(model, key)).collect::<Vec<_>>()
    };
    let exact = models.iter().find(|model| text(model, "internal_id").as_deref() == Some(name));
    let like = |same: &dyn Fn(&str) -> bool| {
        models.iter().find(|model| names(model).iter().any(|known| same(known)))
    };
    let wanted = PlainName::of(name);
    let found = exact
        .or_else(|| like(&|known| known == name))
        .or_else(|| like(&|known| bare(known) == bare(name)))
        .or_else(|| like(&|known| PlainName::of(known) == wanted));
    if let Some(found) = found {
        return asked_as(found);
    }
    // An undated name stands for the newest of its dates, and a dated one for a name without.
    let words = |known: &str| {
        Some(PlainName::of(known)).filter(|known| {
            known.words == wanted.words
                && known.numbers == wanted.numbers
                && (wanted.date.is_none() || known.date.is_none())
        })
    };
    let dated = models.iter().filter_map(|model| {
        Some((
            names(model)
                .iter()
                .filter_map(|known| words(known))
                .max_by(|a, b| a.date.cmp(&b.date))?
                .date,
            model,
        ))
    });
    dated.max_by(|(a, _), (b, _)| a.cmp(b)).and_then(|(_, model)| asked_as(model))
}

fn bare(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A model's name without what platforms put around it.
#[derive(Debug, PartialEq, Eq)]
struct PlainName {
    /// Sorted: platforms differ in where they put the number.
    words: Vec<String>,
    /// In their order.
    numbers: Vec<String>,
    /// `20251001`.
    date: Option<String>,
}

impl PlainName {
    /// Reads `anthropic/claude-opus-4.7`, `us.anthropic.claude-opus-4-7-20260101-v1:0`, `claude-opus-4-7@20260101`, …
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        // Where a provider stands before it, the name begins with the family of families.
        let name =
            name.rfind("claude").map_or(name.rsplit('/').next().unwrap_or(&name), |at| &name[at..]);
        let mut words = Vec::new();
        let mut date = None;
        let mut pieces = name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|piece| !piece.is_empty())
            .peekable();
        while let Some(piece) = pieces.next() {
            let digits = piece.bytes().all(|byte| byte.is_ascii_digit());
            match piece {
                _ if digits && piece.len() == 8 => date = Some(piece.to_owned()),
                "latest" | "default" => {}
                // Bedrock's own version of a model: `v1:0`.
                _ if piece.len() <= 3
                    && piece.strip_prefix('v').is_some_and(|rest| {
                        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
                    }) =>
                {
                    pieces.next_if(|next| next.bytes().all(|byte| byte.is_ascii_digit()));
                }
                _ => words.extend(parted(piece)),
            }
        }
        let (numbers, mut words): (Vec<_>, Vec<_>) = words
            .into_iter()
            .partition(|word: &String| word.bytes().all(|byte| byte.is_ascii_digit()));
        words.sort_unstable();
        Self { words, numbers, date }
    }
}

/// Words and numbers that stand together, one by one: `opus48` is `opus`, `4`, `8`.
fn parted(piece: &str) -> Vec<String> {
    let Some(at) = piece
        .find(|c: char| c.is_ascii_digit())
        .filter(|at| *at > 0 && piece[*at..].bytes().all(|byte| byte.is_ascii_digit()))
    else {
        return vec![piece.to_owned()];
    };
    let families = ["opus", "sonnet", "haiku", "fable", "mythos"];
    let (word, number) = piece.split_at(at);
    let known = word.strip_prefix("claude").unwrap_or(word);
    if !families.contains(&known) {
        return vec![piece.to_owned()];
    }
    let prefix = word.starts_with("claude").then(|| "claude".to_owned());
    prefix.into_iter().chain([known.to_owned()]).chain(number.chars().map(String::from)).collect()
}

/// What is kept for all must not depend on who asked first.
fn own_headers() -> HeaderMap {
    HeaderMap::from_iter([(
        http::header::USER_AGENT,
        HeaderValue::from_static(crate::headers::USER_AGENT),
    )])
}

fn unreachable(message: String) -> NoList {
    NoList {
        status: StatusCode::BAD_GATEWAY,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        message,
        failure: None,
    }
}

fn late(upstream: &Upstream, patience: Duration) -> NoList {
    let message = format!(
        "upstream `{}` listed no models within {} seconds",
        upstream.name,
        patience.as_secs()
    );
    NoList { failure: Some((FaultKind::TimedOut, None, None)), ..unreachable(message) }
}

async fn fetch_in_time(upstream: &Upstream, client: &HeaderMap, query: &str) -> ListResult {
    match tokio::time::timeout(PATIENCE, fetch(upstream, client, query)).await {
        Ok(found) => found.map_err(Arc::new),
        Err(_) => Err(Arc::new(late(upstream, PATIENCE))),
    }
}

/// `query` is what a client adds, as it wrote it.
async fn fetch(upstream: &Upstream, client: &HeaderMap, query: &str) -> Result<Models, NoList> {
    let mut headers = client.clone();
    headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
    let query = format!("limit=1000{}{query}", if query.is_empty() { "" } else { "&" });
    let call = Call::own(Method::GET, Endpoint::Models, Some(query), headers, Bytes::new());
    let reply = upstream.call(call).await.map_err(|error| NoList {
        failure: Some((error.kind, error.layer, error.retry_after)),
        ..unreachable(error.message)
    })?;
    let (status, headers) = (reply.status, reply.headers.clone());
    let body = whole(reply).await.map_err(unreachable)?;
    let list = serde_json::from_slice::<ModelList>(&body).ok().filter(|_| status.is_success());
    match list {
        Some(list) => {
            Ok(Arc::new(list.data.into_iter().filter(|model| model.get("id").is_some()).collect()))
        }
        None => Err(NoList {
            failure: None,
            status,
            headers,
            body,
            message: format!(
                "upstream `{}` lists no models (status {})",
                upstream.name,
                status.as_u16()
            ),
        }),
    }
}

/// Reads a reply's body, up to a limit.
///
/// # Errors
///
/// What broke it off.
pub async fn whole(reply: Reply) -> Result<Bytes, String> {
    read_whole(reply.body, LIMIT, None).await.map_err(|error| error.to_string())
}

/// Writes a model with the members that both vendors' SDKs read, side by side.
///
/// A `null` name is left out: Claude Code discards a list that has one.
pub fn both_shapes(model: &Members) -> String {
    let mut out = Members::default();
    for (key, raw) in model.iter().filter(|(key, raw)| !(*key == "display_name" && *raw == "null"))
    {
        out.set(key, raw);
    }
    let text = |key: &str| model.get(key).and_then(|raw| serde_json::from_str::<String>(raw).ok());
    let created = text("created_at")
        .and_then(|at| at.parse::<jiff::Timestamp>().ok())
        .map_or(0, jiff::Timestamp::as_second);
    let defaults = [
        ("type", quote("model")),
        ("display_name", quote(&text("id").unwrap_or_default())),
        ("created_at", quote("1970-01-01T00:00:00Z")),
        ("object", quote("model")),
        ("created", created.to_string()),
        ("owned_by", quote("anthropic")),
    ];
    for (key, raw) in defaults {
        if out.get(key).is_none() {
            out.set(key, raw);
        }
    }
    out.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_whatever_its_case_and_punctuation() {
        let models: Vec<Members> = [
            r#"{"id":"gpt4o"}"#,
            r#"{"id":"o3-mini","internal_id":"gpto3mini"}"#,
            r#"{"id":"Claude Opus 4.8","internal_id":"claudeopus48"}"#,
        ]
        .map(|model| serde_json::from_str(model).unwrap())
        .into();
        let table = [
            ("gpt-4o", "gpt4o"),
            ("GPT-4o", "gpt4o"),
            ("o3-mini", "gpto3mini"),
            ("gpto3mini", "gpto3mini"),
            ("claude-opus-4-8", "claudeopus48"),
            ("claudeopus48", "claudeopus48"),
        ];
        for (asked, expect) in table {
            assert_eq!(find(&models, asked).as_deref(), Some(expect), "{asked}");
        }
        assert_eq!(find(&models, "gpt-5"), None);
    }

    #[test]
    fn a_name_of_another_platform_is_found() {
        let listed = |ids: &[&str]| {
            ids.iter()
                .map(|id| serde_json::from_str(&format!("{{\"id\":\"{id}\"}}")).unwrap())
                .collect::<Vec<Members>>()
        };
        let anthropic = listed(&[
            "claude-opus-4-7",
            "claude-haiku-4-5-20251001",
            "claude-3-7-sonnet-20250219",
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5-20260101",
        ]);
        let table = [
            ("claude-opus-4.7", Some("claude-opus-4-7")),
            ("anthropic/claude-opus-4.7", Some("claude-opus-4-7")),
            ("us.anthropic.claude-opus-4-7-v1:0", Some("claude-opus-4-7")),
            ("global.anthropic.claude-haiku-4-5-20251001-v1:0", Some("claude-haiku-4-5-20251001")),
            ("claude-haiku-4-5@20251001", Some("claude-haiku-4-5-20251001")),
            ("claude-haiku-4.5", Some("claude-haiku-4-5-20251001")),
            ("claude-4-5-haiku", Some("claude-haiku-4-5-20251001")),
            ("claude-4.7-opus", Some("claude-opus-4-7")),
            ("claude-opus-4-7-20260301", Some("claude-opus-4-7")),
            ("claude-sonnet-4-5", Some("claude-sonnet-4-5-20260101")),
            ("vertex_ai/claude-sonnet-4-5@20250929", Some("claude-sonnet-4-5-20250929")),
            ("claude-sonnet-4-5-20240101", None),
            ("claude-3-7-sonnet-latest", Some("claude-3-7-sonnet-20250219")),
            ("claude-opus-4-8", None),
            ("claude-opus-7-4", None),
        ];
        for (asked, expect) in table {
            assert_eq!(find(&anthropic, asked).as_deref(), expect, "{asked}");
        }
        let bedrock = listed(&["us.anthropic.claude-opus-4-7-v1:0", "claudeopus48"]);
        assert_eq!(
            find(&bedrock, "claude-opus-4-7").as_deref(),
            Some("us.anthropic.claude-opus-4-7-v1:0")
        );
        assert_eq!(find(&bedrock, "anthropic/claude-4.8-opus").as_deref(), Some("claudeopus48"));
    }

    #[track_caller]
    fn check(model: &str, expect: &str) {
        assert_eq!(both_shapes(&serde_json::from_str(model).unwrap()), expect);
    }

    #[test]
    fn a_model_has_both_shapes_and_never_a_null_name() {
        check(
            r#"{"id":"a","display_name":null,"created_at":"2026-01-02T00:00:00Z","new":1.0}"#,
            r#"{"id":"a","created_at":"2026-01-02T00:00:00Z","new":1.0,"type":"model","display_name":"a","object":"model","created":1767312000,"owned_by":"anthropic"}"#,
        );
        check(
            r#"{"id":"gpt","object":"model","created":7,"owned_by":"o"}"#,
            r#"{"id":"gpt","object":"model","created":7,"owned_by":"o","type":"model","display_name":"gpt","created_at":"1970-01-01T00:00:00Z"}"#,
        );
    }
}
