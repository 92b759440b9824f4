//! Runs: the program at work with tools of its own, within what it was granted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seaway_wire::FaultKind;
use seaway_wire::claude_code::run::{Done, Happened, Run};
use seaway_wire::claude_code::{Failure, input};
use seaway_wire::json::quote;
use seaway_wire::sse::write_event;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::flow::{Held, Working};
use super::launch::{self, Kept};
use super::shared::Shared;
use super::{Program, Whose, seat};
use crate::config::Permission;
use crate::upstream::UpstreamError;

/// Tools that are about a file; where it lies decides.
const FILE_TOOLS: [&str; 7] = ["Read", "Edit", "MultiEdit", "Write", "NotebookEdit", "Glob", "Grep"];

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Errand {
    /// By our name.
    pub id: String,
    pub prompt: String,
    /// Tools it is granted, each with a rule in brackets or without.
    pub tools: Vec<String>,
    /// Where it works: a real path, below one of the roots.
    pub folder: PathBuf,
    pub model: Option<String>,
    pub max_turns: Option<u32>,
    pub session: Continued,
}

/// What came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continued {
    /// Nothing, and nothing is kept.
    No,
    /// Nothing, but it is kept under this id.
    From(String),
    /// The session with this id.
    With(String),
}

/// An answer to a question whether a tool may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub request_id: String,
    pub allow: bool,
}

/// What there is to tell of a run.
#[derive(Debug)]
pub enum News {
    /// Events for whoever watches.
    Events(Bytes),
    Done(Box<Done>),
    Failed(Failure),
}

/// A run under way. Dropping it ends it.
pub struct Running {
    working: Option<Working>,
    run: Run,
    policy: Policy,
    verdicts: mpsc::Receiver<Verdict>,
    /// Questions that wait for an answer, with when they are given up.
    asked: Vec<(String, String, Instant)>,
    asking: Duration,
    idle: Duration,
}

impl Program {
    /// Starts a run, in its turn.
    ///
    /// # Errors
    ///
    /// If the program cannot be had, or too many wait already.
    pub async fn run(&self, errand: &Errand, owner: Arc<str>, verdicts: Option<mpsc::Receiver<Verdict>>) -> Result<Running, UpstreamError> {
        let shared = self.shared();
        let turn = match &errand.session {
            Continued::No => None,
            Continued::From(id) | Continued::With(id) => Some(shared.turn(&Whose { owner, session: Some(id.as_str().into()) }).lock_owned().await),
        };
        let pass = shared.gate.enter().await.map_err(|refused| refused.of(&shared.name))?;
        let held = Held { _pass: pass, _turn: turn };
        let asks = verdicts.is_some();
        let policy = Policy::new(shared, errand, asks);
        let child = seat::start_in(shared, arguments(errand, &policy), launch::WORKING, errand.folder.clone()).await?;
        let mut working = Working::new(child, shared.clone(), held);
        let prompt = format!("[{{\"type\":\"text\",\"text\":{}}}]", quote(&errand.prompt));
        if let Err(error) = working.child().say(&input::user(&prompt, true)).await {
            let last_words = working.child().last_words();
            tracing::warn!(last_words, "Claude Code did not start");
            return Err(UpstreamError::new(FaultKind::BadReply, format!("upstream `{}`: Claude Code did not take the prompt ({error})", shared.name)));
        }
        // Nobody answers: the channel is closed from the start.
        let verdicts = verdicts.unwrap_or_else(|| mpsc::channel(1).1);
        Ok(Running {
            working: Some(working),
            run: Run::default(),
            policy,
            verdicts,
            asked: Vec::new(),
            asking: shared.setting.agent.ask_timeout,
            idle: shared.setting.idle_timeout,
        })
    }
}

/// The flags of a run. Its prompt is none of them.
fn arguments(errand: &Errand, policy: &Policy) -> Vec<String> {
    let mut words: Vec<String> = launch::PIPES.iter().map(|word| (*word).to_owned()).collect();
    words.extend(["--tools".to_owned(), policy.offered.join(",")]);
    words.extend(["--permission-prompt-tool".to_owned(), "stdio".to_owned()]);
    if let Some(model) = &errand.model {
        words.extend(["--model".to_owned(), model.clone()]);
    }
    if let Some(turns) = errand.max_turns {
        words.extend(["--max-turns".to_owned(), turns.to_string()]);
    }
    words.extend(launch::persistence(&match &errand.session {
        Continued::No => Kept::No,
        Continued::From(id) => Kept::As(id.clone()),
        Continued::With(id) => Kept::Resumed(id.clone()),
    }));
    if !policy.rules.is_empty() {
        words.push("--allowedTools".to_owned());
        words.extend(policy.rules.iter().cloned());
    }
    words
}

