//! Where the program's own words stand in a prompt.
//!
//! With a login the program tells the model of its surroundings in the first turn that a process
//! asks with. A conversation that goes on in another process would have these words in another
//! place, and nothing behind that place could be read from the prompt cache. So a process
//! begins with a transcript that holds them already, and nothing else: then they stand behind
//! the first message of a conversation whoever answers it, which is where they stand anyway when
//! one process answers all of it.
//!
//! What the words are only the program knows. It is asked once for each version, model and day,
//! by a turn that reaches nobody: its API is at a socket that does not exist. No client's text
//! is in it. The rows and the mark that ends them were found with version 2.1.332 (from 2.1.300
//! on they work): a row that says that a turn failed is read as the end of a turn, and never sent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seaway_wire::claude_code::output::Line;
use seaway_wire::claude_code::{COMPLETE, Version, input};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use super::spawn::{Spawner, working_folder};
use super::{home, launch};
use crate::refreshed::{Fetched, Refreshed};

/// Rows that say what surrounds the program. Others are about the turn that was asked with.
const ROWS: [&str; 4] = ["environment", "model", "session_context", "date"];
/// When the rows say that they were written.
const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";
/// How long one turn to nobody may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a try that brought no transcript.
const AGAIN: Duration = Duration::from_secs(600);

/// Where the words are written down, each by itself: who needs those of another model does not wait.
#[derive(Debug)]
pub(super) struct Seeds {
    written: Mutex<HashMap<String, Refreshed<Option<PathBuf>>>>,
    tasks: TaskTracker,
}

impl Seeds {
    /// The program is asked in one of `tasks`.
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { written: Mutex::default(), tasks }
    }

    /// The transcript to begin with, if there is one. The first to ask for it finds it out.
    pub(super) async fn of(&self, spawner: &Arc<Spawner>, model: &str) -> Option<PathBuf> {
        let (_, version) = spawner.installed.program(&spawner.setting).await.ok()?;
        if launch::has_key(&spawner.setting) || version < COMPLETE {
            return None;
        }
        let name = name(spawner, model, version)?;
        let path = spawner.setting.folder.join("seeds").join(&name);
        let written = self.written(&name);
        written.forget_if(|path| path.as_ref().is_some_and(|path| !path.is_file()));
        let found = written.get(|| {
            let (spawner, model) = (spawner.clone(), model.to_owned());
            async move {
                let value = if path.is_file() {
                    Some(path)
                } else {
                    learn(&spawner, &model, version, path).await
                };
                Fetched {
                    fresh: if value.is_some() { Duration::MAX } else { AGAIN },
                    value,
                    lasting: false,
                }
            }
        });
        found.await.ok().flatten()
    }

    fn written(&self, name: &str) -> Refreshed<Option<PathBuf>> {
        let mut all = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let today = today().to_string();
        all.retain(|name, _| name.starts_with(&today));
        all.entry(name.to_owned()).or_insert_with(|| Refreshed::new(self.tasks.clone())).clone()
    }
}

/// Asks for the words and writes them down there.
async fn learn(spawner: &Spawner, model: &str, version: Version, path: PathBuf) -> Option<PathBuf> {
    let asked = tokio::time::timeout(PATIENCE, ask(spawner, model))
        .await
        .unwrap_or_else(|_| Err("it took too long".into()));
    if let Err(why) = asked.and_then(|rows| write(&path, &rows, &version.to_string())) {
        tracing::warn!(upstream = %spawner.name, model, why, "Claude Code does not say what it adds to a prompt: conversations that change processes pay for it again");
        return None;
    }
    Some(path)
}

