//! The stand-in that plays an API: it holds requests to what the play says the API asks for,
//! pages its invented records as the API pages, and refuses what the API would refuse.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gleaner::clock::{Clock, Instant};
use gleaner::plan::limit::{Counting, LimitPlan};
use gleaner::sim::{SimReply, SimRequest};
use minijinja::{Value, context};
use serde_json::Value as Json;

use super::deal::{Record, Sets};
use super::leaf::{Page, cut};
use super::play::{Limit, Play, Reply, Route, Want};
use super::wire::{captures, pairs, reply};
use super::words::{Expr, value};

/// What goes wrong in a run on purpose, by the number of the arrival.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Upset {
    /// This one is refused as at a limit.
    pub(crate) throttled: Option<u64>,
    /// This one fails.
    pub(crate) failed: Option<u64>,
    /// All are answered with the play's mistake.
    pub(crate) mistaken: bool,
    /// A header that no answer has.
    pub(crate) deaf: Option<&'static str>,
}

/// A stand-in on duty.
pub(crate) struct Stage {
    play: &'static Play,
    sets: &'static Sets,
    clock: Clock,
    upset: Upset,
    state: Mutex<State>,
    /// How often the same was answered.
    answered: Arc<Mutex<HashMap<String, u64>>>,
}

#[derive(Default)]
struct State {
    arrivals: u64,
    /// Of each limit and budget: what was let in, and what it cost.
    used: Vec<HashMap<String, VecDeque<(Instant, f64)>>>,
    /// What was refused that a good client would not have asked.
    refused: Vec<String>,
    /// By origin, for each has a budget of its own: when a refusal was told, and until when nothing may
    /// come.
    pauses: HashMap<String, (Instant, Instant)>,
    /// What came nevertheless.
    early: usize,
    /// How often a fault was played.
    upsets: usize,
}

