//! Everything that needs sockets or processes, for real on loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
#![expect(
    clippy::disallowed_methods,
    reason = "the programs that are tested, and the servers beside them, are started here"
)]

mod access;
mod chat;
mod claude_code;
mod confined;
mod dashboard;
mod docs;
mod durable;
mod edges;
mod edits;
mod failures;
mod fold;
mod import;
mod keys;
mod lane;
mod models;
mod process;
mod relay;
mod responses;
mod routes;
mod sandbox;
mod signin;
mod ssh;
mod store;
mod streams;
mod support;
mod telemetry;
mod tls;
mod tls_listener;
mod tunnel;
mod tunnel_commands;
mod vectors;
