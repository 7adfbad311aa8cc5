//! What an API allows: so many calls, or units of a cost, per window.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use globset::GlobMatcher;
use jiff::tz::TimeZone;

use super::duration;
use super::language::Expr;

/// One entry of `limits`.
#[derive(Debug, Clone)]
pub struct LimitPlan {
    /// Most calls, or units, in any window.
    pub calls: NonZeroU32,
    /// What is counted, if not calls: `weight` of `600 weight/min`.
    pub unit: Option<String>,
    /// The window's length; zero where requests in flight are counted.
    pub window: Duration,
    /// Which requests it counts.
    pub when: LimitWhen,
    /// Which of them, by method and path; empty is all.
    pub routes: Vec<Route>,
    /// The names whose values have a budget each; `None` is origin and credential.
    pub per: Option<Vec<Per>>,
    /// How the API counts.
    pub counting: Counting,
    /// How calls are spaced inside the window.
    pub spacing: Spacing,
    /// Calls, or units, that are left to others.
    pub reserve: u32,
    /// The name under which pipelines share it.
    pub shared_as: Option<String>,
    /// Whether only receipts count, whatever the round trips look like.
    pub strict: bool,
    /// What answers say of it, where the file tells how to read that.
    pub signals: SignalsPlan,
    /// As written, for messages: `80/min`.
    pub written: String,
}

/// How to read what answers say of a limit.
#[derive(Debug, Clone, Default)]
pub struct SignalsPlan {
    /// How much is left.
    pub left: Option<Left>,
    /// When there is more.
    pub reset: Option<Expr>,
    /// How long to send nothing.
    pub pause: Option<Expr>,
    /// Whether what is told counts where it is more than the limit.
    pub trust: bool,
}

/// How an answer says what is left.
#[derive(Debug, Clone)]
pub enum Left {
    /// So much is left.
    Remaining(Expr),
    /// So much is used.
    Used(Expr),
}

impl SignalsPlan {
    /// Its expressions.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let left = self.left.as_ref().map(|left| match left {
            Left::Remaining(expr) | Left::Used(expr) => expr,
        });
        left.into_iter().chain(&self.reset).chain(&self.pause)
    }
}

/// Which requests a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitWhen {
    /// All.
    Always,
    /// Only when a credential is sent (`if: auth`).
    Auth,
    /// Only when none is (`if: not auth`).
    NoAuth,
}

/// Selects requests: a glob over the path, for one method or all.
#[derive(Debug, Clone)]
pub struct Route {
    /// The method; `None` is any.
    pub method: Option<http::Method>,
    /// Matches the path, or what follows the path of the source's URL.
    pub path: GlobMatcher,
}

/// A name that tells budgets of one limit apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Per {
    /// The host that is asked.
    Host,
    /// Whether the source's credential is sent.
    Credential,
    /// A variable of `for`.
    Variable(String),
}

/// How the API counts.
#[derive(Debug, Clone)]
pub enum Counting {
    /// In any window, wherever it begins.
    Window,
    /// A bucket of this size that leaks at the limit's rate.
    Bucket(NonZeroU32),
    /// In the zone's own minutes, hours, days or months.
    Calendar(CalendarUnit, TimeZone),
    /// Estimates a sliding window from two fixed ones.
    Counter,
    /// Requests in flight: those that are sent and not answered yet.
    InFlight,
    /// Nobody knows: found while asking (`limits: auto`).
    Auto,
}

/// A window of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalendarUnit {
    /// From one full minute to the next.
    Minute,
    /// From one full hour to the next.
    Hour,
    /// From one midnight to the next.
    Day,
    /// From the first of a month to the next.
    Month,
}

/// How calls are spaced inside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Windows up to a minute: a tenth at once, then evenly; longer ones: as asked.
    Usual,
    /// `spread: true`: evenly from the first call.
    Even,
    /// `spread: false`: as fast as asked, until the window is used up.
    Burst,
}

const FORM: &str = "write calls per time, as in `5000/h`, `80/min` or `1/3s`";

impl LimitPlan {
    /// Whether its pace is found while asking.
    pub fn is_auto(&self) -> bool {
        matches!(self.counting, Counting::Auto)
    }

