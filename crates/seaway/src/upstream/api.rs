//! An upstream that is an HTTP API: Anthropic's own, or anything that speaks it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use seaway_wire::Endpoint;

use super::pool::{Pool, SendError};
use super::{
    BoxError, Call, CallBody, Dependencies, Payload, Recourse, ReplyBody, SharedError,
    UpstreamError,
};
use crate::auth::CARRIERS;
use crate::config::{self, Limits, UpstreamName, Vendor};
use crate::credential::{Credential, CredentialError};
use crate::dial::Dial;
use crate::fault::FaultKind;
use crate::tunnel::{Login, Tunnel, TunnelError};

pub(super) struct Api {
    name: UpstreamName,
    base: Uri,
    host: HeaderValue,
    extra: HeaderMap,
    credential: Option<Credential>,
    passthrough: bool,
    vendor: Vendor,
    first_byte: Duration,
    pool: Arc<Pool>,
    tunnel: Option<Arc<Tunnel>>,
}

/// A request's head, the same for every attempt but for the credential.
pub(super) struct RequestHead {
    method: Method,
    endpoint: Option<Endpoint>,
    uri: Uri,
    headers: HeaderMap,
}

impl Api {
    pub(super) fn new(
        name: &UpstreamName,
        api: &config::ApiConfig,
        limits: &Limits,
        dependencies: &Dependencies,
    ) -> Self {
        let Dependencies { tasks, network, .. } = dependencies;
        let dial = Arc::new(Dial::new(api, network));
        let tunnel =
            api.via.clone().map(|setting| Tunnel::new(setting, dial.clone(), tasks.clone()));
        if let Some(tunnel) = &tunnel {
            tunnel.watch(false);
        }
        // The configuration refuses an address with a credential in it, so this is a host and a port.
        let host = api.base_url.authority().map_or("", |authority| authority.as_str());
        Self {
            name: name.clone(),
            base: api.base_url.clone(),
            host: HeaderValue::from_str(host)
                .unwrap_or_else(|_| HeaderValue::from_static("localhost")),
            extra: api.headers.iter().cloned().collect(),
            credential: api.credential.clone().map(|setting| Credential::new(setting, tasks)),
            passthrough: api.passthrough,
            vendor: api.vendor,
            first_byte: limits.first_byte_timeout,
            pool: Pool::new(dial, api.keepalive, api.lane, tasks.clone()),
            tunnel,
        }
    }

    pub(super) fn sweep(&self) {
        self.pool.sweep();
    }

    pub(super) async fn probe(&self) -> Result<(), BoxError> {
        if let Some(tunnel) = &self.tunnel {
            tunnel.up(Login::Batch).await?;
        }
        self.pool.probe().await.map_err(BoxError::from)
    }

    pub(super) fn tunnel(&self) -> Option<&Arc<Tunnel>> {
        self.tunnel.as_ref()
    }

    pub(super) fn credential_can_change(&self) -> bool {
        self.credential.as_ref().is_some_and(Credential::can_change)
    }

    pub(super) fn refused(&self, sent: &HeaderMap) {
        if let Some(credential) = &self.credential {
            credential.refused(sent);
        }
    }

    pub(super) async fn ready(&self) -> Result<(), UpstreamError> {
        self.authorize(&mut HeaderMap::new()).await?;
        match self.tunnel.as_ref().map(|tunnel| tunnel.told()).filter(|told| !told.up) {
            None => Ok(()),
            Some(told) => Err(self.no_way(TunnelError::not_up(told))),
        }
    }

    pub(super) fn prepare(&self, call: Call) -> (RequestHead, Payload) {
        let call = self.vendor.adapt(call);
        let uri = self.vendor.address(&self.base, &call.target, call.query.as_deref());
        let mut headers = call.headers;
        headers.insert(HOST, self.host.clone());
        for (name, value) in &self.extra {
            headers.insert(name, value.clone());
        }
        if let Payload::Whole(bytes) = &call.body
            && !(bytes.is_empty()
                && matches!(call.method, Method::GET | Method::HEAD | Method::DELETE))
        {
            headers.insert(CONTENT_LENGTH, bytes.len().into());
        }
        (
            RequestHead { method: call.method, endpoint: call.target.endpoint(), uri, headers },
            call.body,
        )
    }

    async fn authorize(&self, headers: &mut HeaderMap) -> Result<(), UpstreamError> {
        let Some(credential) = &self.credential else { return Ok(()) };
        credential.write(headers).await.map_err(|error| self.no_credential(error))
    }

