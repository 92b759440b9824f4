//! A record as the journal writes it, and as it waits in a file where the journal cannot be written.

use std::borrow::Cow;
use std::time::Duration;

use jiff::civil::Date;
use seaway_wire::Usage;
use serde::{Deserialize, Serialize};

use super::keys::key;
use crate::record::{Asker, Carried, Outcome, Record};

/// One exchange: numbers as they are, texts by reference where it is made of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JournalRow<'a> {
    /// Our own id, as the database has it.
    #[serde(with = "hexadecimal")]
    pub(super) id: [u8; 16],
    /// Milliseconds since the epoch.
    pub(super) at: i64,
    /// The id that the client saw; none where it is ours.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) caller: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) team: Option<Cow<'a, str>>,
    /// As budgets go; none in files of older gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) day: Option<Date>,
    #[serde(borrow, default)]
    pub(super) asker: JournalAsker<'a>,
    #[serde(borrow)]
    pub(super) dialect: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) endpoint: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) asked: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) wanted: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) stream: bool,
    pub(super) sent: bool,
    pub(super) status: u16,
    #[serde(borrow)]
    pub(super) outcome: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<Cow<'a, str>>,
    pub(super) attempts: u32,
    /// Tokens: input, output, cache reads, cache writes, and of those the ones for an hour.
    pub(super) tokens: [u64; 5],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) first_byte_us: Option<u64>,
    pub(super) total_us: u64,
    /// BLAKE3, in hexadecimal.
    #[serde(with = "hash", default, skip_serializing_if = "Option::is_none")]
    pub(super) body_in: Option<blake3::Hash>,
    /// None where nothing was changed.
    #[serde(with = "hash", default, skip_serializing_if = "Option::is_none")]
    pub(super) body_out: Option<blake3::Hash>,
    /// What went is what came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) as_it_came: bool,
    /// JSON: `[[name, path], …]`; none where there are none.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) changes: Option<Cow<'a, str>>,
    /// In micro-dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cost: Option<u64>,
    /// Which prices it was reckoned by.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) book: Option<Cow<'a, str>>,
    /// The part of `cost` for tokens that nobody told.
    #[serde(default)]
    pub(super) reckoned: u64,
    /// It adds to what was used.
    pub(super) counted: bool,
}

/// Who asked and for what, as far as the client told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct JournalAsker<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) parent_agent: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) prompt: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) class: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<Cow<'a, str>>,
}

impl<'a> JournalAsker<'a> {
    fn of(asker: &'a Asker) -> Self {
        let Asker { session, agent, parent_agent, prompt, class, client, version } = asker;
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            session: text(session),
            agent: text(agent),
            parent_agent: text(parent_agent),
            prompt: text(prompt),
            class: text(class),
            client: text(client),
            version: text(version),
        }
    }
}

impl<'a> JournalRow<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let Usage { input, output, cache_read, cache_write, cache_write_1h, .. } =
            record.summary.usage;
        let changes: Vec<(&str, &str)> =
            record.changes.iter().map(|change| (&*change.name, change.path.as_str())).collect();
        let changes = if changes.is_empty() { None } else { serde_json::to_string(&changes).ok() };
        Self {
            id: key(&record.id),
            at: record.at.as_millisecond(),
            request: Some(&record.request_id)
                .filter(|id| **id != record.id)
                .map(|id| Cow::Borrowed(id.as_str())),
            caller: Cow::Borrowed(&record.caller.0),
            team: record.team.as_deref().map(Cow::Borrowed),
            day: Some(record.day),
            asker: JournalAsker::of(&record.asker),
            dialect: Cow::Borrowed(record.dialect.name()),
            endpoint: Cow::Borrowed(record.endpoint),
            upstream: record.upstream.as_ref().map(|name| Cow::Borrowed(&*name.0)),
            asked: Cow::Borrowed(&record.asked),
            wanted: record.wanted.as_deref().map(Cow::Borrowed),
            model: record.summary.model.as_deref().map(Cow::Borrowed),
            stream: record.stream,
            sent: record.sent,
            status: record.status,
            outcome: Cow::Borrowed(record.outcome.name()),
            stop_reason: record
                .summary
                .stop_reason
                .as_ref()
                .map(|reason| Cow::Borrowed(reason.name())),
            fault: record.fault.as_deref().map(Cow::Borrowed),
            attempts: record.attempts,
            tokens: [input, output, cache_read, cache_write, cache_write_1h],
            first_byte_us: record.first_byte.map(micros),
            total_us: micros(record.total),
            body_in: record.bodies.came(),
            body_out: match record.bodies {
                Carried::Changed { went, .. } => Some(went),
                Carried::Unseen | Carried::AsItCame(_) => None,
            },
            as_it_came: matches!(record.bodies, Carried::AsItCame(_)),
            changes: changes.map(Cow::Owned),
            cost: record.cost,
            book: record.book.as_deref().map(Cow::Borrowed),
            reckoned: record.reckoned,
            counted: record.is_counted(),
        }
    }

    /// The hour that it is summed in, since the epoch.
    pub(super) fn hour(&self) -> i64 {
        self.at.div_euclid(super::keys::HOUR)
    }

    /// The day that it counts for.
    pub(super) fn day(&self) -> Date {
        self.day.unwrap_or_else(|| {
            crate::config::day(jiff::Timestamp::from_millisecond(self.at).unwrap_or_default())
        })
    }

    /// The model by whichever name is nearest to what answered.
    pub(super) fn model(&self) -> &str {
        self.model.as_deref().or(self.wanted.as_deref()).unwrap_or(&self.asked)
    }

    pub(super) fn upstream(&self) -> &str {
        self.upstream.as_deref().unwrap_or_default()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.outcome == Outcome::Completed.name()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Sixteen bytes as hexadecimal digits.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &[u8; 16], to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(uuid::Uuid::from_bytes_ref(id).as_simple())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(from)?;
        Ok(uuid::Uuid::try_parse(&text).map_err(D::Error::custom)?.into_bytes())
    }
}

/// A hash that may be missing.
mod hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        hash: &Option<blake3::Hash>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match hash {
            Some(hash) => to.collect_str(&hash.to_hex()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<blake3::Hash>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| blake3::Hash::from_hex(text).map_err(D::Error::custom)).transpose()
    }
}
