//! The program itself: its commands, its signals, its exit codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::support::{
    ASK, ASK_STREAM, Client, KEY, Program, Upstream, answer_json, command, ports, run, stream, text,
};

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
    assert!(
        text(&explained.stdout).contains("completed with status 200"),
        "{}",
        text(&explained.stdout)
    );
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
    let program = Program::start(&[
        "--upstream",
        "sandbox",
        "--watch",
        "true",
        "--config",
        &file.path().to_string_lossy(),
    ]);
    std::fs::write(file.path(), "[alias]\na = 'b'\n").unwrap();
    file.as_file()
        .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5))
        .unwrap();
    program.says("reloaded");
    std::fs::write(file.path(), "nonsense").unwrap();
    file.as_file()
        .set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(9))
        .unwrap();
    program.says("not reloaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_finds_and_uses_what_runs() {
    let program = Program::start(&["--upstream", "sandbox", "--log-format", "json"]);
    let state = &program.state;
    let key = text(&run(state, &["key", "show"]).stdout).trim().to_owned();
    assert!(key.starts_with("sk-seaway-"), "{key}");
    let mut client = Client::connect(program.address, Some(&key)).await;
    let answer =
        client.post("/v1/messages", &ASK.replace("claude-sonnet-4-5", "sandbox-opus-1")).await;
    assert_eq!(answer.status, 200);
    let line = program.says("\"exchange\"");
    let logged: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&logged["outcome"], &logged["caller"], &logged["status"]),
        (&"completed".into(), &"default".into(), &200.into())
    );
    assert!(!line.contains("hi\""), "no prompt in the log");
    let second = run(state, &["serve", "--listen", &program.address.to_string()]);
    assert!(
        second.status.success() && text(&second.stderr).contains("already (process"),
        "{}",
        text(&second.stderr)
    );
    let status = text(&run(state, &["status"]).stdout);
    assert!(
        status.contains(&program.address.to_string()) && status.contains("sandbox: ready"),
        "{status}"
    );
    let id = answer.header("request-id").unwrap().to_owned();
    // The store's writer is another thread: what is not there yet will be.
    let explained = loop {
        let explained = run(state, &["explain", &id]);
        if explained.status.success() {
            break text(&explained.stdout);
        }
    };
    assert!(explained.contains("the very bytes that the client sent"), "{explained}");
    let usage: serde_json::Value =
        serde_json::from_slice(&run(state, &["usage", "--json"]).stdout).unwrap();
    assert_eq!(
        (&usage[0]["requests"], &usage[0]["cost_usd"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert!(text(&run(state, &["usage", "--csv"]).stdout).starts_with("day,model,caller,requests"));
    let fresh = text(&run(state, &["key", "rotate"]).stdout).trim().to_owned();
    let audited = text(&run(state, &["audit", "--json"]).stdout);
    assert!(audited.contains("key_changed"), "{audited}");
    assert_eq!(client.post("/v1/messages", ASK).await.status, 401);
    let mut client = Client::connect(program.address, Some(&fresh)).await;
    assert_eq!(client.post("/v1/messages", ASK).await.status, 200);
    let doctor =
        run(state, &["doctor", "--live", "--upstream", "sandbox", "--listen", "127.0.0.1:0"]);
    assert!(doctor.status.success(), "{}", text(&doctor.stdout));
    drop(program);
}

#[test]
fn a_key_can_be_given_out_and_known_by_its_hash_alone() {
    let state = tempfile::tempdir().unwrap();
    let made = run(&state, &["key", "hash", "--new"]);
    let (hash, said) = (text(&made.stdout), text(&made.stderr));
    let key = said.trim().rsplit(' ').next().unwrap();
    let setting = format!("keys={{\"team\":\"{}\"}}", hash.trim());
    let program = Program::start(&["--upstream", "sandbox", "--set", &setting]);
    let shown = run(&program.state, &["key", "show"]);
    assert!(
        !shown.status.success() && text(&shown.stderr).contains("configured as hashes"),
        "{}",
        text(&shown.stderr)
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(program.address, Some(key)).await;
        assert_eq!(client.post("/v1/messages", ASK).await.status, 200);
    });
    let nothing = run(&state, &["key", "hash"]);
    assert!(!nothing.status.success() && text(&nothing.stderr).contains("`--new` makes one"));
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
    assert!(
        text(&run(&state, &["config", "path"]).stdout)
            .trim()
            .ends_with(".config/seaway/seaway.toml")
    );
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
    child.env_clear().env("HOME", state.path()).env("TMPDIR", state.path()).args([
        "demo",
        "--once",
        "--listen",
        "127.0.0.1:0",
    ]);
    let output = child.stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for what in [
        "a plain question",
        "says: ",
        "thinks: A greeting.",
        "calls get_weather with {\"city\":\"Kiel\"}",
        "and stops (tool_use): ",
        "and stops (tool_calls): ",
        "← 529 Overloaded",
        " frames",
        " tokens\n",
        "sandbox-opus-1",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(!said.contains("\"type\"") && !said.contains("data:"), "prose: {said}");
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "nothing in the home folder");
}

#[test]
fn the_docs_hold_the_table_of_settings() {
    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md"))
            .unwrap();
    assert!(
        docs.contains(&seaway::config::markdown_table()),
        "run `seaway config schema --table` and put it into docs/settings.md"
    );
}

#[test]
fn the_docs_name_every_command() {
    let docs =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md"));
    let docs = docs.unwrap();
    let state = tempfile::tempdir().unwrap();
    let help = text(&run(&state, &["--help"]).stdout);
    let listed = help.split_once("Commands:").unwrap().1.lines().skip(1);
    let commands: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 10, "{help}");
    for command in commands {
        assert!(docs.contains(&format!("`seaway {command}")), "docs/commands.md lacks {command}");
    }
}

