//! The rules of a pretend API, as data: routes, paging styles, limits, faults, credentials.
//!
//! Names of parameters say where they are read: `page` in the path or query, `body.after` in a
//! JSON body, `header:x-page` in a header. Places in answers likewise: `meta.total` in the body,
//! `header:x-total-count` in a header.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::data::Dataset;
use super::fault::FaultRule;
use super::limit::ServerLimit;
use super::paging::Paging;
use super::request::{SimReply, SimRequest};

/// All rules of one pretend API (or of several: routes may be bound to hosts).
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What is served where; the first that fits answers.
    pub routes: Vec<Route>,
    /// What goes wrong; the first that befalls a request decides.
    pub faults: Vec<FaultRule>,
    /// Limits, all of which hold.
    pub limits: Vec<ServerLimit>,
    /// What credentials every route asks for, unless it is open.
    pub auth: Option<Auth>,
    /// How long an answer takes.
    pub latency: Latency,
    /// Origins that refuse connections (in memory only).
    pub unreachable: Vec<String>,
    /// Whether bodies are sent as gzip to who accepts it.
    pub gzip: bool,
    /// Whether only numbers are kept, and not what each request looked like.
    pub counters_only: bool,
}

/// How long an answer takes.
#[derive(Debug, Clone, Copy, Default)]
pub enum Latency {
    /// No time at all.
    #[default]
    None,
    /// Always the same.
    Fixed(Duration),
    /// Between two durations, by the number of the arrival and a seed.
    Between(Duration, Duration, u64),
}

impl Latency {
    /// How long the nth arrival takes.
    pub fn of(self, n: u64) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(time) => time,
            Self::Between(low, high, seed) => {
                let mut dice =
                    fastrand::Rng::with_seed(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                low + high.saturating_sub(low).mul_f64(dice.f64())
            }
        }
    }
}

/// What credentials are asked for; anything else is answered with 401.
#[derive(Clone)]
pub enum Auth {
    /// `Authorization: Bearer …`.
    Bearer(String),
    /// A header and its value.
    Header(String, String),
    /// A query parameter and its value.
    Query(String, String),
    /// Whatever this says yes to (a token that expires, say).
    Check(Arc<dyn Fn(&SimRequest) -> bool + Send + Sync>),
}

impl Auth {
    /// Whether a request may pass.
    pub fn accepts(&self, request: &SimRequest) -> bool {
        let header = |name: &str| {
            request
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        match self {
            Self::Bearer(token) => {
                header("authorization").and_then(|value| value.strip_prefix("Bearer "))
                    == Some(token)
            }
            Self::Header(name, value) => header(name) == Some(value),
            Self::Query(name, value) => request
                .query
                .iter()
                .any(|(key, given)| key == name && given == value),
            Self::Check(check) => check(request),
        }
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Header(..) => "Header",
            Self::Query(..) => "Query",
            Self::Check(_) => "Check",
        })
    }
}

/// One path and what is served there.
#[derive(Debug, Clone)]
pub struct Route {
    /// Only for this origin (`https://api.github.com`); any, if none.
    pub origin: Option<String>,
    /// Only for this method; any, if none.
    pub method: Option<Method>,
    /// The path. `{name}` stands for one segment, `*` at the end for all that follow.
    pub path: String,
    /// Whether no credentials are asked for.
    pub open: bool,
    /// What is served.
    pub serves: Serves,
}

/// What a route serves.
#[derive(Clone)]
pub enum Serves {
    /// Records, page by page.
    List(Listing),
    /// Always the same.
    Fixed(SimReply),
    /// What a closure says.
    Custom(Custom),
}

/// A closure that answers.
pub type Custom = Arc<dyn Fn(&SimRequest) -> SimReply + Send + Sync>;

