//! Which origins a run may reach, and which of them may see credentials.
//!
//! Every address that did not come from the pipeline file alone passes here before anything is
//! sent: next links, redirects, templates over response data.

use globset::GlobMatcher;
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, USER_AGENT};
use url::Url;

use super::reach::is_private_host;
use super::transport::{Reach, Request};
use crate::plan::OriginRule;

/// Headers that hold no secret; all that go to an origin without `credentials: true`.
static HARMLESS: [HeaderName; 4] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, USER_AGENT];

/// Judges addresses against the source's own origin and its `allow_origins`.
#[derive(Debug, Clone)]
pub struct Policy {
    base: url::Origin,
    secure: bool,
    allowed: Vec<Allowed>,
}

#[derive(Debug, Clone)]
struct Allowed {
    matcher: GlobMatcher,
    exact: bool,
    credentials: bool,
}

/// Whether an address may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The source's own origin: credentials go along.
    Same,
    /// Another origin that the file allows.
    Allowed {
        /// Whether credentials go along.
        credentials: bool,
        /// Whether the file names just this origin; a pattern that matches it reaches public
        /// addresses only.
        named: bool,
    },
    /// Not to be reached.
    Refused(Refusal),
}

/// Why an address is not reached. Shows its origin only: the rest may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another origin that the file does not name.
    #[error("{origin} is another origin than the source's")]
    OtherOrigin {
        /// Its scheme, host and port.
        origin: String,
    },
    /// From https to http.
    #[error("{origin} is plain http while the source is https; the data would travel unprotected")]
    Downgrade {
        /// Its scheme, host and port.
        origin: String,
    },
    /// A body on its way to an origin that gets no credentials.
    #[error(
        "the request has a body, which may hold secrets, and `allow_origins` names {origin} without `credentials: true`"
    )]
    Body {
        /// Its scheme, host and port.
        origin: String,
    },
    /// A secret in the address of an origin that gets no credentials.
    #[error(
        "the address at {origin} holds a secret of this run, and `allow_origins` names that origin without `credentials: true`"
    )]
    Secret {
        /// Its scheme, host and port.
        origin: String,
    },
    /// An address of this machine or its network that only a pattern allows.
    #[error(
        "{origin} is not on the public internet, and `allow_origins` allows it by a pattern only"
    )]
    Private {
        /// Its scheme, host and port.
        origin: String,
    },
    /// User name or password in the address.
    #[error(
        "the address of {origin} holds a user name or a password; credentials belong in `auth`, never in an address"
    )]
    UserInfo {
        /// Its scheme, host and port.
        origin: String,
    },
    /// Not http or https.
    #[error("an address of scheme `{scheme}` is not reached; only http and https are")]
    Scheme {
        /// Its scheme.
        scheme: String,
    },
    /// Not an address at all.
    #[error("the address the server named cannot be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

