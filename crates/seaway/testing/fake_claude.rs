//! Stands in for the Claude Code program where a test wants exact timing or broken behaviour.
//!
//! `fake-claude FOLDER WORDS…`: FOLDER holds a script a process (`1`, `2`, …; the last one serves all that follow),
//! and gets what each process was told (`heard-1`, …). A script is read line by line:
//!
//! ```text
//! wait TEXT        read stdin until a line holds TEXT
//! play NAME [A-B]  write the lines of a recorded turn, all or from A to B
//! say TEXT         write a line; $1, $2 … stand for the ids of the questions asked so far
//! raw TEXT         write TEXT as it is, with \n for a line break
//! bytes NAME N     write a recorded turn in pieces of N bytes, each flushed
//! sleep MS         wait
//! deaf             take no notice of SIGINT and SIGTERM
//! stderr TEXT      write to stderr
//! keep TEXT        write a transcript with that text; kept: put the transcript that is there into `kept-N`
//! exit CODE        leave
//! ```
//!
//! At the end of its script it reads stdin until that is closed.
#![expect(clippy::unwrap_used, reason = "a fake that cannot go on should say where")]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own"
)]

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TURNS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/claude_code");

fn main() {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().unwrap());
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let code = match words.as_slice() {
        ["--version"] => print(&read(&folder, "version", "2.1.329 (Claude Code)")),
        ["auth", "status", "--json"] => status(&folder),
        ["auth", "login"] => login(&folder),
        ["auth", "logout"] => {
            let _already = std::fs::remove_file(folder.join("login"));
            print("Successfully logged out")
        }
        // An API at a socket that is not there: what is written down is all that anybody wants.
        _ if std::env::var_os("ANTHROPIC_UNIX_SOCKET").is_some() => apart(),
        words => serve(&folder, words),
    };
    std::process::exit(code);
}

fn print(text: &str) -> i32 {
    println!("{text}");
    0
}

fn read(folder: &Path, name: &str, otherwise: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|_| otherwise.to_owned())
}

fn status(folder: &Path) -> i32 {
    let signed_in = folder.join("login").exists();
    let expires = read(folder, "expires", "null");
    println!(
        "{{\"loggedIn\":{signed_in},\"authMethod\":\"{}\",\"loginExpiresAt\":{expires}}}",
        if signed_in { "claude.ai" } else { "none" }
    );
    i32::from(!signed_in)
}

fn login(folder: &Path) -> i32 {
    println!(
        "Opening browser to sign in…\nIf the browser didn't open, visit: https://claude.example/oauth?code=true&state=s"
    );
    print!("Paste code here if prompted > ");
    std::io::stdout().flush().unwrap();
    let mut code = String::new();
    std::io::stdin().read_line(&mut code).unwrap();
    if code.trim() != "good-code" {
        eprintln!("Couldn't log in: the code is wrong");
        return 1;
    }
    std::fs::write(folder.join("login"), "").unwrap();
    print("Login successful.")
}

/// Where the program would write a session down.
fn transcript() -> PathBuf {
    PathBuf::from(std::env::var_os("CLAUDE_CONFIG_DIR").unwrap()).join("projects/-work/t.jsonl")
}

/// A turn to nobody: writes the transcript that the program would, and says that it failed.
fn apart() -> i32 {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::fs::create_dir_all(transcript().parent().unwrap()).unwrap();
    let row = |kind: &str| {
        format!(
            "{{\"type\":\"attachment\",\"attachment\":{{\"type\":\"{kind}\"}},\"cwd\":\"/work\"}}\n"
        )
    };
    let rows: String = ["environment", "model", "session_context", "date"].map(row).concat();
    std::fs::write(transcript(), rows).unwrap();
    print("{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true}");
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {}
    0
}

/// Claims the next number of a process.
fn number(folder: &Path) -> usize {
    let claims = |number: &usize| {
        let claimed = std::fs::File::create_new(folder.join(format!("claimed-{number}")));
        claimed.and_then(|mut file| write!(file, "{}", std::process::id())).is_ok()
    };
    (1..1000).find(claims).unwrap()
}

struct Fake {
    folder: PathBuf,
    number: usize,
    stdin: std::io::StdinLock<'static>,
    heard: std::fs::File,
    asked: Vec<String>,
}

