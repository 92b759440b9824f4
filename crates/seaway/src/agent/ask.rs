//! What a client asks of a run, and whether it may.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::{Agent, Permission, ProgramConfig};
use crate::fault::{Fault, FaultKind};
use crate::grant::{Grant, is_file_tool};
use crate::store::Session;
use crate::upstream::claude_code::{Continued, KNOWN, RunRequest};

/// The body of a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunBody {
    pub prompt: String,
    /// Tools of the program's own; those of the configuration otherwise.
    pub allowed_tools: Option<Vec<String>>,
    /// Below a root of the workspace.
    pub working_directory: Option<String>,
    /// A session to go on with.
    pub session_id: Option<String>,
    /// Keep a new session, to go on with it later.
    #[serde(default)]
    pub keep_session: bool,
    pub max_turns: Option<u32>,
    pub model: Option<String>,
    #[serde(default)]
    pub stream: bool,
}

fn wrong(param: &'static str, why: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::InvalidRequest, format!("{param}: {why}")).param(param)
}

impl RunBody {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let asked: Self = serde_json::from_slice(body).map_err(|error| {
            Fault::new(FaultKind::InvalidRequest, format!("the request body is not valid: {error}"))
        })?;
        if asked.prompt.trim().is_empty() {
            return Err(wrong("prompt", "must not be empty"));
        }
        if asked.max_turns == Some(0) {
            return Err(wrong("maxTurns", "expected a whole number from 1 up"));
        }
        if asked.keep_session && asked.session_id.is_some() {
            return Err(wrong(
                "keepSession",
                "a session that is continued is kept anyway; leave one of the two out",
            ));
        }
        Ok(asked)
    }

    /// Makes a run of it, within what the configuration grants.
    pub(super) fn run_request(
        self,
        setting: &ProgramConfig,
        session: Option<Session>,
    ) -> Result<RunRequest, Fault> {
        let tools = tools(self.allowed_tools, &setting.agent)?;
        if let Some(model) = self
            .model
            .as_deref()
            .filter(|model| !crate::upstream::claude_code::is_model_name(model))
        {
            return Err(wrong("model", format!("`{model}` is no name of a model")));
        }
        let wanted = self
            .working_directory
            .as_deref()
            .or(session.as_ref().and_then(|session| session.folder.as_deref()));
        let folder = folder(wanted, &setting.agent, &setting.folder.join("workspace"))?;
        if let Some(before) = session
            .as_ref()
            .and_then(|session| session.folder.as_deref())
            .filter(|before| Path::new(before) != folder)
        {
            return Err(wrong(
                "workingDirectory",
                format!("the session works in {before}; leave it out, or start another session"),
            ));
        }
        let id = || uuid::Uuid::now_v7().to_string();
        let session = match session {
            Some(session) => Continued::With(session.program_id),
            None if self.keep_session => Continued::From(id()),
            None => Continued::No,
        };
        Ok(RunRequest {
            id: format!("run_{}", id().replace('-', "")),
            prompt: self.prompt,
            tools,
            folder,
            model: self.model,
            max_turns: self.max_turns,
            session,
            patient: false,
        })
    }
}

/// Looks over the tools that a run asks for. Where nobody else decides, they are those that the configuration has.
fn tools(asked: Option<Vec<String>>, agent: &Agent) -> Result<Option<Vec<String>>, Fault> {
    for text in asked.iter().flatten() {
        let Some(grant) = Grant::parse(text) else {
            return Err(wrong(
                "allowedTools",
                format!(
                    "`{text}` is no tool; expected a name such as `Read`, or one with a rule such as `Bash(git log:*)`"
                ),
            ));
        };
        let configured: Vec<String> = agent.tools.iter().map(|tool| format!("`{tool}`")).collect();
        let within = grant.is_within(text, &agent.tools);
        let known = within || KNOWN.contains(&grant.tool);
        let message = match (agent.permission, grant.rule) {
            _ if within => continue,
            (_, Some(_)) if is_file_tool(grant.tool) => format!(
                "allowedTools: `{text}`: file tools take no rule here, they stay within the workspace; use `{}`",
                grant.tool
            ),
            (Permission::Ask | Permission::Allow, _) if known => continue,
            _ => format!(
                "allowedTools: `{text}` is not granted here: add it to `claude_code.tools`, which has {}, or let a person decide with `claude_code.permission = \"ask\"`",
                configured.join(", ")
            ),
        };
        return Err(Fault::new(FaultKind::Forbidden, message).param("allowedTools"));
    }
    Ok(asked)
}

