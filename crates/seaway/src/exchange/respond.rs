//! How an upstream's reply becomes the client's answer.

use std::collections::HashSet;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use seaway_wire::event::FromSse;
use seaway_wire::{Dialect, Meter, chat, responses};

use super::egress::Egress;
use super::gather::{ErrorInstead, Gather, Made};
use super::pipe::{Answer, AwaitedAnswer, Pipe, UpstreamAnswer};
use super::silence::Patience;
use super::{AnswerPlan, Answered, Exchange, RelayForm};
use crate::answer::{self, Head};
use crate::fault::{Fault, FaultKind};
use crate::headers;
use crate::store::{Keeper, MadeAt};
use crate::upstream::{Reply, Upstream};

/// How long the head of an answer waits for its beginning, so that an error that comes in its place can have a status, if
/// no other limit is set.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
/// The least of it: an error that comes in place of the first event still has a status then.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// How an answer is carried.
struct Carriage {
    egress: Egress,
    keeper: Option<Keeper>,
    /// An event stream, which may get signs of life.
    pings: bool,
    /// Its head waits until it is whole, however long that takes.
    waits: bool,
}

impl Carriage {
    fn of(egress: Egress) -> Self {
        let waits = matches!(egress, Egress::Gather(_));
        Self { egress, keeper: None, pings: false, waits }
    }
}

impl Exchange {
    /// What the client gets of what an upstream answered; at once where that is a fault.
    pub(super) fn respond(mut self, answered: Answered) -> Result<AwaitedAnswer, Answer> {
        let Answered { reply, upstream, plan } = answered;
        self.watch.answered();
        let mut head = Head {
            status: reply.status,
            headers: headers::to_client(&reply.headers, upstream.is_simulated()),
        };
        let request_id = answer::identify(&mut head.headers, self.watch.entry.id());
        self.watch.entry.changed(&reply.changes);
        answer::note(&mut head.headers, self.watch.entry.changes());
        self.watch.entry.known_as(&request_id);
        if reply.status == StatusCode::UNAUTHORIZED && !upstream.passes_credentials() {
            // Our credential was refused: the client cannot mend that by asking again.
            head.headers.entry("x-should-retry").or_insert(HeaderValue::from_static("false"));
        }
        // Who follows it would take the prompt and the local key along.
        head.headers.remove(LOCATION);
        let mut carriage = match self.carriage(plan, &reply, &mut head, &upstream) {
            Ok(carriage) => carriage,
            Err(fault) => return Err(self.fault(&fault)),
        };
        if let Egress::Gather(gather) = &mut carriage.egress {
            gather.within(self.state.answers.clone());
        }
        let patience = (!carriage.waits).then(|| self.head_patience());
        let silence = Patience {
            ping: carriage.pings.then_some(self.snapshot.config.ping),
            idle: upstream.idle_timeout(),
        };
        let answer = UpstreamAnswer {
            body: reply.body,
            egress: carriage.egress,
            keeper: carriage.keeper,
            patience: silence,
            permit: reply.permit,
        };
        let (around, dialect) = (self.around(), self.client.endpoint.dialect());
        Ok(AwaitedAnswer { pipe: Pipe::new(answer, self.watch, around), head, dialect, patience })
    }

    /// Chooses by what the client asked and the upstream answered.
    fn carriage(
        &self,
        plan: AnswerPlan,
        reply: &Reply,
        head: &mut Head,
        upstream: &Upstream,
    ) -> Result<Carriage, Fault> {
        if reply.status.is_informational() {
            return Err(Fault::new(
                FaultKind::BadReply,
                "the upstream wants to change the protocol, which nobody asked for",
            ));
        }
        let now = || jiff::Timestamp::now().as_second();
        match plan {
            AnswerPlan::Relayed(RelayForm::Created) => Ok(self.created(reply, head, upstream)),
            AnswerPlan::Relayed(form) => self.relayed_as(form, reply, head),
            AnswerPlan::Listed(own) => self.own_of_list(own, reply, head),
            AnswerPlan::Chat { shape, stream } => {
                let stamp =
                    chat::ChatStamp { id: self.watch.entry.id().to_owned(), created: now() };
                translated(Translation::Chat(shape, stamp), stream, reply, head, upstream)
            }
            AnswerPlan::Responses { shape, stream, keeper, id } => {
                let stamp = responses::ResponsesStamp { id, created: now(), clock: now };
                translated(
                    Translation::Responses(shape, stamp, keeper),
                    stream,
                    reply,
                    head,
                    upstream,
                )
            }
            AnswerPlan::Counted => translated(Translation::Count, false, reply, head, upstream),
        }
    }

