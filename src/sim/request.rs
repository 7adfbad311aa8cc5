//! What the pretend API is asked and what it answers, apart from how either travels.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::Value;

use crate::clock::Instant;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct SimRequest {
    /// When it arrived, stamped before anything was done with it.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Scheme, host and port it was meant for: `https://api.github.com`.
    pub origin: String,
    /// Its path, still percent-encoded.
    pub path: String,
    /// Path and query, as sent.
    pub target: String,
    /// Its query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it carried.
    pub body: Bytes,
    /// What the `{names}` of the route's path stood for, decoded.
    pub captures: Vec<(String, String)>,
}

impl SimRequest {
    /// Takes a request apart; `target` is path and query.
    pub fn new(
        at: Instant,
        method: Method,
        origin: &str,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            at,
            method,
            origin: origin.to_owned(),
            path: path.to_owned(),
            target: target.to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            headers,
            body,
            captures: Vec::new(),
        }
    }

    /// A parameter: `body.a.b` out of a JSON body, `header:name` out of the headers, any other
    /// name out of the path's `{names}` and then the query. `null` counts as left out.
    pub fn param(&self, name: &str) -> Option<String> {
        if let Some(dotted) = name.strip_prefix("body.") {
            return match self.json(dotted)? {
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
        }
        if let Some(header) = name.strip_prefix("header:") {
            let value = self.headers.get(header)?.to_str().ok()?;
            return Some(value.to_owned());
        }
        self.captures
            .iter()
            .chain(&self.query)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }

    /// The value at a dotted path of a JSON body.
    pub fn json(&self, dotted: &str) -> Option<Value> {
        let whole: Value = serde_json::from_slice(&self.body).ok()?;
        let pointer = format!("/{}", dotted.replace('.', "/"));
        whole.pointer(&pointer).cloned()
    }

    /// The same path and query with one query parameter set, or changed in place.
    pub fn target_with(&self, name: &str, value: &str) -> String {
        let mut written = url::form_urlencoded::Serializer::new(String::new());
        let mut found = false;
        for (key, old) in &self.query {
            let is_it = key == name;
            found |= is_it;
            written.append_pair(key, if is_it { value } else { old });
        }
        if !found {
            written.append_pair(name, value);
        }
        format!("{}?{}", self.path, written.finish())
    }
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct SimReply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers; the length is added where it is sent.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl SimReply {
    /// An answer with the given headers; names and values that HTTP does not allow are left out,
    /// and a status that is none becomes 500.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let mut reply = Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: HeaderMap::new(),
            body: body.into(),
        };
        for (name, value) in headers {
            reply = reply.header(name, value);
        }
        reply
    }

    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, &[("content-type", "application/json")], body)
    }

    /// An error as APIs tell it: `{"error":"…"}`.
    pub fn error(status: u16, message: &str) -> Self {
        Self::json(status, serde_json::json!({ "error": message }).to_string())
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            self.headers.append(name, value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_parameter_is_found_in_path_query_header_and_body() {
        let mut headers = HeaderMap::new();
        headers.insert("x-page", HeaderValue::from_static("4"));
        let mut request = SimRequest::new(
            Clock::system().now(),
            Method::POST,
            "http://a.test",
            "/x?q=a%20b&page=2",
            headers,
            Bytes::from_static(br#"{"paging":{"after":"t1","none":null},"n":3}"#),
        );
        request.captures.push(("page".into(), "9".into()));
        assert_eq!(request.param("q").as_deref(), Some("a b"));
        assert_eq!(request.param("page").as_deref(), Some("9"));
        assert_eq!(request.param("header:x-page").as_deref(), Some("4"));
        assert_eq!(request.param("body.paging.after").as_deref(), Some("t1"));
        assert_eq!(request.param("body.n").as_deref(), Some("3"));
        assert_eq!(request.param("body.paging.none"), None);
        assert_eq!(request.target_with("page", "3"), "/x?q=a+b&page=3");
    }
}