#[test]
fn a_price_is_explained_and_a_model_without_one_is_not_guessed_at() {
    let state = tempfile::tempdir().unwrap();
    let said = text(&run(&state, &["price", "claude-haiku-5-5"]).stdout);
    for what in [
        "$0.10 in, $0.50 out",
        "$0.50 in, $2.50 out",
        "for a prompt above 100000 tokens",
        "the list that ships",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    let own = [
        "--set",
        "price.\"claude-x*\".input=1",
        "--set",
        "price.\"claude-x*\".output=2.5",
        "--set",
        "price.\"claude-x*\".from.2027-01-01.input=7",
        "price",
        "claude-x1",
        "--json",
    ];
    let of = |more: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&run(&state, &[&own[..], more].concat()).stdout).unwrap()
    };
    assert_eq!(
        (
            &of(&["--at", "2026-12-31"])["rates"]["input"],
            &of(&["--at", "2027-01-01"])["rates"]["input"]
        ),
        (&1.0.into(), &7.0.into())
    );
    assert_eq!(of(&[])["own"], true);
    let listed = text(&run(&state, &["price"]).stdout);
    assert!(listed.contains("claude-opus-5-5*") && listed.contains("  fast"), "{listed}");
    let family = text(&run(&state, &["price", "sonnet"]).stdout);
    assert!(family.contains("claude-sonnet-5-5*") && !family.contains("opus"), "{family}");
    let unknown = run(&state, &["price", "claude-opus-9"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("there is no price for `claude-opus-9`"));
}

#[test]
fn a_unix_socket_serves_too() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("s.sock");
    let mut child = command(&state)
        .args(["serve", "--listen", &format!("unix:{}", path.display()), "--upstream", "sandbox"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("serves on unix:") {}
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /health/live HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403"),
        "a name that is not ours is refused here too: {answer}"
    );
}

