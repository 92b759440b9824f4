//! What a run may do. Every use of a tool is judged here, also one that the program would let pass by itself.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::home;
use super::run_request::RunRequest;
use crate::config::{Permission, ProgramConfig};
use crate::grant::{Cover, Grant, Private, RunPlace, cover, is_file_tool, outside};
use crate::process;

/// The program's own tools that a run can be given. Another one, such as a newer program may have, is refused unless
/// the configuration names it.
pub(crate) const KNOWN: [&str; 9] =
    ["Bash", "Edit", "Glob", "Grep", "NotebookEdit", "Read", "WebFetch", "WebSearch", "Write"];

/// What a run may do.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// The tools that the model is told of.
    pub(super) offered: Vec<String>,
    /// What the client asked for, if it did: nothing else is allowed then, however much would be.
    asked: Option<Vec<String>>,
    /// What the configuration grants.
    granted: Vec<String>,
    roots: Vec<PathBuf>,
    place: RunPlace,
    private: Private,
    others: Permission,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Allow,
    Deny(String),
    Ask,
}

impl Policy {
    /// For a run whose child has its settings and temporary files in `temporary`; with `asks` somebody can be asked.
    pub(super) fn new(
        setting: &ProgramConfig,
        run_request: &RunRequest,
        temporary: &Path,
        asks: bool,
    ) -> Self {
        let agent = &setting.agent;
        let others = match agent.permission {
            // Without a stream there is nobody to ask.
            Permission::Ask if !asks => Permission::Deny,
            permission => permission,
        };
        let roots = agent.workspace.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let place = RunPlace {
            folder: run_request.folder.clone(),
            cwd: run_request.folder.clone(),
            home: home::home(setting),
        };
        let policy = Self::of(run_request.tools.clone(), agent.tools.clone(), others, roots, place);
        Self { private: private(setting, temporary), ..policy }
    }

    fn of(
        asked: Option<Vec<String>>,
        granted: Vec<String>,
        others: Permission,
        roots: Vec<PathBuf>,
        place: RunPlace,
    ) -> Self {
        let mut offered: Vec<String> = match &asked {
            Some(asked) => names(asked),
            None => names(&granted),
        };
        if asked.is_none() && others != Permission::Deny {
            offered.extend(KNOWN.map(str::to_owned));
        }
        offered.sort_unstable();
        offered.dedup();
        Self { offered, asked, granted, roots, place, private: Private::default(), others }
    }

    /// Told where the program is now.
    pub(super) fn moves_to(&mut self, cwd: String) {
        self.place.cwd = cwd.into();
    }

    /// Judges a use; `input` is JSON.
    pub(super) fn judge(&self, tool: &str, input: &str) -> Judgement {
        let Ok(input) = serde_json::from_str::<Value>(input) else {
            return Judgement::Deny("its arguments cannot be read".into());
        };
        if is_file_tool(tool) {
            if let Some(why) = self.private.refuses(tool, &input, &self.place) {
                return Judgement::Deny(why);
            }
            // What a tool of this run wrote down for it: a long output, a background task's.
            if self.private.may_read_all(tool, &input, &self.place) {
                return Judgement::Allow;
            }
        }
        if self
            .asked
            .as_ref()
            .is_some_and(|asked| cover(asked, tool, &input, &self.place) == Cover::Not)
        {
            return Judgement::Deny(format!(
                "{tool} is not among the tools that this run asked for (`allowedTools`), or not in this way"
            ));
        }
        let granted = cover(&self.granted, tool, &input, &self.place);
        // A rule of the owner's that names files may lead out of the workspace; nothing else does.
        if granted != Cover::ByRule
            && let Some(why) = outside(tool, &input, &self.place, &self.roots)
        {
            return Judgement::Deny(why);
        }
        if granted != Cover::Not {
            return Judgement::Allow;
        }
        let known = KNOWN.contains(&tool) || names(&self.granted).iter().any(|name| name == tool);
        match self.others {
            Permission::Deny => {
                Judgement::Deny(format!("{tool} was not granted to this run, or not in this way"))
            }
            Permission::Ask | Permission::Allow if !known => Judgement::Deny(format!(
                "{tool} is no tool that is known here; its owner can add it to `claude_code.tools`"
            )),
            Permission::Ask => Judgement::Ask,
            Permission::Allow => Judgement::Allow,
        }
    }
}

fn names(grants: &[String]) -> Vec<String> {
    grants.iter().filter_map(|text| Grant::parse(text)).map(|grant| grant.tool.to_owned()).collect()
}

