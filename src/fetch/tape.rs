//! Recorded exchanges: what `run --record` writes and `run --replay` reads, a line of JSON each.
//! `docs/state.md` describes the file.
//!
//! No secret is in it: credentials are left out, the rest is scrubbed by value before it comes here.
//! Both sides make a request into a [`Sought`] in the same way, so that a replay, whose secrets are
//! their own names in brackets, finds what the recording wrote.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    PROXY_AUTHORIZATION, SET_COOKIE, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::credentials::{Credentials, base64};
use super::transport::{Request, SendError, SendErrorKind};

/// The version of the file that this program writes and reads.
pub const VERSION: u32 = 1;

/// Headers of requests that tell no two of them apart, or prove who asks.
const NOT_ASKED: [HeaderName; 9] = [
    AUTHORIZATION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    PROXY_AUTHORIZATION,
    // It names the version of the program.
    USER_AGENT,
    CONNECTION,
];
/// Headers of answers that are of one message alone, or are secrets.
const NOT_ANSWERED: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING];

/// The first line: what the run began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`] of who wrote it.
    pub cassette: u32,
    /// The program's version.
    pub program: String,
    /// The pipeline.
    pub pipeline: String,
    /// When the run began: what templates take for now.
    pub started: Timestamp,
    /// Its seed, in hexadecimal.
    pub seed: String,
    /// Names of the secrets that had a value.
    pub secrets: Vec<String>,
    /// Environment variables that templates name.
    pub env: Vec<(String, String)>,
    /// Where cursors stood.
    pub cursors: Vec<HeadCursor>,
}

/// Where a cursor stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadCursor {
    /// The stream.
    pub stream: String,
    /// The partition's variables as JSON.
    pub partition: String,
    /// The cursor's field.
    pub field: String,
    /// Up to where it was published.
    pub value: String,
}

/// A request and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// By when it was sent, from 0.
    pub order: u64,
    /// Milliseconds from the run's start until it was sent.
    pub at_ms: u64,
    /// Milliseconds until its answer was whole.
    pub took_ms: u64,
    /// What was asked.
    pub request: Sought,
    /// The answer; nothing where none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why no whole answer came: its kind, and words. `unanswered` where nobody waited longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<(String, String)>,
}

/// A request without what is secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sought {
    /// `GET` or `POST`.
    pub method: String,
    /// The address.
    pub url: String,
    /// Headers, by name.
    pub headers: Vec<(String, String)>,
    /// What it carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body, unpacked, where that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its body in base64 (RFC 4648, section 4), where it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Takes secrets out of text.
pub type Scrub = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What makes exchanges fit to be written down.
#[derive(Clone)]
pub struct Cleaner {
    scrub: Scrub,
    credentials: Credentials,
}

impl fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cleaner")
    }
}

impl Cleaner {
    /// Takes out these credentials, and what `scrub` finds.
    pub fn new(scrub: Scrub, credentials: Credentials) -> Self {
        Self { scrub, credentials }
    }

    /// Text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        (self.scrub)(text)
    }

    /// A request without secrets.
    pub(super) fn request(&self, request: &Request) -> Sought {
        let headers = request
            .headers
            .iter()
            .filter(|(name, value)| !value.is_sensitive() && !NOT_ASKED.contains(name));
        let mut headers = self.pairs(headers);
        headers.sort_unstable();
        Sought {
            method: request.method.to_string(),
            url: self.address(&request.url),
            headers,
            body: request
                .body
                .as_ref()
                .map(|body| match std::str::from_utf8(body) {
                    Ok(text) => self.text(text),
                    Err(_) => base64(&self.bytes(body)),
                }),
        }
    }

    /// An answer without secrets; `unpacked` is its body.
    pub(super) fn answer(&self, status: u16, headers: &HeaderMap, unpacked: &[u8]) -> Answer {
        let headers = self.heard(headers);
        let (body, base64) = match std::str::from_utf8(unpacked) {
            Ok(text) => (Some(self.text(text)), None),
            Err(_) => (None, Some(base64(&self.bytes(unpacked)))),
        };
        Answer {
            status,
            headers,
            body,
            base64,
        }
    }

    /// Headers of an answer whose body is unpacked, without secrets.
    pub fn heard(&self, headers: &HeaderMap) -> Vec<(String, String)> {
        let kept = |name: &HeaderName| {
            !NOT_ANSWERED.contains(name) && *name != http::header::CONTENT_ENCODING
        };
        self.pairs(headers.iter().filter(|(name, _)| kept(name)))
    }

    /// An address without secrets.
    pub fn address(&self, url: &url::Url) -> String {
        self.text(&self.credentials.redact(url))
    }

    /// A body without secrets. Of one that is packed inside, such as a zip, nothing is found.
    pub fn body(&self, unpacked: &[u8]) -> Vec<u8> {
        match std::str::from_utf8(unpacked) {
            Ok(text) => self.text(text).into_bytes(),
            Err(_) => self.bytes(unpacked),
        }
    }

    fn pairs<'a>(
        &self,
        headers: impl Iterator<Item = (&'a HeaderName, &'a http::HeaderValue)>,
    ) -> Vec<(String, String)> {
        headers
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().to_owned(), self.text(&value))
            })
            .collect()
    }

    /// Bytes that are no text, each as the character of its number, so that what is ASCII is found.
    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let clean = self.text(&text);
        clean.chars().filter_map(|c| u8::try_from(c).ok()).collect()
    }
}

