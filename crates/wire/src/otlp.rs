//! Telemetry as programs send it (OTLP), as far as it is counted: sums, and how often an event or a span was told.
//!
//! Nothing else of it is read: no body of a log, no attribute but a session's name and the kind of what is counted, so that
//! no text of anybody's is kept. The numbers of members are those of `opentelemetry-proto` 1.x; in JSON, 64-bit numbers
//! are texts there (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

/// Sums of one body at most; what is beyond is not counted, and said so.
pub const MOST: usize = 1_000;
/// How what Claude Code tells begins; what others add to a number may be anything.
const OF_CLAUDE_CODE: &str = "claude_code.";
/// No number is larger.
const LARGEST: f64 = 1e15;
/// Characters of a name at most.
const LONGEST: usize = 128;

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Metrics,
    Logs,
    Traces,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// One number that was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// The name of the session; empty where none was told.
    pub session: String,
    /// Of what, with its kind where it has one: `claude_code.lines_of_code.count added`.
    pub name: String,
    /// 0 for a number that is to be added to what was told before; else the row of numbers that it is the last of.
    pub series: i64,
    pub value: f64,
}

/// What a body tells.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub counts: Vec<Count>,
    /// How many numbers are not among them, since they are more than [`MOST`], or have a name that is none.
    pub left_out: u64,
}

/// A body that is none.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("the body is no OTLP in protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the body is no OTLP in JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads a body.
///
/// # Errors
///
/// If it is not written so.
pub fn read(signal: Signal, encoding: Encoding, body: &[u8]) -> Result<Told, OtlpError> {
    let mut tally = Tally::default();
    match signal {
        Signal::Metrics => tally.metrics(&decoded::<Metrics>(encoding, body)?),
        Signal::Logs => tally.logs(&decoded::<Logs>(encoding, body)?),
        Signal::Traces => tally.spans(&decoded::<Spans>(encoding, body)?),
    }
    Ok(tally.told())
}

fn decoded<M>(encoding: Encoding, body: &[u8]) -> Result<M, OtlpError>
where
    M: Message + Default + for<'de> Deserialize<'de>,
{
    Ok(match encoding {
        Encoding::Protobuf => M::decode(body)?,
        Encoding::Json => serde_json::from_slice(body)?,
    })
}

/// The answer to a body, of which so many numbers were not counted.
pub fn answer(signal: Signal, encoding: Encoding, left_out: u64) -> Vec<u8> {
    let message = "more than is counted of one body, or no name";
    match (encoding, left_out) {
        (Encoding::Protobuf, 0) => Vec::new(),
        (Encoding::Json, 0) => b"{}".to_vec(),
        (Encoding::Protobuf, rejected) => {
            let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
            let partial = PartialSuccess { rejected, message: message.into() };
            ServiceAnswer { partial: Some(partial) }.encode_to_vec()
        }
        (Encoding::Json, rejected) => {
            let name = match signal {
                Signal::Metrics => "rejectedDataPoints",
                Signal::Logs => "rejectedLogRecords",
                Signal::Traces => "rejectedSpans",
            };
            let partial = serde_json::json!({name: rejected.to_string(), "errorMessage": message});
            serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
    }
}

#[derive(Default)]
struct Tally {
    counts: BTreeMap<(String, String, i64), f64>,
    left_out: u64,
}

impl Tally {
    fn metrics(&mut self, told: &Metrics) {
        for group in &told.resource_metrics {
            for metric in group.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                // What may fall adds up to nothing.
                let Some(sum) = metric.sum.as_ref().filter(|sum| sum.is_monotonic) else {
                    continue;
                };
                for point in &sum.data_points {
                    let about = [&point.attributes, group.resource()];
                    let series = match sum.temporality {
                        DELTA => 0,
                        _ => series(&metric.name, point, group.resource()),
                    };
                    let value = point.as_double.or(point.as_int.map(approximate));
                    self.add(about, &metric.name, series, value);
                }
            }
        }
    }

    fn logs(&mut self, told: &Logs) {
        for group in &told.resource_logs {
            for log in group.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                let about = [&log.attributes, group.resource()];
                let body = log.body.as_ref().and_then(|body| body.string_value.as_deref());
                let name = Some(log.event_name.as_str()).filter(|name| !name.is_empty());
                let body = body.filter(|body| body.starts_with(OF_CLAUDE_CODE));
                let name = name.or_else(|| text(about, "event.name")).or(body);
                self.add(about, name.unwrap_or_default(), 0, Some(1.0));
            }
        }
    }

    fn spans(&mut self, told: &Spans) {
        for group in &told.resource_spans {
            for span in group.scope_spans.iter().flat_map(|scope| &scope.spans) {
                self.add([&span.attributes, group.resource()], &span.name, 0, Some(1.0));
            }
        }
    }

    fn add(&mut self, about: [&Vec<KeyValue>; 2], name: &str, series: i64, value: Option<f64>) {
        let value = value.filter(|value| (0.0..=LARGEST).contains(value));
        let (Some(value), true) = (value, is_name(name)) else {
            self.left_out += 1;
            return;
        };
        let session = text(about, "session.id").filter(|session| is_name(session));
        let session = session.unwrap_or_default().to_owned();
        let kind = text(about, "type").or_else(|| text(about, "decision"));
        let kind = kind.filter(|_| name.starts_with(OF_CLAUDE_CODE));
        let name = match kind.filter(|kind| is_name(kind)) {
            Some(kind) => format!("{name} {kind}"),
            None => name.to_owned(),
        };
        let full = self.counts.len() >= MOST;
        let key = (session, name, series);
        match self.counts.get_mut(&key) {
            Some(sum) if series == 0 => *sum += value,
            Some(last) => *last = last.max(value),
            None if full => self.left_out += 1,
            None => drop(self.counts.insert(key, value)),
        }
    }

    fn told(self) -> Told {
        let counts = self.counts.into_iter();
        let counts = counts
            .map(|((session, name, series), value)| Count { session, name, series, value })
            .collect();
        Told { counts, left_out: self.left_out }
    }
}

