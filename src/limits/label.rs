//! What people call a budget: its limit as declared, and what it is for. Kept beside its state, so
//! that the book can be read without the pipeline files. The law needs none of it, and a
//! credential is never in it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use url::Url;

use super::moment::nanos;
use super::scope::{self, Key};
use crate::plan::limit::{CalendarUnit, Counting, LimitPlan, Per, Spacing};

/// Of labels of other versions nothing is believed.
const VERSION: u32 = 1;

/// Most pipelines that a label names.
const PIPELINES: usize = 16;

/// Most characters of a name or value.
const LONGEST: usize = 200;

/// A label is written anew this long after the last time.
const STALE: SignedDuration = SignedDuration::from_mins(10);

/// Takes secrets out of text that leaves the run.
#[derive(Clone)]
pub struct Scrub(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl Scrub {
    /// By what the run knows of its secrets.
    pub fn new(scrub: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(scrub))
    }
}

impl Default for Scrub {
    fn default() -> Self {
        Self::new(str::to_owned)
    }
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrub")
    }
}

/// What is written beside a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    version: u32,
    /// Whom it counts requests to, if it is one origin.
    pub(super) origin: Option<String>,
    /// The name by which pipelines share it.
    pub(super) shared_as: Option<String>,
    /// The limit, as written.
    pub(super) limit: String,
    calls: NonZeroU32,
    unit: Option<String>,
    /// Nanoseconds.
    window: u64,
    reserve: u32,
    counting: Counted,
    spread: Option<bool>,
    strict: bool,
    /// The part of the API that it covers, where it is not all.
    pub(super) routes: Vec<String>,
    /// What tells it from the other budgets of its limit.
    pub(super) scope: Vec<(String, String)>,
    /// Whether it counts requests with a credential.
    pub(super) credential: bool,
    /// Who used it, and when last.
    pub(super) pipelines: BTreeMap<String, Timestamp>,
}

/// [`Counting`], as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Counted {
    Window,
    Bucket { size: NonZeroU32 },
    Calendar { unit: Unit, zone: String },
    Counter,
    InFlight,
}

/// [`CalendarUnit`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Minute,
    Hour,
    Day,
    Month,
}

impl Label {
    /// The label of these bytes, if they are one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let label: Self = serde_json::from_slice(bytes).ok()?;
        (label.version == VERSION).then_some(label)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Nothing in it can fail to be JSON; an empty label would be none.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The limit, to reckon with.
    pub(super) fn plan(&self) -> Option<LimitPlan> {
        Some(LimitPlan {
            calls: self.calls,
            unit: self.unit.clone(),
            window: Duration::from_nanos(self.window),
            counting: match &self.counting {
                Counted::Window => Counting::Window,
                Counted::Bucket { size } => Counting::Bucket(*size),
                Counted::Calendar { unit, zone } => {
                    let unit = match unit {
                        Unit::Minute => CalendarUnit::Minute,
                        Unit::Hour => CalendarUnit::Hour,
                        Unit::Day => CalendarUnit::Day,
                        Unit::Month => CalendarUnit::Month,
                    };
                    Counting::Calendar(unit, TimeZone::get(zone).ok()?)
                }
                Counted::Counter => Counting::Counter,
                Counted::InFlight => Counting::InFlight,
            },
            spacing: match self.spread {
                None => Spacing::Usual,
                Some(true) => Spacing::Even,
                Some(false) => Spacing::Burst,
            },
            reserve: self.reserve,
            strict: self.strict,
            written: self.limit.clone(),
            ..LimitPlan::auto()
        })
    }

    /// What stands in the book already, with this use; `None` where nothing needs to be written.
    pub(super) fn over(&self, old: Option<&Self>, now: Timestamp) -> Option<Self> {
        let is_fresh = |seen: &Timestamp| now.duration_since(*seen).abs() < STALE;
        let mut new = self.clone();
        new.pipelines = old.map(|old| old.pipelines.clone()).unwrap_or_default();
        let known = |name: &String| new.pipelines.get(name).is_some_and(is_fresh);
        if self.pipelines.keys().all(known) && old == Some(&new) {
            return None;
        }
        for name in self.pipelines.keys() {
            new.pipelines.insert(name.clone(), now);
        }
        while new.pipelines.len() > PIPELINES {
            let oldest = new.pipelines.iter().min_by_key(|(_, seen)| **seen);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            new.pipelines.remove(&oldest);
        }
        Some(new)
    }
}

/// The labels of one source.
#[derive(Debug)]
pub(super) struct Labels {
    /// One for each limit, without what tells its budgets apart.
    of: Vec<Option<(Label, Vec<Per>)>>,
    scrub: Scrub,
}

