//! A description of our own endpoints, for people and for programs that make clients of it.
//!
//! What is Anthropic's or OpenAI's is named, and described by them.

use axum::response::Response;
use http::StatusCode;
use seaway_wire::endpoint::{ENDPOINTS, Method};
use seaway_wire::{Dialect, Endpoint};
use serde_json::{Map, Value, json};

use super::reply;

/// Who describes the APIs that are not ours.
const MESSAGES: &str = "https://platform.claude.com/docs/en/api/messages";
const OPENAI: &str = "https://platform.openai.com/docs/api-reference";

/// One thing to ask.
struct Described {
    method: &'static str,
    /// Before `path`.
    prefix: &'static str,
    path: &'static str,
    about: &'static str,
    group: &'static str,
    /// It needs no key.
    open: bool,
    /// The schema of its body.
    body: Option<&'static str>,
    /// The schema of its answer.
    answer: Option<&'static str>,
    /// Who else describes it.
    elsewhere: Option<&'static str>,
    /// It answers with events where `stream` asks for them.
    streams: bool,
}

impl Described {
    fn path(&self) -> String {
        format!("{}{}", self.prefix, self.path.replace("{*", "{"))
    }
}

const fn own(
    method: &'static str,
    path: &'static str,
    group: &'static str,
    about: &'static str,
) -> Described {
    Described {
        method,
        prefix: "",
        path,
        about,
        group,
        open: false,
        body: None,
        answer: None,
        elsewhere: None,
        streams: false,
    }
}

const fn open(
    method: &'static str,
    path: &'static str,
    about: &'static str,
    answer: Option<&'static str>,
) -> Described {
    Described { open: true, answer, ..own(method, path, "health", about) }
}

