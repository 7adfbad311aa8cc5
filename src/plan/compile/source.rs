//! `source`: address, auth, limits, patience.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use globset::GlobBuilder;
use url::Url;

use super::names::Judge;
use super::scope::Scope;
use super::{auth, limits};
use crate::plan::auth::AuthPlan;
use crate::plan::language::Template;
use crate::plan::limit::LimitPlan;
use crate::plan::{OriginRule, RetryPlan, SourcePlan, TimeoutPlan, TlsPlan};
use crate::spec::at::At;
use crate::spec::choice::ScalarOr;
use crate::spec::source::{LimitsWord, OriginSpec, RetrySpec, SourceSpec, TimeoutSpec, TlsSpec};

/// Proxies that can be spoken to.
const PROXIES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// The source, or nothing where a mistake was noted.
pub(super) fn source(judge: &mut Judge<'_>, spec: &SourceSpec) -> Option<SourcePlan> {
    let url = url(judge, &spec.url);
    let contact = spec.contact.as_ref();
    let contact = contact.and_then(|contact| judge.template(contact, &Scope::source()));
    let auth = match &spec.auth {
        None => Some(AuthPlan::None),
        Some(auth) => auth::auth(judge, auth),
    };
    let limits: Vec<LimitPlan> = match spec.limits.as_deref() {
        Some(ScalarOr::Long(all)) => {
            if let (true, Some(written)) = (all.is_empty(), &spec.limits) {
                let hint = "write what the API's documentation allows, or `limits: none`";
                judge.wrong(
                    "no-limits",
                    &written.span,
                    "`limits` is an empty list",
                    hint,
                );
            }
            all.iter()
                .filter_map(|one| limits::limit(judge, one))
                .collect()
        }
        Some(ScalarOr::Short(LimitsWord::Auto)) => vec![LimitPlan::auto()],
        Some(ScalarOr::Short(LimitsWord::None)) | None => Vec::new(),
    };
    // A limit that was wrong may be the one that counts them.
    if let Some(written) = &spec.limits
        && matches!(&written.value, ScalarOr::Long(all) if all.len() == limits.len())
    {
        limits::covered(judge, &limits, auth.as_ref(), &written.span);
    }
    let concurrency = spec
        .concurrency
        .as_ref()
        .map_or(NonZeroUsize::new(8), |at| {
            let number = usize::try_from(at.value).ok().and_then(NonZeroUsize::new);
            if number.is_none() {
                judge.wrong(
                    "bad-number",
                    &at.span,
                    "`concurrency` must be at least 1",
                    "",
                );
            }
            number
        });
    let retry = retry(judge, &spec.retry.clone().unwrap_or_default());
    let timeouts = timeouts(judge, &spec.timeouts.clone().unwrap_or_default());
    let origins = spec.allow_origins.iter().flatten();
    let allow_origins = origins.filter_map(|one| origin(judge, one)).collect();
    let tls = spec.tls.as_ref().map(|tls| self::tls(judge, tls));
    let proxy = spec.proxy.as_ref().map(|proxy| self::proxy(judge, proxy));
    Some(SourcePlan {
        url: url?,
        contact,
        auth: auth?,
        limits,
        concurrency: concurrency?,
        retry,
        timeouts,
        allow_origins,
        tls: match tls {
            None => TlsPlan::default(),
            Some(tls) => tls?,
        },
        proxy: match proxy {
            None => None,
            Some(proxy) => Some(proxy?),
        },
        secrets_file: spec.secrets.as_ref().map(|file| file.value.clone()),
    })
}

fn url(judge: &mut Judge<'_>, at: &At<String>) -> Option<Template> {
    let template = judge.template(at, &Scope::source())?;
    if !template.is_literal() {
        return Some(template);
    }
    let hint = "write the API's base address, as in `https://api.example.com/v1`";
    let url = match Url::parse(&at.value) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        Ok(url) => {
            let message = format!("gleaner asks over http and https, not `{}:`", url.scheme());
            judge.wrong("bad-url", &at.span, message, hint);
            return None;
        }
        Err(error) => {
            judge.wrong(
                "bad-url",
                &at.span,
                format!("this is not a URL: {error}"),
                hint,
            );
            return None;
        }
    };
    let (message, hint) = if !url.username().is_empty() || url.password().is_some() {
        (
            "the URL holds a user name or password",
            "write `auth: { basic: { user: …, password: \"{{ secret.NAME }}\" } }`",
        )
    } else if url.query().is_some() {
        (
            "the base URL has a query",
            "write parameters under `query`, and keys of the API under `auth: { query: … }`",
        )
    } else if url.fragment().is_some() {
        (
            "the base URL has a fragment",
            "remove what follows `#`; it is never sent",
        )
    } else {
        return Some(template);
    };
    judge.wrong("bad-url", &at.span, message, hint);
    None
}

