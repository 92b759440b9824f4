//! A request in any dialect, looked at but not taken apart.

use std::borrow::Cow;

use crate::json::RawObject;
use crate::{Fault, FaultKind};

/// A request body: what routing needs to know, and where everything else lies.
///
/// Whether the request makes sense is for its translation to judge, or for an upstream
/// of the same dialect: that knows members and models which this gateway does not, and
/// clients heal themselves by the wording of its errors.
#[derive(Debug)]
pub struct Request<'a> {
    pub object: RawObject<'a>,
    pub model: Option<Cow<'a, str>>,
    /// The client asked for server-sent events.
    pub stream: bool,
}

impl<'a> Request<'a> {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// [`FaultKind::InvalidRequest`] if the body is not one well-formed JSON
    /// object, or `model` or `stream` is not of its type.
    pub fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let object = RawObject::parse(body).map_err(|malformed| {
            let message = format!("the request body is not valid: {malformed}");
            Fault::new(FaultKind::InvalidRequest, message)
        })?;
        let model = match object.get("model").filter(|node| !node.is_null()) {
            Some(node) => Some(node.as_str().ok_or_else(|| wrong_type("model", "a string"))?),
            None => None,
        };
        let stream = match object.get("stream").filter(|node| !node.is_null()) {
            Some(node) => node.as_bool().ok_or_else(|| wrong_type("stream", "true or false"))?,
            None => false,
        };
        Ok(Self { object, model, stream })
    }
}

fn wrong_type(member: &'static str, expected: &str) -> Fault {
    let message = format!("{member}: input should be {expected}");
    Fault::new(FaultKind::InvalidRequest, message).param(member)
}

#[cfg(test)]
mod tests {
    use super::Request;

    #[track_caller]
    fn refused(body: &str, message: &str) {
        assert_eq!(Request::parse(body.as_bytes()).unwrap_err().message, message);
    }

    #[test]
    fn what_cannot_be_routed_is_refused_by_name() {
        refused("[]", "the request body is not valid: expected a JSON object at byte 0");
        refused(r#"{"model":7}"#, "model: input should be a string");
        refused(r#"{"model":"m","stream":"yes"}"#, "stream: input should be true or false");
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        let request = Request::parse(br#"{"model":null,"stream":null,"messages":7}"#).unwrap();
        assert_eq!((request.model, request.stream), (None, false));
    }
}
