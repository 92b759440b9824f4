//! What can go wrong here, and how clients see it.

use seaway_wire::fault::{Face, Faced};

/// A failure that a client is told.
pub type Fault = seaway_wire::Fault<FaultKind>;

/// What went wrong, and by that whose fault it is and which status it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    InvalidRequest,
    Unsupported,
    Unauthenticated,
    Forbidden,
    NotFound,
    /// The path is ours, the method is not.
    WrongMethod,
    TooLarge,
    /// The client began a request and did not go on with it.
    SlowClient,
    RateLimited,
    /// A budget is used up, or what is left of it is too little for the request.
    OverBudget,
    Overloaded,
    Unreachable,
    BadReply,
    TimedOut,
    /// There is no usable upstream yet.
    NotReady,
    Draining,
    /// More is held already than may be; a moment later there is room.
    NoMemory,
    /// What was promised cannot be kept, or not be found again, at the moment.
    StoreDown,
    Internal,
}

impl FaultKind {
    /// The name used in logs, metrics and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unsupported => "unsupported",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::WrongMethod => "wrong_method",
            Self::TooLarge => "too_large",
            Self::SlowClient => "slow_client",
            Self::RateLimited => "rate_limited",
            Self::OverBudget => "over_budget",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::BadReply => "bad_reply",
            Self::TimedOut => "timed_out",
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::NoMemory => "no_memory",
            Self::StoreDown => "store_down",
            Self::Internal => "internal",
        }
    }
}

impl From<seaway_wire::FaultKind> for FaultKind {
    fn from(kind: seaway_wire::FaultKind) -> Self {
        match kind {
            seaway_wire::FaultKind::InvalidRequest => Self::InvalidRequest,
            seaway_wire::FaultKind::Unsupported => Self::Unsupported,
            seaway_wire::FaultKind::NotFound => Self::NotFound,
            seaway_wire::FaultKind::BadReply => Self::BadReply,
        }
    }
}

impl Faced for FaultKind {
    fn face(self) -> Face {
        const INVALID: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        const UPSTREAM: &str = "upstream_error";
        let (status, messages_type, openai_type, openai_code) = match self {
            Self::InvalidRequest => return seaway_wire::FaultKind::InvalidRequest.face(),
            Self::Unsupported => return seaway_wire::FaultKind::Unsupported.face(),
            Self::NotFound => return seaway_wire::FaultKind::NotFound.face(),
            Self::BadReply => return seaway_wire::FaultKind::BadReply.face(),
            Self::Unauthenticated => {
                (401, "authentication_error", INVALID, Some("invalid_api_key"))
            }
            Self::Forbidden => (403, "permission_error", INVALID, None),
            Self::WrongMethod => (405, INVALID, INVALID, None),
            Self::TooLarge => (413, "request_too_large", INVALID, Some("request_too_large")),
            Self::SlowClient => (408, INVALID, INVALID, None),
            Self::RateLimited => {
                (429, "rate_limit_error", "rate_limit_error", Some("rate_limit_exceeded"))
            }
            Self::OverBudget => {
                (429, "billing_error", "insufficient_quota", Some("insufficient_quota"))
            }
            Self::Overloaded => (529, "overloaded_error", SERVER, Some("overloaded")),
            Self::Unreachable => (502, "api_error", UPSTREAM, None),
            Self::TimedOut => (504, "timeout_error", UPSTREAM, Some("timeout")),
            Self::NotReady | Self::Draining | Self::NoMemory | Self::StoreDown => {
                (503, "api_error", SERVER, None)
            }
            Self::Internal => (500, "api_error", SERVER, None),
        };
        Face { status, messages_type, openai_type, openai_code }
    }
}

#[cfg(test)]
mod tests {
    use seaway_wire::Dialect;

    use super::*;

    #[test]
    fn a_fault_of_ours_has_a_face_in_each_dialect() {
        let fault = Fault::new(FaultKind::Unauthenticated, "no key \"x\"").param("key");
        assert_eq!(
            fault.body(Dialect::Messages, "req_1"),
            r#"{"type":"error","error":{"type":"authentication_error","message":"no key \"x\""},"request_id":"req_1"}"#
        );
        assert_eq!(
            fault.body(Dialect::Chat, "req_1"),
            r#"{"error":{"message":"no key \"x\"","type":"invalid_request_error","param":"key","code":"invalid_api_key"}}"#
        );
        let overloaded = FaultKind::Overloaded.face();
        assert_eq!(
            (overloaded.status(Dialect::Messages), overloaded.status(Dialect::Chat)),
            (529, 503)
        );
    }
}
