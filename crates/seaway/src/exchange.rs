//! The heart: one request, from parsed to finished.

mod belonging;
mod budget;
mod egress;
mod gather;
mod keep;
mod pipe;
mod prepare;
mod respond;
mod silence;
mod spill;
mod watch;

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use seaway_wire::messages::Change;
use seaway_wire::{Dialect, Endpoint, Request, chat, responses};

use budget::OverBudget;
use pipe::{AwaitedAnswer, Surroundings};
use prepare::Prepared;
use spill::Spill;
use watch::ExchangeWatch;

pub use pipe::{Answer, Pipe};

use crate::account::Standing;
use crate::auth::Caller;
use crate::causes::chain;
use crate::config::{Config, Preset};
use crate::fault::{Fault, FaultKind};
use crate::ledger::{Ledger, Opening};
use crate::memory::Held;
use crate::record::{Asker, Carried};
use crate::route;
use crate::snapshot::Snapshot;
use crate::state::AppState;
use crate::store::{Keeper, Store};
use crate::upstream::gate::Permit;
use crate::upstream::{Call, Payload, Reply, ReplyBody, Target, Upstream, read_whole};
use crate::{drain, headers};

/// What a client asks.
#[derive(Debug)]
pub struct ClientRequest {
    pub caller: Caller,
    pub endpoint: Endpoint,
    /// As the client sent them.
    pub headers: HeaderMap,
    pub query: Option<String>,
    pub preset: Option<String>,
    pub body: Bytes,
    /// The memory that the body takes.
    pub held: Held,
}

/// Serves a request, in whatever dialect its endpoint has. Dropped, as it is when the client leaves, it stops the work
/// upstream, and the record says so.
pub async fn run(state: Arc<AppState>, snapshot: Arc<Snapshot>, client: ClientRequest) -> Answer {
    // What will be recorded must have room; nearly always it has.
    state.ledger.store().room().await;
    let body = client.body.clone();
    let request = Request::parse(&body);
    let known = request.as_ref().ok();
    let standing = state.ledger.accounts().of(&client.caller.0);
    let entry = state.ledger.open(Opening {
        team: standing.as_ref().and_then(Standing::team_name),
        caller: client.caller.clone(),
        dialect: client.endpoint.dialect(),
        endpoint: client.endpoint.name(),
        asked: known.and_then(|request| request.model.as_deref()).unwrap_or_default().to_owned(),
        stream: known.is_some_and(|request| request.stream),
        asker: asker(&client, known),
        prices: snapshot.config.prices.clone(),
    });
    let watch = ExchangeWatch::client_body(entry, &client.body);
    let mut exchange = Exchange { state, snapshot, client, watch, standing, over_budget: None };
    let answered = match (exchange.state.ledger.may_record(), request) {
        (Ok(()), Ok(request)) => exchange.ask(&request).await,
        (Ok(()), Err(fault)) => Err(fault.into_kind()),
        (Err(fault), _) => Err(fault),
    };
    exchange.answer(answered).begun().await
}

/// Who asks, by what the client says in its headers, or in the members that are meant for that.
fn asker(client: &ClientRequest, request: Option<&Request<'_>>) -> Asker {
    let mut asker = headers::asker(&client.headers);
    if asker.session.is_none()
        && client.endpoint.dialect() != Dialect::Messages
        && let Some(key) = request.and_then(|request| request.object.get("prompt_cache_key"))
    {
        asker.session = key.as_str().map(|key| key.chars().take(128).collect());
    }
    asker
}

/// A request that is sent on as it comes.
pub struct RelayedRequest {
    pub caller: Caller,
    pub method: Method,
    pub target: Target,
    pub query: Option<String>,
    /// As the client sent them.
    pub headers: HeaderMap,
    /// The body, or the fault that reading it was.
    pub body: Result<Payload, Fault>,
    /// The memory that it takes.
    pub held: Held,
}

