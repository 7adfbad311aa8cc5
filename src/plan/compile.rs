//! From what was written to what will be done: the only way to a [`Plan`].
//!
//! Every mistake of the file is found at once, in file order, offline. One file per table of the
//! pipeline language; `names` holds what they share: templates, the names they may use, and
//! what was found wrong.

mod alerts;
mod auth;
mod columns;
mod cursor;
mod dates;
mod expect;
mod format;
mod graphql;
mod limits;
mod names;
mod pages;
mod parents;
mod partitions;
mod records;
mod request;
mod schedule;
mod scope;
mod signals;
mod sink;
mod source;
mod stream;
mod tables;
mod transform;
mod values;

use std::time::Duration;

use crate::spec::diagnostic::Diagnostics;
use crate::spec::source::SourceSpec;
use crate::spec::{Written, near};

use self::names::Judge;
use super::Plan;

/// What the command line asks of a pipeline.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--var name=value`.
    pub vars: Vec<(String, String)>,
    /// `--sink csv=PATH`: in place of every sink of the file.
    pub sinks: Vec<String>,
    /// `--stream NAME`: only these; empty means all.
    pub streams: Vec<String>,
}

/// Below a day, so that a nightly run never goes on with that of the night before, whose answers are
/// a day old.
const RESUME_WITHIN: Duration = Duration::from_hours(20);

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum CompileProblem {
    /// The file has mistakes.
    #[error("{} has {} mistake(s)", .0.source.path.display(), .0.all.len())]
    File(Diagnostics),
    /// The command line has one.
    #[error("{message}")]
    Override {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl CompileProblem {
    fn usage(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self::Override {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Whom a file that may have mistakes names to be told of its trouble, as far as it can be read: a plan without
/// streams, by which nothing can be fetched. Nothing where nobody is named, or mistakes hide who.
pub fn listeners(written: &Written) -> Option<Plan> {
    let spec = &written.spec;
    let mut judge = Judge::new(&written.source, false);
    let vars = values::vars(&mut judge, spec.vars.as_ref(), &[]).ok()?;
    let alerts = alerts::alerts(&mut judge, spec.schedule.as_ref())?;
    if alerts.is_empty() {
        return None;
    }
    // How to ask the API does not matter, and is often what is wrong.
    let written_source = &spec.source.value;
    let way = SourceSpec {
        contact: None,
        auth: None,
        headers: None,
        query: None,
        limits: None,
        concurrency: None,
        retry: None,
        timeouts: None,
        allow_origins: None,
        responses: None,
        ..written_source.clone()
    };
    let source = source::source(&mut judge, &way)?;
    let name = written.source.path.file_stem().unwrap_or_default();
    let (secrets, env, _) = judge.finish(written);
    Some(Plan {
        name: name.to_string_lossy().into_owned(),
        text: written.source.text.clone(),
        about: String::new(),
        source,
        alerts,
        resume_within: RESUME_WITHIN,
        streams: Vec::new(),
        schedule: None,
        vars,
        secrets,
        env,
        seal: (),
    })
}

/// Checks a pipeline as a whole and makes its plan.
pub fn compile(written: &Written, overrides: &Overrides) -> Result<Plan, CompileProblem> {
    let spec = &written.spec;
    let stream_names = || spec.streams.0.iter().map(|(name, _)| name.value.as_str());
    for wanted in &overrides.streams {
        if !stream_names().any(|name| name == wanted) {
            return Err(CompileProblem::usage(
                format!(
                    "there is no stream `{wanted}` in {}",
                    written.source.path.display()
                ),
                near::hint(wanted, stream_names().collect::<Vec<_>>(), "its streams"),
            ));
        }
    }

    let mut judge = Judge::new(&written.source, spec.source.contact.is_some());
    let vars = values::vars(&mut judge, spec.vars.as_ref(), &overrides.vars)?;
    let helpers = sink::helpers(spec);
    let given_sinks = sink::given(&mut judge, overrides, spec, &helpers)?;
    let source = source::source(&mut judge, &spec.source);
    let resume_within = judge.duration(spec.resume_within.as_ref(), RESUME_WITHIN);
    let schedule = spec
        .schedule
        .as_ref()
        .and_then(|spec| schedule::schedule(&mut judge, spec));
    let mut streams = stream::streams(&mut judge, spec, overrides.sinks.is_empty());
    limits::units(&mut judge, spec);
    limits::names(&mut judge, spec);
    limits::uncovered(&mut judge, spec, source.as_ref());
    tables::tables(&mut judge, spec, &mut streams);
    let alerts = alerts::alerts(&mut judge, spec.schedule.as_ref());
    judge.unused_vars(spec.vars.as_ref());

    let name = written.source.path.file_stem().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let (secrets, env, all) = judge.finish(written);
    match (source, alerts, all.is_empty()) {
        (Some(source), Some(alerts), true) => {
            let mut streams = streams;
            if let Some(parse) = given_sinks {
                // One that only serves others goes nowhere, unless it was asked for by name. One that does
                // not run keeps its own, or it would share the table of those that do.
                let wanted = |name: &String| {
                    if overrides.streams.is_empty() {
                        !helpers.contains(name)
                    } else {
                        overrides.streams.contains(name)
                    }
                };
                for stream in &mut streams {
                    if wanted(&stream.name) {
                        stream.sinks = parse()?;
                    }
                }
            }
            Ok(Plan {
                name,
                text: written.source.text.clone(),
                about: spec
                    .about
                    .as_ref()
                    .map(|about| about.value.clone())
                    .unwrap_or_default(),
                source,
                alerts,
                resume_within,
                streams,
                schedule,
                vars,
                secrets,
                env,
                seal: (),
            })
        }
        _ => Err(CompileProblem::File(Diagnostics {
            source: written.source.clone(),
            all,
        })),
    }
}
