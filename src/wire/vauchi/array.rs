//! Byte strings as the protocol spells them: JSON arrays of integers from 0 to 255, such as `[104,105]`.
//!
//! They are nearly all that a frame holds: 3.57 characters for a random byte. [`decode`] writes each byte once,
//! into a buffer that is made once and is at most twice as long as what it holds. [`write`] copies what a byte is
//! spelled with twice: into a block on the stack, and with the block into the frame.

use bytes::Bytes;

/// The spelling of each byte with the comma after it, filled up with zeros.
const SPELLED: [[u8; 4]; 256] = {
    let mut table = [[0; 4]; 256];
    let mut byte = 0;
    while byte < table.len() {
        let (hundreds, tens, ones) =
            (b'0' + (byte / 100) as u8, b'0' + (byte / 10 % 10) as u8, b'0' + (byte % 10) as u8);
        table[byte] = match byte {
            0..10 => [ones, b',', 0, 0],
            10..100 => [tens, ones, b',', 0],
            _ => [hundreds, tens, ones, b','],
        };
        byte += 1;
    }
    table
};

/// How many bytes are spelled between two copies into the frame.
const BLOCK: usize = 64;

/// Reads the array at the beginning of `json`. Gives its bytes, and how much of `json` it takes.
///
/// `None` for what serde_json does not read as a `Vec<u8>`: any element but a plain integer up to 255 (no sign,
/// fraction, exponent or leading zero), or an array that does not end.
#[must_use]
pub fn decode(json: &[u8]) -> Option<(Bytes, usize)> {
    let mut at = past_space(json, json.starts_with(b"[").then_some(1)?);
    if json.get(at) == Some(&b']') {
        return Some((Bytes::new(), at + 1));
    }
    let mut bytes = Vec::with_capacity(most_elements(json));
    loop {
        while let Some((pair, taken)) = json.get(at..at + 8).and_then(two_numbers) {
            bytes.extend_from_slice(&pair);
            at += taken;
        }
        let (byte, end) = number(json, past_space(json, at))?;
        bytes.push(byte);
        at = past_space(json, end) + 1;
        match json.get(at - 1)? {
            b',' => {}
            b']' => break,
            _ => return None,
        }
    }
    if bytes.capacity() > 2 * bytes.len() {
        bytes.shrink_to_fit();
    }
    Some((bytes.into(), at))
}

/// No array in `json` has more elements: each but the last is followed by a comma and has a digit.
fn most_elements(json: &[u8]) -> usize {
    // Sums of so few bytes fit into a byte, and sixteen of them are counted at once.
    let commas = |block: &[u8]| block.iter().map(|byte| u8::from(*byte == b',')).sum::<u8>();
    let commas: usize = json.chunks(255).map(|block| usize::from(commas(block))).sum();
    (commas + 1).min(json.len() / 2)
}

fn past_space(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = json.get(at) {
        at += 1;
    }
    at
}

/// The number at `at`, and where it ends.
fn number(json: &[u8], at: usize) -> Option<(u8, usize)> {
    let digits = json.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).take(4);
    let leading_zero = json.get(at) == Some(&b'0');
    let (mut value, mut end) = (0_u8, at);
    for digit in digits {
        value = value.checked_mul(10)?.checked_add(digit - b'0')?;
        end += 1;
    }
    if end == at || (leading_zero && end > at + 1) { None } else { Some((value, end)) }
}

/// Two numbers, each with a comma close behind it, from eight characters; and how many of the eight they take.
/// `None` if the characters are anything else, such as numbers with white space between them.
///
/// All eight are looked at in one word, without a branch on how long a number is: in ciphertext that is random,
/// and a processor that guesses it wrong for every other number is several times slower.
fn two_numbers(text: &[u8]) -> Option<([u8; 2], usize)> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_le_bytes(text.try_into().ok()?) ^ (EACH * u64::from(b'0'));
    // The upper bit of each character that is no digit. No sum passes 0xff, so none runs into its neighbour.
    let others = (((digits & (EACH * 0x7f)) + EACH * (0x80 - 10)) | digits) & (EACH * 0x80);
    let first_end = others.trailing_zeros() / 8;
    let second_end = (others & others.wrapping_sub(1)).trailing_zeros() / 8;
    if second_end > 7 {
        return None;
    }
    let second_start = first_end + 1;
    let (first, first_fits) = aligned(digits, first_end);
    let (second, second_fits) = aligned(digits >> (8 * second_start), second_end - second_start);
    let commas = is_comma(digits >> (8 * first_end)) & is_comma(digits >> (8 * second_end));
    if first_fits & second_fits & commas { Some(([first, second], second_end as usize + 1)) } else { None }
}

fn is_comma(digits: u64) -> bool {
    digits as u8 == b',' ^ b'0'
}

/// The value of the first `len` of `digits`, the foremost in the lowest byte; and whether that is a byte's.
fn aligned(digits: u64, len: u32) -> (u8, bool) {
    /// The smallest number of so many digits.
    const LEAST: [u64; 8] = [u64::MAX, 0, 10, 100, u64::MAX, u64::MAX, u64::MAX, u64::MAX];
    let three = digits << (24_u32.wrapping_sub(8 * len) % 64);
    let value = (three & 0xff) * 100 + (three >> 8 & 0xff) * 10 + (three >> 16 & 0xff);
    (value as u8, (value >= LEAST[len as usize % 8]) & (value <= 255))
}

