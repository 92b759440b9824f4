//! Where programs run: on this machine, or in a simulation.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::child::{Promised, StartedChild};
use super::real::real;
use super::{Folder, Launch, Piped, ProcessError};

/// Where programs run.
#[derive(Clone, Default)]
pub enum Programs {
    /// As processes of this machine.
    #[default]
    Real,
    Simulated(Arc<dyn Runner>),
}

/// A machine of somebody's own making.
pub trait Runner: Send + Sync {
    /// Starts a program that is spoken to over its pipes.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    fn start(&self, launch: Launch) -> io::Result<StartedChild>;

    /// Runs a program to its end; what it prints, and how it ended.
    fn run(&self, launch: Launch) -> Promised<'static, io::Result<(ExitStatus, String)>>;
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Real => "Real",
            Self::Simulated(_) => "Simulated",
        })
    }
}

impl Programs {
    /// Starts a child in a process group of its own; `folder` is its temporary folder. One that `has_tools` may start
    /// others, which are looked for when it ends.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(
        &self,
        launch: Launch,
        folder: Folder,
        has_tools: bool,
        tasks: &TaskTracker,
    ) -> io::Result<Piped> {
        let started = match self {
            Self::Real => real(launch, &folder, has_tools, None),
            Self::Simulated(runner) => runner.start(launch),
        };
        Ok(Piped::of(started?, folder, tasks))
    }

    /// The same for one without tools: where this process is confined, the child may write its temporary folder, these,
    /// and nothing else.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn_within(
        &self,
        launch: Launch,
        folder: Folder,
        mut write: Vec<PathBuf>,
        tasks: &TaskTracker,
    ) -> io::Result<Piped> {
        let devices = ["/dev/null", "/dev/tty", "/dev/shm"];
        write.extend(devices.map(PathBuf::from));
        write.push(folder.path().to_owned());
        let started = match self {
            Self::Real => real(launch, &folder, false, Some(write)),
            Self::Simulated(runner) => runner.start(launch),
        };
        Ok(Piped::of(started?, folder, tasks))
    }

    /// Runs a program to its end and returns what it prints, whatever its exit code. Dropped meanwhile, it is killed.
    ///
    /// # Errors
    ///
    /// [`ProcessError`] if it cannot be started or takes too long.
    pub async fn run(
        &self,
        launch: Launch,
        limit: Duration,
    ) -> Result<(ExitStatus, String), ProcessError> {
        match self {
            Self::Real => super::run(launch, limit).await,
            Self::Simulated(runner) => tokio::time::timeout(limit, runner.run(launch))
                .await
                .map_err(|_| ProcessError::TimedOut(limit))?
                .map_err(ProcessError::Spawn),
        }
    }
}
