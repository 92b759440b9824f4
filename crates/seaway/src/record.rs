//! What is kept of one exchange: everything but its content.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use seaway_wire::Dialect;
use seaway_wire::messages::{Change, Summary};

use crate::auth::Caller;
use crate::config::{self, PriceBook, UpstreamName};
use crate::log::{self, LogLine};

/// Dollars of micro-dollars, for showing.
#[expect(clippy::cast_precision_loss, reason = "exact up to nine thousand million dollars")]
pub fn dollars(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// The message of an exchange's line in the log.
const LOGGED: &str = "exchange";

/// Microseconds are as fine as it gets.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The least that a token can be, roughly, where nobody has counted.
const CHARACTERS_A_TOKEN: u64 = 4;

/// The characters of a request that are text: what is long and without a space is a picture or a file.
pub(crate) fn characters(body: &[u8]) -> u64 {
    // The bytes within a character are none of their own. So few at once that a byte holds their number.
    let begin = |part: &[u8]| part.iter().map(|byte| u8::from(byte & 0xC0 != 0x80)).sum::<u8>();
    let all: u64 = body.chunks(255).map(|part| u64::from(begin(part))).sum();
    all - encoded(body)
}

/// The bytes that are long and without a space.
fn encoded(body: &[u8]) -> u64 {
    const LONG: usize = 512;
    // Whatever is so long has a byte at one of these places.
    let (mut all, mut at) = (0, 0);
    while let (Some(before), Some(rest)) = (body.get(..at), body.get(at..)) {
        let here = run_from(rest);
        if here > 0 {
            let run = run_before(before) + here;
            all += if run >= LONG { run } else { 0 };
        }
        // The next place beyond its end.
        at += (here / LONG + 1) * LONG;
    }
    all as u64
}

/// Bytes that are looked at together.
const WIDE: usize = 32;

/// How many bytes from the first on are of a code.
fn run_from(bytes: &[u8]) -> usize {
    let (wide, rest) = bytes.as_chunks::<WIDE>();
    let whole = wide.iter().take_while(|part| are_encoded(part)).count();
    let rest = wide.get(whole).map_or(rest, |part| part);
    whole * WIDE + rest.iter().take_while(|byte| is_encoded(**byte)).count()
}

/// How many bytes up to the last are.
fn run_before(bytes: &[u8]) -> usize {
    let (rest, wide) = bytes.as_rchunks::<WIDE>();
    let whole = wide.iter().rev().take_while(|part| are_encoded(part)).count();
    let rest = wide.iter().rev().nth(whole).map_or(rest, |part| part);
    whole * WIDE + rest.iter().rev().take_while(|byte| is_encoded(**byte)).count()
}

/// Without a way out in between, so that it is a few wide instructions.
fn are_encoded(part: &[u8; WIDE]) -> bool {
    part.iter().fold(true, |all, byte| all & is_encoded(*byte))
}

/// What pictures and files are written with.
const fn is_encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-')
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The answer is whole.
    Completed,
    /// There was an error instead of an answer, or in its midst.
    Faulted,
    /// The answer was cut off by the upstream.
    Truncated,
    /// The client left before the end.
    ClientGone,
    /// The gateway was shutting down and waited no longer.
    Drained,
    /// The gateway was killed; the next one found the request and charged it.
    Killed,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Faulted => "faulted",
            Self::Truncated => "truncated",
            Self::ClientGone => "client_gone",
            Self::Drained => "drained",
            Self::Killed => "killed",
        }
    }
}

/// Who asked and for what, as far as the client tells: never a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asker {
    /// The client's name for the conversation.
    pub session: Option<String>,
    /// The agent within it, and the one that it works for.
    pub agent: Option<String>,
    pub parent_agent: Option<String>,
    /// The id of what a person typed.
    pub prompt: Option<String>,
    /// What a request is for: a main turn, a summary, …
    pub class: Option<String>,
    /// The program, and its version.
    pub client: Option<String>,
    pub version: Option<String>,
}