    /// In the dialect in which the upstream gave it.
    fn relayed_as(
        &self,
        form: RelayForm,
        reply: &Reply,
        head: &mut Head,
    ) -> Result<Carriage, Fault> {
        let dialect = self.client.endpoint.dialect();
        if form == RelayForm::Opaque {
            return Ok(Carriage::of(Egress::opaque(dialect)));
        }
        let encoded = head.headers.contains_key(CONTENT_ENCODING);
        if !reply.status.is_success() {
            let instead = ErrorInstead {
                status: reply.status,
                dialect,
                request_id: self.watch.entry.request_id().to_owned(),
                legible: !encoded,
            };
            return Ok(Carriage::of(gather(Gather::body(Made::Error(instead)))));
        }
        let kind = kind_of(&head.headers);
        if is_no_message(reply, &kind, form) {
            let message = format!(
                "the upstream answered with status {} and no message; check its `base_url`",
                reply.status.as_u16()
            );
            return Err(Fault::new(FaultKind::BadReply, message));
        }
        if form == RelayForm::Folded && !kind.contains("json") {
            head.status = StatusCode::OK;
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(Carriage::of(gather(Gather::events(Made::Message))));
        }
        let pings = form == RelayForm::Events && !encoded;
        Ok(Carriage { pings, ..Carriage::of(Egress::relay(meter(form, dialect, &kind, encoded))) })
    }

    /// With what it made: where that is, is kept before its client is told.
    fn created(&self, reply: &Reply, head: &Head, upstream: &Upstream) -> Carriage {
        let legible =
            !head.headers.contains_key(CONTENT_ENCODING) && kind_of(&head.headers).contains("json");
        if !reply.status.is_success() || !legible {
            return Carriage::of(Egress::opaque(self.client.endpoint.dialect()));
        }
        let made =
            MadeAt { upstream: upstream.name.to_string(), owner: self.client.caller.0.to_string() };
        let keeper = Keeper::of_made(self.state.ledger.store().clone(), made);
        Carriage { keeper: Some(keeper), ..Carriage::of(gather(Gather::body(Made::Created))) }
    }

    /// A list, of which the client sees what is its own.
    fn own_of_list(
        &self,
        own: HashSet<String>,
        reply: &Reply,
        head: &mut Head,
    ) -> Result<Carriage, Fault> {
        if !reply.status.is_success() {
            return Ok(Carriage::of(Egress::opaque(self.client.endpoint.dialect())));
        }
        if head.headers.contains_key(CONTENT_ENCODING) {
            let message = "the upstream's list is encoded although nobody asked for that";
            return Err(Fault::new(FaultKind::BadReply, message));
        }
        forget_body(&mut head.headers);
        Ok(Carriage::of(gather(Gather::body(Made::Listed(own)))))
    }

    /// How long the head of an answer waits for its beginning. What the client waited for already counts.
    fn head_patience(&self) -> Duration {
        let ping = self.snapshot.config.ping;
        let whole = if ping.is_zero() { HEAD_PATIENCE } else { ping.min(HEAD_PATIENCE) };
        whole.saturating_sub(self.watch.entry.age()).max(whole.min(LEAST_PATIENCE))
    }
}

