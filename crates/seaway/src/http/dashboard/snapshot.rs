//! What the page shows, as it changes: requests twice a second, the gateway every few seconds. Nothing is done while
//! nobody looks.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior};

use super::super::status;
use super::{Sight, events, looks, may_look};
use crate::agent::program_of;
use crate::config::Listen;
use crate::live::LiveExchange;
use crate::state::AppState;

const TICK: Duration = Duration::from_millis(500);
/// So many requests are shown.
const MOST: usize = 200;
/// Ticks between two looks at the gateway.
const HOUSE: u64 = 8;

/// One page that looks on.
struct Onlooker {
    state: Arc<AppState>,
    headers: HeaderMap,
    ticks: Interval,
    turn: u64,
    /// What the page was told last.
    told: String,
}

pub(super) async fn stream(State(state): State<Arc<AppState>>, headers: HeaderMap) -> Response {
    let mut ticks = tokio::time::interval(TICK);
    // A page that was slow wants to know how it is now, not how it was.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let onlooker = Onlooker { state, headers, ticks, turn: 0, told: String::new() };
    events(unfold(onlooker, async |mut onlooker| {
        let text = onlooker.next().await?;
        Some((Ok(Bytes::from(text)), onlooker))
    }))
}

impl Onlooker {
    /// What is new; nothing once it may look no longer.
    async fn next(&mut self) -> Option<String> {
        loop {
            self.ticks.tick().await;
            let runtime = self.state.snapshot.load_full();
            // Who only looks on must not hold up a drain, nor stay when the key is another.
            let by_key = || {
                runtime.keyring.caller(&self.headers).filter(|caller| may_look(&runtime, caller))
            };
            let caller = looks(&runtime, &self.headers)
                .or_else(by_key)
                .filter(|_| !self.state.drain.has_begun())?;
            let sight = Sight::of(&runtime, &caller);
            let seen = |mut all: Vec<LiveExchange>| {
                all.retain(|one| sight.sees(&one.caller));
                all.truncate(MOST);
                all
            };
            let lives = self.state.ledger.lives();
            let mut text = event(
                "live",
                &json!({"running": seen(lives.running()), "ended": seen(lives.ended())}),
            );
            if text == self.told {
                text.clear();
            } else {
                self.told.clone_from(&text);
            }
            if self.turn.is_multiple_of(HOUSE) {
                text.push_str(&event("gateway", &look(&self.state, &sight).await));
            }
            self.turn += 1;
            if !text.is_empty() {
                return Some(text);
            }
        }
    }
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

async fn look(state: &AppState, sight: &Sight) -> Value {
    let runtime = state.snapshot.load_full();
    let local = runtime.config.listen.iter().all(Listen::is_local);
    let health = status::look(state, local).await;
    let programs = || runtime.upstreams.iter().filter_map(|upstream| upstream.program());
    let warm = programs()
        .flat_map(crate::upstream::claude_code::Program::warm)
        .filter(|warm| sight.sees(&warm.whose.owner));
    let sessions: Vec<Value> = warm
        .map(|warm| {
            let name = warm.whose.session.is_some();
            json!({"id": warm.id, "owner": &*warm.whose.owner, "model": warm.model, "turns": warm.turns, "holds": warm.holds, "idle": warm.idle.as_secs(), "named": name})
        })
        .collect();
    let workers: Vec<Value> = runtime
        .upstreams
        .iter()
        .filter_map(|upstream| {
            let (inside, most) = upstream.gate.taken()?;
            let children = upstream.program().map(|program| json!({"kept": program.warm().len(), "spare": program.spares()}));
            Some(json!({"upstream": upstream.name.to_string(), "inside": inside, "most": most, "waiting": upstream.gate.waiting(), "children": children}))
        })
        .collect();
    let program = program_of(&runtime).and_then(|upstream| upstream.program()).is_some();
    json!({"health": health, "sessions": sessions, "workers": workers, "program": program})
}
