//! `gleaner plan`: how many requests a run will send, and how long its limits make it.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};
use crate::harvest::estimate::{Count, Estimate, Known, StreamEstimate};
use crate::harvest::{Harvest, Options};
use crate::limits::Forecast;
use crate::report::{self, clean, clean_json, duration, plural, thousands};

use super::drive::Drive;
use super::global::Global;
use super::rooms::{self, Overrides};
use super::{out, project, state, table};

/// Windows from here on are quotas: what is left of them is worth knowing.
const LONG: Duration = Duration::from_hours(1);

/// Show how many requests a run needs and how long its limits make it
///
/// Works offline and asks for no secret: partitions are counted by walking `for`, pages are
/// unknown then, and each partition counts with one; how many records other streams bring is not
/// known ahead. --probe asks one page a stream, within the limits, and reckons with what it says.
/// What is used of a limit by now is taken off, as
/// `gleaner limits` knows it; redirects and repeats come on top. Writes no file.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct PlanArgs {
    /// Name or path of a pipeline
    #[arg(value_name = "NAME|PATH")]
    pipeline: String,

    /// Set a variable of the pipeline; may be repeated
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = super::run::assignment)]
    vars: Vec<(String, String)>,

    /// Count only this stream; may be repeated
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,

    /// Ask one page a stream for how many there are
    #[arg(long)]
    probe: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl PlanArgs {
    pub(super) async fn execute(&self, global: &Global) -> Result<Exit, Failure> {
        let found = project::find(&self.pipeline)?;
        let overrides = Overrides {
            vars: self.vars.clone(),
            streams: self.streams.clone(),
            ..Overrides::default()
        };
        let Some(plan) = rooms::plan_or_tell(&found.path, &overrides)? else {
            return Ok(Exit::Invalid);
        };
        let drive = Drive::of_few_requests(global);
        let transport = if self.probe {
            rooms::transport(&plan, &found.root)?
        } else {
            rooms::no_transport(&plan)
        };
        let world = drive.world(transport, found.root);
        let options = Options {
            state: state::folder(),
            ..Options::estimate(self.streams.clone(), self.probe, state::limits())
        };
        let harvest = Harvest::open(plan, world, options).map_err(|failure| *failure)?;
        let estimate = harvest.estimate(self.probe).await.map_err(|f| *f)?;
        let mut exit = Exit::Complete;
        for (stream, failure) in estimate.failures() {
            out::stderr(&report::draw_stream_failure(stream, failure));
            exit = exit.worst(failure.exit);
        }
        if self.json {
            let json = data(&estimate).to_string();
            out::stdout(&format!("{}\n", clean_json(&json)))?;
        } else {
            out::stdout(&draw(&estimate, self.probe, table::width()))?;
        }
        Ok(drive.stop.exit(exit))
    }
}

/// The estimate for people.
fn draw(estimate: &Estimate, probed: bool, width: usize) -> String {
    let requests = estimate.requests();
    let mut out = format!(
        "{}: {}{}\n\n",
        clean(&estimate.pipeline),
        sure(requests.known),
        plural(requests.number, "request")
    );
    let rows: Vec<Vec<String>> = estimate
        .streams
        .iter()
        .map(|stream| {
            vec![
                stream.stream.clone(),
                if stream.parents.is_empty() {
                    count(stream.partitions)
                } else {
                    format!("one for each of {}", stream.parents.join(", "))
                },
                count(stream.pages),
                count(stream.requests),
            ]
        })
        .collect();
    let header = ["STREAM", "PARTITIONS", "PAGES OF EACH", "REQUESTS"];
    out.push_str(&table::plain(&header, &rows, width));
    out.push('\n');
    if estimate.auto {
        out.push_str(
            "limits: auto: they are found while it runs, so its time is not known ahead\n",
        );
    } else if estimate.limits.is_empty() {
        let _ = writeln!(
            out,
            "no limits: nothing but `concurrency: {}` holds the requests",
            estimate.concurrency
        );
    } else {
        let limits = estimate.limits.iter();
        let rows: Vec<Vec<String>> = limits.map(|limit| row(limit, requests.known)).collect();
        let header = ["LIMIT", "NEEDS", "TIME AT THE LIMIT", "LEFT OF ITS WINDOW"];
        out.push_str(&table::plain(&header, &rows, width));
        out.push('\n');
        match estimate.binding() {
            Some(limit) => {
                let _ = writeln!(
                    out,
                    "takes {}{} at its limits: {} binds",
                    sure(requests.known.max(Known::About)),
                    duration(limit.time),
                    clean(&limit.limit)
                );
            }
            None => out.push_str("no limit makes these requests wait\n"),
        }
    }
    for note in notes(estimate, probed) {
        let _ = writeln!(out, "{note}");
    }
    out
}

