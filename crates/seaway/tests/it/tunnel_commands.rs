//! `serve`, `tunnel`, `relay`, `status` and `doctor` over real ssh servers.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use seaway::config::run_folder;
use serde_json::Value;

use crate::support::lab::send;
use crate::support::ports;
use crate::support::{ASK, Client, KEY};
use crate::tunnel::{Way, ssh};

/// Somebody's home, and the program in it.
struct Home {
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
}

impl Home {
    fn new(way: &Way) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), settings: way.settings() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seaway"));
        command
            .env_clear()
            .env("HOME", self.folder.path())
            .env("LOGNAME", "alice")
            .env("PATH", "/usr/bin:/bin");
        command.args(words).args([
            "--state-dir",
            &self.folder.path().to_string_lossy(),
            "--api-key",
            KEY,
            "--upstream",
            "argo",
        ]);
        for (key, value) in &self.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        (
            status.code(),
            String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout),
        )
    }

    fn start(&self, words: &[&str]) -> Running {
        let mut child =
            self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for pipe in pipes {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut said = said.lock().unwrap();
                    said.push_str(&line);
                    said.push('\n');
                }
            });
        }
        Running { child, said }
    }

    /// The masters' processes and folders.
    async fn masters(&self) -> Vec<(PathBuf, i32)> {
        let found = seaway::tunnel::masters(&run_folder(self.folder.path()), &ssh()).await;
        found.into_iter().map(|one| (one.folder, one.pid.cast_signed())).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let (status, said) = self.run(&["tunnel", "close"]);
        assert!(std::thread::panicking() || status == Some(0), "{said}");
    }
}

struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// Waits until it has said something.
    async fn says(&self, what: &str) -> String {
        let since = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            if said.contains(what) {
                return said;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "it never said {what:?}, but: {said}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn leave(mut self) {
        send(self.child.id().cast_signed(), Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.said.lock().unwrap());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn ask(port: u16) -> (u16, String) {
    let answer = Client::connect(([127, 0, 0, 1], port).into(), Some(KEY))
        .await
        .post("/v1/messages", ASK)
        .await;
    (answer.status, answer.text().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gateway_is_enough_and_its_place_can_be_taken_without_a_login() {
    let way = Way::new().await;
    let home = Home::new(&way);
    let port = ports::reserved("127.0.0.1");
    let words = ["serve", "--port", &port.to_string()];
    let first = home.start(&words);
    first.says("`cels` is up").await;
    assert_eq!(ask(port).await.0, 200);
    let master = home.masters().await.remove(0).1;
    // A second one sees that, and leaves it alone.
    let (status, said) = home.run(&words);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("serves on")
            && said.contains("already")
            && said.contains("export ANTHROPIC_BASE_URL=")
            && !said.contains("but it"),
        "{said}"
    );
    // A third one takes its place.
    let mut restart = words.to_vec();
    restart.push("--restart");
    let second = home.start(&restart);
    second.says("`cels` is up").await;
    assert_eq!(ask(port).await.0, 200);
    assert_eq!((home.masters().await.remove(0).1, way.lab.logins("home")), (master, 1));
    let (_, status) = home.run(&["status"]);
    assert!(
        status.contains("tunnel    cels: up, ssh process")
            && status.contains(&format!("ssh       logged in, process {master}")),
        "{status}"
    );
    drop(first);
    second.leave();
    assert_eq!(home.masters().await.len(), 1, "the login stays");
    let (status, said) = home.run(&["tunnel", "close"]);
    assert_eq!((status, said.as_str()), (Some(0), "1 tunnel was closed\n"));
    assert!(home.masters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_opened_for_others_and_its_line_works_there() {
    let mut way = Way::new().await;
    let there = way.lab.start("uan", "127.0.0.2", &[]);
    way.lab.say(&format!("Host 127.0.0.2\n    Port {there}"));
    let mut home = Home::new(&way);
    home.settings.push(("tunnel.cels.probe".into(), "300ms".into()));
    for (bind, logins) in [("127.0.0.1", 1), ("*", 1)] {
        let port = ports::reserved("0.0.0.0").to_string();
        let open = home.start(&["tunnel", "--tunnel-port", &port, "--bind", bind]);
        let said = open.says("seaway serve --upstream argo --tunnel-host ").await;
        assert!(
            said.contains(&format!("--tunnel-port {port}"))
                && said.contains("warning: whoever can reach") == (bind == "*"),
            "{said}"
        );
        let compute =
            way.gateway(&[("argo.tunnel_host", "127.0.0.2"), ("argo.tunnel_port", &port)]).await;
        let (status, body, _) = compute.ask(ASK).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(
            way.lab.logins("uan"),
            logins,
            "{bind}: by ssh where the port is for the other machine alone"
        );
        let (status, said) = home.run(&["tunnel", "--tunnel-port", &port, "--bind", bind]);
        assert!(status == Some(1) && said.contains("another `seaway tunnel` of yours"), "{said}");
        if bind == "*" {
            // The master is killed: whoever holds the tunnel open mends it.
            let (_, pid) = home.masters().await.remove(0);
            send(pid, Signal::KILL);
            let since = Instant::now();
            while compute.ask(ASK).await.0 != 200 || home.masters().await.is_empty() {
                assert!(
                    since.elapsed() < Duration::from_secs(60),
                    "it was not mended: {}",
                    open.said.lock().unwrap()
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        compute.close().await;
        open.leave();
        assert!(
            std::net::TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).is_err(),
            "its port is closed"
        );
    }
    assert_eq!(
        way.lab.logins("home"),
        2,
        "the second one found the login of the first, and made one when that was killed"
    );
    let (status, said) = home.run(&["tunnel", "--detach"]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = home.run(&["tunnel", "--detach", "--bind", "nowhere"]);
    assert_eq!(status, Some(2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_hands_the_tunnel_on_and_each_leg_is_rebuilt() {
    let mut way = Way::new().await;
    let there = way.lab.start("uan", "127.0.0.2", &[]);
    way.lab.say(&format!("Host 127.0.0.2\n    Port {there}"));
    let mut home = Home::new(&way);
    home.settings.push(("tunnel.cels.probe".into(), "300ms".into()));
    let (port, handed) = (ports::reserved("127.0.0.1"), ports::reserved("127.0.0.1").to_string());
    let relay =
        home.start(&["relay", "127.0.0.2", "--port", &port.to_string(), "--tunnel-port", &handed]);
    let said = relay.says("`cels` is up").await;
    assert!(
        said.contains(&format!(
            "seaway serve --upstream argo --tunnel-host 127.0.0.2 --tunnel-port {handed}"
        )),
        "{said}"
    );
    assert_eq!(ask(port).await.0, 200, "it serves here too");
    // The port there is for that machine alone, so a compute node goes by ssh.
    let compute =
        way.gateway(&[("argo.tunnel_host", "127.0.0.2"), ("argo.tunnel_port", &handed)]).await;
    assert_eq!(compute.ask(ASK).await.0, 200);
    for leg in 0..2 {
        let (folder, pid) = home.masters().await.remove(leg);
        send(pid, Signal::KILL);
        let since = Instant::now();
        loop {
            let masters = home.masters().await;
            if masters.iter().any(|(other, new)| *other == folder && *new != pid)
                && compute.ask(ASK).await.0 == 200
            {
                break;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "leg {leg} was not rebuilt: {}",
                relay.said.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    compute.close().await;
    // A tunnel that was killed leaves its forward behind; the next one, on another port, is not fooled by it.
    drop(relay);
    let other = ports::reserved("127.0.0.1").to_string();
    let relay =
        home.start(&["relay", "127.0.0.2", "--port", &port.to_string(), "--tunnel-port", &other]);
    relay.says("`cels` is up").await;
    let compute =
        way.gateway(&[("argo.tunnel_host", "127.0.0.2"), ("argo.tunnel_port", &other)]).await;
    let (status, body, _) = compute.ask(ASK).await;
    assert_eq!(status, 200, "{body}");
    let (_, status) = home.run(&["status"]);
    assert!(
        status.contains(&format!("localhost:{other} at the other end leads here"))
            && status.contains(&format!("localhost:{handed} at the other end")),
        "{status}"
    );
    compute.close().await;
    relay.leave();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_walks_the_chain() {
    let way = Way::new().await;
    let home = Home::new(&way);
    let layers = |said: &str| -> Vec<(String, bool)> {
        let found: Vec<Value> = serde_json::from_str(said).unwrap();
        found
            .iter()
            .map(|one| (one["layer"].as_str().unwrap().to_owned(), one["good"] == true))
            .collect()
    };
    let output = home.command(&["doctor", "--live", "--json"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let expect = [
        "argo uses",
        "argo identity",
        "argo host key",
        "argo host key",
        "argo lock-out",
        "argo login",
        "argo forward",
        "argo connection",
        "argo credential",
        "argo models",
        "argo round trip",
    ];
    let found = layers(&said);
    let names: Vec<&str> = found
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("argo"))
        .collect();
    assert_eq!(names, expect, "{said}");
    home.run(&["tunnel", "close"]);
    way.lab.say("UserKnownHostsFile /dev/null");
    let output = home.command(&["doctor", "--json"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let bad: Vec<String> =
        layers(&said).into_iter().filter(|(_, good)| !good).map(|(name, _)| name).collect();
    assert_eq!(bad, ["argo host key", "argo host key", "argo login"], "{said}");
    assert_eq!(way.lab.logins("home"), 1, "what is sure to fail is not tried");
    assert_eq!(way.lab.connections("jump"), 1);
}
