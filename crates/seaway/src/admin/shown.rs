//! Keys and teams as they are told.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::account::{Account, Accounts, KeyRow, Scope};
use crate::cap::{Budget, Caps, Period, Pressure, dollars};
use crate::store::UsedUp;

/// One key. What was spent and is left is of this moment; `used` is of what is written.
pub(super) fn key(accounts: &Accounts, row: &KeyRow, used: Option<UsedUp>) -> Value {
    let settings = &row.settings;
    let now = Timestamp::now();
    let standing = accounts.of(&row.name);
    let pressures = standing.map(|standing| accounts.spent(&standing.key.scope, now));
    let state = match (row.revoked, settings.expires) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, _) => "active",
    };
    let mut shown = json!({
        "name": row.name,
        "state": state,
        "team": settings.team,
        "models": settings.models,
        "upstreams": settings.upstreams,
        "spill": settings.spill,
        "expires": settings.expires,
        "created": row.created,
        "revoked": row.revoked,
        "configured": row.hash.is_none(),
        "old_key_until": row.old.as_ref().map(|old| old.1).filter(|until| *until > now),
    });
    caps(&mut shown, accounts, &settings.caps, &pressures.unwrap_or_default(), used);
    shown
}

/// One team, with its keys.
pub(super) fn team(
    accounts: &Accounts,
    team: &Scope,
    used: Option<UsedUp>,
    keys: &[Arc<Account>],
) -> Value {
    let within = |key: &&Arc<Account>| {
        key.row.revoked.is_none() && key.row.settings.team.as_deref() == Some(&*team.name)
    };
    let names: Vec<&str> = keys.iter().filter(within).map(|key| &*key.row.name).collect();
    let mut shown = json!({"name": &*team.name, "keys": names});
    let pressures = accounts.spent(team, Timestamp::now());
    caps(&mut shown, accounts, &team.caps, &pressures, used);
    shown
}

/// The budgets over somebody, with what is left of each.
pub(super) fn budgets(accounts: &Accounts, scope: &Scope) -> Value {
    let mut shown = json!({});
    let pressures = accounts.spent(scope, Timestamp::now());
    caps(&mut shown, accounts, &scope.caps, &pressures, None);
    shown["budgets"].take()
}

fn caps(
    shown: &mut Value,
    accounts: &Accounts,
    caps: &Caps,
    pressures: &[Pressure],
    used: Option<UsedUp>,
) {
    let day = accounts.day(Timestamp::now());
    let budget = |pressure: &Pressure| {
        let Pressure { budget, spent, .. } = pressure;
        json!({
            "budget": budget.to_string(),
            "period": budget.period.name(),
            "amount_micros": budget.amount,
            "spent_micros": spent,
            "left_micros": budget.amount.saturating_sub(*spent),
            "left_usd": dollars(budget.amount.saturating_sub(*spent)),
            "resets": budget.period.next(day).and_then(|day| accounts.begins(day)),
        })
    };
    shown["budgets"] = pressures.iter().map(budget).collect();
    shown["rpm"] = json!(caps.rpm);
    shown["tpm"] = json!(caps.tpm);
    shown["concurrent"] = json!(caps.concurrent);
    if let Some(UsedUp { spent, requests, last }) = used {
        shown["spent_micros"] = spent.into();
        shown["requests"] = requests.into();
        let last = Timestamp::from_millisecond(last).ok().filter(|_| last > 0);
        shown["last_used"] = json!(last);
    }
}

/// Micro-dollars as cents, with a fraction where there is one.
#[expect(clippy::cast_precision_loss, reason = "exact up to nine thousand million dollars")]
fn cents(micros: u64) -> Value {
    let cents = micros as f64 / 1e4;
    if micros.is_multiple_of(10_000) { json!(micros / 10_000) } else { json!(cents) }
}

/// The period of a budget, as the program calls it.
const fn group(budget: &Budget) -> &'static str {
    match budget.period {
        Period::Day => "daily",
        Period::Week => "weekly",
        Period::Month => "monthly",
        Period::Total => "total",
    }
}

/// What Claude Code shows of budgets. Source: the gateway contract that the program serves (`GET /protocol`), "Usage-limit headers".
pub(super) fn plan_usage(accounts: &Accounts, caller: &Arc<str>, now: Timestamp) -> Value {
    let standing = accounts.of(caller);
    let scopes =
        standing.iter().flat_map(|standing| [Some(&standing.key.scope), standing.team.as_ref()]);
    let all: Vec<Pressure> =
        scopes.flatten().flat_map(|scope| accounts.spent(scope, now)).collect();
    let active = standing.as_ref().and_then(|standing| accounts.pressing(standing));
    let Some((active, _)) = active else {
        let spent = |period| cents(accounts.spent_in(caller, period, now));
        let part =
            |period| json!({"limit": null, "used_credits": spent(period), "utilization": null});
        return json!({
            "extra_usage": {
                "is_enabled": true,
                "monthly_limit": null,
                "used_credits": spent(Period::Month),
                "utilization": null,
                "currency": "USD",
                "daily": part(Period::Day),
                "weekly": part(Period::Week),
            },
            "limits": [],
        });
    };
    let is_active = |one: &Pressure| (one.budget, one.spent) == (active.budget, active.spent);
    // The one that the headers tell of is one alone.
    let place = all.iter().position(is_active);
    let limits: Vec<Value> = all
        .iter()
        .enumerate()
        .map(|(at, one)| {
            let day = accounts.day(now);
            let resets = one.budget.period.next(day).and_then(|day| accounts.begins(day));
            let severity = match one.share() {
                9_500.. => "critical",
                7_500.. => "warning",
                _ => "normal",
            };
            json!({
                "kind": "spend",
                "group": group(&one.budget),
                "percent": one.share() / 100,
                "resets_at": resets.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()),
                "severity": severity,
                "is_active": place == Some(at),
            })
        })
        .collect();
    json!({
        "extra_usage": {
            "is_enabled": true,
            "monthly_limit": cents(active.budget.amount),
            "used_credits": cents(active.spent),
            "utilization": active.share() / 100,
            "currency": "USD",
        },
        "limits": limits,
    })
}
