//! Lines for stderr, written by a thread of their own: nobody waits for who reads them.
//!
//! A pipe that is not read, a terminal that was stopped or a log driver that hangs holds up that
//! thread alone. Lines wait in a buffer of bounded size; what finds it full is dropped, counted, and
//! told once there is room again.

mod line;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

pub use line::{LogForm, LogLine, form, write_lines_as};

/// Bytes of lines that may wait.
const LIMIT: usize = 1 << 20;
/// How long lines gather, so that many leave by one write.
const GATHER: Duration = Duration::from_millis(20);
/// How long to leave a file alone that takes nothing and does not let us wait.
const PAUSE: Duration = Duration::from_millis(20);

/// Stderr belongs to the process, so there is one of these.
static LINES: OnceLock<Lines> = OnceLock::new();
static DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Where log lines are written to.
pub fn writer() -> Lines {
    LINES.get_or_init(|| Lines::to(stderr(), LIMIT, DROPPED.clone())).clone()
}

/// Writes a line for the person at the terminal, in order with those of the log.
pub fn say(words: fmt::Arguments<'_>) {
    writer().push(format!("{words}\n").as_bytes());
}

/// True once lines are written here: from then on nobody should write to stderr by other means.
pub fn is_started() -> bool {
    LINES.get().is_some()
}

/// Waits until all that was said is written, but no longer than `patience`; false if it is not.
pub fn flush(patience: Duration) -> bool {
    LINES.get().is_none_or(|lines| lines.flush(patience))
}

/// Counts lines that were dropped, since too many waited.
pub fn dropped() -> Counter {
    DROPPED.clone()
}

/// A descriptor of our own: whoever else uses the standard library's handle holds its lock.
fn stderr() -> Box<dyn Write + Send> {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(own) => Box::new(File::from(own)),
        Err(_) => Box::new(io::sink()),
    }
}

/// A handle on lines that are on their way.
#[derive(Debug, Clone)]
pub struct Lines(Arc<LogShared>);

#[derive(Debug)]
struct LogShared {
    waiting: Mutex<PendingLines>,
    changed: Condvar,
    limit: usize,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct PendingLines {
    text: Vec<u8>,
    /// A batch is being written.
    writing: bool,
    /// How many wait for the end; while there are any, nothing gathers.
    flushing: usize,
    /// Lines dropped that nobody was told of.
    lost: u64,
}

impl Lines {
    fn to(target: impl Write + Send + 'static, limit: usize, dropped: Counter) -> Self {
        let lines = Self(Arc::new(LogShared {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            limit,
            dropped,
        }));
        let shared = lines.0.clone();
        // Without the thread all lines are dropped once the buffer is full, and counted.
        let _thread =
            std::thread::Builder::new().name("log".into()).spawn(move || shared.write_to(target));
        lines
    }

    fn push(&self, line: &[u8]) {
        let shared = &*self.0;
        let mut waiting = shared.lock();
        if waiting.text.len() + line.len() > shared.limit {
            waiting.lost += 1;
            shared.dropped.inc();
            return;
        }
        let first = waiting.text.is_empty();
        waiting.text.extend_from_slice(line);
        // While lines gather, only a buffer that fills up is worth a wake.
        let half = shared.limit / 2;
        let fills = waiting.text.len() >= half && waiting.text.len() - line.len() < half;
        drop(waiting);
        if first || fills {
            shared.changed.notify_all();
        }
    }

    fn flush(&self, patience: Duration) -> bool {
        let shared = &*self.0;
        let mut waiting = shared.lock();
        waiting.flushing += 1;
        shared.changed.notify_all();
        let unwritten = |waiting: &mut PendingLines| waiting.writing || !waiting.text.is_empty();
        let (mut waiting, late) = shared
            .changed
            .wait_timeout_while(waiting, patience, unwritten)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.flushing -= 1;
        !late.timed_out()
    }
}

/// What the log's formatter writes to: each call is one line, and is taken whole or not at all.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogShared {
    fn lock(&self) -> MutexGuard<'_, PendingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut target: impl Write) {
        let mut batch = Vec::new();
        loop {
            let lost = self.next(&mut batch);
            // There is nowhere to tell that a file is closed or full.
            let _lost = write_all(&mut target, &batch);
            self.lock().writing = false;
            self.changed.notify_all();
            if lost > 0 {
                tracing::warn!(
                    lines = lost,
                    "log lines were dropped, since stderr was not read in time"
                );
            }
        }
    }

    /// Waits for lines, lets more gather and takes them all; returns how many were dropped behind them.
    fn next(&self, batch: &mut Vec<u8>) -> u64 {
        batch.clear();
        let idle = self
            .changed
            .wait_while(self.lock(), |waiting| waiting.text.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let gathers = |waiting: &mut PendingLines| {
            waiting.flushing == 0 && waiting.text.len() < self.limit / 2
        };
        let (mut waiting, _over) = self
            .changed
            .wait_timeout_while(idle, GATHER, gathers)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.text, batch);
        waiting.writing = true;
        std::mem::take(&mut waiting.lost)
    }
}

fn write_all(target: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match target.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => text = &text[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the file with us may have made it so.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes what is written to it only when told to, and how much of it.
    struct Gate {
        told: Receiver<io::Result<usize>>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let count = self.told.recv().unwrap_or(Ok(text.len()))?.min(text.len());
            self.taken.send(text[..count].to_vec()).unwrap();
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(limit: usize) -> (Lines, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let ((tell, told), (taken, took)) = (channel(), channel());
        (Lines::to(Gate { told, taken }, limit, Counter::default()), tell, took)
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_was_lost_is_counted() {
        let (lines, tell, took) = gated(10);
        lines.push(b"first\n");
        // The batch has left the buffer, and is stuck.
        while !lines.0.lock().writing {
            std::thread::yield_now();
        }
        for line in ["1234\n", "567\n", "89\n", "x"] {
            lines.push(line.as_bytes());
        }
        assert!(!lines.flush(Duration::ZERO), "nothing was read yet");
        assert_eq!((lines.0.dropped.get(), lines.0.lock().lost), (1, 1), "one line did not fit");
        drop(tell);
        assert!(lines.flush(Duration::from_secs(60)));
        assert_eq!(
            took.try_iter().collect::<Vec<_>>(),
            [b"first\n".to_vec(), b"1234\n567\nx".to_vec()],
            "one write a batch"
        );
        assert_eq!(lines.0.lock().lost, 0, "it was told");
    }

    #[test]
    fn a_file_that_takes_it_in_pieces_gets_every_byte() {
        let (lines, tell, took) = gated(100);
        for piece in [
            Ok(2),
            Err(io::ErrorKind::WouldBlock.into()),
            Err(io::ErrorKind::Interrupted.into()),
            Ok(1),
            Ok(100),
        ] {
            tell.send(piece).unwrap();
        }
        lines.push(b"a line\n");
        assert!(lines.flush(Duration::from_secs(60)));
        assert_eq!(took.try_iter().collect::<Vec<_>>().concat(), b"a line\n");
    }

    #[test]
    fn a_file_that_is_closed_ends_nothing() {
        let (lines, tell, took) = gated(100);
        tell.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        tell.send(Ok(100)).unwrap();
        lines.push(b"lost\n");
        assert!(lines.flush(Duration::from_secs(60)));
        lines.push(b"there\n");
        assert!(lines.flush(Duration::from_secs(60)));
        assert_eq!(took.try_iter().collect::<Vec<_>>().concat(), b"there\n");
    }
}