/// What is the program's own, and ours.
fn private(setting: &ProgramConfig, temporary: &Path) -> Private {
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let state = setting.folder.parent().map_or_else(|| setting.folder.clone(), Path::to_owned);
    let mut closed = vec![real(state), real(temporary.to_owned())];
    closed.extend(
        home::owners(setting).into_iter().chain(setting.settings.iter().cloned()).map(real),
    );
    let config = home::config(temporary);
    Private {
        closed,
        // Other runs' and requests' children.
        closed_names: vec![
            real(setting.temporary.clone()).join(process::FOLDERS).display().to_string(),
        ],
        open: vec![real(setting.folder.join("workspace"))],
        // Where the program puts what is too long for an answer, and what runs on in the background.
        readable: vec![
            real(temporary.to_owned())
                .join(format!("claude-{}", rustix::process::getuid().as_raw())),
            real(config).join("projects"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn policy(asked: Option<&[&str]>, others: Permission) -> Policy {
        let place = RunPlace { folder: "/w".into(), cwd: "/w".into(), home: "/home".into() };
        Policy::of(
            asked.map(texts),
            texts(&["Read", "Bash(ls:*)", "WebFetch", "Edit(//srv/**)", "Grep(**)", "Glob(*)"]),
            others,
            vec!["/w".into()],
            place,
        )
    }

    fn bash(line: &str) -> String {
        serde_json::json!({"command": line}).to_string()
    }

    fn path(path: &str) -> String {
        serde_json::json!({"file_path": path}).to_string()
    }

    #[test]
    fn what_was_granted_is_allowed_within_the_workspace_and_the_rest_is_as_the_owner_says() {
        for (others, rest) in [
            (Permission::Deny, None),
            (Permission::Ask, Some(Judgement::Ask)),
            (Permission::Allow, Some(Judgement::Allow)),
        ] {
            let policy = policy(None, others);
            assert_eq!(
                policy.offered.len(),
                if others == Permission::Deny { 6 } else { KNOWN.len() }
            );
            assert_eq!(policy.judge("Read", &path("a")), Judgement::Allow);
            assert_eq!(policy.judge("Edit", &path("/srv/a")), Judgement::Allow);
            assert_eq!(policy.judge("Bash", &bash("ls -l")), Judgement::Allow);
            for beyond in ["Read", "Write", "Edit"] {
                assert!(
                    matches!(policy.judge(beyond, &path("/etc/passwd")), Judgement::Deny(_)),
                    "{beyond}"
                );
            }
            // A rule that is open, or opens everything where the run works, leads nowhere else.
            for (tool, input) in [
                ("Glob", r#"{"pattern":"/etc/*"}"#),
                ("Grep", r#"{"pattern":"x","path":"~/x"}"#),
                ("Grep", r#"{"pattern":"x","path":"/etc"}"#),
                ("Read", r#"{"file_path":"\ufeff/etc/passwd"}"#),
                ("Read", "{}"),
                ("Read", "[]"),
            ] {
                assert!(matches!(policy.judge(tool, input), Judgement::Deny(_)), "{tool} {input}");
            }
            for strange in ["Monitor", "CronCreate", "", "mcp__x__y"] {
                assert!(matches!(policy.judge(strange, "{}"), Judgement::Deny(_)), "{strange}");
            }
            match rest {
                None => assert!(matches!(policy.judge("Bash", &bash("id")), Judgement::Deny(_))),
                Some(rest) => assert_eq!(policy.judge("Bash", &bash("id")), rest),
            }
        }
    }

    #[test]
    fn what_a_client_asks_for_narrows_in_every_mode() {
        for others in [Permission::Deny, Permission::Ask, Permission::Allow] {
            let policy = policy(Some(&["Read", "Bash(ls -l:*)"]), others);
            assert_eq!(policy.offered, ["Bash", "Read"]);
            assert_eq!(policy.judge("Read", &path("a")), Judgement::Allow);
            assert_eq!(policy.judge("Bash", &bash("ls -l x")), Judgement::Allow);
            for (tool, input) in [
                ("Bash", bash("ls")),
                ("Bash", bash("id")),
                ("WebFetch", "{}".into()),
                ("Edit", path("/srv/a")),
                ("Write", path("a")),
            ] {
                assert!(matches!(policy.judge(tool, &input), Judgement::Deny(_)), "{tool} {input}");
            }
        }
        assert_eq!(
            policy(Some(&["Bash"]), Permission::Allow).judge("Bash", &bash("id")),
            Judgement::Allow
        );
        assert_eq!(
            policy(Some(&["Bash"]), Permission::Ask).judge("Bash", &bash("id")),
            Judgement::Ask
        );
        assert!(policy(Some(&[]), Permission::Allow).offered.is_empty());
    }

    #[test]
    fn what_is_private_is_the_programs_its_owners_and_ours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let mut setting = ProgramConfig::example(&root);
        setting.folder = root.join("state/claude-code");
        setting.temporary = root.join("tmp");
        setting.settings = vec![root.join("config/seaway.toml")];
        setting.environment = vec![("HOME".into(), root.join("home").display().to_string().into())];
        let own = root.join("tmp/seaway-child-1-own");
        for folder in [&own.join("config"), &root.join("state/claude-code/workspace")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let private = private(&setting, &own);
        let place = RunPlace { folder: root.clone(), cwd: root.clone(), home: root.join("home") };
        let refused = |tool: &str, path: &str| {
            private.refuses(tool, &serde_json::json!({"file_path": path}), &place).is_some()
        };
        for path in [
            "state/seaway.db",
            "state/claude-code/sessions/x",
            "config/seaway.toml",
            "home/.claude/x",
            "~/.claude.json",
            "tmp/seaway-child-1-own/config/.claude.json",
            "tmp/seaway-child-2-other/config/projects/x",
        ] {
            assert!(refused("Read", path), "{path}");
        }
        let output = format!(
            "tmp/seaway-child-1-own/claude-{}/x/tasks/1.output",
            rustix::process::getuid().as_raw()
        );
        for path in ["state/claude-code/workspace/x", "config/other.toml", "home/x", &output] {
            assert!(!refused("Read", path), "{path}");
        }
        assert!(refused("Write", &output));
    }
}