    /// What the API grants: of a bucket its size, else what a window allows.
    pub fn granted(&self) -> u64 {
        u64::from(match &self.counting {
            Counting::Bucket(size) => size.get(),
            _ => self.calls.get(),
        })
    }

    /// `limits: auto`: the pace is found while asking.
    pub fn auto() -> Self {
        Self {
            calls: NonZeroU32::MIN,
            unit: None,
            window: Duration::from_secs(1),
            when: LimitWhen::Always,
            routes: Vec::new(),
            per: None,
            counting: Counting::Auto,
            spacing: Spacing::Even,
            reserve: 0,
            strict: false,
            shared_as: None,
            signals: SignalsPlan::default(),
            written: "auto".to_owned(),
        }
    }

    /// What pipelines that share the limit must agree on: how much, of what, how it is counted, for
    /// which requests. How calls are spaced is everybody's own.
    pub fn terms(&self) -> String {
        let counting = match &self.counting {
            Counting::Window => "window".to_owned(),
            Counting::Bucket(size) => format!("bucket {size}"),
            Counting::Calendar(unit, zone) => {
                format!("{unit:?} {}", zone.iana_name().unwrap_or_default())
            }
            Counting::Counter => "counter".to_owned(),
            Counting::InFlight => "in flight".to_owned(),
            Counting::Auto => "auto".to_owned(),
        };
        let route = |route: &Route| {
            let method = route.method.as_ref().map_or("any", http::Method::as_str);
            format!("{method} {}", route.path.glob())
        };
        let routes: Vec<String> = self.routes.iter().map(route).collect();
        let (calls, unit, window) = (self.calls, &self.unit, self.window);
        let (per, reserve) = (&self.per, self.reserve);
        format!("{calls} {unit:?} {window:?} {counting} {reserve} {per:?} {routes:?}")
    }

    /// The names under which these limits are shared, with their [`LimitPlan::terms`] and the limit
    /// as written; in order.
    pub fn shared(plans: &[Self]) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut shared: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for plan in plans {
            if let Some(name) = &plan.shared_as {
                let limits = shared.entry(name.clone()).or_default();
                limits.insert(plan.terms(), plan.written.clone());
            }
        }
        shared
    }

    /// Reads the short form `N/[k]TIME`: `5000/h`, `1/3s`, `80/min`; or `N in flight`.
    ///
    /// # Errors
    /// A sentence that shows the form.
    pub fn parse(written: &str) -> Result<Self, String> {
        let written = written.trim();
        if let Some(number) = written.strip_suffix("in flight") {
            let (calls, unit) = parse_calls(number.trim())?;
            if unit.is_some() {
                return Err(format!(
                    "`{written}` is not a limit; write requests in flight as in `1 in flight`"
                ));
            }
            return Ok(Self {
                calls,
                unit: None,
                window: Duration::ZERO,
                counting: Counting::InFlight,
                spacing: Spacing::Usual,
                written: written.to_owned(),
                ..Self::auto()
            });
        }
        let Some((calls, window)) = written.split_once('/') else {
            return Err(format!("`{written}` is not a limit; {FORM}"));
        };
        let (calls, unit) = parse_calls(calls.trim())?;
        let window = window.trim();
        // `80/min` means one of the unit.
        let window = if window.starts_with(|c: char| c.is_alphabetic()) {
            duration::parse(&format!("1{window}"))
        } else if window.is_empty() {
            Err("the time after `/` is missing".to_owned())
        } else {
            duration::parse(window)
        }
        .map_err(|problem| format!("in the limit `{written}`: {problem}"))?;
        if window.is_zero() {
            return Err(format!("the window of `{written}` is empty; {FORM}"));
        }
        Ok(Self {
            calls,
            unit,
            window,
            when: LimitWhen::Always,
            routes: Vec::new(),
            per: None,
            counting: Counting::Window,
            spacing: Spacing::Usual,
            reserve: 0,
            shared_as: None,
            strict: false,
            signals: SignalsPlan::default(),
            written: written.to_owned(),
        })
    }
}

