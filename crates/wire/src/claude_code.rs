//! The official Claude Code program, spoken to over its own pipes.
//!
//! Messages go in as lines of JSON and come out as such: [`Ask`] is what a Messages request
//! asks of the program, [`input`] writes the lines that say so, [`output`] reads what it
//! answers, and [`Turn`] turns that back into a Messages stream. Nothing here starts a
//! process, waits or knows a clock.
//!
//! The program is an agent, not a proxy: left alone it asks again after `max_tokens`, an
//! empty answer or a cut stream. So one `message_start … message_stop` is the whole answer,
//! and [`Turn`] says what is to become of the program then. The facts were measured with
//! versions 2.1.329 and 2.1.332.

mod ask;
mod blocks;
mod failure;
pub mod input;
pub mod login;
pub mod output;
mod print;
pub mod run;
mod tools;
mod turn;
mod whole;

pub use ask::{Ask, AskTerms, AskedMessage, AskedRole, ThinkingMode};
pub use blocks::{AnsweredCall, Results};
pub use failure::Failure;
pub use output::HeldCall;
pub use print::{Print, fingerprints};
pub use tools::ClientTool;
pub use turn::{After, Step, Turn};

use std::fmt;

/// A version of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

/// The oldest version that can serve requests. It is the newest one that npm installs on Node 20.
pub const OLDEST: Version = Version(2, 1, 197);

/// The first version that sends a text as it was written, also one that begins with `/`; an older one takes that for a
/// command of its own.
pub const COMPOSED: Version = Version(2, 1, 248);

/// The first version that has all that is made use of: it says when it gave an answer up, and what it adds to a prompt
/// can stay in its place.
pub const COMPLETE: Version = Version(2, 1, 300);

impl Version {
    /// Reads what `--version` prints, such as `2.1.329 (Claude Code)`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().next()?.split(['.', '-']).map(str::parse);
        Some(Self(numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_and_compared() {
        assert_eq!(Version::parse("2.1.329 (Claude Code)\n"), Some(Version(2, 1, 329)));
        assert_eq!(Version::parse("3.0.0-beta.1"), Some(Version(3, 0, 0)));
        assert_eq!(Version::parse("Claude Code"), None);
        assert!(
            Version(2, 1, 120) < OLDEST
                && OLDEST < COMPOSED
                && COMPOSED < COMPLETE
                && COMPLETE < Version(2, 2, 0)
        );
    }
}
