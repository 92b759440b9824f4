//! What an upstream is asked: the client's own bytes, edited, or their translation.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use seaway_wire::messages::{Change, Edits};
use seaway_wire::model::ModelTraits;
use seaway_wire::openai::Terms;
use seaway_wire::{Dialect, Endpoint, Request, chat, responses};

use super::{AnswerPlan, Exchange, RelayForm};
use crate::config::Preset;
use crate::fault::Fault;
use crate::headers;
use crate::plan::{self, Mode};
use crate::upstream::{Call, Upstream};

/// The header that names a conversation.
const SESSION: &str = "seaway-session";

/// A call, with the plan for its answer.
pub(super) struct Prepared {
    pub(super) call: Call,
    pub(super) changes: Vec<Change>,
    pub(super) plan: AnswerPlan,
    /// The model that is asked for, where that is not the client's name for it.
    pub(super) wanted: Option<String>,
}

/// A request in Messages, whatever it was before.
struct Spoken {
    body: String,
    changes: Vec<Change>,
    betas: Vec<String>,
    plan: AnswerPlan,
}

/// The model to ask for in place of the client's, with the reason.
type ModelInstead = Option<(&'static str, String)>;

impl Exchange {
    /// Prepares a call from the client's original bytes, so that the next upstream starts from them again.
    pub(super) async fn prepare(
        &self,
        upstream: &Arc<Upstream>,
        request: &Request<'_>,
        preset: Option<&Preset>,
        model: ModelInstead,
    ) -> Result<Prepared, Fault> {
        let endpoint = self.client.endpoint;
        let instead = model.as_ref().map(|(_, model)| model.clone());
        let wanted = instead.as_deref().or(request.model.as_deref()).unwrap_or_default();
        let prepared = match plan::mode(&upstream.setting, endpoint.dialect(), preset, wanted)? {
            Mode::Relay if endpoint.dialect() != Dialect::Messages => self.relayed(
                upstream,
                request,
                &plan::openai_edits(&upstream.setting, model, endpoint.dialect()),
            ),
            Mode::Relay => self.relayed(
                upstream,
                request,
                &plan::edits(&upstream.setting, preset, model, endpoint),
            ),
            Mode::Translate => self.to_messages(upstream, request, preset, model).await?,
        };
        Ok(Prepared { wanted: instead, ..prepared })
    }

    fn relayed(&self, upstream: &Upstream, request: &Request<'_>, edits: &Edits) -> Prepared {
        let form = match (request.stream, edits.force_stream) {
            (true, _) => RelayForm::Events,
            (false, true) => RelayForm::Folded,
            (false, false) => RelayForm::Json,
        };
        let edited = edits.apply(request);
        let body = edited.body.map_or_else(|| self.client.body.clone(), Bytes::from);
        let mut headers = self.headers_for(upstream);
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        if self.client.endpoint.dialect() == Dialect::Messages {
            headers.entry("anthropic-version").or_insert(HeaderValue::from_static("2023-06-01"));
        }
        let call = Call {
            query: self.client.query.clone(),
            ..self.post(self.client.endpoint, headers, body)
        };
        Prepared { call, changes: edited.changes, plan: AnswerPlan::Relayed(form), wanted: None }
    }

    async fn to_messages(
        &self,
        upstream: &Arc<Upstream>,
        request: &Request<'_>,
        preset: Option<&Preset>,
        model: ModelInstead,
    ) -> Result<Prepared, Fault> {
        let asked = request.model.as_deref().unwrap_or_default();
        let wanted = model.as_ref().map_or(asked, |(_, model)| model.as_str());
        let setting = &upstream.setting;
        let edits = plan::edits(setting, preset, None, self.client.endpoint);
        let limit = limit_of(&edits, request);
        let terms = Terms {
            model: wanted,
            // An upstream may have names of its own for models that everybody knows.
            traits: self
                .traits(upstream, if ModelTraits::is_unknown(wanted) { asked } else { wanted })
                .await,
            strict: self.snapshot.config.strict,
            max_tokens: limit.as_ref().map(|(_, limit)| *limit),
            marked: edits.set.iter().any(|(_, key, _)| key == "cache_control"),
            web_search: setting.web_search.as_deref(),
        };
        let spoken = self.spoken(request, &terms).await?;
        let mut changes = Vec::new();
        if let Some((reason, _)) = model.as_ref().filter(|(_, model)| model != asked) {
            changes.push(Change { name: (*reason).into(), path: "model".into() });
        }
        changes.extend(
            limit.map(|(reason, _)| Change { name: reason.into(), path: "max_tokens".into() }),
        );
        changes.extend(spoken.changes);
        let mut body = spoken.body;
        if edits != Edits::default() {
            let edited = edits
                .apply(&Request::parse(body.as_bytes()).map_err(seaway_wire::Fault::into_kind)?);
            changes.extend(edited.changes);
            body = edited.body.unwrap_or(body);
        }
        let headers = headers::translated_to_upstream(
            &self.client.headers,
            &self.snapshot.keyring,
            upstream.passes_credentials(),
            &spoken.betas,
        );
        let endpoint =
            if self.client.endpoint.counts() { Endpoint::CountTokens } else { Endpoint::Messages };
        let call = self.post(endpoint, headers, Bytes::from(body));
        Ok(Prepared { call, changes, plan: spoken.plan, wanted: None })
    }

    /// Translates what the client asks, from whichever dialect.
    async fn spoken(&self, request: &Request<'_>, terms: &Terms<'_>) -> Result<Spoken, Fault> {
        let stream = request.stream;
        if self.client.endpoint.dialect() == Dialect::Chat {
            let chat::ChatRequest { body, shape, changes, betas } =
                chat::to_messages(request, terms).map_err(seaway_wire::Fault::into_kind)?;
            return Ok(Spoken { body, changes, betas, plan: AnswerPlan::Chat { shape, stream } });
        }
        let before = self.before(request).await?;
        let responses::ResponsesRequest { body, shape, changes, betas } =
            responses::to_messages(request, &before, terms)
                .map_err(seaway_wire::Fault::into_kind)?;
        if self.client.endpoint == Endpoint::InputTokens {
            return Ok(Spoken {
                body: responses::countable(&body),
                changes,
                betas,
                plan: AnswerPlan::Counted,
            });
        }
        let id = uuid::Uuid::now_v7().simple().to_string();
        let keeper = shape.echo.is_kept().then(|| self.keeper(request, &before, &id)).flatten();
        Ok(Spoken {
            body,
            changes,
            betas,
            plan: AnswerPlan::Responses { shape: Box::new(shape), stream, keeper, id },
        })
    }

    fn post(&self, endpoint: Endpoint, headers: HeaderMap, body: Bytes) -> Call {
        let named = self
            .client
            .headers
            .get(SESSION)
            .and_then(|name| name.to_str().ok())
            .filter(|name| !name.is_empty());
        Call {
            owner: self.client.caller.0.clone(),
            session: named.map(Into::into),
            live: Some(self.watch.entry.live()),
            ..Call::own(Method::POST, endpoint, None, headers, body)
        }
    }

    /// What a model takes: by its name, or, where that says nothing, by its upstream's word.
    async fn traits(&self, upstream: &Arc<Upstream>, model: &str) -> ModelTraits {
        let traits = ModelTraits::of(model);
        if !ModelTraits::is_unknown(model) {
            return traits;
        }
        let headers = self.headers_for(upstream);
        let told = self.snapshot.catalog.capabilities(upstream, &headers, model).await;
        told.map_or(traits, |told| traits.with(&told))
    }
}

/// The limit that the configuration sets where the client gives none. The translation always writes
/// one, so it cannot be set afterwards.
fn limit_of(edits: &Edits, request: &Request<'_>) -> Option<(String, u64)> {
    let given = |key: &str| request.object.get(key).is_some_and(|node| !node.is_null());
    if given("max_tokens") || given("max_completion_tokens") || given("max_output_tokens") {
        return None;
    }
    let (reason, _, raw) = edits.set.iter().find(|(_, key, _)| key == "max_tokens")?;
    Some((reason.clone(), raw.parse().ok()?))
}