/// What a number may be about: a name, and no text.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(known)
}

/// An attribute, that of the number itself before that of its sender.
fn text<'a>(about: [&'a Vec<KeyValue>; 2], name: &str) -> Option<&'a str> {
    let of = |attributes: &'a Vec<KeyValue>| {
        let found = attributes.iter().find(|attribute| attribute.key == name)?;
        found.value.as_ref()?.string_value.as_deref()
    };
    about.into_iter().find_map(of)
}

/// Which row of growing numbers one belongs to: by its name, all that is said of it, and when it began at nothing.
fn series(name: &str, point: &NumberPoint, resource: &[KeyValue]) -> i64 {
    let mut said: Vec<Vec<u8>> =
        point.attributes.iter().chain(resource).map(Message::encode_to_vec).collect();
    said.sort();
    let mut hash = Sha256::new();
    hash.update(point.start.to_le_bytes());
    for part in std::iter::once(name.as_bytes()).chain(said.iter().map(Vec::as_slice)) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_first_chunk::<8>().expect("SHA-256 has more");
    // Never 0, which is another thing.
    i64::from_le_bytes(*first) & i64::MAX | 1
}

#[expect(clippy::cast_precision_loss, reason = "what is told this way is small")]
fn approximate(count: i64) -> f64 {
    count as f64
}

