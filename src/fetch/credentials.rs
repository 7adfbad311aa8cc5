//! Rendered credentials: put on a request right before it is sent, hidden everywhere else.

use std::fmt;
use std::fmt::Write as _;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::origin::Judgement;
use super::transport::Request;

/// All but the unreserved characters of RFC 3986 section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What proves to an API who asks. What renders empty is left out.
#[derive(Clone, Default)]
pub struct Credentials {
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(String, String)>,
    /// Who asks, where the values change.
    known_as: Option<String>,
}

/// A credential that cannot be sent; never shows its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialProblem {
    /// The value cannot stand in a header.
    #[error(
        "the value for the header `{0}` holds a line break or another control character; look for one at the end of the secret"
    )]
    Header(HeaderName),
    /// The name of a query parameter is empty.
    #[error("a credential in `auth: query` has no name")]
    Nameless,
    /// RFC 7617 section 2.
    #[error("the user name in `auth: basic` holds a colon, which separates it from the password")]
    ColonInUser,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let query: Vec<_> = self.query.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Credentials")
            .field("headers", &headers)
            .field("query", &query)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// No credentials; a start to add to.
    pub fn none() -> Self {
        Self::default()
    }

    /// `Authorization: Bearer TOKEN` (RFC 6750).
    pub fn bearer(token: &str) -> Result<Self, CredentialProblem> {
        if token.is_empty() {
            return Ok(Self::none());
        }
        Self::none().header(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// `Authorization: Basic …` (RFC 7617), in UTF-8; the password may be empty.
    pub fn basic(user: &str, password: &str) -> Result<Self, CredentialProblem> {
        if user.is_empty() && password.is_empty() {
            return Ok(Self::none());
        }
        if user.contains(':') {
            return Err(CredentialProblem::ColonInUser);
        }
        let pair = base64(format!("{user}:{password}").as_bytes());
        Self::none().header(AUTHORIZATION, &format!("Basic {pair}"))
    }

    /// With a header more.
    pub fn header(mut self, name: HeaderName, value: &str) -> Result<Self, CredentialProblem> {
        if !value.is_empty() {
            let Ok(mut value) = HeaderValue::from_bytes(value.as_bytes()) else {
                return Err(CredentialProblem::Header(name));
            };
            value.set_sensitive(true);
            self.headers.push((name, value));
        }
        Ok(self)
    }

    /// With a query parameter more.
    pub fn query(mut self, name: &str, value: &str) -> Result<Self, CredentialProblem> {
        if name.is_empty() {
            return Err(CredentialProblem::Nameless);
        }
        if !value.is_empty() {
            self.query.push((name.to_owned(), value.to_owned()));
        }
        Ok(self)
    }

    /// Whether nothing will be sent.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty()
    }

    /// The same for an asker whose credential changes: who it is stays.
    #[must_use]
    pub fn known_as(mut self, identity: String) -> Self {
        self.known_as = Some(identity);
        self
    }

    /// All of them as one text, to be hashed: who asks, as the API tells askers apart.
    pub fn identity(&self) -> String {
        if let Some(identity) = &self.known_as {
            return identity.clone();
        }
        let headers = self.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            format!("{name}: {value}\0")
        });
        let query = self.query.iter();
        let query = query.map(|(name, value)| format!("{name}={value}\0"));
        headers.chain(query).collect()
    }

    /// Puts them on a request, in the place of what it carried under the same names. Only for
    /// origins that [`super::origin::Policy`] lets see them.
    pub fn attach(&self, request: &mut Request) {
        self.detach(request);
        for (name, value) in &self.headers {
            request.headers.append(name, value.clone());
        }
        if self.query.is_empty() {
            return;
        }
        let mut query = request.url.query().unwrap_or_default().to_owned();
        for (name, value) in &self.query {
            if !query.is_empty() {
                query.push('&');
            }
            let name = utf8_percent_encode(name, RESERVED);
            let value = utf8_percent_encode(value, RESERVED);
            let _ = write!(query, "{name}={value}");
        }
        request.url.set_query(Some(&query));
    }

    /// Attaches them where `judgement` lets them go, and takes them off where it does not.
    pub fn apply(&self, judgement: &Judgement, request: &mut Request) {
        if judgement.credentials() {
            self.attach(request);
        } else {
            self.detach(request);
        }
    }

    /// Takes them off a request: servers echo them in next links and redirects.
    pub fn detach(&self, request: &mut Request) {
        for (name, _) in &self.headers {
            request.headers.remove(name);
        }
        self.strip(&mut request.url);
    }

    /// Takes credential parameters off an address; the rest keeps its spelling.
    pub fn strip(&self, url: &mut Url) {
        let Some(query) = url.query().filter(|_| !self.query.is_empty()) else {
            return;
        };
        let is_credential = |pair: &str| {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            // Forms write a space as `+`; a server takes both for the same name.
            let name = name.replace('+', " ");
            let name = percent_decode_str(&name).decode_utf8_lossy();
            self.query.iter().any(|(secret, _)| *secret == name)
        };
        if !query.split('&').any(is_credential) {
            return;
        }
        let kept: Vec<&str> = query.split('&').filter(|p| !is_credential(p)).collect();
        let kept = kept.join("&");
        url.set_query((!kept.is_empty()).then_some(kept.as_str()));
    }

    /// The address as people may see it: without credential parameters or a password.
    pub fn redact(&self, url: &Url) -> String {
        let mut url = url.clone();
        self.strip(&mut url);
        // Both fail only where an address cannot have them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }
}