/// Reads what stands before the slash.
fn parse_calls(calls: &str) -> Result<(NonZeroU32, Option<String>), String> {
    let end = calls
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(calls.len());
    let (number, unit) = calls.split_at(end);
    let unit = unit.trim();
    if number.is_empty() || unit.starts_with(['.', ',']) || unit.starts_with('-') {
        return Err(format!("`{calls}` is not a whole number of calls; {FORM}"));
    }
    let unit = match unit {
        "" | "call" | "calls" | "request" | "requests" => None,
        _ if unit.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => Some(unit.to_owned()),
        _ => {
            return Err(format!(
                "`{unit}` is not the name of a unit: letters, digits and `_`; {FORM}"
            ));
        }
    };
    let number: u32 = number.replace('_', "").parse().map_err(|_| {
        format!(
            "`{number}` is not a number of calls up to {}; {FORM}",
            u32::MAX
        )
    })?;
    let number = NonZeroU32::new(number).ok_or_else(|| {
        "a limit of 0 calls allows nothing; leave the stream out instead".to_owned()
    })?;
    Ok((number, unit))
}

impl CalendarUnit {
    /// The unit that a window is exactly one of.
    pub fn of(window: Duration) -> Option<Self> {
        [Self::Minute, Self::Hour, Self::Day, Self::Month]
            .into_iter()
            .find(|unit| unit.length() == window)
    }

    /// Its usual length.
    pub fn length(self) -> Duration {
        const DAY: u64 = 24 * 3600;
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => DAY,
            Self::Month => 30 * DAY,
        })
    }
}

impl fmt::Display for LimitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_short_form() {
        for (written, calls, millis) in [
            ("5000/h", 5000, 3_600_000),
            ("80/min", 80, 60_000),
            ("1/3s", 1, 3_000),
            ("500/5min", 500, 300_000),
            (" 10 / 1.5s ", 10, 1_500),
            ("60 calls/min", 60, 60_000),
            ("1_000/d", 1000, 86_400_000),
        ] {
            let limit = LimitPlan::parse(written).unwrap();
            assert_eq!(limit.calls.get(), calls, "{written}");
            assert_eq!(limit.window, Duration::from_millis(millis), "{written}");
            assert_eq!(limit.to_string(), written.trim());
            assert_eq!(
                (limit.when, limit.spacing),
                (LimitWhen::Always, Spacing::Usual)
            );
            assert_eq!(limit.unit, None);
        }
        let limit = LimitPlan::parse("100 in flight").unwrap();
        assert_eq!((limit.calls.get(), limit.window), (100, Duration::ZERO));
        assert!(matches!(limit.counting, Counting::InFlight));
        let limit = LimitPlan::parse("6_000 weight/min").unwrap();
        assert_eq!(limit.unit.as_deref(), Some("weight"));
    }

    #[test]
    fn terms_are_what_must_be_agreed_on() {
        let plan = |written: &str| LimitPlan {
            shared_as: Some("archive".to_owned()),
            ..LimitPlan::parse(written).unwrap()
        };
        let same = LimitPlan {
            spacing: Spacing::Even,
            strict: true,
            ..plan("60/1min")
        };
        assert_eq!(plan("60/min").terms(), same.terms());
        let bucket = LimitPlan {
            counting: Counting::Bucket(NonZeroU32::MIN),
            ..plan("60/min")
        };
        let reserve = LimitPlan {
            reserve: 1,
            ..plan("60/min")
        };
        for other in [
            plan("61/min"),
            plan("60/h"),
            plan("60 x/min"),
            bucket,
            reserve,
        ] {
            assert_ne!(plan("60/min").terms(), other.terms());
        }
        let shared = LimitPlan::shared(&[plan("60/min"), plan("5/s"), LimitPlan::auto()]);
        assert_eq!((shared.len(), shared["archive"].len()), (1, 2));
    }

    #[test]
    fn refuses_with_the_form() {
        for (written, part) in [
            ("5000", "`5000/h`"),
            ("80/m", "did you mean `min`"),
            ("80/minute", "did you mean `min`"),
            ("80/", "missing"),
            ("0/s", "0 calls"),
            ("0 in flight", "0 calls"),
            ("5 tokens in flight", "`1 in flight`"),
            ("in flight", "whole number"),
            ("1/0s", "empty"),
            ("many/s", "whole number"),
            ("1.5/s", "whole number"),
            ("-1/s", "whole number"),
            ("600 we-ight/min", "not the name of a unit"),
            ("99999999999/h", "number of calls"),
        ] {
            let problem = LimitPlan::parse(written).unwrap_err();
            assert!(problem.contains(part), "{written}: {problem}");
        }
    }
}