const OWN: &[Described] = &[
    Described {
        body: Some("Run"),
        answer: Some("RunResult"),
        streams: true,
        ..own(
            "post",
            "/v1/run",
            "program",
            "Have the Claude Code program work, and wait for what it comes to",
        )
    },
    Described {
        body: Some("Verdict"),
        ..own("post", "/v1/run/{id}/permissions/{ask}", "program", "Answer what a run asks")
    },
    Described {
        body: Some("Run"),
        answer: Some("Task"),
        ..own("post", "/v1/tasks", "program", "Have it work in the background")
    },
    own("get", "/v1/tasks", "program", "List the tasks"),
    Described { answer: Some("Task"), ..own("get", "/v1/tasks/{id}", "program", "Show a task") },
    own("delete", "/v1/tasks/{id}", "program", "Cancel a task, or delete one that is over"),
    own("get", "/v1/sessions", "program", "List the conversations that can be gone on with"),
    own("delete", "/v1/sessions/{id}", "program", "Forget a conversation"),
    Described {
        answer: Some("Login"),
        ..own("get", "/auth/status", "login", "Tell whether the program is signed in")
    },
    Described {
        answer: Some("LoginBegun"),
        ..own("post", "/auth/login", "login", "Begin to sign the program in")
    },
    Described {
        body: Some("Code"),
        answer: Some("Login"),
        ..own("post", "/auth/login/{id}", "login", "Finish with the code that the page shows")
    },
    own("post", "/auth/logout", "login", "Sign the program out"),
    own(
        "get",
        "/v1/key",
        "admin",
        "Tell what the key that asks has left, and what `session=` cost",
    ),
    Described {
        open: true,
        ..own(
            "get",
            "/.well-known/oauth-authorization-server",
            "login",
            "Tell where a program signs in (RFC 8414)",
        )
    },
    Described {
        open: true,
        ..own(
            "post",
            "/oauth/device_authorization",
            "login",
            "Begin to sign a program in (RFC 8628)",
        )
    },
    Described {
        open: true,
        ..own("post", "/oauth/token", "login", "Ask for its tokens, or for fresh ones")
    },
    Described {
        open: true,
        ..own("post", "/oauth/revoke", "login", "Sign a program out (RFC 7009)")
    },
    Described {
        open: true,
        ..own("get", "/device", "login", "The page where a person approves it")
    },
    Described {
        open: true,
        ..own("get", "/dashboard/device", "login", "The same, where the dashboard's cookie goes")
    },
    Described {
        open: true,
        ..own("post", "/dashboard/device", "login", "Approve it with a key, or deny it")
    },
    own("get", "/dashboard/keys", "admin", "The same as `/v1/admin/keys`, for the dashboard"),
    own("post", "/dashboard/keys", "admin", "The same as `/v1/admin/keys`, for the dashboard"),
    own("get", "/dashboard/usage-by", "admin", "The same as `/v1/admin/usage`, for the dashboard"),
    own("post", "/dashboard/keys/{name}/revoke", "admin", "Take a key back, for the dashboard"),
    own("get", "/managed/settings", "login", "Claude Code's managed settings, of `[managed]`"),
    own("get", "/api/oauth/usage", "login", "What is left, as Claude Code shows it"),
    own("post", "/v1/metrics", "login", "Count what a program tells of its sessions (OTLP)"),
    own("post", "/v1/logs", "login", "The same for events, by their names"),
    own("post", "/v1/traces", "login", "The same for spans, by their names"),
    own("get", "/v1/admin/keys", "admin", "List the keys that were given out, with what is left"),
    Described {
        body: Some("NewKey"),
        answer: Some("MadeKey"),
        ..own("post", "/v1/admin/keys", "admin", "Give out a key; the answer alone has it")
    },
    Described { answer: Some("Key"), ..own("get", "/v1/admin/keys/{name}", "admin", "Show a key") },
    Described {
        body: Some("KeySettings"),
        answer: Some("Key"),
        ..own("patch", "/v1/admin/keys/{name}", "admin", "Change what is set for a key")
    },
    Described {
        answer: Some("Key"),
        ..own("delete", "/v1/admin/keys/{name}", "admin", "Take a key back, for good")
    },
    Described {
        body: Some("Rotation"),
        answer: Some("MadeKey"),
        ..own("post", "/v1/admin/keys/{name}/rotate", "admin", "Make another key in its place")
    },
    own("get", "/v1/admin/teams", "admin", "List the teams, with what is left"),
    own("get", "/v1/admin/teams/{name}", "admin", "Show a team"),
    Described {
        body: Some("Caps"),
        ..own(
            "put",
            "/v1/admin/teams/{name}",
            "admin",
            "Make a team, or change its budgets and rates",
        )
    },
    own("delete", "/v1/admin/teams/{name}", "admin", "Delete a team that no key is in"),
    own(
        "get",
        "/v1/admin/usage",
        "admin",
        "Tokens, cost and requests by day, model and key, or `by=` one thing: `since=7d`",
    ),
    own("get", "/v1/admin/logins", "admin", "List the programs that signed in"),
    own("delete", "/v1/admin/logins/{id}", "admin", "End a program's sign-in, at once"),
    own(
        "get",
        "/v1/admin/audit",
        "admin",
        "Who changed what, and who was not let in: `since=7d`, `limit=100`",
    ),
    open("get", "/health", "Tell how the gateway and its upstreams are", Some("Health")),
    open("get", "/health/live", "Tell that the process lives", None),
    open("get", "/health/ready", "200 if a request could be served now, else 503", Some("Health")),
    own("get", "/metrics", "health", "Figures for Prometheus"),
    open("get", "/openapi.json", "This description", None),
];

/// What the vendors describe, by the table.
fn theirs() -> Vec<Described> {
    let rows =
        ENDPOINTS.iter().flat_map(|row| row.methods.iter().map(move |method| (row, *method)));
    let described = rows.filter_map(|(row, method)| {
        let elsewhere =
            Some(if row.dialect == Some(Dialect::Messages) { MESSAGES } else { OPENAI });
        let method_name = match method {
            Method::Get => "get",
            Method::Post => "post",
            Method::Delete => "delete",
        };
        Some(Described {
            prefix: "/v1",
            elsewhere,
            streams: row.streams,
            ..own(method_name, row.path, "compatible", about(row.endpoint, method)?)
        })
    });
    described.collect()
}