impl Answer {
    /// Bytes of its body, as it is written.
    pub(super) fn size(&self) -> usize {
        let text = self.body.as_ref().or(self.base64.as_ref());
        text.map_or(0, String::len)
    }

    /// Its body; nothing where it is damaged.
    pub(super) fn bytes(&self) -> Option<Bytes> {
        match (&self.body, &self.base64) {
            (Some(text), _) => Some(Bytes::from(text.clone())),
            (None, Some(text)) => decode(text).map(Bytes::from),
            (None, None) => Some(Bytes::new()),
        }
    }
}

/// RFC 4648 section 4, backwards.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0;
        for byte in group {
            bits = bits << 6 | u32::from(digit(*byte)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, all @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(all.get(..group.len().checked_sub(1)?)?);
    }
    Some(bytes)
}

/// Kinds of trouble by the names that they have in the file.
const KINDS: [(SendErrorKind, &str); 14] = [
    (SendErrorKind::UnknownHost, "unknown_host"),
    (SendErrorKind::Connect, "connect"),
    (SendErrorKind::Unprocessed, "unprocessed"),
    (SendErrorKind::Certificate, "certificate"),
    (SendErrorKind::Timeout, "timeout"),
    (SendErrorKind::Dropped, "dropped"),
    (SendErrorKind::Broken, "broken"),
    (SendErrorKind::Truncated, "truncated"),
    (SendErrorKind::Request, "request"),
    (SendErrorKind::NotPublic, "not_public"),
    (SendErrorKind::HeadTooLarge, "head_too_large"),
    (SendErrorKind::Unrecorded, "unrecorded"),
    (SendErrorKind::Withheld, "withheld"),
    (SendErrorKind::Broken, UNANSWERED),
];

/// Nobody waited longer for the answer.
pub(super) const UNANSWERED: &str = "unanswered";

/// A trouble as it is written.
pub(super) fn written(error: &SendError, cleaner: &Cleaner) -> (String, String) {
    let kind = KINDS.iter().find(|(kind, _)| *kind == error.kind);
    let name = kind.map_or("broken", |(_, name)| name);
    (name.to_owned(), cleaner.text(&error.message))
}

/// A trouble as it was.
pub(super) fn read((name, message): &(String, String)) -> SendError {
    let kind = KINDS.iter().find(|(_, known)| known == name);
    SendError {
        kind: kind.map_or(SendErrorKind::Broken, |(kind, _)| *kind),
        message: message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_comes_back() {
        for len in 0..20_u8 {
            let bytes: Vec<u8> = (0..len).map(|n| n.wrapping_mul(37) ^ 0xa5).collect();
            assert_eq!(decode(&base64(&bytes)), Some(bytes));
        }
        assert_eq!(decode("a"), Some(Vec::new()));
        assert_eq!(decode("a b="), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_scrubbed_too() {
        let scrub: Scrub = Arc::new(|text: &str| text.replace("hidden", "[S]"));
        let cleaner = Cleaner::new(scrub, Credentials::none());
        let answer = cleaner.answer(200, &HeaderMap::new(), b"\xffhidden\x80");
        assert_eq!(answer.bytes().unwrap(), &b"\xff[S]\x80"[..]);
    }
}
