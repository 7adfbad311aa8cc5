//! Secrets of those who send nothing: something stands for what has no value.

use std::path::Path;

use super::{Secrets, scrub_table, unset};
use crate::failure::Failure;
use crate::plan::{Need, Plan};

impl Secrets {
    /// As [`Secrets::load`], but something stands for secrets that have no value: enough to count
    /// requests that are never sent.
    pub(in crate::harvest) fn load_or_stand_in(
        plan: &Plan,
        root: &Path,
    ) -> Result<Self, Box<Failure>> {
        let (mut found, missing, missing_env) = Self::look(plan, root)?;
        if !missing_env.is_empty() {
            return Err(unset(plan, &missing_env));
        }
        let stand_ins = missing
            .iter()
            .map(|name| (name.clone(), "unset".to_owned()));
        found.values.extend(stand_ins);
        found.unset = missing;
        Ok(found)
    }

    /// Of a run that sends nothing: what has no value is its name in brackets, as every secret is in
    /// [`Self::by_name`], so that kept pages are known without one. Of those that need none, `had` had a value when
    /// the pages were asked for, and no others.
    pub(in crate::harvest) fn of_kept(
        plan: &Plan,
        root: &Path,
        had: &[String],
    ) -> Result<Self, Box<Failure>> {
        let (mut found, mut missing, missing_env) = Self::look(plan, root)?;
        if !missing_env.is_empty() {
            return Err(unset(plan, &missing_env));
        }
        let had_none = |need: &&Need| need.optional && !had.contains(&need.name);
        for need in plan.secrets.iter().filter(had_none) {
            found.values.remove(&need.name);
        }
        let has = |name: &String| found.values.get(name).is_some_and(|v| !v.is_empty());
        missing.extend(had.iter().filter(|name| !has(name)).cloned());
        found.values.extend(in_brackets(&missing));
        found.scrub = scrub_table(&found.values);
        Ok(found)
    }

    /// Names of those that need no value and have one: what a run writes down for [`Self::of_kept`].
    pub(in crate::harvest) fn optional(&self, plan: &Plan) -> Vec<String> {
        let optional = plan.secrets.iter().filter(|need| need.optional);
        let set =
            optional.filter(|need| (self.values.get(&need.name)).is_some_and(|v| !v.is_empty()));
        set.map(|need| need.name.clone()).collect()
    }

    /// What a replay renders: of a secret its name in brackets, as the recording has it, and the
    /// environment as it was.
    pub(in crate::harvest) fn of_replay(secrets: &[String], env: &[(String, String)]) -> Self {
        let mut found = Self {
            values: in_brackets(secrets).collect(),
            env: env.iter().cloned().collect(),
            ..Self::default()
        };
        found.scrub = scrub_table(&found.values);
        found
    }
}

/// A name in brackets for each secret, as what is written down has it.
fn in_brackets(names: &[String]) -> impl Iterator<Item = (String, String)> {
    names.iter().map(|name| (name.clone(), format!("[{name}]")))
}
