//! `gleaner schedule next`: the coming times.

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cli::rooms::{self, NoPlan, Overrides};
use crate::cli::{out, project, table};
use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::plan::schedule::SchedulePlan;
use crate::report::{clean, duration, plural};
use crate::schedule::agenda;

/// Show the coming times of all pipelines, on their own clocks and in UTC
#[derive(Debug, Args)]
pub(in crate::cli) struct NextArgs {
    /// How many
    #[arg(value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    count: u16,

    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// A time to come.
struct Coming {
    at: Timestamp,
    starts: Timestamp,
    pipeline: String,
    zone: TimeZone,
}

impl NextArgs {
    pub(in crate::cli) fn execute(&self) -> Result<Exit, Failure> {
        let mut schedules = Vec::new();
        let mut broken = Vec::new();
        for file in project::all()? {
            let name = project::stem(&file.path);
            match rooms::plan(&file.path, &Overrides::default()) {
                Ok(plan) => schedules.extend(plan.schedule.map(|plan| (name, plan))),
                Err(NoPlan::Failure(_) | NoPlan::Mistakes(_)) => broken.push(name),
            }
        }
        let now = Clock::system().calendar();
        let coming = coming(&schedules, now, usize::from(self.count));
        if self.json {
            let all: Vec<Value> = coming.iter().map(data).collect();
            out::stdout(&format!("{}\n", Value::from(all)))?;
        } else if schedules.is_empty() {
            out::stderr(
                "no pipeline here has a `schedule`; `schedule: { cron: \"30 2 * * *\" }` gives it one\n",
            );
        } else {
            out::stdout(&draw(&coming, now, table::width()))?;
        }
        if broken.is_empty() {
            return Ok(Exit::Complete);
        }
        let files = plural(broken.len() as u64, "file");
        let names: Vec<_> = broken.iter().map(|name| clean(name)).collect();
        out::stderr(&format!(
            "{files} cannot be understood: {}; see `gleaner check`\n",
            names.join(", ")
        ));
        Ok(Exit::Invalid)
    }
}

/// The first `count` times of all schedules after `now`, by when they start.
fn coming(schedules: &[(String, SchedulePlan)], now: Timestamp, count: usize) -> Vec<Coming> {
    let mut all = Vec::new();
    for (name, plan) in schedules {
        let jitter = agenda::jitter(name, plan.jitter);
        // One that was due before and starts later, by its jitter, is still to come.
        let from = now.checked_sub(jitter).unwrap_or(now);
        let times = std::iter::successors(plan.next(from), |at| plan.next(*at)).take(count);
        all.extend(times.map(|at| Coming {
            at,
            starts: at.checked_add(jitter).unwrap_or(at),
            pipeline: name.clone(),
            zone: plan.zone.clone(),
        }));
    }
    all.sort_by(|a, b| (a.starts, &a.pipeline).cmp(&(b.starts, &b.pipeline)));
    all.truncate(count);
    all
}

fn draw(coming: &[Coming], now: Timestamp, width: usize) -> String {
    let rows: Vec<Vec<String>> = coming
        .iter()
        .map(|one| {
            let left = one.starts.duration_since(now);
            let left = left.max(SignedDuration::ZERO).unsigned_abs();
            let seconds = std::time::Duration::from_secs(left.as_secs());
            let local = one.starts.to_zoned(one.zone.clone());
            // A narrow terminal shows the first columns.
            vec![
                clean(&one.pipeline).into_owned(),
                format!("in {}", duration(seconds)),
                local.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string(),
                one.zone.iana_name().unwrap_or("UTC").to_owned(),
                format!("{:.0}", one.starts),
            ]
        })
        .collect();
    table::plain(&["PIPELINE", "LEFT", "LOCAL", "ZONE", "UTC"], &rows, width)
}

fn data(one: &Coming) -> Value {
    json!({
        "pipeline": one.pipeline,
        "planned": one.at.to_string(),
        "starts": one.starts.to_string(),
        "local": one.starts.to_zoned(one.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        "zone": one.zone.iana_name().unwrap_or("UTC"),
    })
}
