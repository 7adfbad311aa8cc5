//! The handler: one request in, what shall happen out. How it happens is for the two doors.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::clock::{Clock, Instant};

use super::act::{Act, Answer, Ticket, befall};
use super::audit::{Audit, Entry, Outcome};
use super::fault::Fault;
use super::limit::{LimitState, RetryForm, ServerLimit, Standing, Tell};
use super::page;
use super::request::{SimReply, SimRequest};
use super::rules::{Auth, Route, Rules, Serves, Source};

/// Rendered pages are kept up to this many bytes, so that a bench measures its client.
const CACHE_BYTES: usize = 256 << 20;

/// A pretend API: rules, what became of them so far, and the log.
pub struct SimApi {
    rules: Rules,
    clock: Clock,
    audit: Audit,
    state: Mutex<State>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct State {
    arrivals: u64,
    limits: Vec<LimitState>,
    /// How many requests each fault rule has counted.
    counted: Vec<u64>,
}

#[derive(Default)]
struct Cache {
    pages: HashMap<String, SimReply>,
    bytes: usize,
}

/// What was decided about a request under the lock.
enum Verdict {
    Refuse(SimReply, Instant),
    Deny,
    Fault(Fault),
    Serve,
}

impl SimApi {
    /// An API by the machine's clock.
    pub fn new(rules: Rules) -> Arc<Self> {
        Self::with_clock(rules, Clock::system())
    }

    /// An API by another clock.
    pub fn with_clock(rules: Rules, clock: Clock) -> Arc<Self> {
        let state = State {
            arrivals: 0,
            limits: rules.limits.iter().map(|_| LimitState::default()).collect(),
            counted: vec![0; rules.faults.len()],
        };
        Arc::new(Self {
            audit: Audit::new(rules.counters_only),
            clock,
            state: Mutex::new(state),
            cache: Mutex::default(),
            rules,
        })
    }

    /// The log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The clock it goes by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether a connection to an origin would be accepted.
    pub fn accepts(&self, origin: &str) -> bool {
        !self.rules.unreachable.iter().any(|one| one == origin)
            && self
                .rules
                .routes
                .iter()
                .any(|route| route.origin.as_deref().is_none_or(|bound| bound == origin))
    }

    /// The texts of all records a path serves, in order; a query chooses among several sets.
    pub fn truth(&self, target: &str) -> Vec<String> {
        let mut request = self.request(Method::GET, "", target, HeaderMap::new(), Bytes::new());
        for route in &self.rules.routes {
            let (Some(captures), Serves::List(listing)) =
                (route.captures(&request.path), &route.serves)
            else {
                continue;
            };
            request.captures = captures;
            return match &listing.source {
                Source::One(data) => data.texts(),
                Source::By { param, sets } => {
                    let chosen = request.param(param);
                    sets.iter()
                        .filter(|(value, _)| chosen.as_ref().is_none_or(|one| one == value))
                        .flat_map(|(_, data)| data.texts())
                        .collect()
                }
            };
        }
        Vec::new()
    }