impl Running {
    /// The model that works, once it said a word.
    #[must_use]
    pub fn model(&self) -> Option<&str> {
        self.run.model()
    }

    /// Waits for the next thing to tell; `None` when all is told.
    pub async fn next(&mut self) -> Option<News> {
        let mut out = Vec::new();
        loop {
            let working = self.working.as_mut()?;
            if !out.is_empty() {
                match working.child().pending() {
                    Ok(Some(line)) => {
                        if let Some(news) = self.line(&line, &mut out).await {
                            return Some(news);
                        }
                        continue;
                    }
                    Ok(None) | Err(_) => return Some(News::Events(out.into())),
                }
            }
            let late = self.asked.iter().map(|(_, _, until)| *until).min();
            let silence = (!self.idle.is_zero()).then(|| Instant::now() + self.idle);
            tokio::select! {
                line = working.child().line() => match line {
                    Ok(Some(line)) => {
                        if let Some(news) = self.line(&line, &mut out).await {
                            return Some(news);
                        }
                    }
                    Ok(None) => {
                        let failure = self.run.end();
                        return Some(self.failed(failure));
                    }
                    Err(error) => return Some(self.failed(Failure { message: format!("Claude Code cannot be understood: {error}"), ..Failure::default() })),
                },
                Some(verdict) = self.verdicts.recv() => self.judged(&verdict).await,
                () = until(late) => self.give_up().await,
                () = until(silence) => return Some(self.failed(Failure { message: "Claude Code said nothing for too long (`idle_timeout`)".into(), ..Failure::default() })),
            }
        }
    }

    async fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<News> {
        match self.run.line(line, out) {
            Happened::Quiet | Happened::Told => None,
            Happened::Withdrawn(id) => {
                self.asked.retain(|(known, _, _)| *known != id);
                None
            }
            Happened::Asks { request_id, tool, input } => {
                self.asks(request_id, &tool, input, out).await;
                None
            }
            Happened::Done(done) => {
                if let Some(working) = self.working.take() {
                    working.finish();
                }
                Some(News::Done(done))
            }
            Happened::Failed(failure) => Some(self.failed(failure)),
        }
    }

    async fn asks(&mut self, request_id: String, tool: &str, input: String, out: &mut Vec<u8>) {
        match self.policy.judge(tool, &input) {
            Judgement::Allow => self.say(&input::allow(&request_id, &input)).await,
            Judgement::Deny(why) => self.say(&input::deny(&request_id, &why)).await,
            Judgement::Ask => {
                write_event(out, "permission", &format!("{{\"id\":{},\"tool\":{},\"input\":{input}}}", quote(&request_id), quote(tool)));
                self.asked.push((request_id, input, Instant::now() + self.asking));
            }
        }
    }

    async fn judged(&mut self, verdict: &Verdict) {
        let Some(at) = self.asked.iter().position(|(id, _, _)| *id == verdict.request_id) else { return };
        let (id, input, _) = self.asked.remove(at);
        let line = if verdict.allow { input::allow(&id, &input) } else { input::deny(&id, "it was refused") };
        self.say(&line).await;
    }

    /// Refuses what nobody answered in time.
    async fn give_up(&mut self) {
        let now = Instant::now();
        let late: Vec<String> = self.asked.iter().filter(|(_, _, until)| *until <= now).map(|(id, _, _)| id.clone()).collect();
        for id in late {
            self.asked.retain(|(known, _, _)| *known != id);
            self.say(&input::deny(&id, "nobody answered in time")).await;
        }
    }

    async fn say(&mut self, line: &str) {
        if let Some(working) = &mut self.working
            && working.child().say(line).await.is_err()
        {
            tracing::debug!("Claude Code does not listen any more");
        }
    }

