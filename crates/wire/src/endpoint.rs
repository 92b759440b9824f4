//! What can be asked of the two APIs: one table of paths, methods and dialects.
//!
//! From it come the routes, the names that no preset may have, the description of the gateway, what
//! the upstreams decide by, and the paths that are written to them.

use std::fmt::Write;

use crate::Dialect;

/// A path of the APIs, with all that is asked there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    Messages,
    CountTokens,
    Batches,
    Batch,
    BatchCancel,
    BatchResults,
    Files,
    File,
    FileContent,
    Models,
    Model,
    /// OpenAI's Chat Completions.
    Completions,
    Responses,
    /// How many tokens a Responses request has.
    InputTokens,
    /// The compaction of a conversation, which Seaway does not have.
    Compact,
    /// One response that was kept.
    Response,
    InputItems,
    ResponseCancel,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// The side that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// A model: the body is read, and a preset may join.
    ByModel,
    /// The upstream that it belongs to: what comes is not translated.
    ByUpstream,
    /// The gateway, of what it keeps and knows.
    ByUs,
}

/// What there is to know of an endpoint.
#[derive(Debug)]
pub struct Row {
    pub endpoint: Endpoint,
    /// Below `/v1`. `{id}` stands for a segment, `{*id}` for all that is left.
    pub path: &'static str,
    pub methods: &'static [Method],
    /// `None` where both vendors' clients ask.
    pub dialect: Option<Dialect>,
    /// In records, metrics and the log.
    pub name: &'static str,
    pub answered: Answered,
    /// Its answer may be a stream of events.
    pub streams: bool,
    /// Served below the name of a preset as well.
    pub presets: bool,
}

const GET: &[Method] = &[Method::Get];
const POST: &[Method] = &[Method::Post];

const fn asked(
    endpoint: Endpoint,
    path: &'static str,
    dialect: Dialect,
    name: &'static str,
    streams: bool,
) -> Row {
    Row {
        endpoint,
        path,
        methods: POST,
        dialect: Some(dialect),
        name,
        answered: Answered::ByModel,
        streams,
        presets: true,
    }
}

const fn relayed(
    endpoint: Endpoint,
    path: &'static str,
    methods: &'static [Method],
    name: &'static str,
) -> Row {
    Row {
        endpoint,
        path,
        methods,
        dialect: Some(Dialect::Messages),
        name,
        answered: Answered::ByUpstream,
        streams: false,
        presets: false,
    }
}

const fn ours(
    endpoint: Endpoint,
    path: &'static str,
    methods: &'static [Method],
    dialect: Option<Dialect>,
    name: &'static str,
) -> Row {
    Row {
        endpoint,
        path,
        methods,
        dialect,
        name,
        answered: Answered::ByUs,
        streams: false,
        presets: true,
    }
}

/// The table, in the order of the variants.
pub const ENDPOINTS: [Row; 18] = [
    asked(Endpoint::Messages, "/messages", Dialect::Messages, "messages", true),
    asked(
        Endpoint::CountTokens,
        "/messages/count_tokens",
        Dialect::Messages,
        "count_tokens",
        false,
    ),
    relayed(Endpoint::Batches, "/messages/batches", &[Method::Get, Method::Post], "batches"),
    relayed(Endpoint::Batch, "/messages/batches/{id}", &[Method::Get, Method::Delete], "batches"),
    relayed(Endpoint::BatchCancel, "/messages/batches/{id}/cancel", POST, "batches"),
    relayed(Endpoint::BatchResults, "/messages/batches/{id}/results", GET, "batches"),
    relayed(Endpoint::Files, "/files", &[Method::Get, Method::Post], "files"),
    relayed(Endpoint::File, "/files/{id}", &[Method::Get, Method::Delete], "files"),
    relayed(Endpoint::FileContent, "/files/{id}/content", GET, "files"),
    ours(Endpoint::Models, "/models", GET, None, "models"),
    Row { presets: false, ..ours(Endpoint::Model, "/models/{*id}", GET, None, "models") },
    asked(Endpoint::Completions, "/chat/completions", Dialect::Chat, "completions", true),
    asked(Endpoint::Responses, "/responses", Dialect::Responses, "responses", true),
    asked(
        Endpoint::InputTokens,
        "/responses/input_tokens",
        Dialect::Responses,
        "input_tokens",
        false,
    ),
    Row {
        presets: false,
        ..ours(Endpoint::Compact, "/responses/compact", POST, Some(Dialect::Responses), "responses")
    },
    ours(
        Endpoint::Response,
        "/responses/{id}",
        &[Method::Get, Method::Delete],
        Some(Dialect::Responses),
        "responses",
    ),
    ours(
        Endpoint::InputItems,
        "/responses/{id}/input_items",
        GET,
        Some(Dialect::Responses),
        "responses",
    ),
    ours(
        Endpoint::ResponseCancel,
        "/responses/{id}/cancel",
        POST,
        Some(Dialect::Responses),
        "responses",
    ),
];