/// Sends a request on that is not looked into: batches, files, what else the API has, and responses
/// that the upstream keeps. Dropped, it does as [`run`].
pub async fn relay(
    state: Arc<AppState>,
    snapshot: Arc<Snapshot>,
    request: RelayedRequest,
) -> Answer {
    let RelayedRequest { caller, method, target, query, headers, body, held } = request;
    let endpoint = target.family().unwrap_or(Endpoint::Messages);
    state.ledger.store().room().await;
    let standing = state.ledger.accounts().of(&caller.0);
    let entry = state.ledger.open(Opening {
        team: standing.as_ref().and_then(Standing::team_name),
        caller: caller.clone(),
        dialect: endpoint.dialect(),
        endpoint: name_of(&target),
        asked: String::new(),
        stream: false,
        asker: headers::asker(&headers),
        prices: snapshot.config.prices.clone(),
    });
    let client = ClientRequest {
        caller,
        endpoint,
        headers,
        query: None,
        preset: None,
        body: Bytes::new(),
        held,
    };
    let watch = ExchangeWatch::client_body(entry, &client.body);
    let mut exchange = Exchange { state, snapshot, client, watch, standing, over_budget: None };
    let answered = match exchange.state.ledger.may_record().and(body) {
        Ok(body) => exchange.ask_holder(method, target, query, body).await,
        Err(fault) => Err(fault),
    };
    exchange.answer(answered).begun().await
}

/// The name under which what is not looked into is recorded.
fn name_of(target: &Target) -> &'static str {
    match (target.family(), target) {
        (Some(endpoint), _) => endpoint.name(),
        (None, Target::Other(path)) if path.starts_with("/v1/skills") => "skills",
        (None, _) => "other",
    }
}

/// What is deleted is nowhere. The client does not wait for that.
async fn forget(store: Store, id: String) {
    if let Err(error) = store.forget_made(&id).await {
        tracing::warn!(id, error = chain(&error), "where something was is still remembered");
    }
}

/// True for a path that could lead out of what it stands below, also where a dot or a slash is only meant: who reads it
/// next may take it for one. No id of the API has any.
fn climbs(path: &str) -> bool {
    // The last two begin a dot or a slash that is written too long.
    const MEANT: [&str; 6] = ["%2e", "%2f", "%5c", "%25", "%c0", "%c1"];
    let path = path.to_ascii_lowercase();
    // What stands behind a semicolon is no part of a name to some.
    let mut names = path.split(['/', '\\']).map(|segment| segment.split(';').next());
    names.any(|name| matches!(name, Some("." | "..")))
        || MEANT.iter().any(|meant| path.contains(meant))
}

/// What makes something is sent once: a second time would make it twice.
fn once(bytes: Bytes) -> Payload {
    Payload::Streamed(Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

/// The model of a request.
#[derive(Clone, Copy)]
struct Model<'m> {
    asked: &'m str,
    /// The target of an alias.
    alias: Option<&'m str>,
    /// The client named none.
    from_default: bool,
    /// Why another is asked for than the client named.
    spilled: Option<&'static str>,
}

/// One request on its way.
struct Exchange {
    state: Arc<AppState>,
    snapshot: Arc<Snapshot>,
    client: ClientRequest,
    watch: ExchangeWatch,
    /// What is set for the caller.
    standing: Option<Standing>,
    /// Why it was refused, if that was for its budget.
    over_budget: Option<OverBudget>,
}

struct Answered {
    reply: Reply,
    upstream: Arc<Upstream>,
    plan: AnswerPlan,
}

/// How the client is to get its answer.
#[derive(Debug)]
enum AnswerPlan {
    Relayed(RelayForm),
    /// A list, of which the client sees these entries.
    Listed(HashSet<String>),
    /// Translated from Messages into Chat.
    Chat {
        shape: chat::ChatShape,
        stream: bool,
    },
    /// Translated from Messages into Responses.
    Responses {
        shape: Box<responses::ResponsesShape>,
        stream: bool,
        /// By which it is known; `None` where nothing of it is kept.
        keeper: Option<Keeper>,
        id: String,
    },
    /// A count of tokens, told in Responses.
    Counted,
}

/// What a relayed answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RelayForm {
    Events,
    Json,
    /// A whole message, from an answer that we had streamed.
    Folded,
    Opaque,
    /// As it comes, after the place of the new file or batch is kept.
    Created,
}

