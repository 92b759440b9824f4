//! What the page shows, as it changes: requests twice a second, the house every few seconds. Nothing is done while
//! nobody looks.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Value, json};

use super::super::status;
use super::events;
use crate::agent::program_of;
use crate::config::Listen;
use crate::house::House;

const TICK: Duration = Duration::from_millis(500);
/// Ticks between two looks at the house.
const HOUSE: u64 = 8;

pub(super) async fn stream(State(house): State<Arc<House>>) -> Response {
    let ticks = tokio::time::interval(TICK);
    let stream = unfold((house, ticks, 0_u64), async |(house, mut ticks, turn)| {
        ticks.tick().await;
        // Who only looks on must not hold up a drain.
        if house.drain.has_begun() {
            return None;
        }
        let mut text = event("live", &json!({"running": house.ledger.lives().running(), "ended": house.ledger.lives().ended()}));
        if turn % HOUSE == 0 {
            text.push_str(&event("house", &look(&house).await));
        }
        Some((Ok(Bytes::from(text)), (house, ticks, turn + 1)))
    });
    events(stream)
}

fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

async fn look(house: &House) -> Value {
    let runtime = house.runtime.load_full();
    let local = runtime.config.listen.iter().all(Listen::is_local);
    let health = status::look(house, local).await;
    let programs = || runtime.upstreams.iter().filter_map(|upstream| upstream.program());
    let warm = programs().flat_map(crate::upstream::claude_code::Program::warm);
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