/// What the words depend on.
fn name(spawner: &Spawner, model: &str, version: Version) -> Option<String> {
    let mut hasher = Sha256::new();
    let account = home::identity(&spawner.setting).ok()?;
    for part in [
        &spawner.name.0,
        model,
        &version.to_string(),
        &working_folder(&spawner.setting).display().to_string(),
        &account,
    ] {
        hasher.update(part.as_bytes());
        hasher.update(b"\0");
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let print: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{}-{print}.jsonl", today()))
}

/// The day by the clock of the place, as the program has it.
pub(super) fn today() -> jiff::civil::Date {
    jiff::Zoned::now().date()
}

/// Has the program write a turn to nobody, and reads its rows.
async fn ask(spawner: &Spawner, model: &str) -> Result<Vec<Value>, String> {
    let mut child = spawner.spawn_apart(model).await.map_err(|error| error.message)?;
    child
        .say(&input::user(r#"[{"type":"text","text":"."}]"#, true))
        .await
        .map_err(|error| error.to_string())?;
    loop {
        let line = child.line().await.map_err(|error| error.to_string())?.ok_or("it ended")?;
        if matches!(Line::parse(&line), Line::Result(_)) {
            break;
        }
    }
    child.wind_up().await;
    let rows = transcript(&home::config(child.folder())).and_then(|text| rows(&text));
    rows.ok_or_else(|| "its transcript is not as it was".into())
}

/// The one transcript below a folder of settings.
fn transcript(config: &Path) -> Option<String> {
    let projects = std::fs::read_dir(config.join("projects")).ok()?.flatten();
    let files = projects
        .flat_map(|project| std::fs::read_dir(project.path()).into_iter().flatten().flatten());
    let path = files
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|end| end == "jsonl"))?;
    std::fs::read_to_string(path).ok()
}

/// The rows of a transcript that say what surrounds the program; `None` unless all of them are there.
fn rows(transcript: &str) -> Option<Vec<Value>> {
    let rows: Vec<Value> = transcript
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|row| row["type"] == "attachment")
        .collect();
    let kind = |row: &Value| row["attachment"]["type"].as_str().map(str::to_owned);
    let of = |name: &str| rows.iter().find(|row| kind(row).as_deref() == Some(name)).cloned();
    ROWS.into_iter().map(of).collect()
}

/// Writes the transcript that begins with the rows.
fn write(path: &Path, rows: &[Value], version: &str) -> Result<(), String> {
    let folder = path.parent().ok_or("there is no folder")?;
    crate::auth::private_dir(folder).map_err(|error| error.to_string())?;
    let day = today().to_string();
    for old in std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with(&day))
    {
        let _gone_already = std::fs::remove_file(old.path());
    }
    home::replace(path, seeded(rows, version).as_bytes()).map_err(|error| error.to_string())
}

fn seeded(rows: &[Value], version: &str) -> String {
    let session = uuid::Uuid::now_v7().to_string();
    let mut parent = Value::Null;
    let mut out = String::new();
    let end = json!({
        "type": "assistant",
        "isApiErrorMessage": true,
        "message": {"id": "msg_0", "type": "message", "role": "assistant", "model": "<synthetic>", "content": [{"type": "text", "text": ""}],
                    "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 0, "output_tokens": 0}},
    });
    for row in rows.iter().chain([&end]) {
        let uuid = uuid::Uuid::now_v7().to_string();
        let mut line = json!({"parentUuid": parent, "isSidechain": false, "uuid": uuid, "sessionId": session, "version": version, "userType": "external"});
        line["cwd"] = rows.first().map_or(Value::Null, |row| row["cwd"].clone());
        // A turn that ended lately is taken for one that was broken off, and answered in words of the program's own.
        line["timestamp"] = Value::String(LONG_AGO.into());
        for key in
            ["type", "attachment", "rendered", "renderedRole", "isApiErrorMessage", "message"]
        {
            if !row[key].is_null() {
                line[key] = row[key].clone();
            }
        }
        out.push_str(&line.to_string());
        out.push('\n');
        parent = Value::String(uuid);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str) -> String {
        json!({"type": "attachment", "attachment": {"type": kind}, "rendered": [{"content": kind}], "uuid": "u", "cwd": "/w", "timestamp": "t", "sessionId": "s"}).to_string()
    }

    #[test]
    fn rows_of_the_surroundings_are_taken_and_none_of_the_turn() {
        let mut lines: Vec<String> = ROWS.map(row).to_vec();
        lines.push(row("prompt_snapshot"));
        lines.insert(0, json!({"type": "user", "message": {"content": "secret"}}).to_string());
        lines.push("garbage".into());
        let found = rows(&lines.join("\n")).unwrap();
        let text = seeded(&found, "2.1.332");
        let seed: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(seed.len(), ROWS.len() + 1);
        assert!(!text.contains("secret") && !text.contains("prompt_snapshot"));
        assert!(
            seed.windows(2).all(|pair| pair[1]["parentUuid"] == pair[0]["uuid"])
                && seed[0]["parentUuid"].is_null()
        );
        assert_eq!((&seed[4]["isApiErrorMessage"], &seed[4]["cwd"]), (&json!(true), &json!("/w")));
        lines.retain(|line| !line.contains("\"date\""));
        assert_eq!(rows(&lines.join("\n")), None, "half of it would put the rest elsewhere");
    }
}