impl Refusal {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::OtherOrigin { origin } => Some(format!(
                "if it belongs to the API, add `allow_origins: [\"{origin}\"]` under `source`; credentials stay behind unless the entry says `credentials: true`"
            )),
            Self::Body { origin } | Self::Secret { origin } => Some(format!(
                "if that origin may see them, write `allow_origins: [{{ origin: \"{origin}\", credentials: true }}]` under `source`"
            )),
            Self::Private { origin } => Some(format!(
                "if it belongs to the API, name it without a wildcard: `allow_origins: [\"{origin}\"]` under `source`"
            )),
            Self::Downgrade { .. }
            | Self::UserInfo { .. }
            | Self::Scheme { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

impl Judgement {
    /// Whether credentials may go along.
    pub fn credentials(&self) -> bool {
        matches!(
            self,
            Self::Same
                | Self::Allowed {
                    credentials: true,
                    ..
                }
        )
    }

    /// Makes a request, still without credentials, fit for the origin so judged: one that gets
    /// no credentials gets no header or body either in which a template may have put a secret.
    pub fn admit(&self, request: &mut Request) -> Result<(), Refusal> {
        request.reach = match self {
            Self::Same | Self::Allowed { named: true, .. } => Reach::Anywhere,
            Self::Allowed { named: false, .. } | Self::Refused(_) => Reach::Public,
        };
        match self {
            Self::Refused(refusal) => Err(refusal.clone()),
            _ if self.credentials() => Ok(()),
            _ if request.body.is_some() => Err(Refusal::Body {
                origin: request.url.origin().ascii_serialization(),
            }),
            _ => {
                request.headers = HARMLESS
                    .iter()
                    .filter_map(|name| Some((name.clone(), request.headers.get(name)?.clone())))
                    .collect();
                Ok(())
            }
        }
    }
}

impl Policy {
    /// The policy of a source: its rendered base URL and the origins it allows beside.
    pub fn new(base: &Url, allow: &[OriginRule]) -> Self {
        Self {
            base: base.origin(),
            secure: base.scheme() == "https",
            allowed: allow
                .iter()
                .map(|rule| Allowed {
                    matcher: rule.matcher.clone(),
                    exact: rule.exact,
                    credentials: rule.credentials,
                })
                .collect(),
        }
    }

    /// Judges one absolute address.
    pub fn judge(&self, url: &Url) -> Judgement {
        let origin = url.origin();
        let shown = || origin.ascii_serialization();
        if !matches!(url.scheme(), "http" | "https") {
            let scheme = url.scheme().to_owned();
            return Judgement::Refused(Refusal::Scheme { scheme });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Judgement::Refused(Refusal::UserInfo { origin: shown() });
        }
        if origin == self.base {
            return Judgement::Same;
        }
        if self.secure && url.scheme() == "http" {
            return Judgement::Refused(Refusal::Downgrade { origin: shown() });
        }
        let origin = shown();
        let rules: Vec<&Allowed> = self
            .allowed
            .iter()
            .filter(|rule| rule.matcher.is_match(&origin))
            .collect();
        if rules.is_empty() {
            return Judgement::Refused(Refusal::OtherOrigin { origin });
        }
        let named = rules.iter().any(|rule| rule.exact);
        if !named && is_private_host(url) {
            return Judgement::Refused(Refusal::Private { origin });
        }
        Judgement::Allowed {
            credentials: rules.iter().any(|rule| rule.credentials),
            named,
        }
    }
}

/// The absolute address that `reference` means in an answer from `current` (RFC 3986 section 5),
/// without its fragment. Whether it may be reached is for [`Policy::judge`].
pub fn resolve(current: &Url, reference: &str) -> Result<Url, Refusal> {
    let reference = reference.trim();
    // `url` drops tabs and line breaks silently, and so would reach something that nobody wrote.
    if reference.contains(|c: char| c.is_control()) {
        return Err(Refusal::Unreadable {
            reason: "it holds a control character".to_owned(),
        });
    }
    let mut url = current
        .join(reference)
        .map_err(|problem| Refusal::Unreadable {
            reason: problem.to_string(),
        })?;
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use globset::Glob;

    use super::*;

    fn rule(written: &str, credentials: bool) -> OriginRule {
        OriginRule {
            exact: !written.contains('*'),
            matcher: Glob::new(written).unwrap().compile_matcher(),
            written: written.to_owned(),
            credentials,
        }
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    /// What becomes of a reference in an answer from the API.
    fn judged(policy: &Policy, reference: &str) -> Judgement {
        match resolve(&url("https://api.example/v1/items?page=1"), reference) {
            Ok(url) => policy.judge(&url),
            Err(refusal) => Judgement::Refused(refusal),
        }
    }

    #[test]
    fn own_origin_in_every_form() {
        let policy = Policy::new(&url("https://api.example/v1"), &[]);
        for reference in [
            "?page=2",
            "/v1/items?page=2",
            "items?page=2",
            "https://api.example/x",
            "https://api.example:443/x",
            "HTTPS://API.EXAMPLE/x",
            "//api.example/x",
            "",
        ] {
            assert_eq!(judged(&policy, reference), Judgement::Same, "{reference}");
        }
    }

    #[test]
    fn other_origins_are_refused_in_every_disguise() {
        let policy = Policy::new(&url("https://api.example/v1"), &[]);
        for reference in [
            "//evil.example/x",
            r"\\evil.example/x",
            r"/\evil.example/x",
            "https://api.example@evil.example/x",
            "https://api.example:pw@api.example/x",
            "https://api.example.evil.example/x",
            "https://evil-api.example/x",
            "https://api.example:8443/x",
            "http://api.example/x",
            "file:///etc/passwd",
            "ftp://api.example/x",
            "data:,x",
            "https://api.ex\tample/x",
            "https:///",
            "http://169.254.169.254/latest",
            "https://2130706433/",
        ] {
            let judgement = judged(&policy, reference);
            assert!(
                matches!(judgement, Judgement::Refused(_)),
                "{reference}: {judgement:?}"
            );
            assert!(!judgement.credentials());
        }
    }

    #[test]
    fn allowed_origins_get_credentials_only_when_said() {
        let rules = [
            rule("https://cdn.example", false),
            rule("https://*.trusted.example", true),
            rule("http://plain.example", true),
        ];
        let policy = Policy::new(&url("https://api.example"), &rules);
        let allowed = |credentials, named| Judgement::Allowed { credentials, named };
        assert_eq!(
            judged(&policy, "https://cdn.example/x"),
            allowed(false, true)
        );
        assert_eq!(
            judged(&policy, "https://a.trusted.example/x"),
            allowed(true, false)
        );
        for reference in [
            "https://cdn.example.evil.example/",
            "https://evil.example/?.trusted.example",
            "https://evil.example/.trusted.example",
            // Allowed or not: what was https stays https.
            "http://plain.example/",
        ] {
            let judgement = judged(&policy, reference);
            assert!(
                matches!(judgement, Judgement::Refused(_)),
                "{reference}: {judgement:?}"
            );
        }
    }

    #[test]
    fn a_pattern_reaches_the_public_internet_only() {
        let rules = [
            rule("http://*", true),
            rule("https://*", true),
            rule("http://10.0.0.7:8080", false),
        ];
        let policy = Policy::new(&url("http://192.168.1.1:81"), &rules);
        for refused in [
            "http://169.254.169.254/latest/meta-data/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::1]:8080/",
            "http://localhost/",
            "http://10.0.0.7/",
            "https://10.0.0.7:8080/",
            "http://192.168.1.1/",
            "https://100.64.0.1/",
        ] {
            let judgement = judged(&policy, refused);
            let Judgement::Refused(refusal @ Refusal::Private { .. }) = judgement else {
                panic!("{refused}: {judgement:?}");
            };
            assert!(refusal.hint().is_some_and(|hint| hint.contains("wildcard")));
        }
        // The file's own base, and what it names to the letter.
        assert_eq!(
            policy.judge(&url("http://192.168.1.1:81/x")),
            Judgement::Same
        );
        let mut request = Request {
            method: http::Method::GET,
            url: url("http://10.0.0.7:8080/x"),
            headers: http::HeaderMap::new(),
            body: None,
            reach: Reach::Public,
            private: false,
            fresh: false,
        };
        policy.judge(&request.url).admit(&mut request).unwrap();
        assert_eq!(request.reach, Reach::Anywhere);
        // A name has to be looked up: whoever sends the request is told to.
        request.url = url("http://cdn.example/x");
        policy.judge(&request.url).admit(&mut request).unwrap();
        assert_eq!(request.reach, Reach::Public);
    }

    #[test]
    fn a_refusal_names_the_origin_and_the_way_out() {
        let policy = Policy::new(&url("https://api.example"), &[]);
        let Judgement::Refused(refusal) = judged(&policy, "https://other.example/x?key=SECRET")
        else {
            panic!("must be refused");
        };
        let hint = refusal.hint().unwrap_or_default();
        assert!(hint.contains(r#"`allow_origins: ["https://other.example"]`"#));
        let text = format!("{refusal} {hint}");
        assert!(!text.contains("SECRET"));
    }

    #[test]
    fn fragments_are_not_part_of_a_request() {
        let next = resolve(&url("https://api.example/x"), "?page=2#top").unwrap();
        assert_eq!(next.as_str(), "https://api.example/x?page=2");
    }
}