impl std::fmt::Debug for Serves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List(listing) => listing.fmt(f),
            Self::Fixed(reply) => reply.fmt(f),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl Route {
    fn new(path: &str, serves: Serves) -> Self {
        Self {
            origin: None,
            method: None,
            path: path.to_owned(),
            open: false,
            serves,
        }
    }

    /// Serves records page by page.
    pub fn list(path: &str, listing: Listing) -> Self {
        Self::new(path, Serves::List(listing))
    }

    /// Serves the same answer always.
    pub fn fixed(
        path: &str,
        status: u16,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Self {
        Self::new(path, Serves::Fixed(SimReply::new(status, headers, body)))
    }

    /// Serves what a closure says.
    pub fn custom(path: &str, answer: Custom) -> Self {
        Self::new(path, Serves::Custom(answer))
    }

    /// Bound to an origin.
    #[must_use]
    pub fn at(mut self, origin: &str) -> Self {
        self.origin = Some(origin.trim_end_matches('/').to_owned());
        self
    }

    /// For one method only.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Without credentials.
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// What the `{names}` of the path stand for, if the path fits.
    pub fn captures(&self, path: &str) -> Option<Vec<(String, String)>> {
        let mut captured = Vec::new();
        let mut given = path.split('/');
        for wanted in self.path.split('/') {
            if wanted == "*" {
                return Some(captured);
            }
            let segment = given.next()?;
            let name = wanted
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            if let Some(name) = name {
                let value = percent_encoding::percent_decode_str(segment).decode_utf8_lossy();
                captured.push((name.to_owned(), value.into_owned()));
            } else if wanted != segment {
                return None;
            }
        }
        given.next().is_none().then_some(captured)
    }
}

/// Records and how they are paged.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The records.
    pub source: Source,
    /// Place of the list in the body; the body itself, if none (places of totals and the like
    /// must then be headers).
    pub records: Option<String>,
    /// How pages are asked for and found.
    pub paging: Paging,
    /// Parameter with the wanted page size; fixed, if none.
    pub size_param: Option<String>,
    /// Page size where none is asked for.
    pub size: usize,
    /// A page never has more.
    pub max_size: usize,
    /// Further places and their JSON.
    pub extra: Vec<(String, String)>,
}

impl Listing {
    /// Serves `data` under `data` in the body, 100 to a page unless asked otherwise by
    /// `per_page` (page numbers and links) or `limit` (all else).
    pub fn new(data: impl Into<Source>, paging: Paging) -> Self {
        let size_param = match paging {
            Paging::Whole => None,
            Paging::Page { .. } | Paging::Link { .. } => Some("per_page".to_owned()),
            _ => Some("limit".to_owned()),
        };
        Self {
            source: data.into(),
            records: Some("data".to_owned()),
            paging,
            size_param,
            size: 100,
            max_size: 1000,
            extra: Vec::new(),
        }
    }

    /// Whether a header has a say in which records are served.
    pub fn reads_headers(&self) -> bool {
        let by = match &self.source {
            Source::One(_) => None,
            Source::By { param, .. } => Some(param.as_str()),
        };
        [by, self.size_param.as_deref(), self.paging.param()]
            .into_iter()
            .flatten()
            .any(|name| name.starts_with("header:"))
    }

    /// With pages of `size`, which may be asked to be smaller and no larger.
    #[must_use]
    pub fn size(mut self, size: usize) -> Self {
        self.size = size.max(1);
        self.max_size = self.size;
        self
    }

    /// With the records at another place in the body.
    #[must_use]
    pub fn records_at(mut self, place: &str) -> Self {
        self.records = Some(place.to_owned());
        self
    }

    /// With the list as the body.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.records = None;
        self
    }
}

/// Which records are served.
#[derive(Debug, Clone)]
pub enum Source {
    /// Always the same.
    One(Arc<Dataset>),
    /// By the value of a parameter; without it, or with a value that is not there, 400.
    By {
        /// The parameter, or the `{name}` in the path.
        param: String,
        /// Values and their records.
        sets: Vec<(String, Arc<Dataset>)>,
    },
}

impl From<Dataset> for Source {
    fn from(data: Dataset) -> Self {
        Self::One(Arc::new(data))
    }
}

impl From<Arc<Dataset>> for Source {
    fn from(data: Arc<Dataset>) -> Self {
        Self::One(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_by_segment() {
        let one = Route::fixed("/repos/{owner}/issues/{n}", 200, &[], "");
        let captured = one.captures("/repos/a%20b/issues/7").expect("fits");
        assert_eq!(captured[0], ("owner".into(), "a b".into()));
        assert_eq!(captured[1], ("n".into(), "7".into()));
        assert_eq!(one.captures("/repos/a/issues"), None);
        assert_eq!(one.captures("/repos/a/issues/7/x"), None);
        let rest = Route::fixed("/files/*", 200, &[], "");
        assert!(rest.captures("/files/a/b").is_some());
        assert!(rest.captures("/other/a").is_none());
    }

    #[test]
    fn latency_stays_in_its_range_and_repeats() {
        let (low, high) = (Duration::from_millis(30), Duration::from_millis(80));
        let latency = Latency::Between(low, high, 7);
        let drawn: Vec<Duration> = (0..50).map(|n| latency.of(n)).collect();
        assert!(drawn.iter().all(|time| (low..=high).contains(time)));
        assert!(drawn.iter().any(|time| *time != drawn[0]));
        assert_eq!(latency.of(3), drawn[3]);
    }
}