/// What a client's path is at an upstream's version of the APIs.
const VERSION: &str = "/v1";

impl Endpoint {
    pub const fn row(self) -> &'static Row {
        &ENDPOINTS[self as usize]
    }

    /// By which it is recorded.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The dialect of who asks there; Messages where both vendors' clients do.
    pub const fn dialect(self) -> Dialect {
        match self.row().dialect {
            Some(dialect) => dialect,
            None => Dialect::Messages,
        }
    }

    /// Where a model is asked in a dialect.
    pub const fn of_dialect(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Messages => Self::Messages,
            Dialect::Chat => Self::Completions,
            Dialect::Responses => Self::Responses,
        }
    }

    /// True where tokens are counted, which costs nothing.
    pub const fn counts(self) -> bool {
        matches!(self, Self::CountTokens | Self::InputTokens)
    }

    /// Finds the endpoint of a path from `/v1/` on, without its query, and the id that stands in it.
    pub fn find(path: &str) -> Option<(Self, Option<&str>)> {
        let rest = path.strip_prefix(VERSION)?;
        // What stands there in full goes before what an id could be.
        let exact = ENDPOINTS.iter().find(|row| row.path == rest).map(|row| (row.endpoint, None));
        exact.or_else(|| {
            ENDPOINTS.iter().find_map(|row| Some((row.endpoint, Some(id_in(row.path, rest)?))))
        })
    }

    /// Writes its path, from `/v1/` on.
    ///
    /// # Errors
    ///
    /// If `out` takes no more.
    pub fn write_path(self, id: Option<&str>, out: &mut impl Write) -> std::fmt::Result {
        let path = self.row().path;
        match (path.split_once('{'), id) {
            (Some((before, rest)), Some(id)) => {
                let after = rest.split_once('}').map_or("", |(_, after)| after);
                write!(out, "{VERSION}{before}{id}{after}")
            }
            _ => write!(out, "{VERSION}{path}"),
        }
    }

    /// Returns its path, from `/v1/` on.
    pub fn path(self, id: Option<&str>) -> String {
        let mut out = String::new();
        let _infallible = self.write_path(id, &mut out);
        out
    }

    /// What stands first in a path of the table: a preset of that name could not be asked.
    pub fn first_segments() -> impl Iterator<Item = &'static str> {
        ENDPOINTS.iter().filter_map(|row| row.path.split('/').nth(1))
    }
}

/// The id that a path has where the pattern has `{id}`.
fn id_in<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let (before, rest) = pattern.split_once('{')?;
    let (name, after) = rest.split_once('}')?;
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && (name.starts_with('*') || !id.contains('/'))).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_variants() {
        for (at, row) in ENDPOINTS.iter().enumerate() {
            assert_eq!((row.endpoint as usize, row.endpoint.row().path), (at, row.path));
        }
    }

    #[test]
    fn a_path_is_found_and_written_again() {
        let cases = [
            ("/v1/messages", Some((Endpoint::Messages, None))),
            ("/v1/messages/batches", Some((Endpoint::Batches, None))),
            ("/v1/messages/batches/msgbatch_1", Some((Endpoint::Batch, Some("msgbatch_1")))),
            (
                "/v1/messages/batches/msgbatch_1/results",
                Some((Endpoint::BatchResults, Some("msgbatch_1"))),
            ),
            (
                "/v1/messages/batches/msgbatch_1/cancel",
                Some((Endpoint::BatchCancel, Some("msgbatch_1"))),
            ),
            ("/v1/files/file_1/content", Some((Endpoint::FileContent, Some("file_1")))),
            ("/v1/files/a%2Fb", Some((Endpoint::File, Some("a%2Fb")))),
            ("/v1/models/a/b", Some((Endpoint::Model, Some("a/b")))),
            ("/v1/responses/input_tokens", Some((Endpoint::InputTokens, None))),
            ("/v1/responses/compact", Some((Endpoint::Compact, None))),
            ("/v1/responses/resp_1/input_items", Some((Endpoint::InputItems, Some("resp_1")))),
            ("/v1/chat/completions", Some((Endpoint::Completions, None))),
            ("/v1/files/", None),
            ("/v1/files/a/b", None),
            ("/v1/messages/batches/a/b/results", None),
            ("/messages", None),
            ("/v1/skills", None),
        ];
        for (path, expect) in cases {
            assert_eq!(Endpoint::find(path), expect, "{path}");
            if let Some((endpoint, id)) = expect {
                assert_eq!(endpoint.path(id), path);
            }
        }
    }
}