/// An answer that may not have begun, and what its head is to say of budgets.
struct PendingAnswer {
    responded: Result<AwaitedAnswer, Answer>,
    standing: Option<Standing>,
    over_budget: Option<OverBudget>,
    ledger: Arc<Ledger>,
}

impl PendingAnswer {
    async fn begun(self) -> Answer {
        let mut answer = match self.responded {
            Ok(awaited) => awaited.begun().await,
            Err(answer) => answer,
        };
        if let Some(standing) = self.standing {
            let (headers, accounts) = (&mut answer.head.headers, self.ledger.accounts());
            budget::tell(headers, accounts, &standing, self.over_budget.as_ref());
        }
        answer
    }
}

impl Exchange {
    /// What the client gets, as far as nothing has to be waited for.
    fn answer(mut self, answered: Result<Answered, Fault>) -> PendingAnswer {
        let messages = self.client.endpoint.dialect() == Dialect::Messages;
        let standing = self.standing.take().filter(|_| messages);
        let (over_budget, ledger) = (self.over_budget.take(), self.state.ledger.clone());
        let responded = match answered {
            Ok(answered) => self.respond(answered),
            Err(fault) => Err(self.fault(&fault)),
        };
        PendingAnswer { responded, standing, over_budget, ledger }
    }

    /// Asks for the client's model, or for what takes its place near a cap and at it.
    async fn ask(&mut self, request: &Request<'_>) -> Result<Answered, Fault> {
        let snapshot = self.snapshot.clone();
        let asked = match (&request.model, &snapshot.config.default_model) {
            (Some(model), _) => model.as_ref(),
            (None, Some(model)) => model.as_str(),
            (None, None) => return Err(no_model()),
        };
        if let Some(spill) = self.near(asked) {
            match Box::pin(self.ask_upstreams(request, asked, Some(&spill))).await {
                // What the client wants is asked where the other cannot be, or does not want.
                Err(fault) if is_of_nobody(&fault) => self.over_budget = None,
                Ok(answered) if refuses(answered.reply.status) => {}
                answered => return answered,
            }
        }
        let answered = Box::pin(self.ask_upstreams(request, asked, None)).await;
        let fault = answered.as_ref().err();
        let Some(spill) = fault.and_then(|fault| self.at_cap(asked, fault)) else {
            return answered;
        };
        let over_budget = self.over_budget.take();
        match Box::pin(self.ask_upstreams(request, asked, Some(&spill))).await {
            Err(fault) if is_of_nobody(&fault) => {
                self.over_budget = over_budget;
                answered
            }
            spilled => spilled,
        }
    }

    /// Asks the upstream that a request belongs to which is not looked into.
    async fn ask_holder(
        &mut self,
        method: Method,
        target: Target,
        query: Option<String>,
        body: Payload,
    ) -> Result<Answered, Fault> {
        let path = target.to_string();
        if climbs(&path) || (belonging::is_made(&target) && path.contains('%')) {
            let message = "the path climbs out of the API, or may for who reads it next; write it without `..` and without dots, slashes or percent signs in `%` form";
            return Err(Fault::new(FaultKind::InvalidRequest, message));
        }
        self.may_relay(&method, &target)?;
        self.hold_unseen().await?;
        let store = self.state.ledger.store().clone();
        let (batch, body) = match body {
            Payload::Whole(bytes) if !bytes.is_empty() => (Some(bytes.clone()), once(bytes)),
            body => (None, body),
        };
        let batch = batch.as_deref();
        let caller = &self.client.caller;
        let shared = belonging::is_shared(&self.snapshot, caller);
        let upstream =
            belonging::upstream_of(&self.snapshot, &store, &target, caller, batch).await?;
        self.may_use(&upstream)?;
        let own = if shared && belonging::lists(&method, &target) {
            Some(store.made_for(&caller.0).await?)
        } else {
            None
        };
        let created = belonging::makes(&method, &target);
        let deleted = target
            .id()
            .filter(|_| method == Method::DELETE && belonging::is_whole(&target))
            .map(str::to_owned);
        let headers = self.headers_for(&upstream);
        let owner = self.client.caller.0.clone();
        let live = Some(self.watch.entry.live());
        let call = Call { method, target, query, headers, body, owner, session: None, live };
        self.watch.entry.goes_to(&upstream.name);
        let reply = self.call(&upstream, call).await?;
        if let Some(id) = deleted.filter(|_| reply.status.is_success()) {
            self.state.tasks.spawn(forget(store, id));
        }
        let plan = match own {
            Some(own) => AnswerPlan::Listed(own),
            None if created => AnswerPlan::Relayed(RelayForm::Created),
            None => AnswerPlan::Relayed(RelayForm::Opaque),
        };
        Ok(Answered { reply, upstream, plan })
    }

