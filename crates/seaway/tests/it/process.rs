//! The program itself: its commands, its signals, its exit codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{ASK, ASK_STREAM, Client, KEY, Upstream, answer_json, stream};

struct Program {
    child: Child,
    address: std::net::SocketAddr,
    state: tempfile::TempDir,
    log: std::sync::mpsc::Receiver<String>,
}

fn command(state: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seaway"));
    command.env_clear().env("HOME", state.path()).args(["--state-dir", &state.path().to_string_lossy()]);
    command
}

fn run(state: &tempfile::TempDir, arguments: &[&str]) -> Output {
    command(state).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut child = command(&state).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("the banner names the address").unwrap();
            if let Some((_, address)) = line.split_once("serves on http://") {
                break address.trim().parse().unwrap();
            }
        };
        let (sender, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, address, state, log }
    }

    fn before(upstream: &Upstream, arguments: &[&str]) -> Self {
        let base = format!("upstream.up.base_url={}", upstream.url());
        let mut all = vec!["--api-key", KEY, "--set", "upstream.up.kind=messages", "--set", &base];
        all.extend_from_slice(arguments);
        Self::start(&all)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until a line of the log holds `what`.
    fn says(&self, what: &str) -> String {
        loop {
            let line = self.log.recv().unwrap_or_else(|_| panic!("the log ended without {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    async fn client(&self) -> Client {
        Client::connect(self.address, Some(KEY)).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_what_is_in_flight() {
    let mut upstream = Upstream::start().await;
    let mut program = Program::before(&upstream, &[]);
    let mut client = program.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(&stream()[0]).await;
    client.head().await;
    client.chunk().await.unwrap();
    let mut idle = program.client().await;
    idle.ask("GET /health/live", &[], "").await;
    idle.answer().await;
    program.signal(rustix::process::Signal::TERM);
    program.says("draining");
    assert!(idle.closed().await, "idle connections are closed");
    for event in &stream()[1..] {
        received.chunk(event).await;
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    received.end().await;
    assert_eq!(client.chunk().await, Some(Vec::new()));
    assert!(program.child.wait().unwrap().success());
    let explained = run(&program.state, &["explain", "req_up"]);
    assert!(text(&explained.stdout).contains("completed with status 200"), "{}", text(&explained.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_what_takes_too_long() {
    let mut upstream = Upstream::start().await;
    let mut program = Program::before(&upstream, &["--grace", "50ms"]);
    let mut client = program.client().await;
    client.ask("POST /v1/messages", &[], ASK_STREAM).await;
    let mut received = upstream.next().await;
    received.begin_events().await;
    received.chunk(&stream()[0]).await;
    let mut waiting = program.client().await;
    waiting.ask("POST /v1/messages", &[], ASK).await;
    let never_answered = upstream.next().await;
    program.signal(rustix::process::Signal::TERM);
    assert!(!client.answer().await.whole);
    let answer = waiting.answer().await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
    received.gone().await;
    never_answered.gone().await;
    assert!(program.child.wait().unwrap().success());
    let explained = text(&run(&program.state, &["explain", "req_up", "--json"]).stdout);
    assert!(explained.contains(r#""outcome": "drained""#), "{explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reloads_and_a_bad_file_changes_nothing() {
    let mut upstream = Upstream::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    let program = Program::before(&upstream, &["--config", &path]);
    let mut client = program.client().await;
    std::fs::write(file.path(), "[alias]\nclaude-sonnet-4-5 = 'claude-z'\n").unwrap();
    program.signal(rustix::process::Signal::HUP);
    program.says("reloaded");
    for bad in [false, true] {
        if bad {
            std::fs::write(file.path(), "[alias\n").unwrap();
            program.signal(rustix::process::Signal::HUP);
            program.says("not reloaded");
        }
        client.ask("POST /v1/messages", &[], ASK).await;
        let received = upstream.next().await;
        assert!(received.text().contains("claude-z"));
        answer_json(received).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[test]
fn a_saved_file_is_read_when_it_is_watched() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let program = Program::start(&["--upstream", "sandbox", "--watch", "true", "--config", &file.path().to_string_lossy()]);
    std::fs::write(file.path(), "[alias]\na = 'b'\n").unwrap();
    file.as_file().set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5)).unwrap();
    program.says("reloaded");
    std::fs::write(file.path(), "nonsense").unwrap();
    file.as_file().set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9)).unwrap();
    program.says("not reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_finds_and_uses_what_runs() {
    let program = Program::start(&["--upstream", "sandbox", "--log-format", "json"]);
    let state = &program.state;
    let key = text(&run(state, &["key", "show"]).stdout).trim().to_owned();
    assert!(key.starts_with("sk-seaway-"), "{key}");
    let mut client = Client::connect(program.address, Some(&key)).await;
    let answer = client.post("/v1/messages", &ASK.replace("claude-sonnet-4-5", "sandbox-opus-1")).await;
    assert_eq!(answer.status, 200);
    let line = program.says("\"exchange\"");
    let logged: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&logged["outcome"], &logged["caller"], &logged["status"]), (&"completed".into(), &"default".into(), &200.into()));
    assert!(!line.contains("hi\""), "no prompt in the log");
    let second = run(state, &["serve", "--listen", &program.address.to_string()]);
    assert!(second.status.success() && text(&second.stderr).contains("already (process"), "{}", text(&second.stderr));
    let status = text(&run(state, &["status"]).stdout);
    assert!(status.contains(&program.address.to_string()) && status.contains("sandbox: ready"), "{status}");
    let id = answer.header("request-id").unwrap().to_owned();
    // The store's writer is another thread: what is not there yet will be.
    let explained = loop {
        let explained = run(state, &["explain", &id]);
        if explained.status.success() {
            break text(&explained.stdout);
        }
    };
    assert!(explained.contains("the very bytes that the client sent"), "{explained}");
    let usage: serde_json::Value = serde_json::from_slice(&run(state, &["usage", "--json"]).stdout).unwrap();
    assert_eq!((&usage[0]["requests"], &usage[0]["cost_usd"]), (&1.into(), &serde_json::Value::Null));
    assert!(text(&run(state, &["usage", "--csv"]).stdout).starts_with("day,model,caller,requests"));
    let fresh = text(&run(state, &["key", "rotate"]).stdout).trim().to_owned();
    assert_eq!(client.post("/v1/messages", ASK).await.status, 401);
    let mut client = Client::connect(program.address, Some(&fresh)).await;
    assert_eq!(client.post("/v1/messages", ASK).await.status, 200);
    let doctor = run(state, &["doctor", "--live", "--upstream", "sandbox", "--listen", "127.0.0.1:0"]);
    assert!(doctor.status.success(), "{}", text(&doctor.stdout));
    drop(program);
}

#[test]
fn commands_that_fail_say_what_to_do() {
    let state = tempfile::tempdir().unwrap();
    let table: [(&[&str], i32, &str); 6] = [
        (&["config", "check", "--prot", "1"], 2, "--port"),
        (&["config", "check", "--set", "lisen=1"], 2, "did you mean `listen`?"),
        (&["config", "check", "--listen", "0.0.0.0:1", "--auth", "none"], 2, "for loopback only"),
        (&["explain", "req_nothing"], 1, "no request is known"),
        (&["usage", "--since", "soon"], 2, "such as `7d`"),
        (&["doctor"], 1, "ANTHROPIC_API_KEY"),
    ];
    for (arguments, code, what) in table {
        let output = run(&state, arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(what), "{arguments:?}: {said}");
    }
    assert_eq!(run(&state, &["status"]).status.code(), Some(1));
}

#[test]
fn commands_that_print_data_print_it_to_stdout() {
    let state = tempfile::tempdir().unwrap();
    let table: [(&[&str], &str); 7] = [
        (&["config", "show"], "listen = \"127.0.0.1:7329\"  # default"),
        (&["config", "show", "--port", "9", "--json"], "\"origin\": \"--port\""),
        (&["config", "check"], "good"),
        (&["config", "schema"], "\"additionalProperties\": false"),
        (&["completions", "bash"], "_seaway"),
        (&["man"], ".TH"),
        (&["usage"], "no requests in the last 30d"),
    ];
    for (arguments, what) in table {
        let output = run(&state, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(what), "{arguments:?}: {}", text(&output.stdout));
    }
    assert!(text(&run(&state, &["config", "path"]).stdout).trim().ends_with(".config/seaway/seaway.toml"));
}

#[test]
fn a_taken_port_is_named_with_a_free_one() {
    let state = tempfile::tempdir().unwrap();
    let squatter = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = squatter.local_addr().unwrap().to_string();
    let output = run(&state, &["serve", "--listen", &address]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("is in use") && said.contains("--port"), "{said}");
    squatter.set_nonblocking(true).unwrap();
    assert!(squatter.accept().is_err(), "nothing was sent to the stranger");
}

#[test]
fn the_demo_shows_everything_and_touches_nothing() {
    let state = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_seaway"));
    child.env_clear().env("HOME", state.path()).env("TMPDIR", state.path()).args(["demo", "--once", "--listen", "127.0.0.1:0"]);
    let output = child.stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for what in ["a plain question", "\"stop_reason\":\"tool_use\"", "← 529", "message_stop", "\"input_tokens\"", "sandbox-opus-1"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "nothing in the home folder");
}

#[test]
fn the_readme_holds_the_table_of_settings() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    assert!(readme.contains(&seaway::config::markdown_table()), "run `seaway config schema --table` and put it into the README");
}

#[test]
fn a_unix_socket_serves_too() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("s.sock");
    let mut child = command(&state).args(["serve", "--listen", &format!("unix:{}", path.display()), "--upstream", "sandbox"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("serves on unix:") {}
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /health/live HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "a name that is not ours is refused here too: {answer}");
}