/// RFC 4648 section 4. Twelve lines do not need a dependency.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= group.len() {
                let digit = (bits >> (18 - 6 * i)) & 63;
                text.push(char::from(ALPHABET[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn request(url: &str) -> Request {
        Request {
            method: Method::GET,
            url: url.parse().unwrap(),
            headers: HeaderMap::new(),
            body: None,
            reach: crate::fetch::transport::Reach::default(),
            private: false,
            fresh: false,
        }
    }

    #[test]
    fn base64_as_in_rfc_4648_section_10() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn headers_are_sent_and_hidden() {
        let mut sent = request("https://api.example/x");
        let basic = Credentials::basic("Aladdin", "open sesame").unwrap();
        basic.attach(&mut sent);
        // The example of RFC 7617 section 2.
        assert_eq!(
            sent.headers[AUTHORIZATION],
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        let shown = format!("{sent:?} {basic:?}");
        assert!(!shown.contains("QWxh"), "{shown}");
        Credentials::bearer("t0ken").unwrap().attach(&mut sent);
        assert_eq!(sent.headers.get_all(AUTHORIZATION).iter().count(), 1);
        assert_eq!(sent.headers[AUTHORIZATION], "Bearer t0ken");
    }

    #[test]
    fn what_renders_empty_is_not_sent() {
        assert!(Credentials::bearer("").unwrap().is_empty());
        assert!(Credentials::basic("", "").unwrap().is_empty());
        assert!(!Credentials::basic("key", "").unwrap().is_empty());
        let key = HeaderName::from_static("x-api-key");
        let both = Credentials::none().header(key, "").unwrap();
        assert!(both.query("api_key", "").unwrap().is_empty());
    }

    #[test]
    fn a_bad_value_is_not_shown() {
        let key = HeaderName::from_static("x-api-key");
        let problem = Credentials::none()
            .header(key, "SECRET\r\nx: y")
            .unwrap_err();
        assert!(problem.to_string().contains("x-api-key"));
        assert!(!format!("{problem} {problem:?}").contains("SECRET"));
        assert!(Credentials::bearer("a\n").is_err());
        assert!(Credentials::basic("a:b", "c").is_err());
    }

    #[test]
    fn query_credentials_replace_what_the_server_echoed() {
        let key = Credentials::none().query("api key", "a&b=c").unwrap();
        let mut sent = request("https://api.example/x?q=a,b+c&api%20key=old&api+key=old&page=2");
        key.attach(&mut sent);
        assert_eq!(
            sent.url.as_str(),
            "https://api.example/x?q=a,b+c&page=2&api%20key=a%26b%3Dc"
        );
        assert!(!format!("{sent:?} {key:?}").contains("a%26b"));
        assert_eq!(
            key.redact(&sent.url),
            "https://api.example/x?q=a,b+c&page=2"
        );
        key.apply(
            &Judgement::Allowed {
                credentials: false,
                named: true,
            },
            &mut sent,
        );
        assert_eq!(sent.url.as_str(), "https://api.example/x?q=a,b+c&page=2");

        let mut bare = request("https://api.example/x");
        key.attach(&mut bare);
        assert_eq!(key.redact(&bare.url), "https://api.example/x");
    }
}
