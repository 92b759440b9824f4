//! What one configuration amounts to, ready for use. A reload makes a new one.

use std::sync::Arc;

use crate::auth::{KeyError, Keyring};
use crate::catalog::Catalog;
use crate::config::{Config, UpstreamName};
use crate::route;
use crate::upstream::{Dependencies, Upstream};

/// A configuration with its upstreams. Requests in flight keep the one they began with.
pub struct Snapshot {
    pub config: Config,
    pub keyring: Keyring,
    pub upstreams: Vec<Arc<Upstream>>,
    pub catalog: Catalog,
}

impl Snapshot {
    /// Makes what `config` says. Upstreams whose configuration did not change are taken
    /// over from `previous`, with their connections and what waits for them.
    ///
    /// # Errors
    ///
    /// If the local key can be neither read nor made.
    pub fn new(
        config: Config,
        previous: Option<&Self>,
        dependencies: &Dependencies,
    ) -> Result<Self, KeyError> {
        let keyring = Keyring::load(&config)?.with(dependencies.books.accounts.clone());
        let known = previous.map(|previous| previous.upstreams.as_slice()).unwrap_or_default();
        let same = |setting: &crate::config::UpstreamConfig| {
            known.iter().find(|upstream| {
                upstream.name == setting.name && upstream.setting.fingerprint == setting.fingerprint
            })
        };
        let upstreams = config.upstreams.iter().map(|setting| match same(setting) {
            Some(upstream) => upstream.clone(),
            None => Arc::new(Upstream::new(setting.clone(), dependencies)),
        });
        Ok(Self {
            upstreams: upstreams.collect(),
            catalog: Catalog::new(dependencies.tasks.clone()),
            keyring,
            config,
        })
    }

    /// The upstreams that a model leads to, in the order in which they are asked. `meant`: what
    /// the client's name for it stands for.
    pub fn led_to(&self, asked: &str, meant: &str) -> Vec<&Arc<Upstream>> {
        let names = route::route(&self.config, asked, meant);
        names.iter().filter_map(|name| self.upstream(name)).collect()
    }

    /// The upstream of what says nothing of a model.
    pub fn first(&self) -> Option<&Arc<Upstream>> {
        self.led_to("", "").into_iter().next()
    }

    pub fn upstream(&self, name: &UpstreamName) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.name == *name)
    }
}
