//! Mistakes in the pipeline file that only the data show: what failed, on what, and its line of the
//! file.

use std::sync::Arc;

use crate::failure::{Exit, Failure};
use crate::harvest::trouble::at;
use crate::plan::language::LanguageProblem;
use crate::plan::place::Place;
use crate::plan::request::RenderProblem;
use crate::records::transform::TransformError;

/// An expression that failed on an answer; `sample` is how that begins.
pub(in crate::harvest) fn rule(
    key: &str,
    problem: &LanguageProblem,
    place: &str,
    sample: Option<String>,
) -> Box<Failure> {
    let hint = "correct the expression in the pipeline file";
    Box::new(Failure {
        exit: Exit::Failed,
        message: at(place, &format!("`{key}` cannot be judged: {problem}")),
        causes: sample.into_iter().collect(),
        hint: Some(in_file(hint, problem.place.as_deref())),
    })
}

/// What to do, and where in the file.
pub(in crate::harvest) fn in_file(hint: &str, place: Option<&Place>) -> String {
    match place {
        Some(place) => format!("{hint}\n{place}"),
        None => hint.to_owned(),
    }
}

/// What could not be rendered, and where it stands in the pipeline file, if that is known.
pub(in crate::harvest) struct Unrendered {
    message: String,
    place: Option<Arc<Place>>,
}

impl From<String> for Unrendered {
    fn from(message: String) -> Self {
        let place = None;
        Self { message, place }
    }
}

impl From<RenderProblem> for Unrendered {
    fn from(RenderProblem { message, place }: RenderProblem) -> Self {
        Self { message, place }
    }
}

impl From<&RenderProblem> for Unrendered {
    fn from(problem: &RenderProblem) -> Self {
        problem.clone().into()
    }
}

impl From<&LanguageProblem> for Unrendered {
    fn from(problem: &LanguageProblem) -> Self {
        Self {
            message: problem.message.clone(),
            place: problem.place.clone(),
        }
    }
}

impl Unrendered {
    /// As what failed a stream.
    pub(in crate::harvest) fn of(self, stream: &str) -> Box<Failure> {
        let hint = "correct the template in the pipeline file, or the values that `for` gives it";
        Box::new(Failure {
            exit: Exit::Failed,
            message: format!("{stream}: {}", self.message),
            causes: Vec::new(),
            hint: Some(in_file(hint, self.place.as_deref())),
        })
    }
}

/// What to do, where the answer was paid for and is kept.
pub(in crate::harvest) fn kept(hint: &str) -> String {
    const KEPT: &str = "and run again: the answer is kept as it came, and is not asked for again";
    match hint.split_once('\n') {
        Some((hint, place)) => format!("{hint} {KEPT}\n{place}"),
        None => format!("{hint} {KEPT}"),
    }
}

/// A step of `transform` that cannot be done to a record.
pub(in crate::harvest) fn transform(
    error: &TransformError,
    place: &str,
    is_kept: bool,
    scrub: impl Fn(&str) -> String,
) -> Box<Failure> {
    let hint = format!("correct the step in the pipeline file\n{}", error.place);
    let record =
        (!error.record.is_empty()).then(|| scrub(&format!("the record is {}", error.record)));
    Box::new(Failure {
        exit: Exit::Failed,
        message: scrub(&at(place, &error.to_string())),
        causes: record.into_iter().collect(),
        hint: Some(if is_kept { kept(&hint) } else { hint }),
    })
}
