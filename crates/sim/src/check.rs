//! What has to hold whatever happens.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use rusqlite::Connection;

use crate::Report;
use crate::client::{Answered, CALLERS, Ended, KEYS, prompt, said};
use crate::plan::{Ask, Reading, ScriptedAnswer, Sending, ShownKey, Surface};
use crate::program::PROGRAM;
use crate::upstream::{Attempt, Launched, text};
use crate::world::{Aftermath, Ending, UPSTREAM_KEYS};

/// Something that should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    pub what: String,
}

impl Violation {
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// A record, as the next gateway finds it.
#[derive(Debug, Clone)]
struct Row {
    caller: String,
    outcome: String,
    status: u16,
    tokens: (u64, u64),
}

struct Checker<'a> {
    after: &'a Aftermath<'a>,
    asks: HashMap<u32, &'a Ask>,
    rows: HashMap<u32, Vec<Row>>,
    found: Vec<Violation>,
}

/// Checks everything.
pub fn all(after: &Aftermath<'_>) -> Report {
    let database = Connection::open(after.state.join("seaway.db")).expect("it was opened before");
    let asks = after.plan.asks().map(|(_, ask)| (ask.number, ask)).collect();
    let rows = rows(&database).expect("records can be read");
    let mut checker = Checker { after, asks, rows, found: Vec::new() };
    for answered in &after.answered {
        checker.answer(answered);
    }
    for attempt in &after.attempts {
        checker.attempt(attempt);
    }
    checker.attempts_together();
    checker.launches();
    checker.records();
    checker.sums(&database);
    checker.promises(&database);
    checker.files();
    for left in &after.leftovers.0 {
        checker.wrong("all places are free at the end", left.clone());
    }
    Report { trace: checker.trace(), served: after.attempts.len(), violations: checker.found }
}

fn rows(database: &Connection) -> rusqlite::Result<HashMap<u32, Vec<Row>>> {
    let mut select =
        database.prepare("SELECT asked, caller, outcome, status, input, output FROM exchange")?;
    let mut all: HashMap<u32, Vec<Row>> = HashMap::new();
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let asked: String = row.get(0)?;
        let number = asked
            .strip_prefix("claude-sim-")
            .and_then(|number| number.trim_start_matches('p').parse().ok());
        let tokens = (row.get(4)?, row.get(5)?);
        let row = Row { caller: row.get(1)?, outcome: row.get(2)?, status: row.get(3)?, tokens };
        if let Some(number) = number {
            all.entry(number).or_default().push(row);
        }
    }
    Ok(all)
}

/// The numbers of the messages that a text is made of.
fn authors(text: &str) -> impl Iterator<Item = u32> {
    text.split(['m', '"', ' ']).filter_map(|word| word.split_once('_')?.0.parse().ok())
}

/// The numbers of the requests whose prompts stand in a text.
fn prompted(text: &str) -> impl Iterator<Item = u32> {
    text.split("prompt-").skip(1).filter_map(|after| after.split_once("-end")?.0.parse().ok())
}

