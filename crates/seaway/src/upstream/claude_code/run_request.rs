//! What a run is asked to do.

use std::path::PathBuf;

/// A run, as it was asked for.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// By our name.
    pub id: String,
    pub prompt: String,
    /// The tools that its client asked for, each with a rule in brackets or without; those of the configuration otherwise.
    pub tools: Option<Vec<String>>,
    /// Where it works: a real path, below one of the roots.
    pub folder: PathBuf,
    pub model: Option<String>,
    pub max_turns: Option<u32>,
    pub session: Continued,
    /// It waits for its place as long as it takes.
    pub patient: bool,
}

/// The session that a run goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continued {
    /// No session; the run leaves none.
    No,
    /// Nothing, but it is kept under this id.
    From(String),
    /// The session with this id.
    With(String),
}
