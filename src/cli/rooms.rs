//! Every call from the rim into the rooms where a file becomes a plan and a plan meets the network.

use std::path::Path;

use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::fetch::transport::SharedTransport;
use crate::harvest::{Options, World};
use crate::plan::Plan;

/// What the command line changes in a plan.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides {
    /// `--var name=value`
    pub(super) vars: Vec<(String, String)>,
    /// `--sink format=path`
    pub(super) sinks: Vec<String>,
    /// `--stream name`
    pub(super) streams: Vec<String>,
}

/// All mistakes of a pipeline file, ready to show.
#[derive(Debug)]
pub(super) struct Mistakes {
    /// Drawn under their source lines, with colour if asked.
    pub(super) drawn: String,
    /// For programs.
    pub(super) json: serde_json::Value,
    /// How many.
    pub(super) count: usize,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// The file cannot be read.
    Failure(Failure),
    /// The file has mistakes.
    Mistakes(Mistakes),
}

/// The first page of a stream, for `preview`.
#[derive(Debug)]
pub(super) struct Sample {
    /// The stream.
    pub(super) stream: String,
    /// Its records as JSON text.
    pub(super) records: Vec<String>,
    /// Why there are none.
    pub(super) failure: Option<Failure>,
}

/// The pretend API of the demo, on loopback.
#[derive(Debug)]
pub(super) struct DemoServer {}

/// What the pretend API saw.
#[derive(Debug)]
pub(super) struct Audit {
    /// One sentence.
    pub(super) line: String,
    /// Whether its limits were kept.
    pub(super) kept: bool,
}

/// Reads and checks a pipeline file.
pub(super) fn plan(path: &Path, overrides: &Overrides, colour: bool) -> Result<Plan, NoPlan> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {}", path.display());
        NoPlan::Failure(Failure::new(Exit::Invalid, message).caused_by(&error))
    })?;
    plan_text(path, text, overrides, colour)
}

/// Checks a pipeline file's text; `path` names it in messages.
pub(super) fn plan_text(
    path: &Path,
    text: String,
    overrides: &Overrides,
    colour: bool,
) -> Result<Plan, NoPlan> {
    let _ = (path, text, overrides, colour);
    Err(NoPlan::Failure(absent("the language of pipeline files")))
}

/// The JSON Schema of pipeline files, with a last newline.
pub(super) fn schema() -> Result<String, Failure> {
    Err(absent("the schema"))
}

/// The network, as the plan's time-outs want it.
pub(super) fn transport(plan: &Plan) -> Result<SharedTransport, Failure> {
    let _ = plan.source.timeouts.connect;
    Err(absent("the HTTP client"))
}

/// The first page of each stream, one request a stream.
pub(super) async fn preview(
    plan: Plan,
    world: World,
    options: Options,
) -> Result<Vec<Sample>, Failure> {
    let _ = (plan, world, options);
    std::future::ready(Err(absent("preview"))).await
}

impl DemoServer {
    /// Starts it on a port of the system's choice.
    pub(super) async fn start(clock: Clock) -> Result<Self, Failure> {
        let _ = clock;
        std::future::ready(Err(absent("the pretend API"))).await
    }

    /// Its base URL.
    pub(super) fn url(&self) -> String {
        String::new()
    }

    /// What it saw.
    pub(super) fn audit(&self) -> Audit {
        Audit {
            line: String::new(),
            kept: false,
        }
    }
}

fn absent(what: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{what} is not part of this build"))
}
