//! What a run may do. Every use of a tool is judged here, also one that the program would let pass by itself.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::errand::Errand;
use super::home;
use super::shared::Shared;
use crate::config::{Permission, Program};
use crate::grant::{Grant, Private, cover, is_file_tool, outside};

/// The program's own tools that a run can be given. Another one, such as a newer program may have, is refused unless
/// the configuration names it.
pub(crate) const KNOWN: [&str; 9] = ["Bash", "Edit", "Glob", "Grep", "NotebookEdit", "Read", "WebFetch", "WebSearch", "Write"];

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
    folder: PathBuf,
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
    pub(super) fn new(shared: &Shared, errand: &Errand, temporary: &Path, asks: bool) -> Self {
        let agent = &shared.setting.agent;
        let others = match agent.permission {
            // Without a stream there is nobody to ask.
            Permission::Ask if !asks => Permission::Deny,
            permission => permission,
        };
        let roots = agent.workspace.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let policy = Self::of(errand.tools.clone(), agent.tools.clone(), others, roots, errand.folder.clone());
        Self { private: private(&shared.setting, temporary), ..policy }
    }

    fn of(asked: Option<Vec<String>>, granted: Vec<String>, others: Permission, roots: Vec<PathBuf>, folder: PathBuf) -> Self {
        let mut offered: Vec<String> = match &asked {
            Some(asked) => names(asked),
            None => names(&granted),
        };
        if asked.is_none() && others != Permission::Deny {
            offered.extend(KNOWN.map(str::to_owned));
        }
        offered.sort_unstable();
        offered.dedup();
        Self { offered, asked, granted, roots, folder, private: Private::default(), others }
    }

    /// Judges a use; `input` is JSON.
    pub(super) fn judge(&self, tool: &str, input: &str) -> Judgement {
        let Ok(input) = serde_json::from_str::<Value>(input) else { return Judgement::Deny("its arguments cannot be read".into()) };
        if is_file_tool(tool) {
            if let Some(why) = self.private.refuses(tool, &input, &self.folder) {
                return Judgement::Deny(why);
            }
            // What its own tools wrote down for it.
            if self.private.may_read_all(tool, &input, &self.folder) {
                return Judgement::Allow;
            }
        }
        if self.asked.as_ref().is_some_and(|asked| !cover(asked, tool, &input, &self.folder)) {
            return Judgement::Deny(format!("{tool} is not among the tools that this run asked for (`allowedTools`), or not in this way"));
        }
        let granted = cover(&self.granted, tool, &input, &self.folder);
        // A rule of the owner's that names files may lead out of the workspace; nothing else does.
        let by_rule = granted && !names_whole(&self.granted, tool);
        if let Some(why) = outside(tool, &input, &self.folder, &self.roots).filter(|_| !by_rule) {
            return Judgement::Deny(why);
        }
        if granted {
            return Judgement::Allow;
        }
        let known = KNOWN.contains(&tool) || names(&self.granted).iter().any(|name| name == tool);
        match self.others {
            Permission::Deny => Judgement::Deny(format!("{tool} was not granted to this run, or not in this way")),
            Permission::Ask | Permission::Allow if !known => Judgement::Deny(format!("{tool} is no tool that is known here; its owner can add it to `claude_code.tools`")),
            Permission::Ask => Judgement::Ask,
            Permission::Allow => Judgement::Allow,
        }
    }
}

fn names(grants: &[String]) -> Vec<String> {
    grants.iter().filter_map(|text| Grant::parse(text)).map(|grant| grant.tool.to_owned()).collect()
}

/// True if a tool is granted without a rule.
fn names_whole(grants: &[String], tool: &str) -> bool {
    grants.iter().filter_map(|text| Grant::parse(text)).any(|grant| grant.tool == tool && grant.rule.is_none())
}

/// What is the program's own, and ours.
fn private(setting: &Program, temporary: &Path) -> Private {
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let state = setting.folder.parent().map_or_else(|| setting.folder.clone(), Path::to_owned);
    let mut closed = vec![real(state), real(temporary.to_owned())];
    closed.extend(home::owners(setting).into_iter().map(real));
    let config = home::config(temporary);
    Private {
        closed,
        open: vec![real(setting.folder.join("workspace"))],
        // Where the program puts what is too long for an answer, and what runs on in the background.
        readable: vec![real(temporary.to_owned()).join(format!("claude-{}", rustix::process::getuid().as_raw())), real(config).join("projects")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn policy(asked: Option<&[&str]>, others: Permission) -> Policy {
        Policy::of(asked.map(texts), texts(&["Read", "Bash(ls:*)", "WebFetch", "Edit(//srv/**)"]), others, vec!["/w".into()], "/w".into())
    }

    fn bash(line: &str) -> String {
        serde_json::json!({"command": line}).to_string()
    }

    fn path(path: &str) -> String {
        serde_json::json!({"file_path": path}).to_string()
    }

    #[test]
    fn what_was_granted_is_allowed_within_the_workspace_and_the_rest_is_as_the_owner_says() {
        for (others, rest) in [(Permission::Deny, None), (Permission::Ask, Some(Judgement::Ask)), (Permission::Allow, Some(Judgement::Allow))] {
            let policy = policy(None, others);
            assert_eq!(policy.offered.len(), if others == Permission::Deny { 4 } else { KNOWN.len() });
            assert_eq!(policy.judge("Read", &path("a")), Judgement::Allow);
            assert_eq!(policy.judge("Edit", &path("/srv/a")), Judgement::Allow);
            assert_eq!(policy.judge("Bash", &bash("ls -l")), Judgement::Allow);
            for beyond in ["Read", "Write", "Edit"] {
                assert!(matches!(policy.judge(beyond, &path("/etc/passwd")), Judgement::Deny(_)), "{beyond}");
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
            for (tool, input) in [("Bash", bash("ls")), ("Bash", bash("id")), ("WebFetch", "{}".into()), ("Edit", path("/srv/a")), ("Write", path("a"))] {
                assert!(matches!(policy.judge(tool, &input), Judgement::Deny(_)), "{tool} {input}");
            }
        }
        assert_eq!(policy(Some(&["Bash"]), Permission::Allow).judge("Bash", &bash("id")), Judgement::Allow);
        assert_eq!(policy(Some(&["Bash"]), Permission::Ask).judge("Bash", &bash("id")), Judgement::Ask);
        assert!(policy(Some(&[]), Permission::Allow).offered.is_empty());
    }
}