/// The real folder that is meant, if it lies in the workspace.
fn folder(wanted: Option<&str>, agent: &Agent, own: &Path) -> Result<PathBuf, Fault> {
    let roots: Vec<PathBuf> = agent.workspace.iter().filter_map(|root| made(root, own)).collect();
    let Some(first) = roots.first() else {
        return Err(Fault::new(
            FaultKind::NotReady,
            "none of the folders of `claude_code.workspace` is there; make one",
        ));
    };
    let Some(wanted) = wanted else { return Ok(first.clone()) };
    let outside = || {
        let shown: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        Fault::new(FaultKind::Forbidden, format!("workingDirectory: {wanted} is not a folder in the workspace: add it to `claude_code.workspace`, which has {}", shown.join(", ")))
            .param("workingDirectory")
    };
    let real = first.join(wanted).canonicalize().map_err(|_| outside())?;
    let inside = real.is_dir() && roots.iter().any(|root| real.starts_with(root));
    if inside { Ok(real) } else { Err(outside()) }
}

/// A root as it really is. The folder of ours is made when it is first needed.
fn made(root: &Path, own: &Path) -> Option<PathBuf> {
    if *root == *own {
        crate::auth::private_dir(root).ok()?;
    }
    root.canonicalize().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(root: &Path) -> Agent {
        Agent {
            workspace: vec![root.to_owned()],
            tools: vec!["Read".into(), "Bash(git log:*)".into(), "Edit".into()],
            permission: Permission::Deny,
            ask_timeout: std::time::Duration::ZERO,
            run_timeout: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn a_request_that_cannot_be_is_named() {
        let table = [
            ("{}", "missing field `prompt`"),
            (r#"{"prompt":" "}"#, "prompt: must not be empty"),
            (r#"{"prompt":"x","maxTurns":0}"#, "maxTurns"),
            (
                r#"{"prompt":"x","maxturns":1}"#,
                "unknown field `maxturns`, expected one of `prompt`",
            ),
            (r#"{"prompt":"x","sessionId":"s","keepSession":true}"#, "keepSession"),
            ("[]", "not valid"),
        ];
        for (body, expect) in table {
            let message = RunBody::parse(body.as_bytes()).unwrap_err().message;
            assert!(message.contains(expect), "{message}");
        }
    }

    #[test]
    fn tools_are_those_that_the_owner_grants() {
        let agent = agent(Path::new("/"));
        let check = |asked: &[&str]| {
            tools(Some(asked.iter().map(|tool| (*tool).to_owned()).collect()), &agent)
        };
        assert!(check(&["Read", "Edit", "Bash(git log:*)"]).is_ok());
        assert_eq!(check(&[]).unwrap(), Some(Vec::new()));
        for refused in [
            "Bash",
            "Bash(rm:*)",
            "WebFetch",
            "",
            "Read,Bash",
            "--tools",
            "Read(x) Bash(*)",
            "Edit(//etc/**)",
        ] {
            assert!(check(&[refused]).is_err(), "{refused}");
        }
        for permission in [Permission::Ask, Permission::Allow] {
            let agent = Agent { permission, ..agent.clone() };
            let check = |asked: &str| tools(Some(vec![asked.to_owned()]), &agent);
            assert!(
                check("Bash").is_ok() && check("Bash(rm:*)").is_ok() && check("WebFetch").is_ok()
            );
            for refused in ["Monitor", "Edit(//etc/**)", "Read(x) Bash(*)"] {
                assert!(check(refused).is_err(), "{refused}");
            }
        }
    }

    #[test]
    fn a_run_works_within_the_workspace() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("in")).unwrap();
        std::fs::write(real.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", real.join("out")).unwrap();
        let agent = agent(&real);
        assert_eq!(folder(None, &agent, &real).unwrap(), real);
        assert_eq!(folder(Some("in/../in"), &agent, &real).unwrap(), real.join("in"));
        for outside in ["..", "/", "out", "out/etc", "file", "nowhere"] {
            assert!(folder(Some(outside), &agent, &real).is_err(), "{outside}");
        }
    }
}
