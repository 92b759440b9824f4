//! Blocks of an answer that began and did not end.

use crate::messages::Block;
use crate::openai::pieces::Pieces;

#[derive(Debug)]
pub(super) struct OpenBlock {
    pub index: u64,
    pub kind: OpenBlockKind,
    pub pieces: Pieces,
}

#[derive(Debug)]
pub(super) enum OpenBlockKind {
    Text {
        /// Where it begins in the whole text.
        start: usize,
        citations: Vec<String>,
    },
    Call {
        index: usize,
        /// What its arguments are if none are streamed.
        input: Option<String>,
        /// What was streamed of them, as JSON without quotes, where they are to become text.
        custom: Option<String>,
    },
    Thought(Block),
    /// What the upstream runs itself, and what is newer than this gateway.
    Other,
}

impl OpenBlock {
    pub(super) fn new(index: u64, kind: OpenBlockKind) -> Self {
        Self { index, kind, pieces: Pieces::default() }
    }
}