/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: i32 = 1;

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metrics {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeMetrics {
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "7")]
    sum: Option<Sum>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    data_points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    #[serde(rename = "aggregationTemporality", deserialize_with = "temporality")]
    temporality: i32,
    #[prost(bool, tag = "3")]
    is_monotonic: bool,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NumberPoint {
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "2")]
    #[serde(rename = "startTimeUnixNano", deserialize_with = "number")]
    start: u64,
    #[prost(double, optional, tag = "4")]
    #[serde(deserialize_with = "some_number")]
    as_double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(deserialize_with = "some_number")]
    as_int: Option<i64>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Logs {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogRecord {
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(string, tag = "12")]
    event_name: String,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spans {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Span {
    #[prost(string, tag = "5")]
    name: String,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceAnswer {
    #[prost(message, optional, tag = "1")]
    partial: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

static NOTHING: Vec<KeyValue> = Vec::new();

macro_rules! sent_by {
    ($($group:ty),*) => {
        $(impl $group {
            /// What is said of its sender.
            fn resource(&self) -> &Vec<KeyValue> {
                self.resource.as_ref().map_or(&NOTHING, |resource| &resource.attributes)
            }
        })*
    };
}

sent_by!(ResourceMetrics, ResourceLogs, ResourceSpans);

/// A number as JSON has it here: itself, or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonNumber<N> {
    Number(N),
    Text(String),
}

impl<N: std::str::FromStr> JsonNumber<N> {
    fn read<E: serde::de::Error>(self) -> Result<N, E> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Text(text) => text.parse().map_err(|_| E::custom("a text that is no number")),
        }
    }
}

fn number<'de, D, N>(from: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: std::str::FromStr + Deserialize<'de>,
{
    JsonNumber::deserialize(from)?.read()
}

fn some_number<'de, D, N>(from: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: std::str::FromStr + Deserialize<'de>,
{
    Option::<JsonNumber<N>>::deserialize(from)?.map(JsonNumber::read).transpose()
}

/// A number, or its name.
fn temporality<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    Ok(match JsonNumber::<i32>::deserialize(from)? {
        JsonNumber::Number(number) => number,
        JsonNumber::Text(name) if name == "AGGREGATION_TEMPORALITY_DELTA" => DELTA,
        JsonNumber::Text(_) => 0,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(session: &str, name: &str, value: f64) -> Count {
        Count { session: session.into(), name: name.into(), series: 0, value }
    }

    fn attributes(pairs: &[(&str, &str)]) -> serde_json::Value {
        pairs
            .iter()
            .map(|(key, text)| json!({"key": key, "value": {"stringValue": text}}))
            .collect()
    }

    fn read_json(signal: Signal, body: &serde_json::Value) -> Told {
        read(signal, Encoding::Json, body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn sums_are_told_by_session_and_kind() {
        let point = |pairs: &[(&str, &str)], value: serde_json::Value| {
            let mut point = json!({"attributes": attributes(pairs), "startTimeUnixNano": "1795991689000000000", "timeUnixNano": 5});
            point.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            point
        };
        let s = ("session.id", "s1");
        let body = json!({"resourceMetrics": [{"resource": {"attributes": attributes(&[("service.name", "claude-code")])}, "scopeMetrics": [{"scope": {"name": "x"}, "metrics": [
            {"name": "claude_code.lines_of_code.count", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
                point(&[s, ("type", "added")], json!({"asInt": "120"})),
                point(&[s, ("type", "added"), ("user.email", "a@b")], json!({"asDouble": 3})),
                point(&[s, ("type", "removed")], json!({"asInt": 7}))]}},
            {"name": "claude_code.code_edit_tool.decision", "sum": {"aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA", "isMonotonic": true, "dataPoints": [
                point(&[s, ("decision", "accept")], json!({"asDouble": 1.0}))]}},
            {"name": "claude_code.level", "gauge": {"dataPoints": [point(&[s], json!({"asDouble": 4.0}))]}},
            {"name": "claude_code.up_and_down", "sum": {"aggregationTemporality": 1, "dataPoints": [point(&[s], json!({"asDouble": 4.0}))]}},
            {"name": "my secret plan", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point(&[s], json!({"asDouble": 1.0}))]}}
        ]}]}]});
        let told = read_json(Signal::Metrics, &body);
        let expected = [
            count("s1", "claude_code.code_edit_tool.decision accept", 1.0),
            count("s1", "claude_code.lines_of_code.count added", 123.0),
            count("s1", "claude_code.lines_of_code.count removed", 7.0),
        ];
        assert_eq!(told, Told { counts: expected.into(), left_out: 1 });
    }

    #[test]
    fn what_grows_is_a_row_of_its_own_and_its_largest_number_counts() {
        let body = |value: i64, start: u64, model: &str| {
            json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "n", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [
                {"attributes": attributes(&[("session.id", "s"), ("model", model)]), "startTimeUnixNano": start, "asInt": value}]}}]}]}]})
        };
        let of =
            |value, start, model| read_json(Signal::Metrics, &body(value, start, model)).counts;
        let (first, later) = (of(3, 1, "a"), of(9, 1, "a"));
        assert!(first[0].series > 0 && first[0].series == later[0].series, "{first:?} {later:?}");
        assert_eq!((first[0].value, later[0].value), (3.0, 9.0));
        for other in [of(3, 2, "a"), of(3, 1, "b")] {
            assert_ne!(other[0].series, first[0].series);
        }
    }

    #[test]
    fn events_and_spans_are_counted_by_name_and_never_by_text() {
        let logs = json!({"resourceLogs": [{"resource": {"attributes": attributes(&[("session.id", "s2")])}, "scopeLogs": [{"logRecords": [
            {"body": {"stringValue": "claude_code.user_prompt"}, "attributes": attributes(&[("event.name", "user_prompt"), ("prompt", "hush")])},
            {"body": {"stringValue": "claude_code.api_request"}},
            {"eventName": "claude_code.tool_result", "body": {"kvlistValue": {}}},
            {"body": {"stringValue": "what a person wrote"}},
            {"body": {"stringValue": "/home/ann/merger-with-acme.txt"}},
            {"eventName": "a", "attributes": attributes(&[("type", "secret-word"), ("session.id", "not a name")])}
        ]}]}]});
        let names = ["claude_code.api_request", "claude_code.tool_result", "user_prompt"];
        let told = read_json(Signal::Logs, &logs);
        let mut expected = vec![count("", "a", 1.0)];
        expected.extend(names.map(|name| count("s2", name, 1.0)));
        assert_eq!(told, Told { counts: expected, left_out: 2 });
        let spans = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "claude_code.llm_request"}, {"name": "claude_code.llm_request"}]}]}]});
        let told = read_json(Signal::Traces, &spans);
        assert_eq!(told.counts, [count("", "claude_code.llm_request", 2.0)]);
    }

    #[test]
    fn protobuf_says_the_same_as_json() {
        let value = |text: &str| Some(AnyValue { string_value: Some(text.into()) });
        let attribute = |key: &str, text: &str| KeyValue { key: key.into(), value: value(text) };
        let point = NumberPoint {
            attributes: vec![attribute("session.id", "s"), attribute("type", "added")],
            start: 1,
            as_double: None,
            as_int: Some(5),
        };
        let sum =
            |temporality| Sum { data_points: vec![point.clone()], temporality, is_monotonic: true };
        let metrics =
            [1, 2].map(|temporality| Metric { name: "n".into(), sum: Some(sum(temporality)) });
        let scope = ScopeMetrics { metrics: metrics.into() };
        let group = ResourceMetrics { resource: None, scope_metrics: vec![scope] };
        let body = Metrics { resource_metrics: vec![group] }.encode_to_vec();
        let told = read(Signal::Metrics, Encoding::Protobuf, &body).unwrap();
        let json = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "n", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [{"attributes": attributes(&[("session.id", "s"), ("type", "added")]), "startTimeUnixNano": "1", "asInt": "5"}]}},
            {"name": "n", "sum": {"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{"attributes": attributes(&[("type", "added"), ("session.id", "s")]), "startTimeUnixNano": "1", "asInt": "5"}]}}
        ]}]}]});
        assert_eq!(told, read_json(Signal::Metrics, &json));
        assert_eq!(told.counts.len(), 2);
        // Cut anywhere, it is an error or less, and nothing else.
        for cut in 0..body.len() {
            let _less = read(Signal::Metrics, Encoding::Protobuf, &body[..cut]);
        }
        assert!(read(Signal::Metrics, Encoding::Protobuf, b"{}").is_err());
        assert!(read(Signal::Logs, Encoding::Json, b"[1]").is_err());
    }

    #[test]
    fn what_is_beyond_a_body_s_share_is_said() {
        let records: Vec<_> =
            (0..MOST + 5).map(|index| json!({"eventName": format!("e{index}")})).collect();
        let body = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]});
        let told = read_json(Signal::Logs, &body);
        assert_eq!((told.counts.len(), told.left_out), (MOST, 5));
        let said = answer(Signal::Logs, Encoding::Json, 5);
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(said["partialSuccess"]["rejectedLogRecords"], "5");
        let packed = answer(Signal::Logs, Encoding::Protobuf, 5);
        assert_eq!(ServiceAnswer::decode(&*packed).unwrap().partial.unwrap().rejected, 5);
        assert_eq!(answer(Signal::Metrics, Encoding::Protobuf, 0), b"");
    }
}
