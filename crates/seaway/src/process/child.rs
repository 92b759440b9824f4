//! A child, wherever it runs.

use std::io;
use std::pin::Pin;
use std::process::ExitStatus;

use rustix::process::Signal;

/// One end of a pipe that a child reads.
pub type PipeIn = Box<dyn tokio::io::AsyncWrite + Send + Sync + Unpin>;
/// One end of a pipe that a child writes.
pub type PipeOut = Box<dyn tokio::io::AsyncRead + Send + Sync + Unpin>;
/// What will come of something.
pub type Promised<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A child that was started a moment ago.
pub struct StartedChild {
    pub stdin: PipeIn,
    pub stdout: PipeOut,
    pub stderr: PipeOut,
    pub child: Box<dyn Child>,
}

/// A process. Dropping it kills it with all that it started.
pub trait Child: std::fmt::Debug + Send + Sync {
    /// The process id; none once it was reaped.
    fn id(&self) -> Option<u32>;

    /// True if it still runs.
    fn is_alive(&mut self) -> bool;

    /// Waits until it is gone, and reaps it. Nothing is lost if this is dropped while it waits.
    fn wait(&mut self) -> Promised<'_, io::Result<ExitStatus>>;

    /// Sends a signal to it and to what is in its group.
    fn signal(&self, signal: Signal);

    /// A way to end it with all that it started, from anywhere.
    fn end_all(&self) -> Box<dyn FnOnce() + Send>;
}