/// How many characters [`write`] writes.
#[must_use]
pub fn spelled_len(bytes: &[u8]) -> usize {
    let further = |byte: &u8| u8::from(*byte >= 10) + u8::from(*byte >= 100);
    let further = |block: &[u8]| block.iter().map(further).sum::<u8>();
    let further: usize = bytes.chunks(127).map(|block| usize::from(further(block))).sum();
    let commas = bytes.len().saturating_sub(1);
    2 + bytes.len() + further + commas
}

/// Appends the array without white space: [`spelled_len`] characters.
pub fn write(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'[');
    for block in bytes.chunks(BLOCK) {
        let mut text = [0; 4 * BLOCK];
        let mut end = 0;
        for byte in block {
            text[end..end + 4].copy_from_slice(&SPELLED[usize::from(*byte)]);
            end += 2 + usize::from(*byte >= 10) + usize::from(*byte >= 100);
        }
        out.extend_from_slice(&text[..end]);
    }
    if !bytes.is_empty() {
        out.pop();
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All of `json` as one array, white space around it aside.
    fn whole(json: &[u8]) -> Option<Vec<u8>> {
        let start = past_space(json, 0);
        let (bytes, taken) = decode(&json[start..])?;
        (past_space(json, start + taken) == json.len()).then(|| bytes.to_vec())
    }

    fn spelled(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(bytes, &mut out);
        out
    }

    #[test]
    fn elements_are_what_serde_json_takes_for_a_byte() {
        let elements = [
            "0",
            "7",
            "10",
            "99",
            "100",
            "255",
            "256",
            "999",
            "1000",
            "18446744073709551616",
            "-0",
            "-1",
            "00",
            "01",
            "007",
            "08",
            "09",
            "099",
            "1.0",
            "1e2",
            "1E0",
            "0x1",
            "+1",
            "1_0",
            "null",
            "true",
            "\"1\"",
            "[1]",
            "",
            " ",
            ":",
            ";",
            "/",
            "\u{b}1",
            "\u{a0}",
            "1 2",
            " 8 ",
            "\t9\r\n",
        ];
        for element in elements {
            for json in [
                format!("[{element}]"),
                format!("[{element},1]"),
                format!("[1,{element}]"),
                format!("[1,2,3,4,{element},5,6,7,8,9]"),
                format!("[1,2,3,{element},4,5,6,7,8,9]"),
                format!("[12,255,{element},100,5,6,7,8,9]"),
                format!("[{element}"),
                format!("[1,2,{element},"),
            ] {
                assert_eq!(whole(json.as_bytes()), serde_json::from_slice(json.as_bytes()).ok(), "{json}");
            }
        }
    }

    #[test]
    fn what_follows_the_array_is_left() {
        let (bytes, taken) = decode(br#"[1,2,3],"x":[4,5]}"#).unwrap();
        assert_eq!((&*bytes, taken), (&[1, 2, 3][..], 7));
    }

    #[test]
    fn a_buffer_is_at_most_twice_its_content() {
        let spaces = " ".repeat(10_000);
        let commas = ",".repeat(10_000);
        for json in [format!("[1,2]{commas}"), format!("[1,{spaces}2]"), format!("[{spaces}7,8]{commas}")] {
            let (bytes, _) = decode(json.as_bytes()).unwrap();
            let buffer = Vec::from(bytes);
            assert!(buffer.capacity() <= 2 * buffer.len(), "{} for {}", buffer.capacity(), buffer.len());
        }
    }

    /// Text that is nearly an array of bytes, so that both outcomes are common.
    fn nearly_an_array() -> impl Strategy<Value = String> {
        let element = prop_oneof![
            20 => any::<u8>().prop_map(|byte| byte.to_string()),
            1 => "[0-9]{1,4}",
            1 => "[-+.e0-9 \\[\\]a]{0,3}",
        ];
        let comma =
            prop_oneof![20 => Just(","), 2 => Just(" ,\n\t"), 1 => Just(",\r "), 1 => Just(",,"), 1 => Just(" ")];
        let elements = proptest::collection::vec((element, comma), 0..20);
        ("[ \n]{0,2}", elements, any::<u8>(), prop_oneof![10 => Just("]"), 1 => Just(""), 1 => Just("] ]")]).prop_map(
            |(space, elements, last, end)| {
                let elements: String = elements.iter().flat_map(|(element, comma)| [element.as_str(), comma]).collect();
                format!("{space}[{elements}{last}{space}{end}")
            },
        )
    }

    proptest! {
        #[test]
        fn an_array_is_read_as_serde_json_reads_it(json in nearly_an_array()) {
            prop_assert_eq!(whole(json.as_bytes()), serde_json::from_str::<Vec<u8>>(&json).ok());
        }

        #[test]
        fn any_bytes_are_read_as_serde_json_reads_them(json in proptest::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(whole(&json), serde_json::from_slice::<Vec<u8>>(&json).ok());
        }

        #[test]
        fn an_array_is_written_as_serde_json_writes_it(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = spelled(&bytes);
            prop_assert_eq!(&text, &serde_json::to_vec(&bytes).unwrap());
            prop_assert_eq!(text.len(), spelled_len(&bytes));
            prop_assert_eq!(whole(&text), Some(bytes));
        }
    }
}
