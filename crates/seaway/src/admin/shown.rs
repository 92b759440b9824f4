//! Keys and teams as they are told.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::account::{Account, Accounts, KeyRow, Scope};
use crate::cap::{Caps, Pressure, dollars};
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
