//! The page where a person says whether a program may sign in. It needs no script.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};

use crate::signin::SignInRequest;

/// Nothing from anywhere else, nothing in line, no frame around it, and its form goes to us.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Names to choose from.
const LISTED: usize = 500;

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn page(status: StatusCode, title: &str, content: &str) -> Response {
    let html = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Seaway</title>
<link rel="icon" href="/dashboard/icon.svg">
<link rel="stylesheet" href="/dashboard/page.css">
</head>
<body>
<header><img src="/dashboard/icon.svg" alt="" width="32" height="32"><h1>Seaway</h1></header>
<main id="door">{content}</main>
</body>
</html>
"#
    );
    let fixed = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    (status, fixed, html).into_response()
}

/// A page that says one thing.
pub(super) fn told(status: StatusCode, title: &str, text: &str) -> Response {
    let content = format!(
        r#"<section class="card"><h2>{title}</h2><p role="status">{}</p></section>"#,
        escaped(text)
    );
    page(status, title, &content)
}

/// The page that asks.
pub(super) fn form(
    status: StatusCode,
    code: &str,
    waiting: Option<&SignInRequest>,
    names: &[Arc<str>],
    wrong: &str,
) -> Response {
    let who = match waiting {
        Some(SignInRequest { program, address, .. }) => {
            let program = if program.is_empty() { "A program" } else { program.as_str() };
            let from = address.map(|address| format!(" at {address}")).unwrap_or_default();
            format!(
                "<p><strong>{}</strong>{from} wants to sign in. Approve it only if you began this, and it shows the same code.</p>",
                escaped(program)
            )
        }
        None => "<p>Enter the code that the program shows.</p>".to_owned(),
    };
    let mut ways = String::new();
    if !names.is_empty() {
        ways.push_str(r#"<label for="as">As</label><select id="as" name="as">"#);
        // One beyond these is approved with its key.
        for name in names.iter().take(LISTED) {
            let _infallible = write!(ways, "<option>{}</option>", escaped(name));
        }
        ways.push_str("</select>");
    }
    let (label, required) = if names.is_empty() {
        ("Key of this gateway", " required")
    } else {
        ("or with a key of this gateway", "")
    };
    let code = waiting.map_or_else(|| escaped(code), |waiting| escaped(&waiting.code));
    let wrong = escaped(wrong);
    let content = format!(
        r#"<form id="sign-in" class="card" method="post" action="/dashboard/device">
<h2>Sign in a program</h2>
{who}
<label for="code">Code</label>
<input id="code" name="user_code" value="{code}" autocomplete="off" spellcheck="false" required>
{ways}
<label for="key">{label}</label>
<input id="key" name="key" type="password" autocomplete="current-password"{required}>
<button type="submit" name="answer" value="approve">Approve</button>
<button type="submit" name="answer" value="deny" class="plain" formnovalidate>Deny</button>
<p id="refused" class="bad" role="alert">{wrong}</p>
</form>"#
    );
    page(status, "Sign in a program", &content)
}