impl Stage {
    pub(crate) fn new(
        play: &'static Play,
        sets: &'static Sets,
        clock: Clock,
        upset: Upset,
    ) -> Self {
        let others = |limit: &Limit| {
            let spent = VecDeque::from([(clock.now(), limit.others)]);
            HashMap::from([(String::new(), spent)])
        };
        let used = play.limits.iter().map(others).collect();
        Self {
            play,
            sets,
            clock,
            upset,
            state: Mutex::new(State {
                used,
                ..State::default()
            }),
            answered: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a good client would not have asked.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.state().refused.clone()
    }

    /// How many requests came in a pause that was asked for.
    pub(crate) fn early(&self) -> usize {
        self.state().early
    }

    /// How many faults were played.
    pub(crate) fn upsets(&self) -> usize {
        self.state().upsets
    }

    /// Answers one request.
    pub(crate) fn answer(&self, request: &SimRequest) -> SimReply {
        let (number, seen) = {
            let mut state = self.state();
            state.arrivals += 1;
            let pause = state.pauses.get(&request.origin);
            if pause.is_some_and(|(told, until)| request.at > *told && request.at < *until) {
                state.early += 1;
            }
            let seen = self.answered().get(&same(request)).copied();
            (state.arrivals, seen.unwrap_or(0))
        };
        let found = self.play.routes.iter().find_map(|route| {
            let path = self.fits(route, request)?;
            Some((route, path))
        });
        let path = found.as_ref().map(|(_, path)| path.clone());
        let mut names = self.names(request, path.unwrap_or_default(), seen);
        let mut reply = self.judge(request, number, found.map(|(route, _)| route), &mut names);
        for (name, shape) in &self.play.headers {
            let said = reply.headers.contains_key(name.to_ascii_lowercase());
            let text = shape.text(&names, &[]).filter(|text| !text.is_empty());
            if let (false, Some(text)) = (said, text) {
                reply = reply.header(name, &text);
            }
        }
        if let Some(deaf) = self.upset.deaf {
            reply.headers.remove(deaf);
        }
        reply
    }

    fn judge(
        &self,
        request: &SimRequest,
        number: u64,
        route: Option<&Route>,
        names: &mut Value,
    ) -> SimReply {
        let left = match self.admit(request, names) {
            Ok(left) => left,
            Err((what, wait)) => {
                self.refuse(request, &format!("the limit {what} is used up"));
                return self.throttle((&request.origin, request.at), names, wait);
            }
        };
        *names = context! { left, ..names.clone() };
        // Errors of the API are not those of the server that gives tokens for it.
        let mistaken = self.upset.mistaken && !route.is_some_and(|route| route.open);
        if let (true, Some(mistake)) = (mistaken, &self.play.mistake) {
            return reply(&mistake.answer, names, &[]);
        }
        let Some(route) = route else {
            self.refuse(request, "nothing is served there");
            return SimReply::error(404, "nothing is served here");
        };
        for (name, written) in &route.names {
            let expr = Expr::try_from(written.clone()).expect("an expression");
            let value = expr.eval(names);
            *names = context! { ..Value::from_pairs([(name.clone(), value)]), ..names.clone() };
        }
        let usual = route.refusal.as_ref().unwrap_or(&self.play.refusal);
        let general = self.play.wants.iter().filter(|_| !route.open);
        for want in general.chain(&route.wants) {
            let (expr, refusal) = match want {
                Want::That(expr) => (expr, usual),
                Want::Or { want, or } => (want, or),
            };
            if !expr.holds(names) {
                self.refuse(request, &format!("{expr:?} does not hold"));
                return reply(refusal, names, &[]);
            }
        }
        if let Some(known) = &route.takes {
            for (name, _) in &request.query {
                if !known.contains(name) {
                    self.refuse(request, &format!("no parameter {name}"));
                    return reply(usual, names, &[]);
                }
            }
        }
        if [self.upset.throttled, self.upset.failed].contains(&Some(number)) {
            self.upset();
        }
        if self.upset.throttled == Some(number) {
            let wait = self.play.throttle.as_ref().and_then(|one| one.wait);
            return self.throttle(
                (&request.origin, request.at),
                names,
                wait.map(Duration::from_secs),
            );
        }
        if self.upset.failed == Some(number) {
            return reply(&self.play.trouble, names, &[]);
        }
        *self.answered().entry(same(request)).or_insert(0) += 1;
        match self.page(route, names) {
            Ok(page) => {
                let rows: Vec<Json> = page.rows.iter().map(|row| row.json.clone()).collect();
                let values: Vec<Value> = page.rows.iter().map(|row| row.value.clone()).collect();
                let total = page
                    .told
                    .get("total")
                    .and_then(Value::as_usize)
                    .unwrap_or(0);
                let told = Value::from(page.told);
                let full = context! {
                    row => values.first().cloned(), last => values.last().cloned(), count => rows.len(), rows => values,
                    ..context! { ..told, ..names.clone() }
                };
                let nothing = rows.is_empty() && route.serves.is_some();
                let cap = route.pages.as_ref();
                let over = cap.and_then(|pages| pages.over.as_ref().filter(|_| total > pages.most));
                match (over, &route.empty) {
                    (Some(over), _) => reply(over, &full, &rows),
                    (None, Some(empty)) if nothing => reply(empty, &full, &rows),
                    _ => reply(&route.answer, &full, &rows),
                }
            }
            Err((why, refusal)) => {
                self.refuse(request, &why);
                reply(refusal.unwrap_or(usual), names, &[])
            }
        }
    }

    /// A fault is played: it does not tell what a good answer would have told.
    fn upset(&self) {
        let mut state = self.state();
        state.upsets += 1;
        for (limit, used) in self.play.limits.iter().zip(&mut state.used) {
            for log in used.values_mut().filter(|_| limit.told) {
                log.pop_back();
            }
        }
    }

    fn refuse(&self, request: &SimRequest, why: &str) {
        let body = String::from_utf8_lossy(&request.body);
        let what = format!(
            "{} {}{} {body}: {why}",
            request.method, request.origin, request.target
        );
        self.state().refused.push(what);
    }

    fn throttle(
        &self,
        (origin, at): (&str, Instant),
        names: &Value,
        wait: Option<Duration>,
    ) -> SimReply {
        let Some(throttle) = &self.play.throttle else {
            return SimReply::error(429, "too many requests");
        };
        let seconds = wait.map_or(0, |wait| {
            wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
        });
        if throttle.wait.is_some() {
            // What is on its way when the refusal is read is not early.
            let told = at + Duration::from_millis(self.play.slowest_ms);
            let until = at + Duration::from_secs(seconds);
            self.state().pauses.insert(origin.to_owned(), (told, until));
        }
        reply(
            &throttle.answer,
            &context! { wait => seconds, ..names.clone() },
            &[],
        )
    }

    /// Lets a request into all limits, or says which one is used up and for how long.
    fn admit(
        &self,
        request: &SimRequest,
        names: &Value,
    ) -> Result<Vec<f64>, (String, Option<Duration>)> {
        let mut state = self.state();
        let mut takes = Vec::new();
        let mut left = Vec::new();
        for (limit, used) in self.play.limits.iter().zip(&mut state.used) {
            let plan = plan(limit);
            let under = limit.under.as_deref();
            if matches!(plan.counting, Counting::InFlight)
                || under.is_some_and(|under| !request.path.starts_with(under))
            {
                left.push(0.0);
                continue;
            }
            let key = limit
                .per
                .as_ref()
                .map_or(String::new(), |per| per.eval(names).to_string());
            let cost = limit
                .cost
                .as_ref()
                .map_or(1.0, |cost| number(&cost.eval(names)));
            let log = used.entry(key).or_default();
            let most = f64::from(plan.calls.get());
            let free = if let Some(size) = limit.burst {
                // A bucket that leaks evenly.
                let rate = most / plan.window.as_secs_f64();
                let (level, last) = log
                    .back()
                    .map_or((0.0, request.at), |(last, level)| (*level, *last));
                let passed = request.at.saturating_duration_since(last).as_secs_f64();
                let level = (level - passed * rate).max(0.0);
                takes.push((log, level + cost));
                size - level
            } else {
                while log
                    .front()
                    .is_some_and(|(at, _)| *at + plan.window <= request.at)
                {
                    log.pop_front();
                }
                let spent: f64 = log.iter().map(|(_, cost)| cost).sum();
                takes.push((log, cost));
                most - spent
            };
            if cost > free + 1e-6 {
                return Err((limit.written.clone(), Some(plan.window)));
            }
            left.push(free - cost);
        }
        for (log, cost) in takes {
            log.push_back((request.at, cost));
        }
        Ok(left)
    }

    /// What stands where in the path, if a route is for the request.
    fn fits(&self, route: &Route, request: &SimRequest) -> Option<BTreeMap<String, String>> {
        let origin = route.origin.as_ref().unwrap_or(&self.play.origin);
        let (method, path) = match (&route.get, &route.post) {
            (Some(path), None) => ("GET", path),
            (None, Some(path)) => ("POST", path),
            _ => panic!("{}: a route has `get` or `post`", self.play.api),
        };
        if *origin != request.origin || request.method != method {
            return None;
        }
        captures(path, &request.path)
    }

    /// What a request says, as names of expressions.
    fn names(&self, request: &SimRequest, path: BTreeMap<String, String>, seen: u64) -> Value {
        let mut query: BTreeMap<String, Value> = BTreeMap::new();
        for (name, value) in pairs(&request.query) {
            query.insert(name, value);
        }
        let headers: BTreeMap<String, String> = request
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().replace('-', "_"), value)
            })
            .collect();
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let form = headers
            .get("content_type")
            .is_some_and(|kind| kind.contains("form-urlencoded"));
        let body = if form {
            let sent: Vec<_> = url::form_urlencoded::parse(&request.body)
                .into_owned()
                .collect();
            Value::from_pairs(pairs(&sent))
        } else {
            serde_json::from_str::<Json>(&text).map_or(Value::UNDEFINED, |json| value(&json))
        };
        let mine = request.clone();
        let here = Value::from_function(move |name: &str, value: &Value| {
            format!(
                "{}{}",
                mine.origin,
                mine.target_with(name, &value.to_string())
            )
        });
        let (book, origin) = (Arc::clone(&self.answered), request.origin.clone());
        let asked = Value::from_function(move |target: &str| {
            let asked = book.lock().unwrap_or_else(PoisonError::into_inner);
            asked
                .get(&format!("GET {origin}{target} "))
                .copied()
                .unwrap_or(0)
        });
        let env: BTreeMap<String, String> = self
            .play
            .env
            .iter()
            // The program looks there first.
            .map(|(name, value)| {
                (
                    name.clone(),
                    std::env::var(name).unwrap_or_else(|_| value.clone()),
                )
            })
            .collect();
        context! {
            path, query, headers, body, text, seen, asked, here, env,
            target => request.target.clone(),
            origin => request.origin.clone(),
            // Rounded up, so that what is told of a later instant is not too early.
            now => self.clock.calendar_at(request.at + Duration::from_millis(999)).as_second(),
        }
    }

    /// The records a request asks for, or why it is refused.
    fn page<'r>(
        &self,
        route: &'r Route,
        names: &Value,
    ) -> Result<Page<'_>, (String, Option<&'r Reply>)> {
        let Some(set) = &route.serves else {
            return Ok(Page {
                rows: Vec::new(),
                told: BTreeMap::new(),
            });
        };
        let set = self.sets.of(set);
        let of = route.of.as_ref().map(|of| of.eval(names).to_string());
        let mut rows: Vec<&Record> = set
            .iter()
            .filter(|record| of.as_ref().is_none_or(|of| record.of == *of))
            .filter(|record| {
                let Some(filter) = &route.filter else {
                    return true;
                };
                filter.holds(&context! { row => record.value.clone(), ..names.clone() })
            })
            .collect();
        if let Some(sort) = &route.sort {
            rows.sort_by_cached_key(|record| {
                OrdValue(sort.eval(&context! { row => record.value.clone() }))
            });
        }
        if route.reverse {
            rows.reverse();
        }
        let Some(pages) = &route.pages else {
            let told = BTreeMap::from([("total", Value::from(rows.len()))]);
            return Ok(Page { rows, told });
        };
        cut(&rows, pages, names)
    }
}

/// Values have an order of their own; it is total for values of one kind.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct OrdValue(Value);

fn number(value: &Value) -> f64 {
    value
        .to_string()
        .parse()
        .unwrap_or_else(|_| panic!("a cost of {value}"))
}

/// What makes two requests the same.
fn same(request: &SimRequest) -> String {
    let body = String::from_utf8_lossy(&request.body);
    format!(
        "{} {}{} {body}",
        request.method, request.origin, request.target
    )
}

/// A limit as the language reads it.
pub(crate) fn plan(limit: &Limit) -> LimitPlan {
    LimitPlan::parse(&limit.written).unwrap_or_else(|e| panic!("{}: {e}", limit.written))
}