impl Checker<'_> {
    fn wrong(&mut self, rule: &'static str, what: impl Into<String>) {
        self.found.push(Violation::new(rule, what));
    }

    fn attempts_of(&self, number: u32) -> Vec<&Attempt> {
        self.after.attempts.iter().filter(|attempt| attempt.number == number).collect()
    }

    fn killed(&self) -> bool {
        self.after.ending == Ending::Killed
    }

    /// What one client got.
    fn answer(&mut self, answered: &Answered) {
        let ask = self.asks[&answered.number];
        let (number, said) = (answered.number, said(ask, answered));
        let bytes = format!("{}{}", answered.head, answered.body);
        if let Some(other) = authors(&bytes).find(|other| *other != number) {
            self.wrong(
                "no byte to the wrong client",
                format!("{number} was told what {other} was"),
            );
        }
        for (_, key) in UPSTREAM_KEYS {
            if bytes.contains(key) {
                self.wrong(
                    "no credential where it does not belong",
                    format!("{number} was told {key}"),
                );
            }
        }
        // Who reads slowly may read for hours.
        let slow = matches!(ask.reading, Reading::Slowly { .. });
        if answered.ended == Ended::Hangs && !slow {
            self.wrong(
                "nobody waits for ever",
                format!("{number} waited for a quarter of an hour"),
            );
        }
        let good = ask.key == ShownKey::Good;
        if !good && answered.status.is_some_and(|status| status < 400) {
            self.wrong("no key, no answer", format!("{number} got {:?}", answered.status));
        }
        if said.whole && !said.error {
            self.whole(answered, &said.text);
        } else if answered.status == Some(200) && answered.ended == Ended::Whole && !said.error {
            self.wrong(
                "no cut answer looks whole",
                format!(
                    "{number} ended in order, says nothing of an error and is not all there: {}",
                    answered.body
                ),
            );
        }
        self.liveness(ask, answered);
    }

    /// An answer that looks whole.
    fn whole(&mut self, answered: &Answered, told: &str) {
        let number = answered.number;
        let served = self.attempts_of(number).into_iter().rfind(|attempt| is_message(attempt));
        let Some(served) = served.cloned() else {
            return self
                .wrong("no cut answer looks whole", format!("{number} got one that nobody gave"));
        };
        let ScriptedAnswer::Message { pieces } = served.script.answer else { return };
        if told != text(number, pieces) {
            self.wrong(
                "no cut answer looks whole",
                format!("{number} got {} of {} bytes", told.len(), text(number, pieces).len()),
            );
        }
    }

    /// Who only waits gets an answer, or an error with words.
    fn liveness(&mut self, ask: &Ask, answered: &Answered) {
        let patient = matches!(ask.sending, Sending::Whole) && ask.reading == Reading::Eager;
        if patient
            && self.after.ending == Ending::Rest
            && answered.status.is_none()
            && answered.ended != Ended::Hangs
            && self.is_first_on_its_connection(ask)
        {
            self.wrong("nobody is left without a word", format!("{} got nothing", ask.number));
        }
    }

    /// A connection that is used again may be closed just then.
    fn is_first_on_its_connection(&self, ask: &Ask) -> bool {
        self.after.plan.clients.iter().any(|client| client.asks.first() == Some(ask))
    }

    /// What one upstream got.
    fn attempt(&mut self, attempt: &Attempt) {
        let number = attempt.number;
        for key in KEYS {
            if attempt.request.contains(key) {
                self.wrong(
                    "no credential where it does not belong",
                    format!("{key} went up with {number}"),
                );
            }
        }
        for (name, key) in UPSTREAM_KEYS {
            if (name == attempt.upstream) != attempt.request.contains(key) {
                self.wrong(
                    "no credential where it does not belong",
                    format!(
                        "{} was asked for {number}, and {key} was there or was not",
                        attempt.upstream
                    ),
                );
            }
        }
        let conversation = |number: u32| {
            let mut clients = self.after.plan.clients.iter();
            clients.position(|client| client.asks.iter().any(|ask| ask.number == number))
        };
        let mine = conversation(number);
        let strange = prompted(&attempt.request).find(|other| conversation(*other) != mine);
        if let Some(other) = strange {
            self.wrong(
                "no byte to the wrong client",
                format!("{number} was asked by one that had heard {other}"),
            );
        }
        if !attempt.request.contains(&prompt(number)) {
            self.wrong("what is asked arrives", format!("{number} lost its prompt on the way"));
        }
        if self.asks[&number].key != ShownKey::Good {
            self.wrong("no key, no answer", format!("{number} went up without one"));
        }
    }

    /// Everybody on the machine reads a command line; what is in an environment, its process and its owner.
    fn launches(&mut self) {
        let launches = &self.after.launches;
        let prompts: Vec<String> = self.asks.keys().map(|number| prompt(*number)).collect();
        let mut found = Vec::new();
        let own = |(name, _): &(char, &str)| *name == PROGRAM;
        let keys = UPSTREAM_KEYS.map(|(_, key)| key).into_iter().chain(KEYS).map(str::to_owned);
        let never: Vec<String> = prompts.into_iter().chain(keys).collect();
        for Launched { command_line, environment } in launches {
            // Its own key stands in its environment, and nowhere else.
            let may = |secret: &str| UPSTREAM_KEYS.iter().any(|of| own(of) && of.1 == secret);
            let there = |secret: &&String| {
                command_line.contains(*secret) || (environment.contains(*secret) && !may(secret))
            };
            found.extend(never.iter().filter(there).cloned());
        }
        for secret in found {
            self.wrong(
                "no credential where it does not belong",
                format!("a program was started with {secret}"),
            );
        }
    }

    /// What was sent and answered is not sent again.
    fn attempts_together(&mut self) {
        let numbers: Vec<u32> = self.asks.keys().copied().collect();
        for number in numbers {
            let attempts = self.attempts_of(number);
            let again = attempts
                .windows(2)
                .any(|pair| pair[0].written > pair[0].head && is_message(pair[0]));
            // Two upstreams, each asked once more at the most.
            let count = attempts.len();
            if again {
                self.wrong("nothing is sent twice after it was answered", format!("{number} was"));
            }
            if count > 4 {
                self.wrong(
                    "nothing is sent twice after it was answered",
                    format!("{number} was sent {count} times"),
                );
            }
        }
    }

    /// Each exchange is recorded once, with what became of it.
    fn records(&mut self) {
        let killed = self.killed();
        let mut asks: Vec<_> = self.asks.values().copied().collect();
        asks.sort_unstable_by_key(|ask| ask.number);
        for ask in asks {
            let number = ask.number;
            let rows = self.rows.get(&number).cloned().unwrap_or_default();
            let attempts: Vec<Attempt> = self.attempts_of(number).into_iter().cloned().collect();
            if rows.len() > 1 {
                self.wrong(
                    "each exchange is recorded once",
                    format!("{number} has {} records", rows.len()),
                );
            }
            let Some(row) = rows.first() else {
                if !attempts.is_empty() && !killed {
                    self.wrong(
                        "each exchange is recorded once",
                        format!("{number} went up and has no record"),
                    );
                }
                continue;
            };
            self.record(ask, row, &attempts);
        }
        if killed && self.after.plan.synced {
            self.records_of_answers();
        }
    }

    fn record(&mut self, ask: &Ask, row: &Row, attempts: &[Attempt]) {
        let number = ask.number;
        let caller = self
            .after
            .plan
            .asks()
            .find(|(_, other)| other.number == number)
            .map(|(client, _)| client.caller);
        if caller.is_some_and(|caller| CALLERS[usize::from(caller)] != row.caller) {
            self.wrong("a record is its caller's", format!("{number} is {}'s", row.caller));
        }
        let last = attempts.iter().rfind(|attempt| is_message(attempt));
        let completed = row.outcome == "completed";
        if completed && row.status == 200 {
            match last {
                None => self.wrong(
                    "records are true",
                    format!("{number} is said to be completed, and nobody answered"),
                ),
                Some(attempt) if attempt.tokens != row.tokens => self.wrong(
                    "records are true",
                    format!(
                        "{number} has {:?} tokens, and its upstream served {:?}",
                        row.tokens, attempt.tokens
                    ),
                ),
                Some(_) => {}
            }
        }
        let answered = self.after.answered.iter().find(|answered| answered.number == number);
        let whole = answered.filter(|answered| {
            let said = said(ask, answered);
            said.whole && !said.error && answered.ended == Ended::Whole
        });
        if whole.is_some() && !completed {
            self.wrong(
                "records are true",
                format!("{number} was answered in whole, and is recorded as {}", row.outcome),
            );
        }
    }

    /// Where records are synced, what a client was told to the end is there after any death.
    fn records_of_answers(&mut self) {
        let told: Vec<u32> = self
            .after
            .answered
            .iter()
            .filter(|answered| {
                let said = said(self.asks[&answered.number], answered);
                said.whole && !said.error
            })
            .map(|answered| answered.number)
            .collect();
        for number in told {
            if !self.rows.contains_key(&number) {
                self.wrong(
                    "a promise holds after any death",
                    format!("{number} was answered in whole, and its record is gone"),
                );
            }
        }
    }

    /// Sums say the same as the records that they outlive.
    fn sums(&mut self, database: &Connection) {
        let summed: (u64, u64, u64) = database
            .query_row(
                "SELECT coalesce(sum(requests), 0), coalesce(sum(input), 0), coalesce(sum(output), 0) FROM hourly",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .expect("sums can be read");
        let counted: (u64, u64, u64) = database
            .query_row(
                "SELECT count(*), coalesce(sum(input), 0), coalesce(sum(output), 0) FROM exchange WHERE endpoint <> 'count_tokens'",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .expect("records can be read");
        if summed != counted {
            self.wrong(
                "sums are those of the records",
                format!("{summed:?}, and the records say {counted:?}"),
            );
        }
    }

    /// What was said to be kept is there, and is its owner's.
    fn promises(&mut self, database: &Connection) {
        let told: Vec<_> = self
            .after
            .answered
            .iter()
            .filter_map(|answered| {
                let said = said(self.asks[&answered.number], answered);
                Some((answered.number, answered.caller, said.kept?))
            })
            .collect();
        for (number, caller, id) in told {
            let owner =
                database.query_row("SELECT owner FROM response WHERE id = ?1", [&id], |row| {
                    row.get::<_, String>(0)
                });
            match owner {
                Ok(owner) if owner == CALLERS[usize::from(caller)] => {}
                Ok(owner) => self.wrong(
                    "a promise is its owner's",
                    format!("the response to {number} is {owner}'s"),
                ),
                Err(error) => self.wrong(
                    "a promise holds after any death",
                    format!("the response to {number} was said to be kept: {error}"),
                ),
            }
        }
    }

    /// No file holds a credential, or a prompt that nobody asked to be kept.
    fn files(&mut self) {
        let kept = |ask: &Ask| ask.surface == Surface::Responses;
        let prompts = self.after.plan.clients.iter().flat_map(|client| {
            // A response is kept with the conversation before it.
            let last = client.asks.iter().rposition(kept).filter(|_| client.program);
            client
                .asks
                .iter()
                .enumerate()
                .filter(move |(at, ask)| !kept(ask) && last.is_none_or(|last| *at > last))
        });
        let prompts: Vec<String> = prompts.map(|(_, ask)| prompt(ask.number)).collect();
        let keys = KEYS.into_iter().chain(UPSTREAM_KEYS.map(|(_, key)| key)).map(str::to_owned);
        let all: Vec<String> = prompts.into_iter().chain(keys).collect();
        for file in std::fs::read_dir(&self.after.state).into_iter().flatten().flatten() {
            let content = std::fs::read(file.path()).unwrap_or_default();
            let there =
                |secret: &&String| memchr::memmem::find(&content, secret.as_bytes()).is_some();
            for secret in all.iter().filter(there) {
                let name = Path::new(&file.file_name()).display().to_string();
                self.wrong(
                    "no credential where it does not belong",
                    format!("{secret} is in {name}"),
                );
            }
        }
    }

    /// What happened, for comparing two runs. Ids and times of the day differ.
    fn trace(&self) -> Vec<String> {
        let answers = self.after.answered.iter().map(|answered| {
            let Answered { number, ended, status, at, body, .. } = answered;
            format!("{at} ms: {number} {ended:?} {status:?} {} bytes", body.len())
        });
        let attempts = self.after.attempts.iter().map(|attempt| {
            let Attempt { number, upstream, written, whole, left, .. } = attempt;
            format!("{number} at {upstream}: {written} bytes, whole {whole}, left {left}")
        });
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_unstable_by_key(|(number, _)| **number);
        let rows = rows.into_iter().flat_map(|(number, rows)| {
            rows.iter().map(move |row| {
                format!("record of {number}: {} {} {:?}", row.outcome, row.status, row.tokens)
            })
        });
        answers.chain(attempts).chain(rows).collect()
    }
}

/// An attempt that was answered with a message, or would have been.
fn is_message(attempt: &Attempt) -> bool {
    matches!(attempt.script.answer, ScriptedAnswer::Message { .. })
}
