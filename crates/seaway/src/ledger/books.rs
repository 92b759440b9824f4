//! What is known of keys, which the store tells at the start.

use std::sync::{Arc, OnceLock};

use crate::account::{Accounts, Pepper};
use crate::auth;
use crate::config::Config;
use crate::store::{Claims, Opened};

/// Keys with what they have used, and the file of their requests that are under way.
#[derive(Debug, Clone)]
pub struct Books {
    pub accounts: Arc<Accounts>,
    claims: Arc<OnceLock<Arc<Claims>>>,
}

impl Books {
    /// Books that a store is to fill.
    pub fn new(config: &Config) -> Self {
        let pepper = auth::known_pepper(&config.state_dir, config.modes)
            .inspect_err(|error| tracing::error!(%error, "no key that was given out is known"))
            .ok()
            .flatten();
        let accounts = Accounts::new(pepper.map(Pepper), config.time_zone.clone());
        Self { accounts, claims: Arc::default() }
    }

    /// For a gateway of tests, or a command that serves nobody.
    pub fn empty() -> Self {
        Self { accounts: Accounts::new(None, jiff::tz::TimeZone::UTC), claims: Arc::default() }
    }

    /// What the store calls once it is open. `keeps_budgets`: by this process budgets are kept.
    pub fn opened(&self, keeps_budgets: bool) -> Opened {
        let Self { accounts, claims } = self.clone();
        let tell = move |known, file| {
            if let Some(file) = file {
                let _first = claims.set(file);
            }
            accounts.load(known);
        };
        Opened { keeps_budgets, tell: Box::new(tell) }
    }

    /// Where requests under a cap are noted; none for a store in memory.
    pub(super) fn claims(&self) -> Option<&Arc<Claims>> {
        self.claims.get()
    }
}