    fn failed(&mut self, failure: Failure) -> News {
        if let Some(mut working) = self.working.take() {
            let last_words = working.child().last_words();
            if !last_words.is_empty() {
                tracing::warn!(last_words, "Claude Code failed");
            }
        }
        News::Failed(failure)
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a run may do.
#[derive(Debug, Clone)]
struct Policy {
    /// The tools that the model is told of.
    offered: Vec<String>,
    /// What the program decides by itself.
    rules: Vec<String>,
    /// The tools that are granted without a rule.
    granted: Vec<String>,
    roots: Vec<PathBuf>,
    folder: PathBuf,
    others: Permission,
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Allow,
    Deny(String),
    Ask,
}

impl Policy {
    fn new(shared: &Shared, errand: &Errand, asks: bool) -> Self {
        let agent = &shared.setting.agent;
        let others = match agent.permission {
            // Without a stream there is nobody to ask.
            Permission::Ask if !asks => Permission::Deny,
            permission => permission,
        };
        let roots = agent.workspace.iter().filter_map(|root| root.canonicalize().ok()).collect();
        Self::of(&errand.tools, &agent.tools, others, roots, errand.folder.clone())
    }

    fn of(tools: &[String], configured: &[String], others: Permission, roots: Vec<PathBuf>, folder: PathBuf) -> Self {
        let more = if others == Permission::Deny { &[] } else { configured };
        let mut offered: Vec<String> = tools.iter().chain(more).map(|tool| base(tool).to_owned()).collect();
        offered.sort_unstable();
        offered.dedup();
        let is_plain = |tool: &&String| base(tool).len() == tool.len();
        Self {
            offered,
            // A file tool that the program lets pass would reach every file there is.
            rules: tools.iter().filter(|tool| !is_plain(tool) || !FILE_TOOLS.contains(&tool.as_str())).cloned().collect(),
            granted: tools.iter().filter(is_plain).cloned().collect(),
            roots,
            folder,
            others,
        }
    }

    fn judge(&self, tool: &str, input: &str) -> Judgement {
        if self.granted.iter().any(|granted| granted == tool) {
            return match self.outside(tool, input) {
                None => Judgement::Allow,
                Some(path) => Judgement::Deny(format!("{} is outside of the workspace of this run", path.display())),
            };
        }
        match self.others {
            Permission::Deny => Judgement::Deny(format!("{tool} was not granted to this run")),
            Permission::Ask => Judgement::Ask,
            Permission::Allow => Judgement::Allow,
        }
    }

    /// The path that a file tool is asked for, if it lies beyond the roots.
    fn outside(&self, tool: &str, input: &str) -> Option<PathBuf> {
        if !FILE_TOOLS.contains(&tool) {
            return None;
        }
        let input: serde_json::Value = serde_json::from_str(input).ok()?;
        let paths = ["file_path", "path", "notebook_path"].iter().filter_map(|key| input[key].as_str());
        paths.map(|path| real(&self.folder.join(path))).find(|path| !self.roots.iter().any(|root| path.starts_with(root)))
    }
}

/// A tool's name without its rule.
fn base(tool: &str) -> &str {
    tool.split('(').next().unwrap_or(tool).trim()
}

/// Where a path really leads, also if its end is yet to be made. What climbs up from there leads nowhere.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => PathBuf::from("/.."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_tools_stay_within_the_workspace_and_other_tools_with_what_was_granted() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        let granted = ["Read".to_owned(), "Write".to_owned(), "Bash(ls:*)".to_owned(), "WebFetch".to_owned()];
        let policy = Policy::of(&granted, &["Glob".to_owned()], Permission::Deny, vec![root.clone()], root.join("a"));
        assert_eq!(policy.rules, ["Bash(ls:*)", "WebFetch"]);
        assert_eq!(policy.offered, ["Bash", "Read", "WebFetch", "Write"]);
        let judge = |tool: &str, path: &str| policy.judge(tool, &serde_json::json!({"file_path": path, "path": path}).to_string());
        assert_eq!(judge("Read", "b.txt"), Judgement::Allow);
        assert_eq!(judge("Write", "../new.txt"), Judgement::Allow);
        assert_eq!(judge("Write", &root.join("deep/er/new.txt").to_string_lossy()), Judgement::Allow);
        for outside in ["/etc/passwd", "../../x", "../out/passwd", "nowhere/../../../x", "/"] {
            assert!(matches!(judge("Read", outside), Judgement::Deny(_)), "{outside}");
        }
        assert_eq!(judge("WebFetch", "/etc"), Judgement::Allow);
        assert!(matches!(judge("Bash", ""), Judgement::Deny(_)));
        let asked = Policy { others: Permission::Ask, ..policy.clone() };
        assert_eq!(asked.judge("Bash", "{}"), Judgement::Ask);
        assert_eq!(Policy::of(&granted, &["Glob".to_owned()], Permission::Ask, vec![], root).offered.len(), 5);
    }
}