impl Labels {
    /// Labels for what `pipeline` does at `base`; the first limit is number 1.
    pub(super) fn new(base: &Url, plans: &[LimitPlan], pipeline: &str, scrub: Scrub) -> Self {
        let label = |plan: &LimitPlan| {
            let counting = match &plan.counting {
                // What one run finds is in no book.
                Counting::Auto => return None,
                Counting::Window => Counted::Window,
                Counting::Bucket(size) => Counted::Bucket { size: *size },
                Counting::Counter => Counted::Counter,
                Counting::InFlight => Counted::InFlight,
                Counting::Calendar(unit, zone) => Counted::Calendar {
                    unit: match unit {
                        CalendarUnit::Minute => Unit::Minute,
                        CalendarUnit::Hour => Unit::Hour,
                        CalendarUnit::Day => Unit::Day,
                        CalendarUnit::Month => Unit::Month,
                    },
                    zone: zone.iana_name().unwrap_or("UTC").to_owned(),
                },
            };
            let shared = plan.shared_as.is_some();
            let origin = (!shared).then(|| cut(&scrub, &base.origin().ascii_serialization()));
            let label = Label {
                version: VERSION,
                origin,
                shared_as: plan.shared_as.clone(),
                limit: plan.written.clone(),
                calls: plan.calls,
                unit: plan.unit.clone(),
                window: nanos(plan.window),
                reserve: plan.reserve,
                counting,
                spread: match plan.spacing {
                    Spacing::Usual => None,
                    Spacing::Even => Some(true),
                    Spacing::Burst => Some(false),
                },
                strict: plan.strict,
                routes: plan.routes.iter().map(scope::route).collect(),
                scope: Vec::new(),
                credential: false,
                pipelines: [(cut(&scrub, pipeline), Timestamp::UNIX_EPOCH)].into(),
            };
            Some((label, plan.per.clone().unwrap_or_default()))
        };
        Self {
            of: plans.iter().map(label).collect(),
            scrub,
        }
    }

    /// The label of a budget.
    pub(super) fn of(&self, key: &Key) -> Option<Label> {
        let (label, per) = self.of.get(key.0.checked_sub(1)?)?.as_ref()?;
        let mut label = label.clone();
        if per.is_empty() && label.shared_as.is_none() {
            // Origin and credential, see `scope`.
            if let [origin, credential] = &*key.1 {
                label.origin = Some(cut(&self.scrub, origin));
                label.credential = !credential.is_empty();
            }
        }
        for (per, value) in per.iter().zip(&key.1) {
            match per {
                Per::Credential => label.credential = !value.is_empty(),
                Per::Host => label.scope.push(("host".to_owned(), value.clone())),
                Per::Variable(name) => {
                    let pair = (name.clone(), cut(&self.scrub, value));
                    label.scope.push(pair);
                }
            }
        }
        Some(label)
    }
}

fn cut(scrub: &Scrub, text: &str) -> String {
    (scrub.0)(text).chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(plan: &LimitPlan, pipeline: &str) -> Label {
        let base = Url::parse("https://api.test/v1").expect("a URL");
        let labels = Labels::new(
            &base,
            std::slice::from_ref(plan),
            pipeline,
            Scrub::default(),
        );
        let values: Box<[String]> =
            Box::new(["https://api.test".to_owned(), "credential".to_owned()]);
        labels.of(&Arc::new((1, values))).expect("a label")
    }

    #[test]
    fn bytes_and_back_and_nothing_of_another_version() {
        let zone = TimeZone::get("America/New_York").expect("a zone");
        for counting in [
            Counting::Window,
            Counting::Bucket(40.try_into().expect("some")),
            Counting::Counter,
            Counting::InFlight,
            Counting::Calendar(CalendarUnit::Day, zone),
        ] {
            let plan = LimitPlan {
                counting,
                reserve: 7,
                spacing: Spacing::Burst,
                ..LimitPlan::parse("100 weight/d").expect("a limit")
            };
            let mut label = label(&plan, "items");
            let again = Label::decode(&label.encode()).expect("a label");
            assert_eq!(again, label);
            let rule = |plan: &LimitPlan| format!("{:?}", super::super::rule::Rule::new(plan));
            assert_eq!(rule(&again.plan().expect("a plan")), rule(&plan));
            label.version = 2;
            assert_eq!(Label::decode(&label.encode()), None);
        }
        assert_eq!(Label::decode(b"{}"), None);
    }

    #[test]
    fn pipelines_are_gathered_and_only_news_is_written() {
        let plan = LimitPlan::parse("5000/h").expect("a limit");
        let (one, other) = (label(&plan, "one"), label(&plan, "other"));
        let now: Timestamp = "2025-01-01T00:00:00Z".parse().expect("a time");
        let first = one.over(None, now).expect("news");
        let both = other.over(Some(&first), now).expect("news");
        let names: Vec<_> = both.pipelines.keys().map(String::as_str).collect();
        assert_eq!(names, ["one", "other"]);
        assert_eq!(one.over(Some(&both), now + STALE / 2), None);
        let later = one.over(Some(&both), now + STALE).expect("news");
        assert_eq!(
            (later.pipelines["one"], later.pipelines["other"]),
            (now + STALE, now)
        );
        let changed = LimitPlan::parse("4000/h").expect("a limit");
        let changed = label(&changed, "one").over(Some(&both), now).expect("news");
        assert_eq!(changed.limit, "4000/h");
        let mut many = one.over(None, now).expect("news");
        for i in 0..30 {
            let at = now + SignedDuration::from_secs(i);
            many = label(&plan, &format!("p{i}"))
                .over(Some(&many), at)
                .expect("news");
        }
        assert!(many.pipelines.len() == PIPELINES && many.pipelines.contains_key("p29"));
    }
}