/// What is done there; `None` for what is not described.
const fn about(endpoint: Endpoint, method: Method) -> Option<&'static str> {
    Some(match (endpoint, method) {
        (Endpoint::Messages, _) => "Make a message",
        (Endpoint::CountTokens | Endpoint::InputTokens, _) => "Count the tokens of a request",
        (Endpoint::Batches, Method::Post) => {
            "Make a batch of messages, at the upstream that its models lead to"
        }
        (Endpoint::Batches, _) => "List the batches of the first upstream",
        (Endpoint::Batch, Method::Delete) => "Delete a batch",
        (Endpoint::Batch, _) => "Show a batch, at the upstream that made it",
        (Endpoint::BatchCancel, _) => "Cancel a batch",
        (Endpoint::BatchResults, _) => "Read the results of a batch",
        (Endpoint::Files, Method::Post) => "Send a file to the first upstream",
        (Endpoint::Files, _) => "List the files of the first upstream",
        (Endpoint::File, Method::Delete) => "Delete a file",
        (Endpoint::File, _) => "Describe a file, at the upstream that holds it",
        (Endpoint::FileContent, _) => "Read a file",
        (Endpoint::Models, _) => "List the models, in both vendors' shapes at once",
        (Endpoint::Model, _) => "Show a model",
        (Endpoint::Completions, _) => "Make a completion, as OpenAI's Chat Completions",
        (Endpoint::Responses, _) => "Make a response, as OpenAI's Responses",
        (Endpoint::Response, Method::Delete) => "Delete a response",
        (Endpoint::Response, _) => "Show a response that was kept",
        (Endpoint::InputItems, _) => "List what a response was asked",
        (Endpoint::Compact | Endpoint::ResponseCancel, _) => return None,
    })
}

pub(super) async fn get() -> Response {
    reply::json(StatusCode::OK, description().to_string())
}

/// The whole description.
pub(super) fn description() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in theirs().iter().chain(OWN) {
        let place = paths.entry(endpoint.path()).or_insert_with(|| json!({}));
        place[endpoint.method] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Seaway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One local address for Claude. Every answer has a `request-id`; `seaway-note` lists what a translation could not carry over, `seaway-fault` is on errors in Seaway's own words.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:7329"}],
        "security": [{"bearer": []}, {"key": []}],
        "tags": [
            {"name": "compatible", "description": "Anthropic's and OpenAI's APIs, in front of whatever upstream. Also below `/anthropic` and `/openai`, and with a preset as `/v1/PRESET/…`"},
            {"name": "program", "description": "The Claude Code program with its own tools. Also below `/api`"},
            {"name": "login", "description": "The program's own login"},
            {"name": "admin", "description": "Keys, teams and their budgets. For the owner alone: the made key, the only one that is configured, or those that `admin.callers` names"},
            {"name": "health", "description": "For people, orchestrators and Prometheus"},
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The local key: `seaway key show`"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": schemas(),
        },
    })
}

fn operation(endpoint: &Described) -> Value {
    let schema = |name: Option<&str>| {
        name.map_or_else(
            || json!({"type": "object"}),
            |name| json!({"$ref": format!("#/components/schemas/{name}")}),
        )
    };
    let mut operation = json!({
        "operationId": format!("{}{}", endpoint.method, endpoint.path().replace(['/', '{', '}', '.'], "_")),
        "summary": endpoint.about,
        "tags": [endpoint.group],
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": schema(endpoint.answer)}}},
            "default": {"description": "A failure, in the dialect of the path", "content": {"application/json": {"schema": schema(Some("Error"))}}},
        },
    });
    let path = endpoint.path();
    let parameters: Vec<Value> = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if matches!(endpoint.method, "post" | "patch" | "put")
        && (endpoint.body.is_some() || endpoint.elsewhere.is_some())
    {
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema(endpoint.body)}}});
    }
    if let Some(url) = endpoint.elsewhere {
        operation["externalDocs"] = json!({"url": url});
    }
    if endpoint.path == "/health/ready" {
        operation["responses"]["503"] = json!({"description": "Not now", "content": {"application/json": {"schema": schema(Some("Health"))}}});
    }
    if endpoint.streams {
        operation["responses"]["200"]["content"]["text/event-stream"] =
            json!({"schema": {"type": "string"}});
    }
    if endpoint.open {
        operation["security"] = json!([]);
    }
    operation
}

/// What may be set for a key and for a team.
fn caps() -> Value {
    let count =
        |about: &str| json!({"type": ["integer", "null"], "minimum": 1, "description": about});
    json!({
        "budgets": {"type": ["array", "null"], "items": {"type": "string", "pattern": r"^\s*\$?[0-9.]+\s*(/\s*(day|week|month|total)\s*)?$"}, "description": "Dollars in a time: `20/day`"},
        "rpm": count("Requests a minute"),
        "tpm": count("Tokens a minute, without those that are read from the cache"),
        "concurrent": count("Requests under way at once"),
    })
}