    /// Asks one target after the other until one can serve.
    async fn ask_upstreams(
        &mut self,
        request: &Request<'_>,
        asked: &str,
        spill: Option<&Spill>,
    ) -> Result<Answered, Fault> {
        let snapshot = self.snapshot.clone();
        let preset = self.preset(&snapshot)?;
        let other = spill.and_then(|spill| Some((spill.reason, spill.model.as_deref()?)));
        let asked = other.map_or(asked, |(_, model)| model);
        let model = Model {
            asked,
            alias: route::alias(&snapshot.config.aliases, asked),
            from_default: other.is_none() && request.model.is_none(),
            spilled: other.map(|(reason, _)| reason),
        };
        let (mut targets, spared) = spill::targets(&snapshot, &model, spill);
        let (store, body) = (self.state.ledger.store(), &self.client.body);
        belonging::check_files(&snapshot, store, &self.client.caller, body).await?;
        belonging::holder_first(store, body, &mut targets).await;
        let mut targets = targets.into_iter();
        let (mut refused, mut best) = (None, None::<Attempt>);
        let mut next = self.next(&mut targets, request, preset, model, &mut refused).await;
        while let Some((upstream, prepared)) = next {
            let body = match &prepared.call.body {
                Payload::Whole(bytes) => bytes.clone(),
                Payload::Streamed(_) => Bytes::new(),
            };
            let wanted = prepared.wanted.clone();
            let models = [wanted.as_deref().unwrap_or(asked), asked];
            if let Err(fault) = self.hold(upstream, &body, request, models).await {
                // What was answered before is told, if anything was.
                refused = Some(fault);
                break;
            }
            let Prepared { call, plan, wanted, mut changes } = prepared;
            changes.extend(spill::moved(upstream, spill, spared));
            self.watch.entry.prepared(wanted.clone(), changes.clone());
            self.watch.entry.goes_to(&upstream.name);
            let result = self.call(upstream, call).await;
            let bodies = self.watch.entry.bodies();
            let upstream = upstream.clone();
            let mut attempt = Attempt { result, upstream, plan, wanted, changes, bodies };
            next = match attempt.rank() {
                AnswerRank::Final => return attempt.told(),
                _ => self.next(&mut targets, request, preset, model, &mut refused).await,
            };
            if next.is_some() {
                attempt.log();
                attempt.settle().await;
            }
            best = Some(match best {
                Some(earlier) if earlier.rank() >= attempt.rank() => earlier,
                _ => attempt,
            });
        }
        let Some(best) = best else {
            return Err(refused.unwrap_or_else(|| no_upstream(&self.snapshot.config)));
        };
        // What is told is not that another would have been too dear.
        self.over_budget = None;
        self.watch.entry.prepared(best.wanted.clone(), best.changes.clone());
        self.watch.entry.goes_to(&best.upstream.name);
        self.watch.entry.carried(best.bodies);
        best.told()
    }