    fn no_credential(&self, error: CredentialError) -> UpstreamError {
        let message = format!("upstream `{}` has no usable credential: {error}", self.name);
        UpstreamError {
            source: Some(Arc::new(error)),
            ..UpstreamError::new(FaultKind::NotReady, message)
        }
    }

    /// Sends the request once. `sent` receives the credential that was used. A way that is mended for long is told, and
    /// not waited for; what is on its way already goes on.
    pub(super) async fn attempt(
        &self,
        head: &RequestHead,
        body: CallBody,
        sent: &mut HeaderMap,
    ) -> Result<Response<ReplyBody>, UpstreamError> {
        if let Some(tunnel) = &self.tunnel {
            let up = tokio::select! {
                biased;
                up = tunnel.up(Login::Batch) => up,
                late = tunnel.takes_long() => Err(late),
            };
            up.map_err(|error| self.no_way(error))?;
        }
        let own = self.passthrough && CARRIERS.iter().any(|name| head.headers.contains_key(name));
        if !own {
            self.authorize(sent).await?;
            self.vendor.sign(head.endpoint, sent);
        }
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        for (name, value) in &*sent {
            request.headers_mut().insert(name, value.clone());
        }
        // It stays where it is made: it is large.
        let mut sending = pin!(async {
            let reply = self.pool.send(request).await.map_err(|error| self.unreachable(error))?;
            if let Some(tunnel) = &self.tunnel {
                tunnel.worked();
            }
            Ok(reply.map(|body| self.vendor.frame(body)))
        });
        if self.first_byte.is_zero() {
            return sending.await;
        }
        let late = || {
            format!(
                "upstream `{}` sent no answer within {} seconds (`first_byte_timeout`)",
                self.name,
                self.first_byte.as_secs()
            )
        };
        let answered = tokio::time::timeout(self.first_byte, sending.as_mut()).await;
        answered.map_err(|_| UpstreamError::new(FaultKind::TimedOut, late()))?
    }

    /// How often the way had to be mended so far.
    pub(super) fn mended(&self) -> u64 {
        self.tunnel.as_ref().map_or(0, |tunnel| tunnel.mended())
    }

    /// What a request without an answer failed of, after the way was looked at: see [`Self::mend`].
    pub(super) async fn looked_into(&self, error: UpstreamError, mended: u64) -> UpstreamError {
        match self.mend(&error, mended).await {
            Ok(true) => UpstreamError { recourse: Recourse::Reconnected, ..error },
            Ok(false) => error,
            Err(no_way) => no_way,
        }
    }

    /// After a request got no answer: looks whether the way is at fault, and mends it. True if the request is worth
    /// another attempt: the way was at fault, or the connection broke although all is well now.
    async fn mend(&self, error: &UpstreamError, mended: u64) -> Result<bool, UpstreamError> {
        let Some(tunnel) = &self.tunnel else { return Ok(false) };
        // What the way itself said of itself has been looked into.
        if error.layer.is_some()
            || !matches!(error.kind, FaultKind::Unreachable | FaultKind::TimedOut)
        {
            return Ok(false);
        }
        let late = error.kind == FaultKind::TimedOut;
        // What somebody else mended meanwhile says nothing of an answer that is only late.
        if late && tunnel.mended() != mended {
            return Ok(false);
        }
        let mended = tokio::select! {
                biased;
            mended = tunnel.mend(mended) => mended,
            late = tunnel.takes_long() => Err(late),
        };
        let changed = mended.map_err(|error| self.no_way(error))?;
        if changed {
            // They went by the way that is no more.
            self.pool.forget();
        }
        Ok(changed || !late)
    }

    fn no_way(&self, error: TunnelError) -> UpstreamError {
        let message = format!("upstream `{}` cannot be reached: {}", self.name, error.message);
        UpstreamError {
            layer: Some(error.layer.name()),
            retry_after: error.retry_after,
            ..UpstreamError::new(error.kind, message)
        }
    }

    fn unreachable(&self, error: SendError) -> UpstreamError {
        let unsent = matches!(error, SendError::Unsent(_));
        // It did answer, so it did its work.
        let unreadable = matches!(error, SendError::Unreadable(_));
        let source: SharedError = Arc::new(error);
        let verb = if unreadable { "answered, but" } else { "cannot be reached:" };
        let mut message = format!("upstream `{}` {verb} {source}", self.name);
        let mut cause = source.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        UpstreamError {
            kind: if unreadable { FaultKind::BadReply } else { FaultKind::Unreachable },
            message,
            recourse: match (unsent, unreadable) {
                (true, _) => Recourse::Unsent,
                (false, true) => Recourse::Nothing,
                (false, false) => Recourse::Again,
            },
            attempts: 0,
            retry_after: None,
            layer: None,
            source: Some(source),
        }
    }
}
