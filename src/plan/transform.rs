//! `transform`: what is done to whole records, step by step, before they are kept.

use std::fmt;
use std::sync::Arc;

use super::jq::Jq;
use super::language::{Expr, Template};
use super::path::Path;
use super::place::Place;

/// One step, with its place in the pipeline file.
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// What is done.
    pub step: Step,
    /// Where it stands.
    pub place: Place,
}

/// What is done to a record.
#[derive(Debug, Clone)]
pub enum Step {
    /// Only records stay for which this holds.
    Where(Expr),
    /// Each element of an array makes a record of its own, in the place of the array.
    Explode {
        /// Where the array is.
        path: Path,
        /// Whether a record without elements stays.
        keep_empty: bool,
    },
    /// Members are added, or replaced where they are.
    Add(Vec<(String, Source)>),
    /// Members get other names, in their places.
    Rename(Vec<(Path, String)>),
    /// Members are left out.
    Drop(Vec<Path>),
    /// Each output of a filter is a record.
    Jq(Jq),
}

/// Where an added member comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// What stands there in the record, as it is spelled; and where the pipeline file says so.
    Copy(Path, Option<Arc<Place>>),
    /// A template.
    Template(Template),
}

impl Step {
    /// Its word in the pipeline file.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Where(_) => "where",
            Self::Explode { .. } => "explode",
            Self::Add(_) => "add",
            Self::Rename(_) => "rename",
            Self::Drop(_) => "drop",
            Self::Jq(_) => "jq",
        }
    }
}

/// All that decides what becomes of a record.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.word())?;
        match self {
            Self::Where(expr) => write!(f, " {}", expr.written()),
            Self::Explode { path, keep_empty } => write!(f, " {path} {keep_empty}"),
            Self::Add(members) => members.iter().try_for_each(|(name, source)| match source {
                Source::Copy(path, _) => write!(f, " {name:?}: {path}"),
                Source::Template(template) => write!(f, " {name:?}: {:?}", template.written()),
            }),
            Self::Rename(names) => {
                (names.iter()).try_for_each(|(path, name)| write!(f, " {path}: {name:?}"))
            }
            Self::Drop(paths) => paths.iter().try_for_each(|path| write!(f, " {path}")),
            Self::Jq(jq) => write!(f, " {}", jq.written()),
        }
    }
}
