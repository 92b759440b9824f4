//! What an upstream's answers say about it.

use crate::fault::FaultKind;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// How long an upstream that could not serve is passed over where another one can.
const REST: Duration = Duration::from_secs(15);

/// The health of one upstream, as its answers tell it. Nothing here ever keeps a
/// request from the only upstream there is.
#[derive(Debug, Default)]
pub struct Health(Mutex<HealthState>);

#[derive(Debug, Default)]
struct HealthState {
    trouble: Option<Trouble>,
    rest_until: Option<Instant>,
}

/// The last thing that went wrong, until something goes right.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    pub kind: &'static str,
    pub message: String,
    /// Seconds since the epoch.
    pub since: i64,
    /// The upstream cannot be used until somebody does something.
    pub needs_care: bool,
}

impl Health {
    fn lock(&self) -> std::sync::MutexGuard<'_, HealthState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn good(&self) {
        let mut state = self.lock();
        if state.trouble.is_some() {
            *state = HealthState::default();
        }
    }

    /// Notes a failure; `wait` is what the upstream asked for.
    pub fn bad(&self, kind: FaultKind, message: &str, wait: Option<Duration>) {
        let mut state = self.lock();
        let needs_care = matches!(kind, FaultKind::Unauthenticated | FaultKind::NotReady);
        let since = state
            .trouble
            .as_ref()
            .filter(|trouble| trouble.kind == kind.name())
            .map(|trouble| trouble.since);
        let since = since.unwrap_or_else(|| jiff::Timestamp::now().as_second());
        state.trouble =
            Some(Trouble { kind: kind.name(), message: message.to_owned(), since, needs_care });
        state.rest_until =
            Some(Instant::now() + wait.unwrap_or(REST).min(Duration::from_secs(300)));
    }

    /// True while another upstream should be asked first.
    pub fn rests(&self) -> bool {
        self.lock().rest_until.is_some_and(|until| Instant::now() < until)
    }

    pub fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }
}
