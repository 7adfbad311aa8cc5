//! From a file's name to its plan, and from a plan to the network: the calls into the rooms below
//! that several commands share, with their troubles as failures.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::fetch::client::HttpClient;
use crate::fetch::transport::{ClientSettings, SharedTransport};
use crate::harvest::network;
use crate::plan::Plan;
use crate::plan::compile::{self, CompileProblem, compile};
use crate::report::plural;
use crate::spec::diagnostic::{Diagnostics, SourceText};
use crate::spec::load::{self, LoadProblem};
use crate::spec::{self, Written};

use super::out;

pub(super) use crate::plan::compile::Overrides;

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// The file cannot be read, or the command line does not fit it.
    Failure(Failure),
    /// The file has mistakes.
    Mistakes(Diagnostics),
}

/// Reads and checks a pipeline file; its mistakes are shown, and then there is no plan.
pub(super) fn plan_or_tell(path: &Path, overrides: &Overrides) -> Result<Option<Plan>, Failure> {
    match plan(path, overrides) {
        Ok(plan) => Ok(Some(plan)),
        Err(NoPlan::Failure(failure)) => Err(failure),
        Err(NoPlan::Mistakes(mistakes)) => {
            out::stderr(&mistakes.draw(out::stderr_colour()));
            Ok(None)
        }
    }
}

/// Reads and checks a pipeline file.
pub(super) fn plan(path: &Path, overrides: &Overrides) -> Result<Plan, NoPlan> {
    match load::read(path) {
        Ok(written) => compiled(&written, overrides),
        Err(LoadProblem::Invalid(mistakes)) => Err(NoPlan::Mistakes(mistakes)),
        Err(problem @ LoadProblem::Unreadable { .. }) => {
            Err(NoPlan::Failure(Failure::usage(problem.to_string())))
        }
        Err(problem @ (LoadProblem::NotText { .. } | LoadProblem::TooLarge { .. })) => {
            let failure = Failure::new(Exit::Invalid, problem.to_string());
            Err(NoPlan::Failure(failure))
        }
    }
}

/// Whom a pipeline file that has mistakes names to be told, as far as it can be read.
pub(super) fn listeners(path: &Path) -> Option<Plan> {
    compile::listeners(&load::read(path).ok()?)
}

/// What is wrong with a file, in a line: the first mistake, and how many there are.
pub(super) fn in_a_line(mistakes: &Diagnostics) -> String {
    let count = plural(mistakes.all.len() as u64, "mistake");
    match mistakes.all.first() {
        Some(first) if mistakes.all.len() == 1 => first.message.clone(),
        Some(first) => format!("{count}, the first: {}", first.message),
        None => count,
    }
}

/// Checks a pipeline file's text; `path` names it in messages.
pub(super) fn plan_text(path: &Path, text: &str, overrides: &Overrides) -> Result<Plan, NoPlan> {
    let source = SourceText {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let written = load::parse(source).map_err(NoPlan::Mistakes)?;
    compiled(&written, overrides)
}

fn compiled(written: &Written, overrides: &Overrides) -> Result<Plan, NoPlan> {
    compile(written, overrides).map_err(|problem| match problem {
        CompileProblem::File(mistakes) => NoPlan::Mistakes(mistakes),
        CompileProblem::Override { message, hint } => {
            let mut failure = Failure::usage(message);
            failure.hint = hint;
            NoPlan::Failure(failure)
        }
    })
}

/// The JSON Schema of pipeline files, with a last newline.
pub(super) fn schema() -> String {
    format!("{:#}\n", spec::schema())
}

/// The network, as the plan wants it.
pub(super) fn transport(plan: &Plan, root: &Path) -> Result<SharedTransport, Failure> {
    let settings = network::settings(plan, root, Clock::system()).map_err(|failure| *failure)?;
    let client = HttpClient::new(settings);
    client.check().map_err(|problem| {
        Failure::usage(problem.to_string())
            .hint("correct the files under `source.tls`, or `source.proxy`")
    })?;
    Ok(Arc::new(client))
}

/// The network, as the plan wants it; where that cannot be had, why, and one by which people can still be told.
pub(super) fn transport_or_plain(plan: &Plan, root: &Path) -> (SharedTransport, Option<Failure>) {
    match transport(plan, root) {
        Ok(transport) => (transport, None),
        Err(failure) => (no_transport(plan), Some(failure)),
    }
}

/// The network for who sends nothing.
pub(super) fn no_transport(plan: &Plan) -> SharedTransport {
    let connect = plan.source.timeouts.connect;
    Arc::new(HttpClient::new(ClientSettings::new(connect)))
}