impl Fake {
    /// Reads a line of stdin, and keeps it; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.stdin.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        self.heard.write_all(line.as_bytes()).unwrap();
        // Who tells it to ask before it uses a tool waits for it to agree.
        if line.contains("\"PreToolUse\"") {
            let id = line
                .split("\"request_id\":\"")
                .nth(1)
                .and_then(|rest| rest.split('"').next())
                .unwrap();
            self.write(format!("{{\"type\":\"control_response\",\"response\":{{\"subtype\":\"success\",\"request_id\":\"{id}\",\"response\":{{}}}}}}\n").as_bytes());
        }
        Some(line)
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        // Whoever listened may have left.
        let _gone = out.write_all(bytes).and_then(|()| out.flush());
        for line in String::from_utf8_lossy(bytes)
            .lines()
            .filter(|line| line.starts_with("{\"type\":\"control_request\""))
        {
            let id = line.split("\"request_id\":\"").nth(1).and_then(|rest| rest.split('"').next());
            self.asked.extend(id.map(str::to_owned));
        }
    }
}

fn serve(folder: &Path, words: &[&str]) -> i32 {
    let number = number(folder);
    std::fs::write(folder.join(format!("started-{number}")), words.join("\n")).unwrap();
    let script = (1..=number)
        .rev()
        .find_map(|number| std::fs::read_to_string(folder.join(number.to_string())).ok())
        .unwrap_or_default();
    let heard = std::fs::File::create(folder.join(format!("heard-{number}"))).unwrap();
    let mut fake = Fake {
        folder: folder.to_owned(),
        number,
        stdin: std::io::stdin().lock(),
        heard,
        asked: Vec::new(),
    };
    for step in script.lines().filter(|step| !step.is_empty()) {
        if let Some(code) = perform(&mut fake, step) {
            return code;
        }
    }
    while fake.line().is_some() {}
    0
}

/// Does one step; returns a code to leave with.
fn perform(fake: &mut Fake, step: &str) -> Option<i32> {
    let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
    match verb {
        "wait" => loop {
            match fake.line() {
                Some(line) if line.contains(rest) => break,
                Some(_) => {}
                None => return Some(0),
            }
        },
        "play" => {
            let (name, range) = rest.split_once(' ').unwrap_or((rest, ""));
            let turn = turn(name);
            let lines: Vec<&str> = turn.lines().collect();
            let (from, to) = range.split_once('-').map_or((1, lines.len()), |(from, to)| {
                (from.parse().unwrap(), to.parse().unwrap_or(lines.len()))
            });
            for line in &lines[from - 1..to] {
                fake.write(format!("{line}\n").as_bytes());
            }
        }
        "say" => {
            let mut text = rest.to_owned();
            for (index, id) in fake.asked.clone().iter().enumerate() {
                text = text.replace(&format!("${}", index + 1), id);
            }
            fake.write(format!("{text}\n").as_bytes());
        }
        "raw" => fake.write(rest.replace("\\n", "\n").as_bytes()),
        "bytes" => {
            let (name, size) = rest.split_once(' ').unwrap();
            for piece in turn(name).as_bytes().chunks(size.parse().unwrap()) {
                fake.write(piece);
            }
        }
        "sleep" => std::thread::sleep(Duration::from_millis(rest.parse().unwrap())),
        "deaf" => be_deaf(),
        "stderr" => eprintln!("{rest}"),
        "keep" => {
            std::fs::create_dir_all(transcript().parent().unwrap()).unwrap();
            std::fs::write(transcript(), format!("{rest}\n")).unwrap();
        }
        "kept" => drop(
            std::fs::copy(transcript(), fake.folder.join(format!("kept-{}", fake.number))).unwrap(),
        ),
        "exit" => return Some(rest.parse().unwrap()),
        other => panic!("there is no step `{other}`"),
    }
    None
}

fn turn(name: &str) -> String {
    std::fs::read_to_string(format!("{TURNS}/{name}.jsonl")).unwrap()
}

/// A handler in place of the default: the signals come and nothing happens.
fn be_deaf() {
    let (done, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let _handlers = (
                signal(SignalKind::interrupt()).unwrap(),
                signal(SignalKind::terminate()).unwrap(),
            );
            done.send(()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    ready.recv().unwrap();
}