    /// A request that arrives now.
    pub fn request(
        &self,
        method: Method,
        origin: &str,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> SimRequest {
        SimRequest::new(self.clock.now(), method, origin, target, headers, body)
    }

    /// Decides what shall happen with a request, and writes it down.
    pub fn answer(self: &Arc<Self>, mut request: SimRequest) -> Answer {
        let route = self.find(&mut request);
        let mut state = self.state();
        let number = state.arrivals;
        state.arrivals += 1;
        let standings = self.standings(&mut state, &request);
        let verdict = self.judge(&mut state, &request, route, &standings);
        drop(state);

        let (act, outcome) = match verdict {
            Verdict::Refuse(reply, until) => {
                let status = reply.status.as_u16();
                (Act::Reply(reply), Outcome::Refused(status, until))
            }
            Verdict::Deny => {
                let reply = SimReply::error(401, "these credentials are not accepted")
                    .header("www-authenticate", "Bearer");
                (Act::Reply(reply), Outcome::Answered(401))
            }
            Verdict::Serve => {
                let reply = self.serve(route, &request, true);
                let status = reply.status.as_u16();
                (Act::Reply(reply), Outcome::Answered(status))
            }
            Verdict::Fault(fault) => {
                let act = befall(fault, |may_pack| self.serve(route, &request, may_pack));
                let status = match &act {
                    Act::Reply(reply) | Act::Truncate(reply, _) | Act::Drip(reply, ..) => {
                        Some(reply.status.as_u16())
                    }
                    Act::Reset | Act::UnknownHost | Act::Stall => None,
                };
                (act, Outcome::Faulted(status))
            }
        };
        self.audit
            .arrived(request.at, outcome, || self.entry(&request, outcome));
        Answer {
            wait: self.rules.latency.of(number),
            act: self.told(act, &standings),
            ticket: Ticket(Arc::clone(self)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route a request is for; its captures are put into the request.
    fn find(&self, request: &mut SimRequest) -> Option<&Route> {
        for route in &self.rules.routes {
            let here = route
                .origin
                .as_ref()
                .is_none_or(|bound| *bound == request.origin);
            let so = route
                .method
                .as_ref()
                .is_none_or(|one| *one == request.method);
            if let (true, true, Some(captures)) = (here, so, route.captures(&request.path)) {
                request.captures = captures;
                return Some(route);
            }
        }
        None
    }

    /// How the limits that cover a request stand, before it.
    fn standings(&self, state: &mut State, request: &SimRequest) -> Vec<(usize, Standing)> {
        let covering = self.rules.limits.iter().zip(&mut state.limits).enumerate();
        covering
            .filter(|(_, (limit, _))| limit.covers(&request.path))
            .map(|(at, (limit, used))| (at, used.standing(limit, request.at)))
            .collect()
    }

    fn judge(
        &self,
        state: &mut State,
        request: &SimRequest,
        route: Option<&Route>,
        standings: &[(usize, Standing)],
    ) -> Verdict {
        if let Some((at, standing)) = standings.iter().find(|(_, one)| one.remaining == 0) {
            let limit = &self.rules.limits[*at];
            return Verdict::Refuse(self.refusal(limit, *standing, request.at), standing.reset);
        }
        for (at, _) in standings {
            state.limits[*at].admit(request.at);
        }
        let open = route.is_some_and(|route| route.open);
        let auth = self.rules.auth.as_ref().filter(|_| !open);
        if auth.is_some_and(|auth| !auth.accepts(request)) {
            return Verdict::Deny;
        }
        let mut found = None;
        for (rule, count) in self.rules.faults.iter().zip(&mut state.counted) {
            if rule.of.counts(&request.path, &request.target) {
                *count += 1;
                if found.is_none() && rule.turn.takes(*count) {
                    found = Some(rule.fault.clone());
                }
            }
        }
        found.map_or(Verdict::Serve, Verdict::Fault)
    }

    fn refusal(&self, limit: &ServerLimit, standing: Standing, now: Instant) -> SimReply {
        let reply = SimReply::error(limit.status, "too many requests");
        let wait = standing.reset.saturating_duration_since(now);
        match limit.retry {
            RetryForm::Silent => reply,
            RetryForm::Seconds => reply.header("retry-after", &whole_seconds(wait).to_string()),
            RetryForm::Date => {
                // A date has whole seconds; rounded up, or the client would come too early.
                let at = self
                    .clock
                    .calendar_at(standing.reset + Duration::from_millis(999));
                reply.header("retry-after", &httpdate::fmt_http_date(at.into()))
            }
        }
    }

    /// Adds what a limit tells to an answer.
    fn told(&self, act: Act, standings: &[(usize, Standing)]) -> Act {
        let Act::Reply(mut reply) = act else {
            return act;
        };
        for (at, standing) in standings {
            let limit = &self.rules.limits[*at];
            let (prefix, reset) = match limit.tell {
                Tell::Nothing => continue,
                Tell::XRateLimit => {
                    let at = self
                        .clock
                        .calendar_at(standing.reset + Duration::from_millis(999));
                    ("x-ratelimit", at.as_second().to_string())
                }
                Tell::RateLimit => {
                    let wait = standing.reset.saturating_duration_since(self.clock.now());
                    ("ratelimit", whole_seconds(wait).to_string())
                }
            };
            let remaining = standing.remaining.saturating_sub(1);
            reply = reply
                .header(&format!("{prefix}-limit"), &limit.requests.to_string())
                .header(&format!("{prefix}-remaining"), &remaining.to_string())
                .header(&format!("{prefix}-reset"), &reset);
        }
        Act::Reply(reply)
    }

    /// The good answer.
    fn serve(&self, route: Option<&Route>, request: &SimRequest, may_pack: bool) -> SimReply {
        let gzip = may_pack && self.rules.gzip && accepts_gzip(&request.headers);
        let plain = match route.map(|route| &route.serves) {
            None => SimReply::error(404, "nothing is served here"),
            Some(Serves::Fixed(reply)) => reply.clone(),
            Some(Serves::Custom(answer)) => answer(request),
            Some(Serves::List(listing)) => {
                // Where parameters come from a body or a header, the target is no key.
                let by_target = request.body.is_empty() && !listing.reads_headers();
                if !by_target {
                    return packed(page::render(listing, request), gzip);
                }
                let encoding = if gzip { "gzip" } else { "plain" };
                let key = format!(
                    "{} {encoding} {}{}",
                    request.method, request.origin, request.target
                );
                return self.cached(key, || packed(page::render(listing, request), gzip));
            }
        };
        packed(plain, gzip)
    }

    fn cached(&self, key: String, render: impl FnOnce() -> SimReply) -> SimReply {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = lock().pages.get(&key) {
            return reply.clone();
        }
        let reply = render();
        let mut cache = lock();
        if cache.bytes + reply.body.len() <= CACHE_BYTES {
            cache.bytes += reply.body.len();
            cache.pages.insert(key, reply.clone());
        }
        reply
    }

    fn entry(&self, request: &SimRequest, outcome: Outcome) -> Entry {
        let (header, query) = match &self.rules.auth {
            Some(Auth::Header(name, _)) => (Some(name.as_str()), None),
            Some(Auth::Query(name, _)) => (None, Some(name.as_str())),
            _ => (None, None),
        };
        let in_query = query.is_some_and(|name| request.query.iter().any(|(key, _)| key == name));
        let credentials = in_query
            || ["authorization", "proxy-authorization", "cookie"]
                .into_iter()
                .chain(header)
                .any(|name| request.headers.contains_key(name));
        let target = match query {
            Some(name) if in_query => request.target_with(name, "***"),
            _ => request.target.clone(),
        };
        Entry {
            at: request.at,
            method: request.method.clone(),
            origin: request.origin.clone(),
            target,
            headers: request.headers.keys().cloned().collect(),
            user_agent: request
                .headers
                .get("user-agent")
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            credentials,
            outcome,
        }
    }
}

impl std::fmt::Debug for SimApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimApi")
            .field("routes", &self.rules.routes.len())
            .field("requests", &self.audit.requests())
            .finish_non_exhaustive()
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get("accept-encoding")
        .is_some_and(|value| String::from_utf8_lossy(value.as_bytes()).contains("gzip"))
}

/// The answer as gzip, where asked for and not yet encoded.
fn packed(mut reply: SimReply, gzip: bool) -> SimReply {
    if !gzip || reply.body.is_empty() || reply.headers.contains_key("content-encoding") {
        return reply;
    }
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to a Vec cannot fail; if it did, the plain answer is as good.
    if writer.write_all(&reply.body).is_ok()
        && let Ok(bytes) = writer.finish()
    {
        reply.body = bytes.into();
        reply = reply.header("content-encoding", "gzip");
    }
    reply
}
