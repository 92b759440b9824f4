//! Locks and atomics: the standard library's, or those of shuttle, which tries out how threads may be interleaved.
//!
//! With the feature `shuttle` only the tests named after it can run: `cargo test -p seaway --lib --features shuttle shuttle`.

#[cfg(not(feature = "shuttle"))]
pub use std::sync::{Mutex, MutexGuard, atomic};

#[cfg(feature = "shuttle")]
pub use shuttle::sync::{Mutex, MutexGuard, atomic};
