//! The GIF search of Dusk: what peers ask (`/dusk/gif/1.0.0`, CBOR), what a provider answers (JSON, in the form of klipy v2),
//! and what peers are told of that.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cbor;

/// Largest request.
pub const MAX_REQUEST_BYTES: usize = 2 << 10;

/// Longest text that is searched for; more of it is left out.
pub const MAX_QUERY_BYTES: usize = 256;

/// Most that one answer tells of, and how many it does if the peer does not say.
pub const MAX_FOUND: u64 = 50;
/// See [`MAX_FOUND`].
pub const DEFAULT_FOUND: u64 = 20;

/// Longest id, title and URL of what is found: ids and URLs that are longer make it none, titles are cut.
const MAX_ID_BYTES: usize = 128;
const MAX_TITLE_BYTES: usize = 256;
const MAX_URL_BYTES: usize = 2048;

/// The size of a preview whose size is not told.
const USUAL_SIZE: [u32; 2] = [220, 165];

/// Largest width and height that are believed.
const MAX_SIZE: u64 = 1 << 16;

/// What a peer wants to see. Equal ones have equal answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// What is searched for, in lower case; `None`: what is liked now.
    pub query: Option<String>,
    /// How many.
    pub most: u64,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gif {
    /// The provider's name for it.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// Where it is, by `https`.
    pub url: String,
    /// Where a small one is, by `https`.
    pub preview: String,
    /// Width and height of the small one.
    pub dims: [u32; 2],
}

/// The provider's answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no answer of a provider of GIFs")]
pub struct NoAnswer;

