//! The WebSocket frame (sheet section 4): `{"type":…,"payload":…,"timestamp":…}`, read and written.
//!
//! A frame is read once: its payload is left as the text it came in, and is forwarded as that text. The relay's
//! own frames are written into one buffer of the right size.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::time;
use crate::domain::clock::Millis;

/// A client's frame, its payload unread.
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// What kind of frame it is.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Its payload, if it has one other than `null`.
    #[serde(borrow, default)]
    pub payload: Option<&'a RawValue>,
    /// Session mode only, whose members stand beside `type`: which vault the frame is about.
    #[serde(borrow, default)]
    pub vault_id: Option<&'a RawValue>,
    /// Session mode only: which session the frame belongs to.
    #[serde(borrow, default)]
    pub session_id: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    /// Reads a frame; nothing if it is no JSON object with a `type` text.
    #[must_use]
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut frame: Self = serde_json::from_slice(message).ok()?;
        frame.payload = frame.payload.filter(|payload| payload.get() != "null");
        Some(frame)
    }
}

/// Writes a frame: `payload` is JSON text.
#[must_use]
pub fn write(kind: &str, payload: &str, now: Millis) -> Utf8Bytes {
    const FIXED: usize = r#"{"type":"","payload":,"timestamp":"2026-01-02T03:04:05.678Z"}"#.len();
    let mut text = String::with_capacity(FIXED + kind.len() + payload.len());
    text.push_str(r#"{"type":""#);
    text.push_str(kind);
    text.push_str(r#"","payload":"#);
    text.push_str(payload);
    text.push_str(r#","timestamp":""#);
    // The bytes are digits and punctuation.
    text.push_str(std::str::from_utf8(&time::to_bytes(now)).unwrap_or_default());
    text.push_str("\"}");
    text.into()
}

/// The payload of a frame made by [`write`]: what an HTTP client is given of it.
#[must_use]
pub fn payload_of(frame: &str) -> &str {
    const TAIL: usize = r#","timestamp":"2026-01-02T03:04:05.678Z"}"#.len();
    let start = frame.find(r#""payload":"#).map_or(0, |at| at + r#""payload":"#.len());
    frame.get(start..frame.len().saturating_sub(TAIL)).unwrap_or_default()
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    let mut rest = text;
    out.push('"');
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => out.push_str(&format!("\\u{byte:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// An object with text members, as JSON text.
#[must_use]
pub fn object(members: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(2 + members.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>());
    out.push('{');
    for (i, (name, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_string(&mut out, name);
        out.push(':');
        push_string(&mut out, value);
    }
    out.push('}');
    out
}

/// The acknowledgment of a request: `{"request_id":…,"accepted":true}`.
#[must_use]
pub fn accepted(request_id: &str, now: Millis) -> Utf8Bytes {
    acknowledgment("request_id", request_id, r#","accepted":true}"#, now)
}

/// The acknowledgment of an answer: `{"request_id":…,"stored":true}`.
#[must_use]
pub fn stored(request_id: &str, now: Millis) -> Utf8Bytes {
    acknowledgment("request_id", request_id, r#","stored":true}"#, now)
}

/// The acknowledgment of a registration: `{"vault_id":…,"registered":true}`.
#[must_use]
pub fn registered(vault_id: &str, now: Millis) -> Utf8Bytes {
    acknowledgment("vault_id", vault_id, r#","registered":true}"#, now)
}

fn acknowledgment(name: &str, value: &str, rest: &str, now: Millis) -> Utf8Bytes {
    let mut payload = String::with_capacity(value.len() + 48);
    payload.push('{');
    push_string(&mut payload, name);
    payload.push(':');
    push_string(&mut payload, value);
    payload.push_str(rest);
    write("ack", &payload, now)
}

/// The answer to a heartbeat.
#[must_use]
pub fn heartbeat(now: Millis) -> Utf8Bytes {
    write("heartbeat", &object(&[("timestamp", &time::format(now))]), now)
}

/// An error; `request_id` where it belongs to an agent's request.
#[must_use]
pub fn error(code: &str, message: &str, request_id: Option<&str>, now: Millis) -> Utf8Bytes {
    let mut members = vec![("code", code), ("message", message)];
    members.extend(request_id.map(|id| ("request_id", id)));
    write("error", &object(&members), now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-01-02T03:04:06.010Z
    const NOW: Millis = Millis(1_767_323_046_010);

    #[test]
    fn frames_are_those_of_the_worked_example() {
        assert_eq!(
            accepted("req_00112233445566778899aabbccddeeff", NOW),
            r#"{"type":"ack","payload":{"request_id":"req_00112233445566778899aabbccddeeff","accepted":true},"timestamp":"2026-01-02T03:04:06.010Z"}"#
        );
        assert_eq!(
            error("RELAY_VAULT_NOT_CONNECTED", "Vault v is not connected", Some("r"), NOW),
            r#"{"type":"error","payload":{"code":"RELAY_VAULT_NOT_CONNECTED","message":"Vault v is not connected","request_id":"r"},"timestamp":"2026-01-02T03:04:06.010Z"}"#
        );
    }

    #[test]
    fn a_frame_keeps_its_payload_as_it_came() {
        let frame = Frame::parse(br#" {"timestamp":1,"payload": {"a" : 1.0} ,"type":"request"} "#).unwrap();
        assert_eq!((&*frame.kind, frame.payload.unwrap().get()), ("request", r#"{"a" : 1.0}"#));
        assert!(Frame::parse(br#"{"type":"heartbeat","payload":null}"#).unwrap().payload.is_none());
        for bad in [&b"[]"[..], b"null", b"", b"{}", br#"{"type":1}"#, b"\xff"] {
            assert!(Frame::parse(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn strings_survive(text in any::<String>()) {
            let mut json = String::new();
            push_string(&mut json, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn a_payload_can_be_taken_out_again(text in any::<String>()) {
            let payload = object(&[("payload", &text)]);
            let frame = write("response", &payload, NOW);
            prop_assert_eq!(payload_of(&frame), payload);
        }
    }
}