/// Headers with templates; every mistake in them is noted.
pub(super) fn headers(
    judge: &mut Judge<'_>,
    entries: &[(At<String>, At<String>)],
    scope: &Scope,
) -> Option<Vec<(http::HeaderName, Template)>> {
    let all: Vec<_> = entries
        .iter()
        .map(|(name, value)| {
            let header = judge.header(name);
            let template = judge.template(value, scope);
            Some((header?, template?))
        })
        .collect();
    all.into_iter().collect()
}

fn retry(judge: &mut Judge<'_>, spec: &RetrySpec) -> RetryPlan {
    let attempts = spec.attempts.as_ref().map_or(6, |at| {
        if at.value == 0 {
            let hint = "the first try counts: 1 means none again";
            judge.wrong(
                "bad-number",
                &at.span,
                "`attempts` must be at least 1",
                hint,
            );
        }
        at.value
    });
    RetryPlan {
        attempts,
        max_wait: judge.duration(spec.max_wait.as_ref(), Duration::from_mins(15)),
        page_deadline: judge.duration(spec.page_deadline.as_ref(), Duration::from_mins(30)),
    }
}

fn timeouts(judge: &mut Judge<'_>, spec: &TimeoutSpec) -> TimeoutPlan {
    TimeoutPlan {
        connect: judge.duration(spec.connect.as_ref(), Duration::from_secs(10)),
        headers: judge.duration(spec.headers.as_ref(), Duration::from_mins(1)),
        idle: judge.duration(spec.idle.as_ref(), Duration::from_secs(30)),
        attempt: judge.duration(spec.attempt.as_ref(), Duration::from_mins(5)),
    }
}

fn tls(judge: &mut Judge<'_>, spec: &TlsSpec) -> Option<TlsPlan> {
    if let (Some(one), None) | (None, Some(one)) = (&spec.cert, &spec.key) {
        let message = "`cert` and `key` of `tls` go together";
        let hint = "both may name the same file";
        judge.wrong("bad-tls", &one.span, message, hint);
    }
    let mut file = |at: Option<&At<String>>| match at {
        None => Some(None),
        Some(at) => judge.template(at, &Scope::source()).map(Some),
    };
    let (ca, cert, key) = (
        file(spec.ca.as_ref()),
        file(spec.cert.as_ref()),
        file(spec.key.as_ref()),
    );
    let shown = cert?.zip(key?);
    Some(TlsPlan { ca: ca?, shown })
}

fn proxy(judge: &mut Judge<'_>, at: &At<String>) -> Option<Template> {
    let template = judge.template(at, &Scope::auth())?;
    let scheme = at.split_once("://").map(|(scheme, _)| scheme);
    let is_known = scheme.is_some_and(|scheme| PROXIES.contains(&scheme));
    if is_known || template.begins_with_expression() {
        return Some(template);
    }
    let hint = "as in `http://proxy.example.org:8080`, with user and password where it wants them";
    let message = format!(
        "a proxy begins with one of {}",
        PROXIES.join("://, ") + "://"
    );
    judge.wrong("bad-proxy", &at.span, message, hint);
    None
}

fn origin(judge: &mut Judge<'_>, spec: &OriginSpec) -> Option<OriginRule> {
    let (written, span, credentials): (&str, &Range<usize>, bool) = match &spec.value {
        ScalarOr::Short(short) => (short, &spec.span, false),
        ScalarOr::Long(long) => (
            &long.origin.value,
            &long.origin.span,
            long.credentials.unwrap_or(false),
        ),
    };
    let hint = "an origin is `https://host` or `https://*.host:port`, without a path";
    let rest = written
        .strip_prefix("https://")
        .or_else(|| written.strip_prefix("http://"));
    let is_origin = rest.is_some_and(|host| {
        !host.is_empty() && !host.contains(['/', '?', '#', '@', '{', '}', ' '])
    });
    if !is_origin {
        judge.wrong(
            "bad-origin",
            span,
            format!("`{written}` is not an origin"),
            hint,
        );
        return None;
    }
    // As URLs spell their origin: without a usual port, in lower case. Brackets, which are a
    // class in a pattern, stand around an IPv6 address here.
    let named = Url::parse(written)
        .ok()
        .filter(|_| !written.contains(['*', '?']))
        .map(|url| globset::escape(&url.origin().ascii_serialization()));
    let glob = GlobBuilder::new(named.as_deref().unwrap_or(written))
        .case_insensitive(true)
        .build();
    match glob {
        Ok(glob) => Some(OriginRule {
            matcher: glob.compile_matcher(),
            exact: named.is_some(),
            written: written.to_owned(),
            credentials,
        }),
        Err(error) => {
            judge.wrong("bad-origin", span, error.kind().to_string(), hint);
            None
        }
    }
}
