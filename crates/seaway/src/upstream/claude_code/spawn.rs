//! Starting children.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::home;
use super::installed::Installed;
use super::launch::{self, Beginning};
use crate::config::{ProgramConfig, UpstreamName};
use crate::credential::Credential;
use crate::fault::FaultKind;
use crate::process::{Folder, Launch, Piped, Programs};
use crate::upstream::UpstreamError;

/// How long a child has to take in one earlier turn, or to list its models.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a child is started with, whoever it is for.
pub(super) struct Spawner {
    pub(super) name: UpstreamName,
    pub(super) setting: ProgramConfig,
    pub(super) credential: Option<Credential>,
    pub(super) installed: Installed,
    /// Where children run.
    pub(super) programs: Programs,
    /// What outlives a request: children that settle or leave.
    pub(super) tasks: TaskTracker,
}

/// How a child is started.
pub(super) struct Start {
    pub(super) arguments: Vec<String>,
    pub(super) manners: &'static [(&'static str, &'static str)],
    pub(super) works_in: PathBuf,
    pub(super) temporary: Folder,
    /// The child may use tools of its own.
    pub(super) has_tools: bool,
    /// Further variables.
    pub(super) more: Vec<(&'static str, SecretString)>,
}

impl Spawner {
    /// Starts a child that waits to be told something.
    pub(super) async fn spawn(
        &self,
        model: &str,
        seed: Option<&Path>,
    ) -> Result<Piped, UpstreamError> {
        self.start_empty(
            model,
            seed.map_or(Beginning::Empty, Beginning::Seed),
            Vec::new(),
            self.folder()?,
        )
        .await
    }

    /// Starts a child that reaches nobody, and writes down what it would have said.
    pub(super) async fn spawn_apart(&self, model: &str) -> Result<Piped, UpstreamError> {
        let nowhere =
            |folder: &Path| SecretString::from(folder.join("nobody.sock").display().to_string());
        let folder = self.folder()?;
        let apart = vec![
            ("ANTHROPIC_UNIX_SOCKET", nowhere(folder.path())),
            ("ANTHROPIC_BASE_URL", "http://localhost".to_owned().into()),
        ];
        self.start_empty(model, Beginning::Written, apart, folder).await
    }

    async fn start_empty(
        &self,
        model: &str,
        beginning: Beginning<'_>,
        more: Vec<(&'static str, SecretString)>,
        temporary: Folder,
    ) -> Result<Piped, UpstreamError> {
        let works_in = working_folder(&self.setting);
        crate::auth::private_dir(&works_in).map_err(|error| self.unstarted(error))?;
        let arguments = launch::arguments(model, beginning, launch::has_key(&self.setting));
        self.start_in(Start {
            arguments,
            manners: launch::ANSWERING,
            works_in,
            temporary,
            has_tools: false,
            more,
        })
        .await
    }

    /// Makes a temporary folder for a child.
    pub(super) fn folder(&self) -> Result<Folder, UpstreamError> {
        let made = Folder::make(&self.setting.temporary);
        let furnished =
            made.and_then(|folder| home::furnish(&self.setting, folder.path()).map(|()| folder));
        furnished.map_err(|error| self.unstarted(error))
    }

    /// Starts a child in a folder.
    pub(super) async fn start_in(&self, start: Start) -> Result<Piped, UpstreamError> {
        let setting = &self.setting;
        let (program, _) = self
            .installed
            .program(setting)
            .await
            .map_err(|error| UpstreamError::new(FaultKind::NotReady, error.to_string()))?;
        let no_credential = |error| {
            UpstreamError::new(
                FaultKind::NotReady,
                format!("upstream `{}` has no usable credential: {error}", self.name),
            )
        };
        let folders = home::environment(setting, start.temporary.path(), start.has_tools);
        let mut environment =
            launch::environment(setting, self.credential.as_ref(), start.manners, folders)
                .await
                .map_err(no_credential)?;
        for (name, value) in start.more {
            environment.retain(|(known, _)| known != name);
            environment.push((name.to_owned(), value));
        }
        let launch =
            Launch { program, arguments: start.arguments, environment, folder: start.works_in };
        let started = if start.has_tools {
            self.programs.spawn(launch, start.temporary, true, &self.tasks)
        } else {
            let own = home::written(setting);
            self.programs.spawn_within(launch, start.temporary, own, &self.tasks)
        };
        started.map_err(|error| self.unstarted(error))
    }

    fn unstarted(&self, error: std::io::Error) -> UpstreamError {
        let message = format!("upstream `{}`: Claude Code cannot be started: {error}", self.name);
        UpstreamError {
            source: Some(Arc::new(error)),
            ..UpstreamError::new(FaultKind::Unreachable, message)
        }
    }
}

/// The folder in which requests are answered. The same for all: what stands in the prompt of where a process works
/// must not differ, for the prompt cache.
pub(super) fn working_folder(setting: &ProgramConfig) -> PathBuf {
    setting.folder.join("empty")
}
