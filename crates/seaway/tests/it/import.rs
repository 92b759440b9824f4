//! Other tools' files, as those tools document them, and the files of ours that they amount to: a folder each.

use std::fs;
use std::path::{Path, PathBuf};

use seaway::config::{Config, Environment, Sources};
use seaway::import::{Tool, import};

const EXPECTED: &str = "seaway.toml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

fn taken_over(files: &[(&str, &str)], tool: Option<Tool>) -> Result<String, String> {
    let files: Vec<(&Path, &str)> =
        files.iter().map(|(name, text)| (Path::new(*name), *text)).collect();
    import(&files, tool).map_err(|error| error.to_string())
}

/// The settings are good, in an environment that has what they name.
fn load(text: &str) {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join(EXPECTED);
    fs::write(&file, text).unwrap();
    let variables = ["ANTHROPIC_API_KEY", "TEAM_KEY", "CELS_USERNAME"];
    let variables = variables.map(|name| (name.to_owned(), "sk-x".to_owned()));
    let flags = vec![("state_dir".to_owned(), state.path().display().to_string())];
    let sources = Sources { file: Some(file), environment: Environment::of(variables), flags };
    if let Err(error) = Config::load(&sources) {
        panic!("{error}\n{text}");
    }
}

#[test]
fn files_of_other_tools_amount_to_these_and_are_good() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort_unstable();
    assert!(cases.len() >= 9);
    for case in cases {
        let input = fs::read_dir(&case).unwrap().map(|entry| entry.unwrap().path());
        let input = input.filter(|path| !path.ends_with(EXPECTED)).collect::<Vec<_>>();
        let [input] = input.as_slice() else { panic!("{}: one file each", case.display()) };
        let made = import(&[(input, &fs::read_to_string(input).unwrap())], None).unwrap();
        load(&made);
        let expected = case.join(EXPECTED);
        if update {
            fs::write(&expected, &made).unwrap();
        }
        assert_eq!(made, fs::read_to_string(&expected).unwrap(), "{}", case.display());
    }
}

#[test]
fn every_setting_is_there_or_has_a_remark() {
    for (name, text, settings) in [
        (".env", "PORT=1\nWHAT_IS_THIS=2\nANTHROPIC_API_KEY=sk\n", &["port", "WHAT_IS_THIS"][..]),
        ("c.json", r#"{"httpPort": 1, "novel": {"a": 1}}"#, &["novel"]),
        (
            "c.yaml",
            "litellm_settings: {novel: 1}\nnovel_settings: {a: 1}\n",
            &["litellm_settings.novel", "novel_settings.a"],
        ),
        (
            "c.json",
            r#"{"Router": {"novel": 1}, "Providers": [], "Novel": 1}"#,
            &["Router novel", "Novel"],
        ),
        ("c.txt", "novel = 1\n", &["novel"]),
        // What belongs to an upstream that is not there, and a key that lies elsewhere.
        (".env", "PORT=3000\nREQUEST_TIMEOUT_MS=60000\n", &["REQUEST_TIMEOUT_MS"]),
        (".env", "ANTHROPIC_API_KEY=sk\nMAX_QUEUE_SIZE=50\n", &["queue = 50"]),
        (".env", "PROXY_API_KEY='${ELSEWHERE}'\n", &["SEAWAY_API_KEY"]),
    ] {
        let made = taken_over(&[(name, text)], None).unwrap();
        let told = made.to_lowercase();
        for setting in settings {
            let setting = setting.to_lowercase();
            assert!(told.contains(&setting) || setting == "port", "{name}: {setting}\n{made}");
        }
        load(&made);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (name, text, told) in [
        (
            ".env",
            "PORT=http\nWORKER_CONCURRENCY=many\n",
            ".env: PORT: \"http\" is not a port from 1 to 65535\n.env: WORKER_CONCURRENCY: \"many\" is not a whole number",
        ),
        (
            "config.json",
            "{\"httpPort\": 70000}",
            "config.json: httpPort: 70000 is not a port from 1 to 65535",
        ),
        ("config.json", "{\"httpPort\": ", "config.json: "),
        ("config.json", "[1]", "config.json: it holds no settings by name"),
        (
            "config.json",
            "{\"a\": 1}",
            "config.json is no file of a tool that is known here by its content; say whose it is with `--from`: env, claude-ws-proxy, horselock, preset, argo-proxy, litellm, claude-code-router",
        ),
        ("config.yaml", "a: [", "config.yaml: "),
        (
            "config.json",
            "{\"httpPort\": 1, \"requireApiKey\": \"maybe\"}",
            "config.json: requireApiKey: \"maybe\" is not `true` or `false`",
        ),
    ] {
        let error = taken_over(&[(name, text)], None).unwrap_err();
        assert!(error.starts_with(told), "{error}");
    }
}

#[test]
fn a_text_is_never_more_than_a_text() {
    // A value that would go on as a setting of its own, and one that would end a remark.
    let env = "DEFAULT_MODEL=a\"\\nauth = \"none\n";
    let made = taken_over(&[(".env", env)], None).unwrap();
    assert!(!made.lines().any(|line| line.starts_with("auth")), "{made}");
    let json = r#"{"httpPort": 1, "x\nauth = 'none'": 1, "requireApiKey": true, "apiKey": "k"}"#;
    let made = taken_over(&[("c.json", json)], None).unwrap();
    assert!(!made.lines().any(|line| line.starts_with("auth")), "{made}");
    load(&made);
}

#[test]
fn of_several_files_the_later_one_counts() {
    let made = taken_over(
        &[
            ("config.txt", "port=1\nlog_level=debug"),
            ("gentle.json", r#"{"system": "s"}"#),
            (".env", "PORT=7\n"),
        ],
        None,
    );
    let made = made.unwrap();
    assert!(
        made.contains("listen = \"127.0.0.1:7\"") && made.contains("[preset.gentle]"),
        "{made}"
    );
    load(&made);
    let forced = taken_over(&[("anything", "port=5\n")], Some(Tool::Horselock)).unwrap();
    assert!(forced.contains("127.0.0.1:5"), "{forced}");
}