/// What keeps the cost of a request under a cap until its record is written; dropped, it no longer does.
pub trait Claimed: std::fmt::Debug + Send + Sync {
    /// Notes what it cost.
    fn settled(&self, cost: u64);
    /// Its record is lost: this is to be found by the next gateway.
    fn stays(&self);
    /// Nothing but a sum will tell of it.
    fn summed(&self);
}

/// One exchange. Never a prompt, never an answer.
#[derive(Debug, Clone)]
pub struct Record {
    /// Our own id.
    pub id: String,
    /// The id that the client saw.
    pub request_id: String,
    pub at: Timestamp,
    /// The day of it, as budgets go.
    pub day: Date,
    pub caller: Caller,
    /// The team of the caller's key.
    pub team: Option<Arc<str>>,
    pub asker: Asker,
    pub dialect: Dialect,
    /// `messages`, `count_tokens`, …
    pub endpoint: &'static str,
    pub upstream: Option<UpstreamName>,
    /// The model by the client's name for it.
    pub asked: String,
    /// The model that its upstream was asked for: what the client's name stands for.
    pub wanted: Option<String>,
    /// An upstream got the request, or may have.
    pub sent: bool,
    pub stream: bool,
    /// The HTTP status that the client saw; 0 if it left before there was one.
    pub status: u16,
    pub outcome: Outcome,
    pub summary: Summary,
    /// In micro-dollars, by the prices of when it ended; none where its model has no price.
    pub cost: Option<u64>,
    /// Which prices these were: [`PriceBook::version`]; none where nothing was priced.
    pub book: Option<Arc<str>>,
    /// The part of `cost` for tokens that nobody told: the least that they can be.
    pub reckoned: u64,
    /// What went wrong, in one word.
    pub fault: Option<String>,
    pub attempts: u32,
    pub first_byte: Option<Duration>,
    pub total: Duration,
    pub bodies: Carried,
    pub changes: Vec<Change>,
    /// Of a request under a cap.
    pub claim: Option<Arc<dyn Claimed>>,
}

/// How the body that an upstream got belongs to the one that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carried {
    /// Nobody looked, or an upstream is not sent bytes.
    #[default]
    Unseen,
    /// The very bytes; their BLAKE3 where it is wanted.
    AsItCame(Option<blake3::Hash>),
    /// By their BLAKE3.
    Changed { came: blake3::Hash, went: blake3::Hash },
}

impl Carried {
    /// By the hashes of both.
    pub fn of(came: blake3::Hash, went: blake3::Hash) -> Self {
        if came == went { Self::AsItCame(Some(came)) } else { Self::Changed { came, went } }
    }

    pub fn came(&self) -> Option<blake3::Hash> {
        match self {
            Self::Unseen => None,
            Self::AsItCame(came) => *came,
            Self::Changed { came, .. } => Some(*came),
        }
    }
}

impl Record {
    /// The model by whichever name is nearest to what answered.
    pub fn model(&self) -> &str {
        self.summary.model.as_deref().or(self.wanted.as_deref()).unwrap_or(&self.asked)
    }

    /// True if it adds to what was used: counting tokens is free.
    pub fn is_counted(&self) -> bool {
        !matches!(self.endpoint, "count_tokens" | "input_tokens")
    }

    /// Where an answer was not waited for to its end, takes what its stream had not told as four characters a token: `asked` are
    /// the characters of the request. What an upstream did not answer, or answered with an error, is not billed.
    fn reckon(&mut self, asked: u64) -> bool {
        let unfinished =
            matches!(self.outcome, Outcome::Truncated | Outcome::ClientGone | Outcome::Drained);
        let told = self.summary.ended
            || self.summary.stop_reason.is_some()
            || !self.summary.iterations.is_empty();
        if !unfinished || !self.sent || self.status >= 400 || told {
            return false;
        }
        let usage = &mut self.summary.usage;
        let before = *usage;
        if usage.prompt() == 0 {
            usage.input = asked / CHARACTERS_A_TOKEN;
        }
        usage.output = usage.output.max(self.summary.so_far);
        *usage != before
    }