#[test]
fn what_others_may_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let chmod = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let home = tempfile::tempdir().unwrap();
    let (config, marker) = (home.path().join(".config/seaway"), home.path().join("ran"));
    std::fs::create_dir_all(&config).unwrap();
    let file = config.join("seaway.toml");
    std::fs::write(&file, format!("[upstream.a]\nkind = 'messages'\nbase_url = 'http://127.0.0.1:1'\napi_key.command = 'touch {}'\n", marker.display())).unwrap();
    let seaway = |words: &[&str], vars: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seaway"));
        command
            .env_clear()
            .env("HOME", home.path())
            .envs(vars.iter().copied())
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    chmod(&file, 0o646);
    for words in
        [&["doctor"][..], &["config", "check"], &["key", "show"], &["serve", "--port", "0"]]
    {
        let output = seaway(words, &[]);
        assert!(!output.status.success(), "{words:?}");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(
            said.contains("others may write") && said.contains("chmod go-w"),
            "{words:?}: {said}"
        );
    }
    assert!(!marker.exists(), "nothing of it was done");
    let vouched = seaway(&["config", "check"], &[("SEAWAY_STRICT_MODES", "false")]);
    assert!(vouched.status.success(), "{}", text(&vouched.stderr));
    // A variables file is a settings file too.
    chmod(&file, 0o600);
    let variables = home.path().join("vars");
    std::fs::write(&variables, "SEAWAY_PORT=1\n").unwrap();
    chmod(&variables, 0o666);
    let output = seaway(&["--env-file", &variables.to_string_lossy(), "config", "check"], &[]);
    assert!(
        !output.status.success() && text(&output.stderr).contains("others may write"),
        "{}",
        text(&output.stderr)
    );
    // A state folder, and the key in it.
    let state = home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("key"), "planted-key\n").unwrap();
    for (folder, key) in [(0o777, 0o600), (0o755, 0o666)] {
        chmod(&state, folder);
        chmod(&state.join("key"), key);
        let output = seaway(&["--state-dir", &state.to_string_lossy(), "key", "show"], &[]);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(
            !output.status.success()
                && said.contains("others may write")
                && !said.contains("planted-key"),
            "{said}"
        );
    }
}