    /// Prepares a call of the next upstream that can be asked. The first one's refusal is kept: it
    /// is told if nobody can.
    async fn next<'u>(
        &self,
        targets: &mut std::vec::IntoIter<&'u Arc<Upstream>>,
        request: &Request<'_>,
        preset: Option<&Preset>,
        model: Model<'_>,
        refused: &mut Option<Fault>,
    ) -> Option<(&'u Arc<Upstream>, Prepared)> {
        for upstream in targets {
            let wanted = model.alias.unwrap_or(model.asked);
            let newest = match self.newest(upstream, wanted).await {
                Ok(newest) => newest,
                Err(fault) => {
                    *refused = refused.take().or(Some(fault));
                    continue;
                }
            };
            let instead = match newest {
                Some(newest) => Some(("alias", newest)),
                None if let Some(listed) = self.listed(upstream, wanted).await => {
                    Some((if model.alias.is_some() { "alias" } else { "match_models" }, listed))
                }
                None if model.from_default => Some(("model.default", wanted.to_owned())),
                None => model.alias.map(|target| ("alias", target.to_owned())),
            };
            let instead = match instead {
                Some((reason, name)) => Some((model.spilled.unwrap_or(reason), name)),
                None => model.spilled.map(|reason| (reason, wanted.to_owned())),
            };
            let meant = instead.as_ref().map_or(wanted, |(_, name)| name.as_str());
            if let Err(fault) = self.may(upstream, model.asked, meant) {
                *refused = refused.take().or(Some(fault));
                continue;
            }
            match self.prepare(upstream, request, preset, instead).await {
                Ok(prepared) => return Some((upstream, prepared)),
                Err(fault) => *refused = refused.take().or(Some(fault)),
            }
        }
        None
    }

    fn preset<'r>(&self, snapshot: &'r Snapshot) -> Result<Option<&'r Preset>, Fault> {
        let Some(name) = &self.client.preset else { return Ok(None) };
        let presets = &snapshot.config.presets;
        let found = presets.iter().find(|preset| preset.name == *name);
        let unknown = || {
            let names: Vec<String> =
                presets.iter().map(|preset| format!("`{}`", preset.name)).collect();
            Fault::new(
                FaultKind::NotFound,
                format!("unknown preset `{name}`; there are {}", names.join(", ")),
            )
        };
        found.map(Some).ok_or_else(unknown)
    }

    /// What of the client's headers an upstream gets.
    fn headers_for(&self, upstream: &Upstream) -> HeaderMap {
        headers::to_upstream(
            &self.client.headers,
            &self.snapshot.keyring,
            upstream.passes_credentials(),
        )
    }

    /// `opus` and its like stand for the newest that the upstream lists.
    async fn newest(&self, upstream: &Arc<Upstream>, asked: &str) -> Result<Option<String>, Fault> {
        if !route::FAMILIES.contains(&asked) {
            return Ok(None);
        }
        let headers = self.headers_for(upstream);
        Ok(Some(self.snapshot.catalog.newest(upstream, &headers, asked).await?))
    }

    /// The upstream's own way to write a model's name, if it lists one and that is asked for.
    async fn listed(&self, upstream: &Arc<Upstream>, asked: &str) -> Option<String> {
        if !upstream.setting.match_models {
            return None;
        }
        let headers = self.headers_for(upstream);
        self.snapshot
            .catalog
            .listed(upstream, &headers, asked)
            .await
            .filter(|listed| listed != asked)
    }

    /// Calls an upstream. What the receipt says of bodies is made while it thinks.
    async fn call(&mut self, upstream: &Upstream, call: Call) -> Result<Reply, Fault> {
        // The program is told what is asked, not sent these bytes.
        self.watch.upstream_request(&call.body, upstream.program().is_none());
        // Where they are made, they stay: they are large.
        let (mut asked, mut cut) = (pin!(upstream.call(call)), pin!(self.state.drain.wait_cut()));
        let (watch, always) = (&mut self.watch, self.snapshot.config.receipts_always);
        let mut seen = false;
        let asked = poll_fn(|cx| {
            let polled = asked.as_mut().poll(cx).map(Some);
            if !std::mem::replace(&mut seen, true) {
                watch.compare(always);
            }
            if polled.is_pending() { cut.as_mut().poll(cx).map(|()| None) } else { polled }
        });
        match asked.await {
            Some(Ok(reply)) => {
                self.watch.entry.attempted(reply.attempts, true);
                Ok(reply)
            }
            Some(Err(error)) => {
                self.watch.entry.attempted(
                    error.attempts,
                    matches!(error.kind, FaultKind::TimedOut | FaultKind::BadReply),
                );
                Err(error.into())
            }
            None => Err(drain::fault()),
        }
    }

    fn fault(self, fault: &Fault) -> Answer {
        let around = self.around();
        Answer::of_fault(self.watch, around, self.client.endpoint.dialect(), fault)
    }

    fn around(&self) -> Surroundings {
        Surroundings {
            drain: self.state.drain.clone(),
            tasks: self.state.tasks.clone(),
            synced: self.state.ledger.store().is_synced(),
        }
    }
}

