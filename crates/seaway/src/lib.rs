//! One local address for Claude.
//!
//! A request comes in by a listener of [`http`], passes admission (host, origin, key) and a
//! thin handler to the [`exchange`], which is the heart: it routes ([`route`]), plans the
//! edits ([`plan`]), calls an [`upstream`] and joins its answer to the client by a pipe.
//! However it ends, a [`record`] goes to the [`ledger`]: one log line, the metrics, the
//! [`store`].
//!
//! [`app`] puts it all together from a [`config`]; [`cli`] is the only module that prints.

pub mod access;
pub mod account;
pub mod admin;
pub mod agent;
pub mod answer;
pub mod app;
pub mod auth;
pub mod cap;
pub mod catalog;
pub mod causes;
pub mod cli;
pub mod config;
pub mod confine;
pub mod connect;
pub mod credential;
pub mod dial;
pub mod drain;
pub mod exchange;
pub mod fault;
pub mod grant;
pub mod headers;
pub mod http;
pub mod import;
pub mod instance;
pub mod ledger;
pub mod live;
pub mod log;
pub mod memory;
pub mod plan;
pub mod process;
pub mod record;
pub mod refreshed;
pub mod reload;
pub mod route;
pub mod service;
pub mod signin;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod sync;
pub mod ticket;
pub mod trusted;
pub mod tunnel;
pub mod upstream;
pub mod workers;
