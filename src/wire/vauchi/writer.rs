//! How frames are written: counted first, then written into one buffer of just that length.

use bytes::Bytes;

use super::{array, frame};

/// Counts JSON, and writes it if there is a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    len: usize,
    out: Option<Vec<u8>>,
}

/// What all messages have in common (section 2), and the type of their payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) version: u8,
    pub(super) message_id: &'a str,
    pub(super) timestamp: u64,
    pub(super) kind: &'a str,
}

impl Head<'_> {
    /// The length of the frame, prefix included, whose payload has the members that `members` writes.
    pub(super) fn frame_len(&self, members: impl Fn(&mut Writer)) -> usize {
        let mut counter = Writer::default();
        self.write(&mut counter, members);
        frame::PREFIX_BYTES + counter.len
    }

    /// The frame itself.
    pub(super) fn frame(&self, members: impl Fn(&mut Writer)) -> Bytes {
        let len = self.frame_len(&members);
        let mut writer = Writer { len: 0, out: Some(Vec::with_capacity(len)) };
        writer.raw(&frame::prefix(len - frame::PREFIX_BYTES));
        self.write(&mut writer, members);
        writer.out.unwrap_or_default().into()
    }

    fn write(&self, writer: &mut Writer, members: impl Fn(&mut Writer)) {
        writer.raw(b"{\"version\":");
        writer.digits(self.version.into());
        writer.raw(b",\"message_id\":");
        writer.string(self.message_id);
        writer.raw(b",\"timestamp\":");
        writer.digits(self.timestamp);
        writer.raw(b",\"payload\":{\"type\":");
        writer.string(self.kind);
        members(writer);
        writer.raw(b"}}");
    }
}

/// Members of an object that has others before them.
impl Writer {
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.string(text);
    }

    /// Nothing for `None`.
    pub(super) fn optional_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.digits(number);
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        self.name(name);
        self.raw(if flag { b"true" } else { b"false" });
    }

    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        match &mut self.out {
            None => self.len += array::spelled_len(bytes),
            Some(out) => array::write(bytes, out),
        }
    }

    /// An array, each element of which `each` writes.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.name(name);
        self.raw(b"[");
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.raw(b",");
            }
            each(self, item);
        }
        self.raw(b"]");
    }

    fn name(&mut self, name: &str) {
        self.raw(b",");
        self.string(name);
        self.raw(b":");
    }
}

/// Values.
impl Writer {
    pub(super) fn raw(&mut self, json: &[u8]) {
        match &mut self.out {
            None => self.len += json.len(),
            Some(out) => out.extend_from_slice(json),
        }
    }

    /// A string, escaped as serde_json does.
    pub(super) fn string(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        self.raw(b"\"");
        // Asked of all at once, for that is many at a time, and nearly always nothing is.
        if !rest.iter().fold(false, |any, byte| any | is_escaped(*byte)) {
            self.raw(rest);
            return self.raw(b"\"");
        }
        while let Some(at) = rest.iter().position(|byte| is_escaped(*byte)) {
            let (plain, escaped) = rest.split_at(at);
            self.raw(plain);
            match escaped.first() {
                Some(b'\n') => self.raw(b"\\n"),
                Some(b'\r') => self.raw(b"\\r"),
                Some(b'\t') => self.raw(b"\\t"),
                Some(8) => self.raw(b"\\b"),
                Some(12) => self.raw(b"\\f"),
                Some(byte @ (b'"' | b'\\')) => self.raw(&[b'\\', *byte]),
                Some(byte) => self.raw(format!("\\u{byte:04x}").as_bytes()),
                None => {}
            }
            rest = escaped.get(1..).unwrap_or_default();
        }
        self.raw(rest);
        self.raw(b"\"");
    }

    pub(super) fn digits(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            start -= 1;
            if number == 0 {
                break;
            }
        }
        self.raw(digits.get(start..).unwrap_or_default());
    }
}

fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    proptest! {
        #[test]
        fn a_frame_is_what_serde_json_writes(
            version: u8,
            message_id in any::<String>(),
            text in "[\u{0}-\u{7f}\u{e9}]*",
            numbers in proptest::collection::vec(any::<u64>(), 0..4),
            flag: bool,
            bytes in proptest::collection::vec(any::<u8>(), 0..10),
        ) {
            let number = numbers.first().copied().unwrap_or_default();
            let head = Head { version, message_id: &message_id, timestamp: number, kind: "K" };
            let members = |writer: &mut Writer| {
                writer.text("text", &text);
                writer.optional_text("some", Some(&text));
                writer.optional_text("none", None);
                writer.flag("flag", flag);
                writer.bytes("bytes", &bytes);
                writer.list("numbers", &numbers, |writer, number| writer.digits(*number));
                writer.number("number", number);
            };
            let expected = json!({
                "version": version, "message_id": message_id, "timestamp": number, "payload": {
                    "type": "K", "text": text, "some": text, "flag": flag, "bytes": bytes, "numbers": numbers,
                    "number": number,
                },
            }).to_string();
            let frame = head.frame(members);
            prop_assert_eq!(&frame[4..], expected.as_bytes());
            prop_assert_eq!(&frame[..4], &u32::try_from(expected.len()).unwrap().to_be_bytes()[..]);
            prop_assert_eq!(head.frame_len(members), frame.len());
        }
    }
}