#[derive(Deserialize)]
struct Request {
    kind: String,
    #[serde(default)]
    query: String,
    limit: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Response {
    results: Vec<Gif>,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Value>,
}

/// Reads what a peer wants to see.
///
/// # Errors
/// [`cbor::NotRead`].
pub fn read(request: &[u8]) -> Result<Wanted, cbor::NotRead> {
    let Request { kind, query, limit } = cbor::read(request)?;
    let mut query = query.trim().to_lowercase();
    query.truncate(query.floor_char_boundary(MAX_QUERY_BYTES));
    let is_search = kind == "search" && !query.is_empty();
    Ok(Wanted { query: is_search.then_some(query), most: limit.unwrap_or(DEFAULT_FOUND).clamp(1, MAX_FOUND) })
}

/// What a peer is told was found.
#[must_use]
pub fn found(gifs: Vec<Gif>) -> Bytes {
    cbor::write(&Response { results: gifs }).into()
}

/// What a provider found, `most` at most; what lacks a part, or has one that clients should not be given, is left out.
///
/// # Errors
/// [`NoAnswer`].
pub fn read_answer(json: &[u8], most: u64) -> Result<Vec<Gif>, NoAnswer> {
    let Answer { results } = serde_json::from_slice(json).map_err(|_| NoAnswer)?;
    Ok(results.iter().filter_map(gif).take(usize::try_from(most).unwrap_or(usize::MAX)).collect())
}

fn gif(of: &Value) -> Option<Gif> {
    let id = match &of["id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let text = |name: &str| of[name].as_str().map(str::trim).filter(|text| !text.is_empty());
    let mut title = text("content_description").or_else(|| text("title")).unwrap_or_default().to_owned();
    title.truncate(title.floor_char_boundary(MAX_TITLE_BYTES));
    let (large, small) = (&of["media_formats"]["gif"], &of["media_formats"]["tinygif"]);
    let (url, preview) = (url(&large["url"])?, url(&small["url"])?);
    (id.len() <= MAX_ID_BYTES).then(|| Gif { id, title, url, preview, dims: size(&small["dims"]) })
}

fn url(of: &Value) -> Option<String> {
    let url =
        of.as_str().filter(|url| url.len() <= MAX_URL_BYTES && url.bytes().all(|byte| byte.is_ascii_graphic()))?;
    url.strip_prefix("https://")
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .map(|_| url.to_owned())
}

fn size(of: &Value) -> [u32; 2] {
    let side =
        |at: usize| of[at].as_u64().filter(|side| (1..=MAX_SIZE).contains(side)).and_then(|side| side.try_into().ok());
    match (side(0), side(1)) {
        (Some(width), Some(height)) => [width, height],
        _ => USUAL_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Asked<'a> {
        kind: &'a str,
        query: &'a str,
        limit: u64,
    }

    fn asked(kind: &str, query: &str, limit: u64) -> Wanted {
        read(&cbor::write(&Asked { kind, query, limit })).unwrap()
    }

    fn entry() -> Value {
        json!({
            "id": "7",
            "title": "a cat",
            "content_description": "A cat ",
            "media_formats": {
                "gif": {"url": "https://g.example/7.gif", "dims": [440, 330], "size": 7},
                "tinygif": {"url": "https://g.example/7s.gif", "dims": [200, 150]},
                "mp4": {"url": "https://g.example/7.mp4"},
            },
        })
    }

    fn read_one(entry: Value) -> Vec<Gif> {
        read_answer(json!({"results": [entry], "next": "x"}).to_string().as_bytes(), 50).unwrap()
    }

    #[test]
    fn what_is_wanted_is_read_in_one_form() {
        let search = |query: &str, most| Wanted { query: Some(query.to_owned()), most };
        assert_eq!(asked("search", "  Big CAT ", 20), search("big cat", 20));
        assert_eq!(asked("search", "x", 99), search("x", 50));
        let liked = |most| Wanted { query: None, most };
        assert_eq!([asked("search", " ", 0), asked("trending", "cat", 7)], [liked(1), liked(7)]);
        let long = asked("search", &"ä".repeat(300), 1).query.unwrap();
        assert_eq!(long.len(), MAX_QUERY_BYTES);
        for bad in [&b""[..], b"\xa0", b"\xa1\x64kind\x01", b"\x66search"] {
            assert_eq!(read(bad), Err(cbor::NotRead), "{bad:x?}");
        }
    }

    #[test]
    fn what_is_found_is_told_as_clients_read_it() {
        assert_eq!(found(Vec::new())[..], [&[0xa1, 0x67][..], b"results", &[0x80]].concat());
        let gif = &read_one(entry())[0];
        let expected = Gif {
            id: "7".into(),
            title: "A cat".into(),
            url: "https://g.example/7.gif".into(),
            preview: "https://g.example/7s.gif".into(),
            dims: [200, 150],
        };
        assert_eq!(*gif, expected);
        let told: Response = cbor::read(&found(vec![expected.clone()])).unwrap();
        assert_eq!(told.results, [expected]);
        let first = found(vec![gif.clone()]);
        assert_eq!(first[..14], [&[0xa1, 0x67][..], b"results", &[0x81, 0xa5, 0x62, b'i', b'd']].concat());
    }

    #[test]
    fn what_clients_should_not_be_given_is_left_out() {
        let with = |path: &str, value: Value| {
            let mut entry = entry();
            *entry.pointer_mut(path).unwrap() = value;
            read_one(entry)
        };
        for bad in [json!("http://g.example/7.gif"), json!("https://"), json!("https://a b"), json!(7), Value::Null] {
            assert!(with("/media_formats/gif/url", bad.clone()).is_empty(), "{bad}");
            assert!(with("/media_formats/tinygif/url", bad.clone()).is_empty(), "{bad}");
        }
        assert!(with("/media_formats/gif/url", json!(format!("https://g/{}", "x".repeat(MAX_URL_BYTES)))).is_empty());
        assert!(with("/id", json!("i".repeat(129))).is_empty() && with("/id", Value::Null).is_empty());
        assert_eq!(with("/id", json!(42))[0].id, "42");
        assert_eq!(with("/content_description", Value::Null)[0].title, "a cat");
        assert_eq!(with("/title", json!("t".repeat(999)))[0].title, "A cat");
        assert_eq!(with("/content_description", json!("é".repeat(999)))[0].title.len(), MAX_TITLE_BYTES);
        for odd in [json!([1]), json!([0, 5]), json!([1.5, 2]), json!("x"), json!([70_000, 1])] {
            assert_eq!(with("/media_formats/tinygif/dims", odd)[0].dims, USUAL_SIZE);
        }
        let mixed = json!({"results": [entry(), 1, {}, entry(), entry()]}).to_string();
        assert_eq!(read_answer(mixed.as_bytes(), 2).unwrap().len(), 2);
        for bad in ["", "[]", "{}", "{\"results\": 1}", "{\"results\": []} x"] {
            assert_eq!(read_answer(bad.as_bytes(), 2), Err(NoAnswer), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_or_refused(bytes: Vec<u8>, most: u64) {
            let _any = (read(&bytes), read_answer(&bytes, most));
        }
    }
}
