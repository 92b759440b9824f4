//! A new configuration in the place of the old one, while requests go on.

use std::sync::Arc;

use crate::config::{Auth, Config, Listen};
use crate::confine::{is_confined, outside};
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::{AuditEntry, AuditEvent};

/// Puts a new configuration in place. A bad one changes nothing.
///
/// # Errors
///
/// Every mistake in it.
pub fn reload(state: &AppState) -> Result<(), String> {
    let sources = state.origin.sources.clone();
    // Settings name files wherever they lie.
    let loaded = outside(move || Config::load(&sources)).map_err(|error| error.to_string())?;
    let before = state.snapshot.load_full();
    if loaded.config.listen != before.config.listen
        || loaded.config.cors_origins != before.config.cors_origins
        || loaded.config.tls != before.config.tls
        || loaded.config.confine != before.config.confine
    {
        tracing::warn!(
            "`listen`, `port`, `tls`, `confine` and `cors_origins` only change with a restart; a renewed certificate is taken over without"
        );
    }
    if is_confined() {
        let environment = &state.origin.sources.environment;
        let (now, then) = (loaded.config.reach(environment), before.config.reach(environment));
        for path in now.beyond(&then) {
            tracing::warn!(path = %path.display(), "the gateway is confined to what its settings named when it started; for this one start it anew");
        }
    }
    let mut config = loaded.config;
    config.listen.clone_from(&before.config.listen);
    if matches!(config.auth, Auth::Open) && !config.listen.iter().all(Listen::is_local) {
        return Err("auth: `none` is for loopback only, and this gateway listens beyond it until it is restarted".into());
    }
    if let Some(upstream) = config
        .upstreams
        .iter()
        .find(|upstream| upstream.is_login() && !config.listen.iter().all(Listen::is_local))
    {
        return Err(format!(
            "upstream.{}: a plan's login serves its owner alone, and this gateway listens beyond loopback until it is restarted",
            upstream.name
        ));
    }
    let next = Arc::new(
        Snapshot::new(config, Some(&before), &state.dependencies())
            .map_err(|error| error.to_string())?,
    );
    state.ledger.accounts().set_zone(next.config.time_zone.clone());
    state.snapshot.store(next.clone());
    for (name, how) in next.keyring.changes_since(&before.keyring) {
        let entry = AuditEntry::once(AuditEvent::KeyChanged, &*name, how);
        state.ledger.store().audit(entry);
    }
    for gone in before
        .upstreams
        .iter()
        .filter(|old| !next.upstreams.iter().any(|new| Arc::ptr_eq(old, new)))
    {
        let gone = gone.clone();
        // What is in flight there goes on to its end.
        state.tasks.spawn(async move { gone.close().await });
    }
    tracing::info!(file = %state.origin.path.display(), "the configuration was reloaded");
    Ok(())
}

/// The same for who can tell nobody but the log.
pub fn reload_or_warn(state: &AppState) {
    if let Err(error) = reload(state) {
        tracing::error!("the configuration was not reloaded, everything stays as it is:\n{error}");
    }
}
