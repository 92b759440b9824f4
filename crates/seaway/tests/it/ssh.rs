//! What ssh says and does not say, played by `fake-ssh`.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use seaway::config::{self, Config, Environment, Sources, UpstreamPlace, run_folder};
use seaway::dial::{Dial, Network};
use seaway::tunnel::{Login, Tunnel, TunnelError, TunnelLayer, lockout};
use serde_json::Value;
use tokio_util::task::TaskTracker;

const FAKE: &str = env!("CARGO_BIN_EXE_fake-ssh");

/// A home folder with a key, a script for ssh, and what it was called with.
struct Home(tempfile::TempDir);

impl Home {
    fn new(script: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(home.path(".ssh")).unwrap();
        home.write(".ssh/key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        home.write("fake-ssh", script);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The calls of a kind, with the process of each.
    fn calls(&self, kind: &str) -> Vec<u32> {
        let log = std::fs::read_to_string(self.path("fake-ssh.log")).unwrap_or_default();
        log.lines()
            .filter_map(|line| line.strip_prefix(kind)?.split(' ').nth(1)?.parse().ok())
            .collect()
    }

    fn settings(&self) -> Vec<(String, String)> {
        let text = |text: &str| text.to_owned();
        vec![
            (text("state_dir"), self.0.path().display().to_string()),
            (text("default_upstream"), text("argo")),
            (text("tunnel.cels.ssh"), text(FAKE)),
            (text("tunnel.cels.host"), text("home.example")),
            (text("tunnel.cels.jump"), text("jump.example")),
        ]
    }

    /// The tunnel that these settings make.
    fn tunnel(&self) -> Arc<Tunnel> {
        self.tunnel_of(self.settings())
    }

    fn tunnel_of(&self, flags: Vec<(String, String)>) -> Arc<Tunnel> {
        let home = self.0.path().display().to_string();
        let environment = Environment::of([
            ("HOME".to_owned(), home),
            ("LOGNAME".to_owned(), "alice".to_owned()),
        ]);
        let config = Config::load(&Sources { file: None, flags, environment }).unwrap().config;
        let UpstreamPlace::Api(api) = &config.upstreams[0].place else { panic!("it is an API") };
        Tunnel::new(
            api.via.clone().unwrap(),
            Arc::new(Dial::new(api, &Network::Real)),
            TaskTracker::new(),
        )
    }

    /// One for all of this user's gateways, whatever their state folders.
    fn lockouts(&self) -> PathBuf {
        run_folder(&self.0.path().join(".local/state/seaway")).join("ssh.json")
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seaway"));
        command.env_clear().env("HOME", self.0.path()).env("LOGNAME", "alice").args(words);
        for (key, value) in self.settings() {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.stdin(Stdio::null()).output().unwrap()
    }
}

async fn fails(home: &Home) -> TunnelError {
    home.tunnel().up(Login::Batch).await.unwrap_err()
}

#[tokio::test]
async fn each_cause_has_its_remedy_and_counts_or_not() {
    let table = [
        (
            "Host key verification failed.",
            "host key",
            "ssh -l alice -J alice@jump.example home.example` once by hand",
            true,
        ),
        (
            "alice@jump.example: Permission denied (publickey).",
            "authentication",
            "--interactive",
            true,
        ),
        (
            "ssh: connect to host jump.example port 22: Connection timed out",
            "network",
            "tried again by itself",
            false,
        ),
        ("bind: Address already in use", "port", "--tunnel-port", false),
        ("some new trouble", "unknown", "by hand and see", true),
    ];
    for (said, cause, remedy, counted) in table {
        let home = Home::new(&format!("login: fail {said}"));
        let error = fails(&home).await;
        assert_eq!(error.layer, TunnelLayer::Ssh);
        assert!(
            error.message.contains(&format!("({cause}): {said}; "))
                && error.message.contains(remedy),
            "{error}"
        );
        assert_eq!(
            lockout::all(&home.lockouts()).unwrap().contains_key("jump.example"),
            counted,
            "{cause}"
        );
    }
}

#[tokio::test]
async fn another_state_folder_is_no_way_round_a_rest() {
    let home = Home::new("login: fail alice@jump.example: Permission denied (publickey).");
    for _ in 0..2 {
        fails(&home).await;
    }
    let mut settings = home.settings();
    settings[0].1 = home.0.path().join("another").display().to_string();
    let error = home.tunnel_of(settings).up(Login::Batch).await.unwrap_err();
    assert!(error.message.contains("rests for 15 minutes"), "{error}");
    assert_eq!(home.calls("login").len(), 2, "ssh is not used");
}

/// Time stands still but for the limits, which are over at once.
#[tokio::test(start_paused = true)]
async fn a_call_that_never_comes_back_is_ended() {
    let home = Home::new("login: hang");
    let error = fails(&home).await;
    assert!(error.message.contains("it took longer than 30 seconds"), "{error}");
    // With time standing still it may be over before ssh wrote its first line.
    while home.calls("login").pop().is_some_and(|pid| seaway::process::mark(pid).is_some()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_master_that_does_not_listen_is_given_up() {
    let home = Home::new(
        "check: fail Control socket connect(./control): Connection refused\nlogin: fail ssh: connect to host h port 22: No route to host",
    );
    let tunnel = home.tunnel();
    std::fs::create_dir_all(&tunnel.setting.folder).unwrap();
    let control = tunnel.setting.folder.join("control");
    std::fs::write(&control, "").unwrap();
    let error = tunnel.up(Login::Batch).await.unwrap_err();
    assert!(error.message.contains("No route to host"), "{error}");
    assert!(
        !control.exists() && home.calls("exit").len() == 1,
        "over what it left the next one would not listen"
    );
}

#[tokio::test]
async fn many_that_wait_are_one_login() {
    let home = Home::new("login: fail ssh: connect to host h port 22: Network is unreachable");
    let tunnel = home.tunnel();
    let all = futures_util::future::join_all((0..20).map(|_| tunnel.up(Login::Batch))).await;
    assert!(
        all.iter()
            .all(|one| one.as_ref().is_err_and(|error| error.message.contains("unreachable")))
    );
    assert_eq!(home.calls("login").len(), 1);
    assert!(tunnel.up(Login::Never).await.is_err());
    assert_eq!(home.calls("login").len(), 1, "in the pause nothing is tried");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn the_lock_out_holds_over_processes_until_it_is_cleared() {
    let home = Home::new("login: fail alice@jump.example: Permission denied (publickey).");
    let file = home.lockouts();
    let attempt = || {
        let output = home.run(&["tunnel", "--detach"]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    for round in 1..=3 {
        for _ in 0..2 {
            assert!(attempt().contains("Permission denied"));
        }
        let (told, word) =
            (attempt(), if round == 3 { "is locked" } else { "rests for 15 minutes more" });
        assert!(
            told.contains(word)
                && told.contains("seaway unlock")
                && told.contains("Permission denied"),
            "{told}"
        );
        assert_eq!(home.calls("login").len(), round * 2, "while it rests ssh is not used");
        // A quarter of an hour goes by.
        let mut records: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        records["jump.example"]["until"] = 1.into();
        std::fs::write(&file, records.to_string()).unwrap();
    }
    let status = home.run(&["status", "--json"]);
    let told: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (told["lockouts"][0]["host"].as_str(), told["lockouts"][0]["state"].as_str()),
        (Some("jump.example"), Some("is locked")),
        "{told}"
    );
    assert!(attempt().contains("is locked"));
    let unlocked = home.run(&["unlock"]);
    assert!(
        text(&unlocked).starts_with("jump.example: ssh may log in again"),
        "{}",
        text(&unlocked)
    );
    assert!(attempt().contains("Permission denied"));
    assert_eq!(home.calls("login").len(), 7);
}

#[test]
fn a_port_of_somebody_elses_is_no_reason_for_ssh() {
    let home = Home::new("");
    let squatter = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    squatter.set_nonblocking(true).unwrap();
    let port = squatter.local_addr().unwrap().port().to_string();
    for words in [&["serve", "--port", &port][..], &["tunnel", "--detach", "--tunnel-port", &port]]
    {
        let output = home.run(words);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("in use by another program; port ")
                && said.contains(if words[0] == "tunnel" {
                    "(`--tunnel-port "
                } else {
                    "(`--port "
                }),
            "{said}"
        );
    }
    assert!(squatter.accept().is_err(), "nobody spoke to it");
    assert!(!home.path("fake-ssh.log").exists(), "ssh was not used");
}

#[test]
fn two_users_have_two_ports_and_two_states() {
    let port = |user: &str| {
        let environment = Environment::of([
            ("HOME".to_owned(), format!("/home/{user}")),
            ("LOGNAME".to_owned(), user.to_owned()),
        ]);
        let config = Config::load(&Sources {
            file: None,
            flags: vec![("default_upstream".into(), "argo".into())],
            environment,
        })
        .unwrap()
        .config;
        let UpstreamPlace::Api(api) = &config.upstreams[0].place else { panic!("it is an API") };
        let tunnel = api.via.clone().unwrap();
        (config.listen[0].to_string(), tunnel.tunnel_port, tunnel.folder.clone(), credential(api))
    };
    let (alice, bob) = (port("alice"), port("bob"));
    assert_eq!(
        (alice.0.as_str(), alice.1, bob.0.as_str(), bob.1),
        ("http://127.0.0.1:22025", 22_024, "http://127.0.0.1:24504", 24_503)
    );
    assert!(
        alice.2.starts_with("/home/alice/.local/state/seaway/run")
            && bob.2.starts_with("/home/bob/.local/state/seaway/run")
    );
    assert_eq!((alice.3.as_str(), bob.3.as_str()), ("alice", "bob"));
}

fn credential(api: &config::ApiConfig) -> String {
    match &api.credential.as_ref().unwrap().source {
        config::Source::Value(value) => secrecy::ExposeSecret::expose_secret(value).to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_never_logs_in_says_so_and_tries_nothing() {
    let home = Home::new("");
    let error = home.tunnel().up(Login::Never).await.unwrap_err();
    assert!(error.message.contains("the next request logs in"), "{error}");
    assert!(home.calls("login").is_empty());
}
