//! A gateway in this process, on a port of its own, with a state folder of its own.

use std::net::SocketAddr;

use seaway::app::App;
use seaway::config::{Config, Environment, Listen, Sources};

use super::{Client, KEY, Upstream};

pub(crate) struct Gateway {
    pub app: App,
    pub address: SocketAddr,
    pub state: tempfile::TempDir,
}

impl Gateway {
    /// Starts a gateway with these settings, beside those that every test wants.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::with_file("", settings).await
    }

    /// Starts a gateway in front of one upstream.
    pub(crate) async fn before(upstream: &Upstream, settings: &[(&str, &str)]) -> Self {
        let url = upstream.url();
        let mut all = vec![
            ("upstream.up.kind", "messages"),
            ("upstream.up.base_url", url.as_str()),
            ("upstream.up.api_key", "upstream-key"),
            ("upstream.up.retries", "0"),
        ];
        all.retain(|(key, _)| !settings.iter().any(|(given, _)| given == key));
        all.extend_from_slice(settings);
        Self::start(&all).await
    }

    /// Starts a gateway with a configuration file.
    pub(crate) async fn with_file(file: &str, settings: &[(&str, &str)]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("seaway.toml");
        std::fs::write(&path, file).unwrap();
        let folder = state.path().to_string_lossy().into_owned();
        let mut flags = vec![
            ("listen", "127.0.0.1:0"),
            ("state_dir", folder.as_str()),
            ("keys", r#"{"tester":"local-key"}"#),
        ];
        // All tests hold in either lane.
        let lane = std::env::var("SEAWAY_TEST_LANE").unwrap_or_default();
        flags.extend((!lane.is_empty()).then_some(("lane", lane.as_str())));
        let given = |name: &str| settings.iter().any(|(key, _)| *key == name);
        flags.retain(|(key, _)| !given(key) && (*key != "keys" || !given("auth")));
        flags.extend_from_slice(settings);
        let flags =
            flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        // What is one user's on this machine is this gateway's alone.
        let environment = Environment::of([("XDG_STATE_HOME".to_owned(), folder.clone())]);
        let sources = Sources { file: Some(path), flags, environment };
        let app = App::start(Config::load(&sources).unwrap(), sources).await.unwrap();
        let address = app.addresses.iter().find_map(Listen::socket_address);
        Self { app, address: address.unwrap(), state }
    }

    /// Opens a connection that sends the local key.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address, Some(KEY)).await
    }

    /// The receipts and figures of an exchange, once they are written.
    pub(crate) async fn receipt(&self, id: &str) -> seaway::store::Receipt {
        self.app.state.ledger.store().flush().await;
        let database =
            seaway::store::open_to_read(&self.state.path().join("seaway.db")).unwrap().unwrap();
        seaway::store::explain(&database, id)
            .unwrap()
            .unwrap_or_else(|| panic!("no record of {id}"))
    }

    /// All records, oldest first: id and outcome.
    pub(crate) async fn outcomes(&self) -> Vec<(String, String)> {
        self.app.state.ledger.store().flush().await;
        let database =
            seaway::store::open_to_read(&self.state.path().join("seaway.db")).unwrap().unwrap();
        let mut select =
            database.prepare("SELECT endpoint, outcome FROM exchange ORDER BY at, id").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Waits until no exchange is under way, so that all records are queued.
    pub(crate) async fn quiet(&self) {
        while self.app.state.ledger.running() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
