//! The plan that the program works on: its limits, and the logins that are under way.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use seaway_wire::claude_code::Failure;
use seaway_wire::claude_code::login::Limit;

use super::login::Logins;

#[derive(Default)]
pub(super) struct Plan {
    /// What the program last said of its plan's limits, by their types.
    told: Mutex<BTreeMap<String, Limit>>,
    pub(super) logins: Logins,
}

impl Plan {
    pub(super) fn limited(&self, limit: Limit) {
        let kind = limit.rate_limit_type.clone().unwrap_or_default();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, limit);
    }

    /// Takes note of a limit that a failure tells of, and adds what was told of it before: an older program tells the limit
    /// alone, and then a failure without it.
    pub(super) fn with_limit(&self, failure: &Failure) -> Failure {
        let now = jiff::Timestamp::now().as_second();
        let told = |kind: Option<&str>| {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match kind {
                Some(kind) => told.get(kind).cloned(),
                None => told.values().find(|limit| limit.is_reached(now)).cloned(),
            }
        };
        let limit = match &failure.limit {
            Some(limit) => {
                let windows = told(limit.rate_limit_type.as_deref().or(Some("")))
                    .map(|told| told.unified_windows)
                    .filter(|_| limit.unified_windows.is_empty());
                Some(Limit {
                    status: "rejected".into(),
                    unified_windows: windows.unwrap_or_else(|| limit.unified_windows.clone()),
                    ..limit.clone()
                })
            }
            None if failure.status == Some(429) => told(None),
            None => None,
        };
        if let Some(limit) = &limit {
            self.limited(limit.clone());
        }
        Failure { limit, ..failure.clone() }
    }

    /// An error while the limit of the whole plan is reached. That of a family of models leaves the others.
    pub(super) fn within_limit(&self) -> Result<(), String> {
        let now = jiff::Timestamp::now().as_second();
        let reached = |limit: &Limit| limit.family().is_none() && limit.is_reached(now);
        let Some(limit) = self.limits().into_iter().find(reached) else { return Ok(()) };
        let at = limit
            .resets_at
            .and_then(|at| jiff::Timestamp::from_second(at).ok())
            .map(|at| at.to_string())
            .unwrap_or_default();
        Err(format!("the plan's limit is reached; it resets at {at}"))
    }

    /// What the program last said of its plan's limits that still holds: first what is reached, then what it warned of, of
    /// both the plan's before those of families of models.
    pub(super) fn limits(&self) -> Vec<Limit> {
        let now = jiff::Timestamp::now().as_second();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut limits: Vec<Limit> = told
            .values()
            .filter(|limit| limit.resets_at.is_none_or(|at| at > now))
            .cloned()
            .collect();
        limits.sort_by_key(|limit| {
            (limit.status != "rejected", limit.status == "allowed", limit.family().is_some())
        });
        limits
    }

    /// The largest share of the limits that a model counts against, from 0 to 1, as the program last told it.
    pub(super) fn share(&self, model: &str) -> f64 {
        let now = jiff::Timestamp::now().as_second();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Also those of which another window still holds.
        let shares = told.values().filter_map(|limit| limit.share_of(model, now));
        shares.fold(0.0, f64::max)
    }

    /// Forgets them: they were another login's.
    pub(super) fn forget(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
