//! Redirects, decided one hop at a time: each hop is a request of its own, with a permit of its
//! own and credentials judged anew. (Libraries that follow by themselves send custom key headers
//! and `Referer` to other hosts.)

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, HeaderName,
    LOCATION,
};
use http::{HeaderMap, Method, StatusCode};

use super::origin::{Policy, Refusal, resolve};
use super::transport::Request;

/// Most redirects followed for one page.
pub const MOST_HOPS: u32 = 5;

/// Headers that describe a body and go with it (Fetch standard, "request-body-header name").
static OF_THE_BODY: [HeaderName; 5] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_TYPE,
];

/// What to do about an answer that may be a redirect.
#[derive(Debug)]
pub enum Hop {
    /// It is none: judge the answer itself.
    None,
    /// Send this instead, with credentials only if the policy gives them to its origin.
    Follow(Box<Request>),
    /// It leads where this run does not go.
    Refused {
        /// Why, for a person.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// Decides about one answer. `request` is what was sent, before credentials were attached;
/// `hops` is how many redirects were followed before it.
pub fn next_hop(
    request: &Request,
    status: StatusCode,
    headers: &HeaderMap,
    policy: &Policy,
    hops: u32,
) -> Hop {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Hop::None;
    }
    // Without a Location there is nothing to follow: the answer stands for itself.
    let Some(location) = headers.get(LOCATION) else {
        return Hop::None;
    };
    let from = request.url.origin().ascii_serialization();
    let refuse_for = |reason: &dyn std::fmt::Display, hint: Option<String>| Hop::Refused {
        message: format!("refused a redirect ({status}) from {from}: {reason}"),
        hint,
    };
    let refuse = |refusal: &Refusal| refuse_for(refusal, refusal.hint());
    if hops >= MOST_HOPS {
        return refuse_for(
            &format!("{MOST_HOPS} were followed already, so it looks like a loop"),
            Some(
                "check `source.url`, `get` and `auth`: some APIs send strangers round in circles"
                    .to_owned(),
            ),
        );
    }
    let Ok(location) = std::str::from_utf8(location.as_bytes()) else {
        return refuse_for(&"its Location is not text", None);
    };
    let url = match resolve(&request.url, location) {
        Ok(url) => url,
        Err(refusal) => return refuse(&refusal),
    };
    let judgement = policy.judge(&url);
    if request.url.scheme() == "https" && url.scheme() == "http" {
        let origin = url.origin().ascii_serialization();
        return refuse(&Refusal::Downgrade { origin });
    }

    let mut next = request.clone();
    next.url = url;
    // RFC 9110 section 15.4: 303 asks for a GET; 301 and 302 turn a POST into one by long
    // practice; 307 and 308 keep everything.
    let to_get = match status.as_u16() {
        303 => next.method != Method::HEAD,
        301 | 302 => next.method == Method::POST,
        _ => false,
    };
    if to_get {
        next.method = Method::GET;
        next.body = None;
        for name in &OF_THE_BODY {
            next.headers.remove(name);
        }
    }
    match judgement.admit(&mut next) {
        Ok(()) => Hop::Follow(Box::new(next)),
        Err(refusal) => refuse(&refusal),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use globset::Glob;
    use http::HeaderValue;
    use http::header::ACCEPT;

    use super::super::transport::Reach;
    use super::*;
    use crate::plan::OriginRule;

    fn post() -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert("x-key", HeaderValue::from_static("SECRET"));
        Request {
            method: Method::POST,
            url: "https://api.example/a?b=1".parse().unwrap(),
            headers,
            body: Some(Bytes::from_static(b"{}")),
            reach: Reach::default(),
            private: false,
            fresh: false,
        }
    }

    fn policy() -> Policy {
        let rule = |written: &str, credentials| OriginRule {
            exact: true,
            matcher: Glob::new(written).unwrap().compile_matcher(),
            written: written.to_owned(),
            credentials,
        };
        let rules = [
            rule("https://cdn.example", false),
            rule("https://trusted.example", true),
        ];
        Policy::new(&"https://api.example".parse().unwrap(), &rules)
    }

    fn hop(request: &Request, status: u16, location: &str, hops: u32) -> Hop {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        next_hop(request, status, &headers, &policy(), hops)
    }

    fn followed(request: &Request, status: u16, location: &str) -> Request {
        match hop(request, status, location, 0) {
            Hop::Follow(next) => *next,
            other => panic!("{status} to {location}: {other:?}"),
        }
    }

    fn refused(request: &Request, status: u16, location: &str, hops: u32) -> String {
        match hop(request, status, location, hops) {
            Hop::Refused { message, hint } => format!("{message} {}", hint.unwrap_or_default()),
            other => panic!("{status} to {location}: {other:?}"),
        }
    }

    #[test]
    fn only_redirects_are_followed() {
        for status in [200, 300, 304, 305, 306, 404] {
            assert!(matches!(hop(&post(), status, "/x", 0), Hop::None));
        }
        let bare = next_hop(&post(), StatusCode::FOUND, &HeaderMap::new(), &policy(), 0);
        assert!(matches!(bare, Hop::None));
    }

    #[test]
    fn a_post_becomes_a_get_without_its_body() {
        for status in [301, 302, 303] {
            let next = followed(&post(), status, "/b");
            assert_eq!(next.method, Method::GET);
            assert_eq!(next.url.as_str(), "https://api.example/b");
            assert!(next.body.is_none());
            assert!(!next.headers.contains_key(CONTENT_TYPE));
            assert_eq!(next.headers["x-key"], "SECRET");
        }
        for status in [307, 308] {
            let next = followed(&post(), status, "?b=2");
            assert_eq!(next.method, Method::POST);
            assert!(next.body.is_some());
            assert!(next.headers.contains_key(CONTENT_TYPE));
        }
    }

    #[test]
    fn another_origin_sees_no_secret() {
        let message = refused(&post(), 302, "https://evil.example/?k=1", 0);
        assert!(message.contains(r#"`allow_origins: ["https://evil.example"]`"#));
        assert!(!message.contains("k=1"));

        let mut get = post();
        get.method = Method::GET;
        get.body = None;
        let next = followed(&get, 307, "https://cdn.example/x");
        assert!(!next.headers.contains_key("x-key"));
        assert!(next.headers.contains_key(ACCEPT));
        assert!(refused(&post(), 307, "https://cdn.example/x", 0).contains("credentials: true"));
        let trusted = followed(&post(), 307, "https://trusted.example/x");
        assert!(trusted.body.is_some() && trusted.headers.contains_key("x-key"));
        assert!(!trusted.headers.contains_key("referer"));
    }

    #[test]
    fn stops_where_it_must() {
        for location in [
            "http://api.example/x",
            "file:///etc/passwd",
            "https://user@api.example/",
            "//evil.example",
        ] {
            refused(&post(), 302, location, 0);
        }
        followed(&post(), 302, "/x");
        assert!(matches!(
            hop(&post(), 302, "/x", MOST_HOPS - 1),
            Hop::Follow(_)
        ));
        assert!(refused(&post(), 302, "/x", MOST_HOPS).contains("loop"));
    }
}
