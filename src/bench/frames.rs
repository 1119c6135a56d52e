//! The frames that the load generator writes, and the little that it reads of those it gets
//! (DCP relay protocol, sections 4 to 7).

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::limits::REQUEST_TTL;

/// The present moment as `Date.toISOString` writes it, which is what shipped clients send.
#[must_use]
pub fn now_text() -> String {
    format!("{:.3}", Timestamp::now())
}

/// When a request sent now expires: the longest life that is allowed, as shipped agents ask for.
fn expiry_text(now: Timestamp) -> String {
    format!("{:.3}", now.checked_add(REQUEST_TTL).unwrap_or(Timestamp::MAX))
}

/// An agent's `request`. The ids and the payload must be plain text that JSON need not escape.
#[must_use]
pub fn request(vault_id: &str, request_id: &str, payload: &str) -> String {
    let now = Timestamp::now();
    let expires = expiry_text(now);
    format!(
        r#"{{"type":"request","payload":{{"version":"1","vault_id":"{vault_id}","request_id":"{request_id}","action_type":"read","encrypted_payload":"{payload}","expires_at":"{expires}"}},"timestamp":"{now:.3}"}}"#
    )
}

/// A vault's `response` to `request_id`.
#[must_use]
pub fn response(request_id: &str, payload: &str) -> String {
    let now = now_text();
    format!(
        r#"{{"type":"response","payload":{{"version":"1","request_id":"{request_id}","encrypted_payload":"{payload}","timestamp":"{now}"}},"timestamp":"{now}"}}"#
    )
}

/// A vault's `heartbeat`.
#[must_use]
pub fn heartbeat(vault_id: &str) -> String {
    let now = now_text();
    format!(r#"{{"type":"heartbeat","payload":{{"vault_id":"{vault_id}","timestamp":"{now}"}},"timestamp":"{now}"}}"#)
}

/// What the generator reads of a frame: enough to tell what it is and to whom it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Head<'a> {
    /// The frame's `type`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The fields of interest in its payload.
    #[serde(borrow, default)]
    pub payload: HeadPayload<'a>,
}

/// The part of [`Head`] inside the payload. A field that a frame does not carry is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct HeadPayload<'a> {
    /// The request that the frame belongs to.
    pub request_id: Option<&'a str>,
    /// The code of an `error`.
    pub code: Option<&'a str>,
    /// In the `ack` of a registration: `true`.
    pub registered: Option<bool>,
}

impl<'a> Head<'a> {
    /// Reads `text`; `None` if it is no frame of this protocol.
    ///
    /// Ids with JSON escapes count as unreadable: no id of ours has any, so none may come back.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// The code and the message of an `error` frame, or empty texts where they are missing.
#[must_use]
pub fn error_of(text: &str) -> (String, String) {
    #[derive(Default, Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow, default)]
        code: Cow<'a, str>,
        #[serde(borrow, default)]
        message: Cow<'a, str>,
    }
    #[derive(Default, Deserialize)]
    struct Frame<'a> {
        #[serde(borrow, default)]
        payload: Refusal<'a>,
    }
    let Frame { payload } = serde_json::from_str(text).unwrap_or_default();
    (payload.code.into_owned(), payload.message.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_carries_every_field_that_a_relay_checks() {
        let frame: serde_json::Value = serde_json::from_str(&request("v", "req_1", "AAAA")).unwrap();
        for field in ["version", "vault_id", "request_id", "action_type", "encrypted_payload", "expires_at"] {
            assert!(frame["payload"][field].is_string(), "{field} in {frame}");
        }
    }

    #[test]
    fn times_have_the_form_of_to_iso_string() {
        let text = now_text();
        assert_eq!(text.len(), "2026-01-02T03:04:05.678Z".len(), "{text}");
        let fixed: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(expiry_text(fixed), "2026-01-02T03:09:05.000Z");
    }

    #[test]
    fn heads_of_what_a_relay_sends_are_read() {
        let sent = response("req_1", "AAAA");
        let head = Head::read(&sent).unwrap();
        assert_eq!((head.kind, head.payload.request_id), ("response", Some("req_1")));
        let ack = r#"{"type":"ack","payload":{"vault_id":"v","registered":true},"timestamp":"t"}"#;
        assert_eq!(Head::read(ack).unwrap().payload.registered, Some(true));
        assert_eq!(Head::read(r#"{"type":"heartbeat"}"#).unwrap().payload, HeadPayload::default());
    }

    #[test]
    fn an_escaped_message_of_an_error_is_readable() {
        let text = r#"{"type":"error","payload":{"code":"RELAY_UNAUTHORIZED","message":"say \"please\""}}"#;
        assert_eq!(error_of(text), ("RELAY_UNAUTHORIZED".into(), "say \"please\"".into()));
        assert_eq!(Head::read(text).unwrap().payload.code, Some("RELAY_UNAUTHORIZED"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let head = Head::read(&text);
            prop_assert!(head.is_none() || text.contains("type"));
            prop_assert!(error_of(&text).0.len() <= text.len());
        }
    }
}