/// What the reader must know of the numbers.
fn notes(estimate: &Estimate, probed: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(took) = estimate.answering() {
        notes.push(format!(
            "answers take about {} with {} in flight",
            duration(took),
            estimate.concurrency
        ));
    }
    let unknown = |pages: Count| pages.known == Known::AtLeast;
    let streams = || estimate.streams.iter();
    if streams().any(|stream| unknown(stream.pages)) {
        notes.push(if probed {
            "pages unknown where it says at least: their first page tells no total".to_owned()
        } else {
            "pages unknown where it says at least: --probe asks one page a stream".to_owned()
        });
    }
    if probed && streams().any(|stream| stream.pages.known != stream.requests.known) {
        notes.push("reckoned as if all partitions were like the first".to_owned());
    }
    if streams().any(|stream| !stream.parents.is_empty()) {
        notes.push(if probed {
            "records of other streams are counted on the first page alone".to_owned()
        } else {
            "how many records other streams bring is not known ahead".to_owned()
        });
    }
    let counted = |stream: &&StreamEstimate| stream.parents.is_empty();
    if let Some(stream) = streams().filter(counted).find(|s| unknown(s.partitions)) {
        let most = thousands(stream.partitions.number);
        notes.push(format!("partitions are counted up to {most}"));
    }
    if let [first, rest @ ..] = &estimate.unset[..] {
        let names = rest.iter().fold(first.clone(), |all, one| all + ", " + one);
        notes.push(format!(
            "without a value, reckoned as if it had one and had used nothing: {names}"
        ));
    }
    notes
}

/// One limit as cells.
fn row(limit: &Forecast, known: Known) -> Vec<String> {
    let unit = limit.unit.as_deref().unwrap_or("call");
    let plain = limit.unit.is_none() && whole(limit.most.round()) != 1;
    let mut needs = format!(
        "{}{} {unit}{}",
        sure(known),
        number(limit.most),
        if plain { "s" } else { "" }
    );
    if limit.window.is_none() {
        // However many they are, they go one after the other.
        "-".clone_into(&mut needs);
    }
    if limit.budgets > 1 {
        let _ = write!(needs, ", {} budgets", thousands(limit.budgets as u64));
    }
    let time = if limit.time.is_zero() {
        "no wait".to_owned()
    } else {
        duration(limit.time)
    };
    vec![limit.limit.to_string(), needs, time, left(limit, known)]
}

/// What a long window has left afterwards, and now where some of it is used already.
fn left(limit: &Forecast, known: Known) -> String {
    if limit.window.is_none_or(|window| window < LONG) || limit.budgets == 0 {
        return "-".to_owned();
    }
    let now = if limit.used > 0.0 {
        format!("{} now, then ", number(limit.allows - limit.used))
    } else {
        String::new()
    };
    let windows = limit.fullest / limit.allows;
    if windows > 1.0 {
        return format!(
            "{now}none: it needs {} windows",
            thousands(whole(windows.ceil()))
        );
    }
    let most = if known == Known::AtLeast {
        "at most "
    } else {
        sure(known)
    };
    format!(
        "{now}{most}{} ({}% used)",
        number(limit.allows - limit.fullest),
        (windows * 100.0).ceil()
    )
}

fn count(count: Count) -> String {
    format!("{}{}", sure(count.known), thousands(count.number))
}

fn sure(known: Known) -> &'static str {
    match known {
        Known::Exactly => "",
        Known::About => "about ",
        Known::AtLeast => "at least ",
    }
}

/// Costs have fractions, calls have none.
pub(super) fn number(amount: f64) -> String {
    let tenths = (amount.fract() * 10.0).round();
    if (1.0..10.0).contains(&tenths) {
        format!("{}.{tenths}", thousands(whole(amount)))
    } else {
        thousands(whole(amount.round()))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates, and amounts are not negative"
)]
fn whole(amount: f64) -> u64 {
    amount as u64
}

/// The estimate for programs.
fn data(estimate: &Estimate) -> Value {
    let streams: Vec<Value> = estimate
        .streams
        .iter()
        .map(|stream| {
            json!({
                "stream": stream.stream,
                "for_each_of": stream.parents,
                "partitions": stream.partitions,
                "pages": stream.pages,
                "requests": stream.requests,
                "probed": stream.took.is_some(),
                "took": stream.took.map(|took| took.as_secs_f64()),
                "failure": stream.failure.as_ref().map(|failure| &failure.message),
            })
        })
        .collect();
    let binding = estimate.binding();
    let limits: Vec<Value> = estimate
        .limits
        .iter()
        .map(|limit| {
            let windowed = |number: f64| limit.window.map(|_| number);
            json!({
                "limit": limit.limit,
                "unit": limit.unit,
                "allows": limit.allows,
                "window": limit.window.map(|window| window.as_secs_f64()),
                "budgets": limit.budgets,
                "needs": limit.needs,
                "most": limit.most,
                "seconds": limit.time.as_secs_f64(),
                "binds": binding == Some(limit),
                "used": limit.used,
                "left_now": (limit.allows - limit.used).max(0.0),
                "windows": windowed((limit.fullest / limit.allows).ceil()),
                "left": windowed((limit.allows - limit.fullest).max(0.0)),
            })
        })
        .collect();
    json!({
        "pipeline": estimate.pipeline,
        "requests": estimate.requests(),
        "concurrency": estimate.concurrency,
        "streams": streams,
        "limits": limits,
        "seconds": (!estimate.auto).then(|| binding.map_or(0.0, |limit| limit.time.as_secs_f64())),
        "unset": estimate.unset,
    })
}