/// So much of an error is kept while another upstream is asked, in bytes, and so long it may take.
const ERROR_KEPT: usize = 1 << 20;
const ERROR_PATIENCE: Duration = Duration::from_secs(2);

/// What came of asking one upstream.
struct Attempt {
    result: Result<Reply, Fault>,
    upstream: Arc<Upstream>,
    plan: AnswerPlan,
    wanted: Option<String>,
    changes: Vec<Change>,
    bodies: Carried,
}

/// What an answer is worth to a client when another upstream may have a better one, from the least on. Of equals the
/// first is told: it is of the upstream that was wanted most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum AnswerRank {
    /// It cannot be reached, or not be used yet.
    Nobody,
    /// It was asked and said nothing in time.
    Silence,
    /// It is busy, and says so itself or by our queue.
    Busy,
    /// It is busy, and names the time of the next try.
    Later,
    /// No other could answer better.
    Final,
}

impl Attempt {
    fn rank(&self) -> AnswerRank {
        match &self.result {
            Ok(reply) if !matches!(reply.status.as_u16(), 429 | 502 | 503 | 504 | 529) => {
                AnswerRank::Final
            }
            Ok(reply) if reply.headers.contains_key(RETRY_AFTER) => AnswerRank::Later,
            Ok(_) => AnswerRank::Busy,
            Err(fault) => match fault.kind {
                FaultKind::Unreachable | FaultKind::NotReady => AnswerRank::Nobody,
                FaultKind::TimedOut => AnswerRank::Silence,
                FaultKind::RateLimited => AnswerRank::Busy,
                _ => AnswerRank::Final,
            },
        }
    }

    /// Takes in what was answered, so that nothing of this upstream is held while another is asked. What does not come
    /// soon is as good as none.
    async fn settle(&mut self) {
        let Ok(reply) = &mut self.result else { return };
        reply.permit = Permit::free();
        let body = std::mem::replace(&mut reply.body, ReplyBody::whole(""));
        let read = read_whole(body, ERROR_KEPT, Some(ERROR_PATIENCE));
        if let Ok(Ok(whole)) = tokio::time::timeout(ERROR_PATIENCE, read).await {
            reply.body = ReplyBody::whole(whole);
        } else {
            let status = reply.status.as_u16();
            let message = format!("the upstream's error (status {status}) was cut off");
            self.result = Err(Fault::new(FaultKind::Unreachable, message));
        }
    }

    fn told(self) -> Result<Answered, Fault> {
        let Self { result, upstream, plan, .. } = self;
        result.map(|reply| Answered { reply, upstream, plan })
    }

    fn log(&self) {
        let upstream = &self.upstream.name;
        match &self.result {
            Ok(reply) => {
                tracing::warn!(%upstream, status = reply.status.as_u16(), "trying the next upstream");
            }
            Err(fault) => tracing::warn!(%upstream, %fault, "trying the next upstream"),
        }
    }
}

/// True where no upstream has done anything.
fn is_of_nobody(fault: &Fault) -> bool {
    use FaultKind::{BadReply, Draining, StoreDown, TimedOut};
    !matches!(fault.kind, TimedOut | BadReply | StoreDown | Draining)
}

/// True for an answer by which an upstream says that it does not serve this, or not now.
fn refuses(status: StatusCode) -> bool {
    matches!(status.as_u16(), 403 | 404 | 429 | 502 | 503 | 504 | 529)
}

fn no_model() -> Fault {
    Fault::new(FaultKind::InvalidRequest, "model: field required").param("model")
}

fn no_upstream(config: &Config) -> Fault {
    let message = match &config.idle_login {
        Some(login) => format!(
            "there is no upstream yet: a login of Claude Code's lies at {}, but the program, which alone may use it, is not installed; install it (`npm install -g @anthropic-ai/claude-code`), or set ANTHROPIC_API_KEY",
            login.display()
        ),
        None => "there is no upstream yet; set ANTHROPIC_API_KEY, install Claude Code for a plan, configure an [upstream.NAME], or try `seaway demo`".to_owned(),
    };
    Fault::new(FaultKind::NotReady, message)
}
