//! Calls of a token endpoint (RFC 6749): what is sent, and what the answer says. Nothing is sent here.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::credentials::{CredentialProblem, Credentials};
use super::transport::{Reach, Request};
use crate::plan::auth::ClientPlace;

/// A call of a token endpoint, rendered.
#[derive(Clone)]
pub struct Grant {
    /// Where it goes.
    pub url: Url,
    /// Members of the form, without those of a single call.
    pub form: Vec<(String, String)>,
    /// The client, where it shows itself in a header.
    pub client: Credentials,
}

/// What a token endpoint gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    /// The token.
    pub access: String,
    /// What kind it is.
    pub kind: Option<String>,
    /// How long it holds from now on.
    pub lifetime: Option<Duration>,
    /// What the next token is had for, where it changes.
    pub refresh: Option<String>,
}

/// What a token endpoint says in place of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// An error of RFC 6749, section 5.2.
    Error {
        /// Its code: `invalid_client`, …
        code: String,
        /// The server's own words.
        words: Option<String>,
    },
    /// A success without a token.
    NoToken,
    /// Not the JSON object it should be.
    NoJson,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Grant").field(&self.url.origin()).finish()
    }
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted")
            .field("kind", &self.kind)
            .field("lifetime", &self.lifetime)
            .field("refreshes", &self.refresh.is_some())
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// A call of `url`, for a client that shows its id and secret in `place`.
    pub fn new(
        url: Url,
        client: Option<(&str, Option<&str>)>,
        place: ClientPlace,
    ) -> Result<Self, CredentialProblem> {
        let mut grant = Self {
            url,
            form: Vec::new(),
            client: Credentials::none(),
        };
        let Some((id, secret)) = client else {
            return Ok(grant);
        };
        match place {
            ClientPlace::Basic => {
                // Both are encoded as in a form first (RFC 6749, section 2.3.1).
                let coded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                grant.client = Credentials::basic(&coded(id), &coded(secret.unwrap_or_default()))?;
            }
            ClientPlace::Body => {
                grant.form.push(("client_id".to_owned(), id.to_owned()));
                let secret = secret.filter(|secret| !secret.is_empty());
                let secret = secret.map(|secret| ("client_secret".to_owned(), secret.to_owned()));
                grant.form.extend(secret);
            }
        }
        Ok(grant)
    }

    /// The request, with the members of this call: they come first, and no later one replaces them.
    pub fn request(&self, call: &[(&str, &str)]) -> Request {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(call);
        let given = |name: &str| call.iter().any(|(known, _)| *known == name);
        form.extend_pairs(self.form.iter().filter(|(name, _)| !given(name)));
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let mut request = Request {
            method: Method::POST,
            url: self.url.clone(),
            headers,
            body: Some(Bytes::from(form.finish())),
            reach: Reach::Anywhere,
            private: true,
            fresh: true,
        };
        self.client.attach(&mut request);
        request
    }

    /// What the client shows in a header: id and secret, coded, which no form of the secret alone tells.
    pub fn shown_client(&self) -> Option<String> {
        let shown = self.request(&[]).headers.remove(AUTHORIZATION)?;
        let text = shown.to_str().ok()?.strip_prefix("Basic ")?.to_owned();
        Some(text)
    }
}

/// What an answer of a token endpoint says.
///
/// Some servers say errors with status 200, so the status alone decides nothing.
pub fn read(status: StatusCode, body: &[u8]) -> Result<Granted, Refusal> {
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(Refusal::NoJson);
    };
    let text = |name: &str| {
        let text = body.get(name).and_then(serde_json::Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let Some(access) = text("access_token").filter(|_| status.is_success()) else {
        return Err(match text("error") {
            Some(code) => Refusal::Error {
                code,
                words: text("error_description"),
            },
            None => Refusal::NoToken,
        });
    };
    Ok(Granted {
        access,
        kind: text("token_type"),
        lifetime: body.get("expires_in").and_then(seconds),
        refresh: text("refresh_token"),
    })
}

/// Seconds, as a number or (against the RFC, but often) as text; what is no time ahead says nothing.
pub fn seconds(value: &serde_json::Value) -> Option<Duration> {
    let number = match value {
        serde_json::Value::Number(number) => number.as_f64()?,
        serde_json::Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (number >= 1.0)
        .then(|| Duration::try_from_secs_f64(number).ok())
        .flatten()
}
