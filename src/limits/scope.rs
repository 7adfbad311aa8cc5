//! Which budgets a request needs: routes select the limits, `per` tells the budgets of one apart.

use std::sync::Arc;

use http::Method;
use minijinja::Value;
use url::Url;

use super::budget::CALL;
use super::rule::Rule;
use crate::event::Name;
use crate::plan::limit::{Counting, LimitPlan, Per, Route};

/// Longest name of a budget, in characters.
const LABEL: usize = 80;

/// A budget: its rule, and the values that it is for.
pub(super) type Key = Arc<(usize, Box<[String]>)>;

/// A request that asks for its turn.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its URL.
    pub url: &'a Url,
    /// Whether the source's credential goes with it.
    pub credential: bool,
    /// The `for` variables of its partition.
    pub variables: &'a [(String, Value)],
    /// What it may cost at most, by unit; a unit that is not named costs 1.
    pub cost: &'a [(Name, f64)],
}

/// What a request needs for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub(super) parts: Arc<[(Key, u64)]>,
}

/// Why a request never gets a turn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoTurn {
    /// Nothing says how often it may be sent.
    #[error("no limit of the source covers {method} {path}")]
    Uncovered {
        /// Its method.
        method: Method,
        /// Its path.
        path: String,
    },
    /// It costs more than a whole window allows.
    #[error("the request costs {cost}, more than the limit `{limit}` ever allows")]
    TooCostly {
        /// What it costs.
        cost: f64,
        /// The limit, as written.
        limit: Name,
    },
    /// Its cost is not a number that can be reckoned with.
    #[error("a cost of {cost} is not a number from 0 on")]
    BadCost {
        /// What it costs.
        cost: f64,
    },
}

/// Finds the limits of requests.
#[derive(Debug)]
pub(super) struct Scopes {
    /// Path of the source's URL, without a slash at the end.
    base: String,
    limits: Vec<Limit>,
}

#[derive(Debug)]
struct Limit {
    routes: Vec<Route>,
    /// `None` is origin and credential.
    per: Option<Vec<Per>>,
}

impl Scopes {
    /// `plans` are the limits that count for the source at `base`.
    pub(super) fn new(base: &Url, plans: &[LimitPlan]) -> Self {
        let limits = plans
            .iter()
            .map(|plan| Limit {
                routes: plan.routes.clone(),
                // Pipelines that share a limit share it whoever asks, unless they say otherwise.
                per: plan
                    .per
                    .clone()
                    .or_else(|| plan.shared_as.as_ref().map(|_| Vec::new())),
            })
            .collect();
        Self {
            base: base.path().trim_end_matches('/').to_owned(),
            limits,
        }
    }

    /// The budgets of a request. Rule 0 is the slots, and rule n the n-th limit.
    pub(super) fn needs(&self, rules: &[Rule], asked: &Asked<'_>) -> Result<Needs, NoTurn> {
        let mut parts = vec![(Arc::new((0, Box::default())), CALL)];
        for ((at, rule), limit) in rules.iter().enumerate().skip(1).zip(&self.limits) {
            if !self.selects(limit, asked) {
                continue;
            }
            let amount = amount(rule.unit.as_ref(), asked.cost)?;
            if amount > rule.capacity {
                return Err(NoTurn::TooCostly {
                    cost: units(amount),
                    limit: rule.name(),
                });
            }
            parts.push((Arc::new((at, values(limit, asked))), amount));
        }
        if parts.len() == 1 && !self.limits.is_empty() {
            return Err(NoTurn::Uncovered {
                method: asked.method.clone(),
                path: asked.url.path().to_owned(),
            });
        }
        Ok(Needs {
            parts: parts.into(),
        })
    }

    /// What tells a budget from the others of the source, for people: its limit's routes and the
    /// values that it is for. `None` where a limit has one budget for everything.
    pub(super) fn label(&self, key: &Key) -> Option<Name> {
        let limit = self.limits.get(key.0.checked_sub(1)?)?;
        let mut parts: Vec<String> = limit.routes.iter().map(route).collect();
        for (per, value) in limit.per.iter().flatten().zip(&key.1) {
            match per {
                Per::Host => parts.push(value.clone()),
                Per::Credential => {}
                Per::Variable(name) => parts.push(format!("{name}={value}")),
            }
        }
        let cut = |text: String| -> Name { text.chars().take(LABEL).collect::<String>().into() };
        (!parts.is_empty()).then(|| cut(parts.join(", ")))
    }

