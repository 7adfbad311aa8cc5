//! Who we say we are and what we can read: the headers that every request carries.

use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue};

/// The encodings that `fetch::body` decodes.
const ENCODINGS: &str = "gzip, br, zstd";

/// A contact that cannot stand in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`contact` cannot be sent in the User-Agent: use a plain e-mail address or URL, without line breaks or brackets"
)]
pub struct BadContact;

/// `gleaner/VERSION (+CONTACT)`, with the contact in a comment (RFC 9110 section 10.1.5).
pub fn user_agent(contact: Option<&str>) -> Result<HeaderValue, BadContact> {
    let product = concat!("gleaner/", env!("CARGO_PKG_VERSION"));
    match contact.map(str::trim).filter(|c| !c.is_empty()) {
        None => Ok(HeaderValue::from_static(product)),
        // Brackets and backslashes would need quoting in a comment, and no address has them.
        Some(c) if c.contains(['(', ')', '\\']) => Err(BadContact),
        Some(c) => HeaderValue::from_str(&format!("{product} (+{c})")).map_err(|_| BadContact),
    }
}

/// Adds what the stream did not set itself.
pub fn fill(headers: &mut HeaderMap, user_agent: &HeaderValue) {
    headers
        .entry(USER_AGENT)
        .or_insert_with(|| user_agent.clone());
    headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json"));
    headers
        .entry(ACCEPT_ENCODING)
        .or_insert(HeaderValue::from_static(ENCODINGS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_program_and_the_contact() {
        let bare = user_agent(None).unwrap();
        assert!(bare.to_str().unwrap().starts_with("gleaner/"));
        assert_eq!(user_agent(Some(" ")).unwrap(), bare);
        let full = user_agent(Some("data@example.org")).unwrap();
        assert!(full.to_str().unwrap().ends_with(" (+data@example.org)"));
        assert_eq!(user_agent(Some("a\r\nx: y")), Err(BadContact));
        assert_eq!(user_agent(Some("a) evil (")), Err(BadContact));
    }

    #[test]
    fn what_the_stream_set_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/vnd.github+json"),
        );
        fill(&mut headers, &user_agent(None).unwrap());
        assert_eq!(headers[ACCEPT], "application/vnd.github+json");
        assert_eq!(headers[ACCEPT_ENCODING], "gzip, br, zstd");
        assert!(headers.contains_key(USER_AGENT));
    }
}
