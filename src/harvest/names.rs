//! The names that templates and expressions see, per place (docs/language.md).

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use minijinja::Value;

use super::secrets::Secrets;
use crate::plan::{Plan, language::LanguageProblem};

/// Names that stay the same for a whole run.
#[derive(Clone)]
pub(super) struct Names {
    /// `vars`, `env`, `secret`, `contact`, `run`: for requests and auth.
    request: BTreeMap<String, Value>,
    /// The same without `secret` and `env`: for what is not sent.
    output: BTreeMap<String, Value>,
    /// The same without `secret`: for what answers mean.
    answer: BTreeMap<String, Value>,
    /// `contact`, rendered.
    pub(super) contact: Option<String>,
}

/// Names only: the values of some are secrets.
impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.request.keys()).finish()
    }
}

impl Names {
    /// No names at all.
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        Self {
            request: BTreeMap::new(),
            output: BTreeMap::new(),
            answer: BTreeMap::new(),
            contact: None,
        }
    }

    /// Fixes the names of a run that starts at `started`.
    pub(super) fn new(
        plan: &Plan,
        secrets: &Secrets,
        started: Timestamp,
    ) -> Result<Self, LanguageProblem> {
        let mut names = Self::without_contact(plan, secrets, started);
        if let Some(template) = &plan.source.contact {
            let contact = template.text(&merge(&names.answer, &[]))?;
            for place in [&mut names.request, &mut names.output, &mut names.answer] {
                place.insert("contact".to_owned(), Value::from(contact.as_str()));
            }
            names.contact = Some(contact);
        }
        Ok(names)
    }

    /// The same for those who can do without `contact`, which may need what has no value.
    pub(super) fn without_contact(plan: &Plan, secrets: &Secrets, started: Timestamp) -> Self {
        let output = BTreeMap::from([
            ("vars".to_owned(), plan.vars.clone()),
            ("run".to_owned(), run_value(started)),
            ("pipeline".to_owned(), Value::from(plan.name.as_str())),
        ]);
        let mut request = output.clone();
        request.insert("env".to_owned(), secrets.env_values());
        let answer = request.clone();
        request.insert("secret".to_owned(), secrets.secret_values());
        Self {
            request,
            output,
            answer,
            contact: None,
        }
    }

    /// What requests and auth see, `for` variables included.
    pub(super) fn request(&self, variables: &[(String, Value)]) -> Value {
        merge(&self.request, variables)
    }

    /// What `responses` and `stop` see: everything but secrets.
    pub(super) fn answer(&self, more: &[(String, Value)]) -> Value {
        merge(&self.answer, more)
    }

    /// What columns and sinks see: everything but secrets and the environment.
    pub(super) fn output(&self, variables: &[(String, Value)]) -> Value {
        merge(&self.output, variables)
    }
}

/// What `run` is in a run that starts at `started`.
pub(super) fn run_value(started: Timestamp) -> Value {
    let day = started.to_zoned(jiff::tz::TimeZone::UTC).date();
    Value::from_pairs([
        ("date", Value::from(day.to_string())),
        ("started", Value::from(started.to_string())),
    ])
}

fn merge(base: &BTreeMap<String, Value>, more: &[(String, Value)]) -> Value {
    Value::from_pairs(
        base.iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .chain(more.iter().cloned()),
    )
}