fn key_settings() -> Value {
    let texts = |about: &str| json!({"type": ["array", "null"], "items": {"type": "string"}, "description": about});
    with(
        caps(),
        json!({
            "team": {"type": ["string", "null"]},
            "models": texts("Patterns of the models that it may ask for"),
            "upstreams": texts("The upstreams that it may use"),
            "expires": {"type": ["string", "null"], "description": "`90d`, or a time"},
            "spill": {"type": ["string", "null"], "description": "The model that is asked instead, near a budget's end"},
        }),
    )
}

/// Both, as one.
fn with(mut one: Value, other: Value) -> Value {
    if let (Some(one), Value::Object(other)) = (one.as_object_mut(), other) {
        one.extend(other);
    }
    one
}

/// What `/v1/admin` takes and gives.
fn admin_schemas() -> Value {
    let text = || json!({"type": "string"});
    json!({
        "Caps": {"type": "object", "description": "What is missing stays as it is, null is no more", "properties": caps()},
        "KeySettings": {"type": "object", "description": "What is missing stays as it is, null is no more", "properties": key_settings()},
        "NewKey": {"type": "object", "required": ["name"], "properties": with(key_settings(), json!({
            "name": text(),
            "hash": {"type": "string", "description": "`sha256:` and the hash of a key of another gateway's, which then goes on to let in"},
            "spent_micros": {"type": "integer", "description": "What it has spent there"},
        }))},
        "Rotation": {"type": "object", "properties": {"grace": {"type": "string", "description": "How long the old one still lets in", "default": crate::admin::GRACE}}},
        "Key": {"type": "object", "properties": {
            "name": text(), "state": {"enum": ["active", "expired", "revoked"]}, "team": {"type": ["string", "null"]}, "created": text(), "revoked": {"type": ["string", "null"]},
            "budgets": {"type": "array", "items": {"type": "object", "properties": {"budget": text(), "amount_micros": {"type": "integer"}, "spent_micros": {"type": "integer"}, "left_micros": {"type": "integer"}, "resets": {"type": ["string", "null"]}}}},
            "spent_micros": {"type": "integer"}, "requests": {"type": "integer"}, "last_used": {"type": ["string", "null"]},
        }},
        "MadeKey": {"type": "object", "required": ["key"], "properties": {"name": text(), "key": {"type": "string", "description": "Shown this once"}}},
    })
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let own = json!({
        "Error": {"type": "object", "properties": {"error": {"type": "object", "properties": {"type": text(), "message": text()}, "required": ["message"]}}, "required": ["error"]},
        "Run": {
            "type": "object",
            "required": ["prompt"],
            "properties": {
                "prompt": text(),
                "allowedTools": {"type": "array", "items": text(), "description": "Out of `claude_code.tools`"},
                "workingDirectory": {"type": "string", "description": "Below `claude_code.workspace`"},
                "sessionId": {"type": "string", "description": "A session to go on with"},
                "keepSession": {"type": "boolean"},
                "maxTurns": {"type": "integer", "minimum": 1},
                "model": text(),
                "stream": {"type": "boolean", "description": "Server-sent events as it happens"},
            },
        },
        "RunResult": {
            "type": "object",
            "properties": {
                "id": text(), "result": text(), "sessionId": {"type": ["string", "null"]}, "turns": {"type": "integer"}, "durationMs": {"type": "integer"},
                "usage": {"type": "object"}, "cost": {"type": "number", "description": "US dollars"}, "permissionDenials": {"type": "array", "items": {"type": "object"}},
            },
        },
        "Task": {"type": "object", "properties": {"id": text(), "status": text(), "result": {"type": "object"}, "error": {"type": "object"}}},
        "Verdict": {"type": "object", "required": ["allow"], "properties": {"allow": {"type": "boolean"}}},
        "Code": {"type": "object", "required": ["code"], "properties": {"code": text()}},
        "Login": {"type": "object", "properties": {"loggedIn": {"type": "boolean"}, "authenticated": {"type": "boolean", "description": "A request could be served with it"}, "expired": {"type": ["boolean", "null"]}, "expiresAt": {"type": ["string", "null"], "format": "date-time"}, "authMethod": {"type": ["string", "null"]}, "email": {"type": ["string", "null"]}}},
        "LoginBegun": {"type": "object", "properties": {"id": text(), "url": {"type": "string", "format": "uri"}, "next": text()}},
        "Health": {
            "type": "object",
            "required": ["status"],
            "description": "Without a key, `status` alone",
            "properties": {
                "status": {"enum": ["ok", "degraded", "not ready", "draining"]},
                "store": {"type": "string", "description": "What is wrong with the store, where something is"},
                "version": text(),
                "uptime": {"type": "integer", "description": "In seconds"},
                "authenticated": {"type": "boolean"},
                "inFlight": {"type": "integer"},
                "queue": {"type": "integer"},
                "activeSessions": {"type": "integer"},
                "sessions": {"type": "object"},
                "upstreams": {"type": "array", "items": {"type": "object", "properties": {"name": text(), "ready": {"type": "boolean"}, "simulated": {"type": "boolean"}, "why": text(), "queue": {"type": "integer"}}}},
            },
        },
    });
    with(own, admin_schemas())
}

