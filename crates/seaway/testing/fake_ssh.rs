//! An ssh that does as a script says: refuses in ssh's own words, or never comes back.
//!
//! The script is `$HOME/fake-ssh`, a line for each kind of call: `login: fail WORDS`, `login: hang`, `check: ok`.
//! What is not in it succeeds. Every call is written to `$HOME/fake-ssh.log`.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own"
)]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(option) = unknown_option(&words) {
        eprintln!("command-line: line 0: Bad configuration option: {option}");
        return ExitCode::from(255);
    }
    let kind = kind(&words);
    if let Ok(mut log) = File::options().create(true).append(true).open(home.join("fake-ssh.log")) {
        let _logged = writeln!(log, "{kind} {} {}", std::process::id(), words.join(" "));
    }
    let script = std::fs::read_to_string(home.join("fake-ssh")).unwrap_or_default();
    let line = script
        .lines()
        .find_map(|line| line.strip_prefix(&kind)?.strip_prefix(": "))
        .unwrap_or("ok");
    match line.split_once(' ').unwrap_or((line, "")) {
        ("fail", said) => {
            eprintln!("{said}");
            ExitCode::from(255)
        }
        ("hang", _) => {
            std::thread::sleep(Duration::from_secs(3600));
            ExitCode::FAILURE
        }
        _ => {
            match kind.as_str() {
                "check" => eprintln!("Master running (pid={})", std::process::id()),
                "settings" => println!("identityfile {}/.ssh/key", home.display()),
                _ => {}
            }
            ExitCode::SUCCESS
        }
    }
}

/// An option that the oldest ssh which people still have (8.0) does not know.
fn unknown_option(words: &[String]) -> Option<String> {
    const KNOWN: [&str; 10] = [
        "BatchMode",
        "ClearAllForwardings",
        "ControlMaster",
        "ControlPersist",
        "ProxyCommand",
        "ProxyJump",
        "RemoteCommand",
        "StreamLocalBindMask",
        "StreamLocalBindUnlink",
        "ConnectTimeout",
    ];
    let options = words
        .windows(2)
        .filter(|pair| pair[0] == "-o")
        .map(|pair| pair[1].split('=').next().unwrap_or_default().to_owned());
    options.into_iter().find(|option| !KNOWN.contains(&option.as_str()))
}

/// `login`, `settings`, `knock`, or the word that a master is told.
fn kind(words: &[String]) -> String {
    let after = |flag: &str| {
        words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1)).cloned()
    };
    let has = |flag: &str| words.iter().any(|word| word == flag);
    match after("-O") {
        Some(word) => word,
        None if has("-M") => "login".to_owned(),
        None if has("-G") => "settings".to_owned(),
        None if has("-W") => "knock".to_owned(),
        None => "other".to_owned(),
    }
}
