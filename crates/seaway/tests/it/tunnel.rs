//! Tunnels, for real: ssh servers on loopback, a TLS endpoint with its own authority, processes that are killed.

use std::path::PathBuf;

use rustix::process::Signal;
use seaway::config::run_folder;
use seaway::tunnel;
use serde_json::{Value, json};

use crate::support::lab::{Lab, me, send};
use crate::support::ports;
use crate::support::{ASK, Gateway, Institution, eventually};

/// A gateway that reaches an institution by a jump host and a home behind it.
pub(crate) struct Way {
    pub lab: Lab,
    pub institution: Institution,
    jump: u16,
    home: u16,
}

impl Way {
    pub(crate) async fn new() -> Self {
        let mut lab = Lab::new();
        let (jump, home) =
            (lab.start("jump", "127.0.0.1", &[]), lab.start("home", "127.0.0.1", &[]));
        Self { lab, institution: Institution::start().await, jump, home }
    }

    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let pairs = [
            ("upstream.argo.kind", "argo".to_owned()),
            ("upstream.argo.base_url", self.institution.url()),
            ("upstream.argo.ca_file", self.institution.ca_file().display().to_string()),
            ("upstream.argo.api_key", "alice".into()),
            ("upstream.argo.set_chat", r#"{"user":"alice"}"#.into()),
            ("tunnel.cels.host", "127.0.0.1".into()),
            ("tunnel.cels.port", self.home.to_string()),
            ("tunnel.cels.jump", format!("127.0.0.1:{}", self.jump)),
            ("tunnel.cels.user", me()),
            ("tunnel.cels.ssh_config", self.lab.settings().display().to_string()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    pub(crate) async fn gateway(&self, more: &[(&str, &str)]) -> Open {
        let mut all = self.settings();
        all.retain(|(key, _)| !more.iter().any(|(given, _)| given == key));
        let mut all: Vec<(&str, &str)> =
            all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        all.extend_from_slice(more);
        Open(Gateway::start(&all).await)
    }
}

/// How the tests themselves speak to masters.
pub(crate) fn ssh() -> seaway::config::TunnelConfig {
    seaway::config::TunnelConfig::to("any")
}

/// A gateway whose ssh processes go with it.
pub(crate) struct Open(pub Gateway);

impl Open {
    fn folder(&self) -> PathBuf {
        run_folder(self.0.state.path())
    }

    pub(crate) async fn ask(&self, body: &str) -> (u16, Value, Option<String>) {
        let answer = self.0.client().await.post("/v1/messages", body).await;
        (answer.status, answer.json(), answer.header("seaway-fault").map(str::to_owned))
    }

    /// The one ssh process that holds the tunnel.
    async fn master(&self) -> i32 {
        let masters = tunnel::masters(&self.folder(), &ssh()).await;
        assert_eq!(masters.len(), 1, "{masters:?}");
        masters[0].pid.cast_signed()
    }

    pub(crate) async fn close(self) {
        tunnel::close_all(&self.folder(), &ssh()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_by_a_jump_host_with_one_login_and_one_handshake() {
    let way = Way::new().await;
    let gateway = way.gateway(&[]).await;
    let mut client = gateway.0.client().await;
    for _ in 0..50 {
        let answer = client.post("/v1/messages", ASK).await;
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (200, Some("message")),
            "{}",
            answer.text()
        );
    }
    assert_eq!((way.lab.logins("jump"), way.lab.logins("home")), (1, 1));
    // One to see who is there, one for all the requests; a busy machine may be late with one that is free again.
    assert!(
        way.institution.used() <= 3 && way.institution.handshakes() <= way.institution.used() + 1,
        "{} used, {} handshakes",
        way.institution.used(),
        way.institution.handshakes()
    );
    let asked = way.institution.asked();
    assert_eq!(
        (asked.len(), asked[0].0.as_str(), &asked[0].2["stream"]),
        (50, "POST /argoapi/v1/messages", &json!(true))
    );
    assert!(!asked.iter().any(|(_, headers, _)| headers.contains("local-key")), "our key went up");
    let socket = std::fs::read_dir(
        std::fs::read_dir(gateway.folder())
            .unwrap()
            .flatten()
            .find(|entry| entry.path().is_dir())
            .unwrap()
            .path(),
    )
    .unwrap();
    for entry in socket.flatten() {
        let mode = std::os::unix::fs::MetadataExt::mode(&entry.metadata().unwrap()) & 0o077;
        assert!(mode == 0 || entry.file_name() == "lock", "{entry:?} is for our eyes alone");
    }
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_share_a_login() {
    let way = Way::new().await;
    let first = way.gateway(&[]).await;
    assert_eq!(first.ask(ASK).await.0, 200);
    let master = first.master().await;
    let state = first.0.state.path().to_string_lossy().into_owned();
    let second = way.gateway(&[("state_dir", &state)]).await;
    assert_eq!(second.ask(ASK).await.0, 200);
    assert_eq!((first.master().await, way.lab.logins("home")), (master, 1));
    first.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_is_mended_once_for_all_that_wait() {
    let mut way = Way::new().await;
    let gateway = way.gateway(&[("upstream.argo.retries", "0")]).await;
    assert_eq!(gateway.ask(ASK).await.0, 200);
    let all_served = async || {
        let asks = (0..20).map(|_| gateway.ask(ASK));
        futures_util::future::join_all(asks)
            .await
            .into_iter()
            .for_each(|(status, body, _)| assert_eq!(status, 200, "{body}"));
    };
    // The master is killed.
    send(gateway.master().await, Signal::KILL);
    all_served().await;
    assert_eq!((way.lab.logins("home"), way.lab.logins("jump")), (2, 2), "one login more");
    // The forward is taken away, while the master lives.
    let folder = tunnel::masters(&gateway.folder(), &ssh()).await.remove(0).folder;
    let socket = std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .find(|entry| entry.path().extension().is_some_and(|kind| kind == "sock"))
        .unwrap()
        .path();
    std::fs::remove_file(&socket).unwrap();
    way.institution.stop().await;
    way.institution.start_again().await;
    all_served().await;
    assert_eq!(way.lab.logins("home"), 2, "no login more");
    // The endpoint was restarted: nothing of ours is broken.
    way.institution.stop().await;
    way.institution.start_again().await;
    all_served().await;
    assert_eq!(way.lab.logins("home"), 2, "no login more");
    // The endpoint is away: that is no fault of the tunnel's, and costs no login.
    way.institution.stop().await;
    let (status, body, layer) = gateway.ask(ASK).await;
    assert_eq!((status, layer.as_deref()), (502, Some("upstream")), "{body}");
    assert_eq!(way.lab.logins("home"), 2, "no login more");
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_dead_although_ssh_lives_is_noticed_and_mended() {
    let way = Way::new().await;
    let gateway = way
        .gateway(&[("tunnel.cels.probe", "500ms"), ("upstream.argo.connect_timeout", "2s")])
        .await;
    assert_eq!(gateway.ask(ASK).await.0, 200);
    let before = gateway.master().await;
    way.lab.freeze("home");
    let (status, body, _) = gateway.ask(ASK).await;
    assert_eq!(status, 200, "{body}");
    assert_ne!(gateway.master().await, before);
    assert_eq!(way.lab.logins("home"), 2, "one login more");
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_dead_path_hears_of_it_before_it_is_mended() {
    let way = Way::new().await;
    // As it is by default, but for the time between two looks.
    let gateway =
        way.gateway(&[("tunnel.cels.probe", "0"), ("upstream.argo.connect_timeout", "10s")]).await;
    assert_eq!(gateway.ask(ASK).await.0, 200);
    way.lab.freeze("home");
    let since = std::time::Instant::now();
    let (status, body, layer) = gateway.ask(ASK).await;
    let waited = since.elapsed().as_secs();
    assert_eq!((status, layer.as_deref()), (503, Some("tunnel")), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("is being mended"), "{body}");
    assert!(waited < 39, "after {waited} seconds");
    // The work goes on: whoever asks again has an answer in the end.
    while gateway.ask(ASK).await.0 != 200 {}
    assert_eq!(way.lab.logins("home"), 2, "one login more");
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_at_the_end_is_refused_on_traffic() {
    let mut way = Way::new().await;
    way.institution = Institution::named("somebody.else").await;
    let gateway = way.gateway(&[]).await;
    let (status, body, layer) = gateway.ask(ASK).await;
    assert_eq!((status, layer.as_deref()), (502, Some("upstream")), "{body}");
    assert!(
        body["error"]["message"].as_str().unwrap().contains("TLS with localhost failed"),
        "{body}"
    );
    assert!(way.institution.asked().is_empty(), "nothing was said to it");
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_that_asks_is_failed_at_once_and_counts_once() {
    let mut way = Way::new().await;
    way.jump = way.lab.start(
        "asking",
        "127.0.0.1",
        &[
            "PubkeyAuthentication=no",
            "PasswordAuthentication=yes",
            "KbdInteractiveAuthentication=yes",
        ],
    );
    let gateway = way.gateway(&[]).await;
    let (status, body, layer) = gateway.ask(ASK).await;
    let message = body["error"]["message"].as_str().unwrap();
    assert_eq!((status, layer.as_deref()), (503, Some("ssh")), "{body}");
    assert!(message.contains("authentication") && message.contains("--interactive"), "{message}");
    assert_eq!((way.lab.connections("asking"), way.lab.connections("home")), (1, 0));
    // In the pause after it nobody knocks again.
    assert_eq!(gateway.ask(ASK).await.0, 503);
    assert_eq!(way.lab.connections("asking"), 1);
    let records =
        tunnel::lockout::all(&gateway.0.app.state.snapshot.load().config.lockouts).unwrap();
    assert!(
        records[&format!("127.0.0.1:{}", way.jump)].last.contains("Permission denied"),
        "{records:?}"
    );
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_key_is_told_and_nothing_is_sent() {
    let way = Way::new().await;
    way.lab.say("UserKnownHostsFile /dev/null");
    let gateway = way.gateway(&[]).await;
    let (status, body, layer) = gateway.ask(ASK).await;
    assert_eq!((status, layer.as_deref()), (503, Some("ssh")), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("host key"), "{body}");
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_the_network_is_not_touched() {
    let way = Way::new().await;
    way.lab.say("IdentityFile /nowhere");
    let known = std::fs::read_to_string(way.lab.settings()).unwrap();
    let without: Vec<&str> = known
        .lines()
        .filter(|line| !line.trim().starts_with("IdentityFile") || line.contains("/nowhere"))
        .collect();
    std::fs::write(way.lab.settings(), without.join("\n")).unwrap();
    let gateway = way.gateway(&[]).await;
    let (status, body, layer) = gateway.ask(ASK).await;
    assert_eq!((status, layer.as_deref()), (503, Some("ssh")), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("ssh-keygen"), "{body}");
    let listed = gateway.0.client().await.get("/v1/models").await;
    assert_eq!(
        (listed.status, listed.header("seaway-fault")),
        (503, Some("ssh")),
        "{}",
        listed.text()
    );
    assert_eq!(way.lab.connections("jump"), 0);
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_is_for_what_claude_does_not_serve() {
    let way = Way::new().await;
    let gateway = way.gateway(&[]).await;
    let mut client = gateway.0.client().await;
    // Chat goes as it is for what Claude does not serve, with the user filled in.
    for (model, listed) in [
        ("gpt-4o", "gpt4o"),
        ("GPT-4o", "gpt4o"),
        ("o3-mini", "gpto3mini"),
        ("new-model", "new-model"),
    ] {
        let tools = json!([{"type": "function", "function": {"name": "n", "strict": true, "parameters": {"type": "object"}}}]);
        let answer = client.post("/v1/chat/completions", &json!({"model": model, "tools": tools, "messages": [{"role": "user", "content": "q"}]}).to_string()).await;
        assert_eq!(
            (answer.status, answer.json()["choices"][0]["message"]["content"].as_str()),
            (200, Some("hello")),
            "{model}: {}",
            answer.text()
        );
        let (line, _, heard) = way.institution.asked().pop().unwrap();
        assert_eq!(
            (line.as_str(), heard["model"].as_str(), heard["user"].as_str()),
            ("POST /argoapi/v1/chat/completions", Some(listed), Some("alice"))
        );
    }
    // What Claude serves is asked for in Messages, whatever the client speaks.
    let answer = client.post("/v1/chat/completions", r#"{"model":"claude-opus-4-8","messages":[{"role":"user","content":"hi"}],"user":"mine"}"#).await;
    assert_eq!(
        (answer.status, answer.json()["object"].as_str()),
        (200, Some("chat.completion")),
        "{}",
        answer.text()
    );
    assert_eq!(way.institution.asked().pop().unwrap().0, "POST /argoapi/v1/messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_institutions_rules_are_kept() {
    let way = Way::new().await;
    let gateway = way.gateway(&[]).await;
    let mut client = gateway.0.client().await;
    // A whole message, folded, with thinking and a tool call.
    let tool = json!({"name": "look", "strict": true, "input_schema": {"type": "object"}});
    let mut ask = json!({"model": "claude-opus-4.8", "max_tokens": 4000, "thinking": {"type": "adaptive"}, "tools": [tool], "messages": [{"role": "user", "content": "[[think hm]][[tool look {\"a\":1}]]"}]});
    let answer = client.post("/v1/messages?beta=true&u=http://a//b", &ask.to_string()).await;
    let body = answer.json();
    assert_eq!((answer.status, body["stop_reason"].as_str()), (200, Some("tool_use")), "{body}");
    let blocks = body["content"].as_array().unwrap();
    assert!(
        blocks.iter().any(|block| block["type"] == "thinking" && block["signature"].is_string()),
        "{body}"
    );
    assert!(blocks.iter().any(|block| block["input"] == json!({"a": 1})), "{body}");
    assert!(
        body["usage"]["input_tokens"].is_u64() && body["usage"]["output_tokens"].is_u64(),
        "{body}"
    );
    let note = answer.header("seaway-note").unwrap();
    assert!(note.contains("strict_tools") && note.contains("match_models"), "{note}");
    let (line, headers, heard) = way.institution.asked().remove(0);
    assert_eq!(
        (line.as_str(), heard["model"].as_str()),
        ("POST /argoapi/v1/messages?beta=true&u=http://a//b", Some("claude-opus-4-8"))
    );
    assert!(headers.contains("seaway/") && !headers.contains("local-key"), "{headers}");
    // A count is not streamed.
    let counted = client
        .post(
            "/argoapi/v1/messages/count_tokens",
            r#"{"model":"claude-opus-4-8","messages":[{"role":"user","content":"q"}]}"#,
        )
        .await;
    assert_eq!(
        (counted.status, counted.json()["input_tokens"].as_u64()),
        (200, Some(7)),
        "{}",
        counted.text()
    );
    assert_eq!(way.institution.asked()[1].2.get("stream"), None);
    // An error keeps its words; one that comes in the stream has its status.
    ask["messages"][0]["content"] = "[[error 529]]".into();
    let answer = client.post("/v1/messages", &ask.to_string()).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].as_str()),
        (529, Some("overloaded_error")),
        "{}",
        answer.text()
    );
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_where_the_tunnel_is_open_is_used_directly_or_by_ssh() {
    let mut way = Way::new().await;
    let there = way.lab.start("uan", "127.0.0.2", &[]);
    way.lab.say(&format!("Host 127.0.0.2\n    Port {there}"));
    for (bind, logins) in [("127.0.0.2", 0), ("127.0.0.1", 1)] {
        // What `seaway tunnel` holds open there.
        let front = tokio::net::TcpListener::bind((bind, 0)).await.unwrap();
        let port = front.local_addr().unwrap().port();
        let end = way.institution.port;
        let passing = tokio::spawn(async move {
            while let Ok((mut stream, _)) = front.accept().await {
                tokio::spawn(async move {
                    let mut end = tokio::net::TcpStream::connect(("127.0.0.1", end)).await.unwrap();
                    let _ended = tokio::io::copy_bidirectional(&mut stream, &mut end).await;
                });
            }
        });
        let gateway = way
            .gateway(&[("argo.tunnel_host", "127.0.0.2"), ("argo.tunnel_port", &port.to_string())])
            .await;
        let (status, body, _) = gateway.ask(ASK).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!((way.lab.logins("uan"), way.lab.logins("home")), (logins, 0), "{bind}");
        let health = gateway.0.client().await.get("/health").await.json();
        assert_eq!(
            health["upstreams"][0]["tunnel"]["direct"].as_bool().unwrap_or_default(),
            logins == 0,
            "{health}"
        );
        gateway.close().await;
        passing.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_the_tunnels() {
    let mut way = Way::new().await;
    let gateway = way.gateway(&[("tunnel.cels.probe", "200ms")]).await;
    let mut client = gateway.0.client().await;
    let health = client.get("/health/ready").await;
    assert_eq!(health.status, 503, "{}", health.text());
    assert_eq!(client.get("/health/live").await.status, 200);
    assert_eq!(gateway.ask(ASK).await.0, 200);
    let health = client.get("/health/ready").await;
    let told = health.json()["upstreams"][0]["tunnel"].clone();
    assert_eq!((health.status, &told["up"]), (200, &json!(true)), "{told}");
    assert!(
        told["host"].is_null() && told["why"].is_null(),
        "who goes where is the owner's affair: {told}"
    );
    // The endpoint goes away: the tunnel is not ready until it is back, and then without a request's doing.
    way.institution.stop().await;
    assert_eq!(gateway.ask(ASK).await.0, 502);
    assert_eq!(client.get("/health/ready").await.status, 503);
    way.institution.start_again().await;
    eventually("it is ready again", async || client.get("/health/ready").await.status == 200).await;
    assert_eq!(way.lab.logins("home"), 1);
    // The login is gone: nobody makes another until somebody asks.
    send(gateway.master().await, Signal::KILL);
    eventually("it is not ready", async || client.get("/health/ready").await.status == 503).await;
    assert_eq!(way.lab.logins("home"), 1);
    assert_eq!(gateway.ask(ASK).await.0, 200);
    assert_eq!((client.get("/health/ready").await.status, way.lab.logins("home")), (200, 2));
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_once_more_and_not_oftener() {
    let way = Way::new().await;
    let gateway = way.gateway(&[]).await;
    assert_eq!(gateway.ask(ASK).await.0, 200);
    let before = way.institution.asked().len();
    let (status, body, _) = gateway.ask(&ASK.replace("\"hi\"", "\"break the line\"")).await;
    assert_eq!(status, 502, "{body}");
    assert_eq!(
        way.institution.asked().len() - before,
        2,
        "once, and once more since nothing came back"
    );
    assert_eq!(way.lab.logins("home"), 1);
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_way_to_the_state_folder_is_no_obstacle() {
    let way = Way::new().await;
    let folder = tempfile::tempdir().unwrap();
    let long = folder
        .path()
        .join("a folder with a long name and blanks in it".repeat(3))
        .to_string_lossy()
        .into_owned();
    let gateway = way.gateway(&[("state_dir", &long)]).await;
    let (status, body, _) = gateway.ask(ASK).await;
    assert_eq!(status, 200, "{body}");
    tunnel::close_all(&run_folder(long.as_ref()), &ssh()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_is_named() {
    let mut way = Way::new().await;
    let closed = way.lab.start("closed", "127.0.0.1", &["AllowTcpForwarding=no"]).to_string();
    let there = way.lab.start("uan", "127.0.0.2", &[]);
    way.lab.say(&format!("Host 127.0.0.2\n    Port {there}"));
    let jump = format!("127.0.0.1:{closed}");
    let empty = ports::reserved("127.0.0.2").to_string();
    let table = [
        (vec![("tunnel.cels.port", closed.as_str())], "tunnel", "its ssh server forwards nothing"),
        (vec![("tunnel.cels.jump", jump.as_str())], "ssh", "administratively prohibited"),
        (
            vec![("argo.tunnel_host", "127.0.0.2"), ("argo.tunnel_port", empty.as_str())],
            "tunnel",
            "does `seaway tunnel` run there?",
        ),
    ];
    for (settings, layer, words) in table {
        let gateway = way.gateway(&settings).await;
        let (_, body, fault) = gateway.ask(ASK).await;
        assert_eq!(fault.as_deref(), Some(layer), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{body}");
        gateway.close().await;
    }
    let knocks = way.lab.connections("jump");
    way.lab.say("NoSuchOption yes");
    let gateway = way.gateway(&[]).await;
    let (status, body, _) = gateway.ask(ASK).await;
    assert!(
        status == 503
            && body["error"]["message"].as_str().unwrap().contains("ssh cannot read its settings"),
        "{body}"
    );
    assert_eq!(way.lab.connections("jump"), knocks, "nobody was asked");
    let lockouts = gateway.0.app.state.snapshot.load().config.lockouts.clone();
    assert!(!lockouts.exists(), "and nothing is held against anybody");
    gateway.close().await;
}
