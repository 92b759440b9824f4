//! The smallest plan that still fails in the same way.

use crate::plan::{Event, Plan, Reading, Script, ScriptedAnswer, Sending};
use crate::run;

/// Takes away and simplifies for as long as the same rule is broken, and for no more than so many runs.
pub fn shrink(plan: &Plan, rule: &str, runs: usize) -> Plan {
    let (mut best, mut left) = (plan.clone(), runs);
    let fails = |plan: &Plan| run(plan).violations.iter().any(|found| found.rule == rule);
    loop {
        let before = best.clone();
        for candidate in candidates(&best) {
            if left == 0 {
                return best;
            }
            left -= 1;
            if fails(&candidate) {
                best = candidate;
                break;
            }
        }
        if best == before {
            return best;
        }
    }
}

/// Plans that are a little simpler, the simplest first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut changed = |change: &dyn Fn(&mut Plan)| {
        let mut next = plan.clone();
        change(&mut next);
        if next != *plan {
            all.push(next);
        }
    };
    for at in 0..plan.clients.len() {
        changed(&|next| {
            next.clients.remove(at);
        });
    }
    for at in 0..plan.events.len() {
        changed(&|next| {
            next.events.remove(at);
        });
    }
    changed(&|next| next.refused_dials.clear());
    changed(&|next| next.synced = false);
    for (client, of) in plan.clients.iter().enumerate() {
        changed(&|next| next.clients[client].at = 0);
        for ask in 0..of.asks.len() {
            if of.asks.len() > 1 {
                changed(&|next| {
                    next.clients[client].asks.remove(ask);
                });
            }
            changed(&|next| next.clients[client].asks[ask].sending = Sending::Whole);
            changed(&|next| next.clients[client].asks[ask].reading = Reading::Eager);
            changed(&|next| next.clients[client].asks[ask].stream = false);
            changed(&|next| next.clients[client].asks[ask].answers.truncate(1));
            for script in 0..of.asks[ask].answers.len() {
                for simple in simpler(of.asks[ask].answers[script]) {
                    changed(&|next| next.clients[client].asks[ask].answers[script] = simple);
                }
            }
        }
    }
    for at in 0..plan.events.len() {
        if let (_, Event::Jump(by)) = plan.events[at] {
            changed(&|next| next.events[at].1 = Event::Jump(by / 2));
        }
    }
    all
}

fn simpler(script: Script) -> Vec<Script> {
    let mut all = vec![
        Script { trouble: None, ..script },
        Script { delay: 0, ..script },
        Script { every: 0, ..script },
        Script { piece: 100_000, ..script },
        Script { keeps: true, ..script },
        Script { answer: ScriptedAnswer::Message { pieces: 1 }, ..script },
    ];
    if let Some((at, trouble)) = script.trouble {
        all.push(Script { trouble: Some((at / 2, trouble)), ..script });
    }
    all
}