    /// Sets the cost of the record, for good: by what was told, and by the least of what was not.
    pub(crate) fn settle(&mut self, prices: &PriceBook, asked: u64) {
        self.price(prices);
        let told = self.cost;
        if self.reckon(asked) {
            self.price(prices);
            self.reckoned = self.cost.unwrap_or(0).saturating_sub(told.unwrap_or(0));
        }
    }

    /// Sets the cost of the record, for good.
    fn price(&mut self, prices: &PriceBook) {
        if !self.is_counted() {
            self.cost = Some(0);
            return;
        }
        let upstream = self.upstream.as_ref();
        self.cost = prices.cost(self.model(), &self.summary, upstream, config::day(self.at));
        self.book = self.cost.filter(|cost| *cost > 0).map(|_| prices.version().clone());
    }

    /// Bytes that it holds, roughly.
    pub(crate) fn size(&self) -> usize {
        let texts = [
            Some(&self.id),
            Some(&self.request_id),
            Some(&self.asked),
            self.wanted.as_ref(),
            self.summary.model.as_ref(),
            self.fault.as_ref(),
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        size_of::<Self>()
            + texts
            + self
                .changes
                .iter()
                .map(|change| size_of_val(change) + change.name.len() + change.path.as_str().len())
                .sum::<usize>()
    }

    /// Writes the line that every exchange has in the log.
    pub(crate) fn log(&self) {
        match log::form() {
            Some(form) if tracing::enabled!(tracing::Level::INFO) => {
                self.line(LogLine::begin(form, Timestamp::now(), LOGGED)).write();
            }
            Some(_) => {}
            None => self.trace(),
        }
    }

    /// The same as [`Self::trace`], for many a second.
    fn line(&self, mut line: LogLine) -> LogLine {
        let usage = self.summary.usage;
        line.text("id", &self.request_id);
        line.text("caller", &self.caller.0);
        line.text("dialect", self.dialect.name());
        line.text("endpoint", self.endpoint);
        if let Some(upstream) = &self.upstream {
            line.text("upstream", &upstream.0);
        }
        line.text("model", self.model());
        line.number("status", self.status.into());
        line.text("outcome", self.outcome.name());
        if let Some(fault) = &self.fault {
            line.text("fault", fault);
        }
        if let Some(reason) = &self.summary.stop_reason {
            line.text("stop_reason", reason.name());
        }
        line.number("input", usage.input);
        line.number("output", usage.output);
        line.number("cache_read", usage.cache_read);
        line.number("cache_write", usage.cache_write);
        if let Some(cost) = self.cost {
            line.float("cost_usd", dollars(cost));
        }
        line.number("attempts", self.attempts.into());
        if let Some(first_byte) = self.first_byte {
            line.float("first_byte_ms", millis(first_byte));
        }
        line.float("total_ms", millis(self.total));
        line
    }

    fn trace(&self) {
        let usage = self.summary.usage;
        tracing::info!(
            id = self.request_id,
            caller = &*self.caller.0,
            dialect = self.dialect.name(),
            endpoint = self.endpoint,
            upstream = self.upstream.as_ref().map(|name| &*name.0),
            model = self.model(),
            status = self.status,
            outcome = self.outcome.name(),
            fault = self.fault,
            stop_reason = self.summary.stop_reason.as_ref().map(|reason| reason.name().to_owned()),
            input = usage.input,
            output = usage.output,
            cache_read = usage.cache_read,
            cache_write = usage.cache_write,
            cost_usd = self.cost.map(dollars),
            attempts = self.attempts,
            first_byte_ms = self.first_byte.map(millis),
            total_ms = millis(self.total),
            "{LOGGED}"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use seaway_wire::StopReason;

    use super::*;
    use crate::log::LogForm;

    /// What is written to it, as one text.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn traced(form: LogForm, record: &Record) -> String {
        let paper = Paper::default();
        let to = paper.clone();
        let builder = tracing_subscriber::fmt()
            .with_writer(move || to.clone())
            .with_ansi(false)
            .with_target(false);
        match form {
            LogForm::Text => {
                tracing::subscriber::with_default(builder.finish(), || record.trace());
            }
            LogForm::Json => {
                let subscriber = builder.json().flatten_event(true).finish();
                tracing::subscriber::with_default(subscriber, || record.trace());
            }
        }
        let written = paper.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    fn undated(line: &str) -> String {
        let (from, until) = (line.find("20").unwrap(), line.find('Z').unwrap());
        assert_eq!(until - from, "2026-11-29T01:02:03.456789".len(), "{line}");
        format!("{}{}", &line[..from], &line[until..])
    }

    fn logged(asked: &str, tokens: u64, ended: bool) -> Record {
        let mut summary = Summary::default();
        summary.usage.input = tokens;
        summary.stop_reason = ended.then_some(StopReason::EndTurn);
        Record {
            id: "req_sw_1".into(),
            request_id: "req_1".into(),
            at: Timestamp::UNIX_EPOCH,
            day: Date::default(),
            caller: Caller("it's me".into()),
            team: None,
            asker: Asker::default(),
            dialect: Dialect::Messages,
            endpoint: "messages",
            upstream: ended.then(|| UpstreamName("up".into())),
            asked: asked.to_owned(),
            wanted: None,
            sent: true,
            stream: false,
            status: 200,
            outcome: Outcome::Completed,
            summary,
            cost: ended.then_some(tokens * 7),
            book: None,
            reckoned: 0,
            fault: (!ended).then(|| "overloaded_error".to_owned()),
            attempts: 2,
            first_byte: ended.then(|| Duration::from_micros(tokens)),
            total: Duration::from_nanos(tokens.saturating_mul(1234)),
            bodies: Carried::Unseen,
            changes: Vec::new(),
            claim: None,
        }
    }

    proptest::proptest! {
        #[test]
        fn the_line_of_an_exchange_is_what_the_log_s_own_formatter_writes(
            asked in "(\\PC|\"|\\\\|'|\n|\u{1b}){0,12}", tokens in 0..=1u64 << 50, ended in proptest::bool::ANY
        ) {
            let record = logged(&asked, tokens, ended);
            for form in [LogForm::Text, LogForm::Json] {
                let own = record.line(LogLine::begin(form, Timestamp::now(), LOGGED)).end();
                proptest::prop_assert_eq!(undated(&own), undated(&traced(form, &record)));
            }
        }
    }

    #[test]
    fn characters_are_text_and_no_picture() {
        let picture = format!("{{\"data\":\"{}\"}}", "iVBORw0KGgo+/".repeat(100));
        for (body, count) in [("", 0), ("abc d", 5), ("äöü", 3), (picture.as_str(), 11)] {
            assert_eq!(characters(body.as_bytes()), count, "{body}");
        }
    }

    /// The same, byte by byte.
    fn counted(body: &[u8]) -> u64 {
        let runs = body.split(|byte| !is_encoded(*byte));
        let long: usize = runs.map(<[u8]>::len).filter(|length| *length >= 512).sum();
        (body.iter().filter(|byte| **byte & 0xC0 != 0x80).count() - long) as u64
    }

    proptest::proptest! {
        #[test]
        fn characters_are_those_of_whoever_looks_at_each(
            parts in proptest::collection::vec((0usize..1100, proptest::sample::select(vec![" ", "\"", "ä", ""])), 0..8)
        ) {
            let body: String = parts.iter().map(|(run, end)| "A".repeat(*run) + end).collect();
            proptest::prop_assert_eq!(characters(body.as_bytes()), counted(body.as_bytes()));
        }
    }
}