    fn selects(&self, limit: &Limit, asked: &Asked<'_>) -> bool {
        let path = asked.url.path();
        let below = path
            .strip_prefix(&self.base)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let fits = |route: &Route| {
            route.method.as_ref().is_none_or(|m| m == asked.method)
                && (route.path.is_match(path) || below.is_some_and(|p| route.path.is_match(p)))
        };
        limit.routes.is_empty() || limit.routes.iter().any(fits)
    }
}

/// A route as it is written: `GET /search/**`.
pub(super) fn route(route: &Route) -> String {
    let method = route.method.as_ref().map(|method| format!("{method} "));
    format!("{}{}", method.unwrap_or_default(), route.path.glob())
}

/// What identifies the budgets of each rule to all processes: how it counts and what, but not how
/// much, so that a limit that is changed in the file remembers what was used. Rule 0 is the slots,
/// which are a run's own.
pub(super) fn identities(base: &Url, plans: &[LimitPlan]) -> Vec<Option<String>> {
    let mut known: Vec<Option<String>> = vec![None];
    for plan in plans {
        let counting = match &plan.counting {
            // What one run finds is its own.
            Counting::Auto => {
                known.push(None);
                continue;
            }
            Counting::InFlight => "in flight".to_owned(),
            Counting::Window => "window".to_owned(),
            Counting::Counter => "counter".to_owned(),
            Counting::Bucket(_) => "bucket".to_owned(),
            Counting::Calendar(unit, zone) => {
                format!("{unit:?} {}", zone.iana_name().unwrap_or_default())
            }
        };
        let routes: Vec<_> = plan
            .routes
            .iter()
            .map(|route| (&route.method, route.path.glob().glob()))
            .collect();
        let owner = match &plan.shared_as {
            Some(name) => format!("shared as {name}"),
            None => base.origin().ascii_serialization(),
        };
        let mut identity = format!(
            "{owner}\0{counting}\0{:?}\0{:?}\0{routes:?}\0{:?}",
            plan.unit, plan.window, plan.per,
        );
        // Two limits that count alike in one file are still two.
        while known.iter().flatten().any(|other| *other == identity) {
            identity.push_str("\0again");
        }
        known.push(Some(identity));
    }
    known
}

/// What a budget is known by to all who share it; `names` are the [`identities`].
pub(super) fn identity(names: &[Option<String>], credential: &str, key: &Key) -> Option<String> {
    let mut identity = names.get(key.0)?.clone()?;
    for value in &key.1 {
        identity.push('\0');
        identity.push_str(value);
        if value == "credential" {
            identity.push('\0');
            identity.push_str(credential);
        }
    }
    Some(identity)
}

/// The values that tell the budgets of a limit apart.
fn values(limit: &Limit, asked: &Asked<'_>) -> Box<[String]> {
    let origin = || asked.url.origin().ascii_serialization();
    let credential = || if asked.credential { "credential" } else { "" }.to_owned();
    let Some(per) = &limit.per else {
        return Box::new([origin(), credential()]);
    };
    per.iter()
        .map(|per| match per {
            Per::Host => asked.url.host_str().unwrap_or_default().to_owned(),
            Per::Credential => credential(),
            Per::Variable(name) => {
                let value = asked.variables.iter().find(|(known, _)| known == name);
                value
                    .map(|(_, value)| value.to_string())
                    .unwrap_or_default()
            }
        })
        .collect()
}

/// What a request takes of a budget.
fn amount(unit: Option<&Name>, cost: &[(Name, f64)]) -> Result<u64, NoTurn> {
    match unit.and_then(|unit| cost.iter().find(|(name, _)| name == unit)) {
        None => Ok(CALL),
        Some((_, cost)) => thousandths(*cost).ok_or(NoTurn::BadCost { cost: *cost }),
    }
}

/// A cost as an amount, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked just before"
)]
pub(super) fn thousandths(cost: f64) -> Option<u64> {
    let amount = (cost * CALL as f64).ceil();
    (0.0..1e18).contains(&amount).then_some(amount as u64)
}

pub(super) fn units(amount: u64) -> f64 {
    amount as f64 / CALL as f64
}