/// In one of OpenAI's dialects, of an answer in Messages.
fn translated(
    translation: Translation,
    stream: bool,
    reply: &Reply,
    head: &mut Head,
    upstream: &Upstream,
) -> Result<Carriage, Fault> {
    let headers = &mut head.headers;
    let encoded = headers.contains_key(CONTENT_ENCODING);
    headers.remove(CONTENT_ENCODING);
    forget_body(headers);
    headers::add_openai_limits(headers, jiff::Timestamp::now());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !reply.status.is_success() {
        let made = Made::Translated {
            status: reply.status,
            waits: headers.contains_key(RETRY_AFTER),
            own_key: upstream.passes_credentials(),
        };
        return Ok(Carriage::of(gather(Gather::body(made))));
    }
    if encoded {
        return Err(Fault::new(
            FaultKind::BadReply,
            "the upstream's answer is encoded although nobody asked for that; it cannot be read",
        ));
    }
    let kind = kind_of(&reply.headers);
    // Streams that are labelled as something else are known; a page or JSON is none.
    if stream && !kind.contains("json") && !kind.starts_with("text/html") {
        let (egress, keeper) = translation.streamed();
        return Ok(Carriage { keeper, pings: true, ..Carriage::of(egress) });
    }
    head.status = StatusCode::OK;
    let (made, keeper) = if stream {
        let message = format!(
            "the upstream answered with `{kind}` where a stream of events was asked for; check its `base_url`"
        );
        (Made::Nothing(Fault::new(FaultKind::BadReply, message)), None)
    } else {
        translation.whole()
    };
    // The upstream may have been asked for a stream although we were not.
    let gathered =
        if kind.contains("event-stream") { Gather::events(made) } else { Gather::body(made) };
    Ok(Carriage { keeper, ..Carriage::of(gather(gathered)) })
}

/// Takes out what the upstream says of its own body: it is not true of ours.
fn forget_body(headers: &mut HeaderMap) {
    for name in [ETAG, HeaderName::from_static("content-md5"), HeaderName::from_static("digest")] {
        headers.remove(name);
    }
}

fn gather(gather: Gather) -> Egress {
    Egress::Gather(Box::new(gather))
}

/// The client's dialect, and what its answer depends on.
enum Translation {
    Chat(chat::ChatShape, chat::ChatStamp),
    Responses(Box<responses::ResponsesShape>, responses::ResponsesStamp, Option<Keeper>),
    /// A count of tokens, which is never streamed.
    Count,
}

impl Translation {
    fn streamed(self) -> (Egress, Option<Keeper>) {
        match self {
            Self::Chat(shape, stamp) => {
                (Egress::Chat(Box::new(FromSse::new(chat::ChatStream::new(shape, stamp)))), None)
            }
            Self::Responses(shape, stamp, keeper) => (
                Egress::Responses(Box::new(FromSse::new(responses::ResponsesStream::new(
                    *shape, stamp,
                )))),
                keeper,
            ),
            Self::Count => (gather(Gather::body(Made::Count)), None),
        }
    }

    fn whole(self) -> (Made, Option<Keeper>) {
        match self {
            Self::Chat(shape, stamp) => (Made::Chat(shape, stamp), None),
            Self::Responses(shape, stamp, keeper) => (Made::Responses(shape, stamp), keeper),
            Self::Count => (Made::Count, None),
        }
    }
}

/// A web page, a text, nothing at all: whatever answered, it was not the Messages API.
/// Streams that are labelled as something else are known, so for those only a page counts.
fn is_no_message(reply: &Reply, kind: &str, form: RelayForm) -> bool {
    let empty =
        matches!(reply.status.as_u16(), 204 | 205) || reply.body.size_hint().exact() == Some(0);
    let text = kind.starts_with("text/") && !kind.contains("event-stream");
    kind.starts_with("text/html") || (form != RelayForm::Events && (empty || text))
}

/// The type of an answer's body, in lower case.
fn kind_of(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase()
}

/// Chooses by what the answer says it is, and by what was asked for where it says nothing.
fn meter(form: RelayForm, dialect: Dialect, kind: &str, encoded: bool) -> Meter {
    match form {
        RelayForm::Opaque | RelayForm::Created => Meter::opaque(dialect),
        _ if encoded => Meter::opaque(dialect),
        _ if kind.contains("event-stream") => Meter::for_events(dialect),
        _ if kind.contains("json") => Meter::for_json(dialect),
        RelayForm::Events => Meter::for_events(dialect),
        RelayForm::Json | RelayForm::Folded => Meter::for_json(dialect),
    }
}