#[test]
fn without_a_home_nothing_is_looked_for_in_a_folder_of_everybodys() {
    let shared = tempfile::tempdir().unwrap();
    let planted = shared.path().join("seaway.toml");
    std::fs::create_dir_all(shared.path().join("seaway")).unwrap();
    for path in [planted, shared.path().join("seaway/seaway.toml")] {
        std::fs::write(path, "port = 1\n").unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_seaway"));
    let output =
        command.env_clear().env("TMPDIR", shared.path()).args(["config", "path"]).output().unwrap();
    let said = text(&output.stdout);
    // The password database knows whoever runs this.
    assert!(
        output.status.success()
            && !said.contains(&*shared.path().to_string_lossy())
            && !said.starts_with("/tmp"),
        "{said}"
    );
}

#[test]
fn the_key_is_that_of_the_gateway_that_runs() {
    let program = Program::start(&["--upstream", "sandbox", "--api-key", "of-this-shell-alone"]);
    let shown = run(&program.state, &["key", "show"]);
    assert_eq!(text(&shown.stdout).trim(), "of-this-shell-alone", "{}", text(&shown.stderr));
    assert!(!program.state.path().join("key").exists(), "no other key is made beside it");
    let rotated = run(&program.state, &["key", "rotate"]);
    assert!(
        !rotated.status.success() && text(&rotated.stderr).contains("has its key from --api-key"),
        "{}",
        text(&rotated.stderr)
    );
    let connected = run(&program.state, &["connect", "codex"]);
    let said = text(&connected.stderr);
    assert!(
        connected.status.success()
            && said.contains("it answers, \u{201c}Say `ok`, and nothing else.\u{201d} (simulated)"),
        "{said}"
    );
    let cursor = run(&program.state, &["connect", "cursor"]);
    assert!(
        cursor.status.success() && !program.state.path().join("key").exists(),
        "{}",
        text(&cursor.stderr)
    );
}

#[test]
fn the_banner_says_what_is_used_and_where_to_look() {
    let state = tempfile::tempdir().unwrap();
    let vars = [
        ("ANTHROPIC_API_KEY", "hush-1"),
        ("ANTHROPIC_AUTH_TOKEN", "hush-2"),
        ("PROXY_API_KEY", "hush-3"),
        ("HTTP_PORT", "3456"),
    ];
    let mut child = command(&state)
        .envs(vars)
        .args(["serve", "--listen", "0.0.0.0:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !said.contains("  open  ") {
        said.push_str(&(lines.next().unwrap().unwrap() + "\n"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for words in [
        "$ANTHROPIC_API_KEY (not used: $ANTHROPIC_AUTH_TOKEN)",
        "(from $PROXY_API_KEY)",
        "$HTTP_PORT is another tool's",
        "ANTHROPIC_BASE_URL=http://127.0.0.1:",
        "/ in a browser",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for never in ["hush", "0.0.0.0", "#in="] {
        assert!(!said.contains(never), "{never}: {said}");
    }
}

#[test]
fn a_client_that_nobody_knows_is_told_of_all_the_same() {
    let state = tempfile::tempdir().unwrap();
    let output = run(&state, &["connect", "cluade"]);
    let (told, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("did you mean `claude`?"), "{said}");
    assert!(
        told.contains("http://127.0.0.1:7329/v1")
            && told.contains("export ANTHROPIC_BASE_URL=http://127.0.0.1:7329 "),
        "{told}"
    );
}

#[test]
fn a_comment_that_its_client_cannot_read_is_told() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".claude/settings.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    for text_of in ["{\n  // mine\n  \"model\": \"opus\"\n}\n", "{\"model\": \"opus\",}\n"] {
        std::fs::write(&file, text_of).unwrap();
        let output = run(&home, &["connect", "claude"]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains("strict JSON") && said.contains("line "),
            "{said}"
        );
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text_of, "it is left alone");
    }
    std::fs::write(&file, "{\"model\": \"opus\"}\n").unwrap();
    let output = run(&home, &["connect", "claude"]);
    let said = text(&output.stderr);
    assert!(
        output.status.success()
            && said.contains("start it with `claude`")
            && said.contains("nobody serves at"),
        "{said}"
    );
}

#[test]
fn help_is_short_or_whole() {
    let state = tempfile::tempdir().unwrap();
    let (short, whole) = (
        text(&run(&state, &["serve", "-h"]).stdout),
        text(&run(&state, &["serve", "--help"]).stdout),
    );
    assert!(
        short.lines().count() < 30 && !short.contains("--jump") && !short.contains("--env "),
        "{short}"
    );
    for flag in ["--jump", "--env", "--direct", "--store-retention", "--models-only"] {
        assert!(whole.contains(flag), "{flag}");
    }
    let tunnel = run(&state, &["tunnel"]);
    assert!(
        tunnel.status.code() == Some(2) && text(&tunnel.stderr).contains("`--upstream argo`"),
        "{}",
        text(&tunnel.stderr)
    );
    let env = run(&state, &["serve", "--upstream", "sandbox", "--env", "test"]);
    assert!(
        !env.status.success() && text(&env.stderr).contains("add `--upstream argo`"),
        "{}",
        text(&env.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_not_ready_and_the_books_say_what_was() {
    // Nobody listens there.
    let nobody = format!("127.0.0.1:{}", ports::reserved("127.0.0.1"));
    let base = format!("upstream.up.base_url=http://{nobody}");
    let settings = [
        "--api-key",
        KEY,
        "--set",
        "upstream.up.kind=messages",
        "--set",
        &base,
        "--set",
        "upstream.up.retries=0",
        "--set",
        "alias.gpt-x=claude-opus-4-8",
    ];
    let program = Program::start(&settings);
    let mut client = program.client().await;
    let ready = client.get("/health/ready").await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    let status = run(&program.state, &["status", "--ready"]);
    assert_eq!(status.status.code(), Some(1));
    let said = text(&status.stdout);
    assert!(said.contains("up: not ready: ") && said.contains("cannot be reached"), "{said}");
    assert!(run(&program.state, &["status"]).status.success(), "it runs all the same");
    let failed = client.post("/v1/messages", &ASK.replace("claude-sonnet-4-5", "gpt-x")).await;
    assert_eq!(failed.status, 502, "{}", failed.text());
    let stranger =
        Client::connect(program.address, Some("wrong")).await.post("/v1/messages", ASK).await;
    assert_eq!(stranger.status, 401);
    let listed = |words: &[&str]| -> Vec<serde_json::Value> {
        // The store's writer is another thread: what is not there yet will be.
        loop {
            let output = run(&program.state, &[&["requests", "--json"], words].concat());
            let rows: Vec<serde_json::Value> =
                serde_json::from_slice(&output.stdout).unwrap_or_default();
            if !rows.is_empty() {
                break rows;
            }
        }
    };
    let refused = listed(&["--caller", "(refused)"]);
    assert_eq!((refused.len(), &refused[0]["status"]), (1, &401.into()), "{refused:?}");
    let rows = listed(&["--failed", "--status", "502"]);
    assert_eq!((rows.len(), &rows[0]["upstream"]), (1, &"up".into()), "{rows:?}");
    let explained =
        text(&run(&program.state, &["explain", failed.header("request-id").unwrap()]).stdout);
    assert!(
        !explained.contains("very bytes") && explained.contains("no upstream got this request"),
        "{explained}"
    );
    let usage: Vec<serde_json::Value> =
        serde_json::from_slice(&run(&program.state, &["usage", "--json"]).stdout).unwrap();
    let models: Vec<&str> = usage
        .iter()
        .filter(|row| row["caller"] != "(refused)")
        .filter_map(|row| row["model"].as_str())
        .collect();
    assert_eq!(models, ["claude-opus-4-8"], "by what the alias stands for: {usage:?}");
    let patient = Program::start(&[&settings[..], &["--ready-grace", "1h"]].concat());
    assert_eq!(patient.client().await.get("/health/ready").await.status, 200, "within the grace");
}

/// The process that watches over a gateway's children, once it is another than `before`.
#[cfg(target_os = "linux")]
async fn watch_of(gateway: u32, before: Option<u32>) -> u32 {
    for _ in 0..1000 {
        let all = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let watches = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit(')')
                .next()
                .and_then(|fields| fields.split_whitespace().nth(1)?.parse::<u32>().ok());
            stat.contains("(claude-watch)") && !stat.contains(") Z") && parent == Some(gateway)
        };
        if let Some(found) = all.filter(|pid| Some(*pid) != before).find(watches) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody watches");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nobody_works_for_a_gateway_that_was_killed() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    // The program may write where its login is.
    let folder = state.path().join(".claude");
    std::fs::create_dir(&folder).unwrap();
    let claude = folder.join("claude");
    std::fs::write(
        &claude,
        format!(
            "#!/bin/sh\nexec '{}' '{}' \"$@\"\n",
            env!("CARGO_BIN_EXE_fake-claude"),
            folder.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&claude, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.join("login"), "").unwrap();
    // The gateway is in the midst of an answer, and hears neither signals nor that nobody reads any more.
    std::fs::write(
        folder.join("1"),
        "deaf\nwait \"client_composed\":true\nplay text 1-8\nsleep 600000",
    )
    .unwrap();
    let path = format!("claude_code.path={}", claude.display());
    let arguments = ["--api-key", KEY, "--set", "upstream.cc.kind=claude-code", "--set", &path];
    let mut program = Program::start_in(state, &arguments);
    let mut client = program.client().await;
    let body = ASK_STREAM.replace("\"model\":\"m\"", "\"model\":\"claude-sonnet-5-5\"");
    client.ask("POST /v1/messages", &[], &body).await;
    client.head().await;
    client.chunk().await.unwrap();
    let at_work: u32 = std::fs::read_to_string(folder.join("claimed-1")).unwrap().parse().unwrap();
    assert!(seaway::process::mark(at_work).is_some());
    // Whoever kills the watch first has to kill the next one as well.
    let watch = watch_of(program.child.id(), None).await;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(watch).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    watch_of(program.child.id(), Some(watch)).await;
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    for _ in 0..1000 {
        if seaway::process::mark(at_work).is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{at_work} still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_the_program_is_named_and_not_opened() {
    let program = Program::start(&["--api-key", KEY]);
    let state = program.state.path().to_owned();
    let told = async |program: &Program| program.client().await.post("/v1/messages", ASK).await;
    assert!(
        told(&program).await.text().contains("there is no upstream yet; set ANTHROPIC_API_KEY")
    );
    drop(program);
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".claude")).unwrap();
    let login = home.path().join(".claude/.credentials.json");
    std::fs::write(&login, "{}").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_seaway"))
        .env_clear()
        .env("HOME", home.path())
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--api-key",
            KEY,
            "--state-dir",
            &state.join("other").to_string_lossy(),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines
        .find_map(|line| Some(line.split_once("serves on http://")?.1.trim().parse().unwrap()))
        .unwrap();
    let answer = Client::connect(address, Some(KEY)).await.post("/v1/messages", ASK).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.status, 503);
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(&login.display().to_string()) && message.contains("npm install"),
        "{message}"
    );
}

/// Where nobody reads what is said: a pipe, or a terminal that was stopped. It lasts as long as what is returned beside it.
fn unread(stopped: bool) -> (Box<dyn Send>, Stdio) {
    if stopped {
        let pair = nix::pty::openpty(None, None).unwrap();
        nix::sys::termios::tcflow(&pair.slave, nix::sys::termios::FlowArg::TCOOFF).unwrap();
        return (Box::new(pair.master), pair.slave.into());
    }
    let (reader, writer) = std::io::pipe().unwrap();
    (Box::new(reader), writer.into())
}

const ASKED: usize = 10_000;

/// What the metrics say of one thing.
fn figure(metrics: &str, name: &str) -> u64 {
    let figure = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(figure).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    for stopped in [false, true] {
        let state = tempfile::tempdir().unwrap();
        let settings = state.path().join("seaway.toml");
        let dead =
            "[upstream.dead]\nkind = 'messages'\nbase_url = 'http://127.0.0.1:1'\nretries = 0\n";
        let rest = "[upstream.sandbox]\nkind = 'sandbox'\n[[route]]\nmodel = '*'\nupstream = ['dead', 'sandbox']\n";
        std::fs::write(&settings, dead.to_owned() + rest).unwrap();
        let (_held, stderr) = unread(stopped);
        let mut child = command(&state)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--api-key",
                KEY,
                "--config",
                &settings.to_string_lossy(),
            ])
            .stderr(stderr)
            .spawn()
            .unwrap();
        let address = loop {
            // Nobody can read the banner.
            if let Some(known) = seaway::instance::find(state.path()).pop() {
                break known.addresses[0].trim_start_matches("http://").parse().unwrap();
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        };
        let ask = ASK.replace("claude-sonnet-4-5", "sandbox-sonnet-1");
        let clients = (0..8).map(|_| {
            let ask = ask.clone();
            tokio::spawn(async move {
                let mut client = Client::connect(address, Some(KEY)).await;
                for _ in 0..ASKED / 8 {
                    assert_eq!(client.post("/v1/messages", &ask).await.status, 200);
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        let health = Client::connect(address, None).await.get("/health/live").await;
        assert_eq!(health.status, 200);
        let metrics = Client::connect(address, Some(KEY)).await.get("/metrics").await;
        let lost = figure(metrics.text(), "seaway_log_lines_dropped_total");
        assert!(lost > 0, "more was said than may wait");
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(
            tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap().success()
        );
        let usage = run(&state, &["usage", "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&usage.stdout).unwrap();
        let recorded: u64 = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
        assert_eq!(recorded, ASKED as u64, "all were recorded");
    }
}

/// Bytes that a process has for itself.
#[cfg(target_os = "linux")]
fn anonymous_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_burst_took_is_given_back() {
    const MIB: u64 = 1 << 20;
    let program = Program::start(&["--upstream", "sandbox", "--api-key", KEY]);
    let pid = program.child.id();
    let before = anonymous_memory(pid);
    let large = ASK.replace("claude-sonnet-4-5", "sandbox-sonnet-1");
    let large = large.replace("\"hi\"", &format!("\"{}\"", "x".repeat(2 << 20)));
    let mut burst = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (mut client, large) = (program.client().await, large.clone());
        burst.spawn(async move { client.post("/v1/messages", &large).await.status });
    }
    let (mut most, mut answered) = (before, 0);
    while let Some(status) = burst.join_next().await {
        answered += u32::from(status.unwrap() == 200);
        most = most.max(anonymous_memory(pid));
    }
    assert_eq!(answered, 32);
    assert!(most > before + 24 * MIB, "{} MiB are no burst", (most - before) / MIB);
    // Whatever a quiet process keeps, it is no part of the burst's.
    while anonymous_memory(pid) > before + 12 * MIB {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