#[cfg(test)]
mod tests {
    use seaway_wire::endpoint::Answered;

    use super::*;

    /// The routes as the source says them, with the prefixes that are described.
    fn routed() -> Vec<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
        let files = std::fs::read_dir(&folder)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
        // The page's own questions are its own, and the owner's socket is no address.
        let files = files.filter(|path| {
            !["dashboard.rs", "openapi.rs", "owner.rs"].iter().any(|name| path.ends_with(name))
        });
        let sources: Vec<String> = files
            .chain([folder.with_extension("rs")])
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
        let sources: Vec<&str> = sources
            .iter()
            .map(|text| text.split("#[cfg(test)]").next().unwrap_or_default())
            .collect();
        let routes = sources
            .iter()
            .flat_map(|source| source.split(".route(").skip(1))
            .filter_map(|rest| rest.split('"').nth(1));
        routes
            .map(|path| path.trim_start_matches("{prefix}").replace("{{", "{").replace("}}", "}"))
            .collect()
    }

    /// A path without the prefix that its routes are given.
    fn bare(path: &str) -> &str {
        ["/v1", "/auth"].iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or(path)
    }

    #[test]
    fn every_endpoint_is_routed() {
        let routed = routed();
        for endpoint in OWN {
            let known =
                routed.iter().any(|path| *path == endpoint.path || path == bare(endpoint.path));
            assert!(known, "{} is described and not there", endpoint.path);
        }
    }

    #[test]
    fn every_route_of_ours_is_described() {
        let aside = ["/", "/api/hello", "/messages/batches/{id}/{*rest}", "/files/{id}/{*rest}"];
        for path in routed() {
            let known =
                OWN.iter().any(|endpoint| endpoint.path == path || bare(endpoint.path) == path);
            assert!(known || aside.contains(&path.as_str()), "{path} is there and not described");
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs it may have it write what it would compare"
    )]
    fn the_file_is_what_the_gateway_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/openapi.json");
        let text = serde_json::to_string_pretty(&description()).unwrap() + "\n";
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            text,
            "UPDATE_CORPUS=1 writes it anew"
        );
    }

    /// The table as docs/endpoints.md holds it.
    fn table() -> String {
        let mut table =
            "| path | methods | dialect | answered by |\n| --- | --- | --- | --- |\n".to_owned();
        for row in &ENDPOINTS {
            let methods: Vec<&str> = row.methods.iter().map(|method| method.name()).collect();
            let dialect = row.dialect.map_or("both vendors'", Dialect::name);
            let by = match row.answered {
                Answered::ByModel if row.streams => "a model, streamed if asked",
                Answered::ByModel => "a model",
                Answered::ByUpstream => "its upstream",
                Answered::ByUs => "Seaway",
            };
            let path = row.path.replace("{*", "{");
            table.push_str(&format!(
                "| `/v1{path}` | {} | {dialect} | {by} |\n",
                methods.join(", ")
            ));
        }
        table
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs it may have it write what it would compare"
    )]
    fn the_docs_hold_the_table_of_endpoints() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/endpoints.md");
        let docs = std::fs::read_to_string(path).unwrap();
        let begins = docs.find("| path | methods |").expect("the table begins so");
        let ends = begins + docs[begins..].find("\n\n").expect("something follows the table") + 1;
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            std::fs::write(path, [&docs[..begins], &table(), &docs[ends..]].concat()).unwrap();
        } else {
            assert_eq!(docs[begins..ends], table(), "UPDATE_CORPUS=1 writes it anew");
        }
    }
}
