//! Frames of yamux (hashicorp/yamux, "spec.md"): as much of them as it takes to make small ones of a large one.

/// Bytes of a header.
pub const HEADER_BYTES: usize = 12;

/// The type of frames that have a body.
const DATA: u8 = 0;

/// Flags of a stream's first frame from its sender: SYN and ACK.
const FIRST: u16 = 1 | 2;

/// Flags of its last: FIN and RST.
const LAST: u16 = 4 | 8;

/// What every frame begins with: version, type, flags, stream, length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header([u8; HEADER_BYTES]);

impl Header {
    /// As it came.
    #[must_use]
    pub fn new(bytes: [u8; HEADER_BYTES]) -> Self {
        Self(bytes)
    }

    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8; HEADER_BYTES] {
        &self.0
    }

    /// Bytes that follow it before the next header. In frames without a body the length means something else.
    #[must_use]
    pub fn body(&self) -> u32 {
        let [_, kind, _, _, _, _, _, _, length @ ..] = self.0;
        if kind == DATA { u32::from_be_bytes(length) } else { 0 }
    }

    /// The header of a frame with the first `most` bytes of the body, and that of a frame with the others, if there are
    /// more. The two say together what this one says: the first what begins with it, the second what ends with it.
    #[must_use]
    pub fn split(self, most: u32) -> (Self, Option<Self>) {
        match self.body().checked_sub(most) {
            None | Some(0) => (self, None),
            Some(more) => (self.part(most, !LAST), Some(self.part(more, !FIRST))),
        }
    }

    /// The same with another length, and no flags but these.
    fn part(self, body: u32, flags: u16) -> Self {
        let [version, kind, high, low, a, b, c, d, ..] = self.0;
        let [high, low] = (u16::from_be_bytes([high, low]) & flags).to_be_bytes();
        let [e, f, g, h] = body.to_be_bytes();
        Self([version, kind, high, low, a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u8, flags: u8, length: u32) -> Header {
        let [a, b, c, d] = length.to_be_bytes();
        Header::new([0, kind, 0, flags, 0, 0, 0, 7, a, b, c, d])
    }

    #[test]
    fn a_frame_that_fits_stays_as_it_is() {
        for frame in [header(DATA, 15, 0), header(DATA, 15, 100), header(1, 15, u32::MAX), header(2, 1, 101)] {
            assert_eq!(frame.split(100), (frame, None));
        }
    }

    #[test]
    fn the_parts_say_what_the_whole_said() {
        let (first, more) = header(DATA, 1 | 4, 250).split(100);
        assert_eq!((first, more), (header(DATA, 1, 100), Some(header(DATA, 4, 150))));
        let (second, more) = more.unwrap().split(100);
        assert_eq!((second, more), (header(DATA, 0, 100), Some(header(DATA, 4, 50))));
        assert_eq!(more.unwrap().split(100), (header(DATA, 4, 50), None));
    }
}
