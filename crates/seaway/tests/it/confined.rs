//! A gateway that is confined works as one that is not, wherever its owner keeps things.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

#[cfg(target_os = "linux")]
use crate::support::Program;
use crate::support::{ASK, Client, KEY, Upstream, answer_json};

/// What the kernel says of each thread: its name, its seccomp mode, and whether it can gain rights.
#[cfg(target_os = "linux")]
fn threads(pid: u32) -> Vec<(String, bool, bool)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .filter_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let value = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            Some((value("Name:"), value("Seccomp:") == "2", value("NoNewPrivs:") == "1"))
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn every_thread_but_one_is_confined_unless_that_is_off() {
    let program = Program::start(&["--upstream", "sandbox", "--api-key", KEY]);
    assert_eq!(program.client().await.get("/v1/models").await.status, 200);
    let free: Vec<_> = threads(program.child.id())
        .into_iter()
        .filter(|(_, filtered, no_rights)| !(*filtered && *no_rights))
        .map(|(name, ..)| name)
        .collect();
    // With what it does at the moment.
    assert!(!free.is_empty() && free.iter().all(|name| name == "outside"), "{free:?}");
    let open =
        Program::start(&["--upstream", "sandbox", "--api-key", KEY, "--set", "confine=false"]);
    assert!(threads(open.child.id()).iter().all(|(_, filtered, _)| !filtered));
}

/// A home that is nowhere near the folders that everybody may write to.
fn home() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A gateway as a person starts it, and what it says.
fn start(home: &Path) -> (Child, Receiver<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_seaway"))
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (sender, log) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (child, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_settings_name_is_found_wherever_it_lies() {
    let mut upstream = Upstream::start().await;
    let home = home();
    let at = |path: &str| home.path().join(path);
    let url = upstream.url();
    let settings = |credential: &str| {
        format!(
            "port = 0\napi_key = '{KEY}'\n[upstream.up]\nkind = 'messages'\nbase_url = '{url}'\n{credential}\n"
        )
    };
    for (name, key) in [("first", "k-first"), ("second", "k-second"), ("third", "k-third")] {
        write(&at(&format!("secrets/{name}/token")), key);
    }
    let file =
        |name: &str| format!("api_key.file = '{}'", at(&format!("secrets/{name}/token")).display());
    let config = at(".config/seaway/seaway.toml");
    write(&config, &settings(&file("first")));
    let (mut child, log) = start(home.path());
    let next = |what: &str| {
        let line = log.iter().find(|line| line.contains(what));
        line.unwrap_or_else(|| panic!("the log ended without {what:?}"))
    };
    let banner = next("serves on http://");
    let address = banner.split("http://").nth(1).unwrap().trim().parse().unwrap();
    let command = format!("api_key.command = 'cat {}'", at("secrets/third/token").display());
    for (change, expect) in
        [(None, "k-first"), (Some(file("second")), "k-second"), (Some(command), "k-third")]
    {
        if let Some(credential) = change {
            write(&config, &settings(&credential));
            let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
            next("the configuration was reloaded");
        }
        let mut client = Client::connect(address, Some(KEY)).await;
        client.ask("POST /v1/messages", &[], ASK).await;
        let received = upstream.next().await;
        let sent = received.headers.iter().find(|(name, _)| name == "x-api-key");
        assert_eq!(sent.map(|(_, key)| key.as_str()), Some(expect));
        answer_json(received).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let kept = at(".local/state/seaway/seaway.db");
    let mut recorded = 0;
    while recorded < 3 {
        let database = rusqlite::Connection::open(&kept).unwrap();
        recorded = database
            .query_row("SELECT count(*) FROM record", [], |row| row.get::<_, u32>(0))
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A program that answers nothing, and tries what it may write.
#[cfg(target_os = "linux")]
const CURIOUS: &str = r#"#!/bin/sh
case "$1" in
    --version) echo "2.1.329 (Claude Code)"; exit;;
    auth) echo '{"loggedIn":true,"authMethod":"claude.ai"}'; exit;;
esac
{
    echo x > "$HOME/outside" && echo "outside"
    echo x > "$HOME/.config/seaway/seaway.toml" && echo "settings"
    echo x > "$HOME/.local/state/seaway/key" && echo "key"
    echo x > /var/tmp/seaway-was-here && echo "elsewhere"
    echo x > "$TMPDIR/inside" && echo "inside"
    echo x > /dev/null && echo "nowhere"
} > "$HOME/.claude/new" 2> /dev/null
mv "$HOME/.claude/new" "$HOME/.claude/report"
exit 1
"#;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_answers_writes_nothing_but_its_own() {
    let home = home();
    let at = |path: &str| home.path().join(path);
    write(&at("claude"), CURIOUS);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(at("claude"), mode).unwrap();
    std::fs::create_dir_all(at(".claude")).unwrap();
    let settings = format!(
        "port = 0\napi_key = '{KEY}'\n[upstream.cc]\nkind = 'claude-code'\n[claude_code]\npath = '{}'\n",
        at("claude").display()
    );
    write(&at(".config/seaway/seaway.toml"), &settings);
    let (mut child, log) = start(home.path());
    let banner = log.iter().find(|line| line.contains("serves on http://")).unwrap();
    let address = banner.split("http://").nth(1).unwrap().trim().parse().unwrap();
    let mut client = Client::connect(address, Some(KEY)).await;
    assert!(client.post("/v1/messages", ASK).await.status >= 500);
    while !at(".claude/report").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let written = std::fs::read_to_string(at(".claude/report")).unwrap();
    assert_eq!(written, "inside\nnowhere\n");
    child.kill().unwrap();
    child.wait().unwrap();
}
