//! `gleaner limits`: what is used of every limit that is known on this machine, and who waits.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::failure::{Exit, Failure};
use crate::limits::{Known, KnownLimit, Member, Next, Shelf};
use crate::report::{clean, when};

use super::plan::number;
use super::{out, state, table};

/// Show every limit known on this machine: used, left, when it is free, who waits
///
/// Reads the book of limits, which all runs of a user share, and changes nothing in it. A limit is
/// known from its first request on; it stands there with the origin it is for, never with a
/// credential.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct LimitsArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl LimitsArgs {
    pub(super) fn execute(&self) -> Result<Exit, Failure> {
        let clock = Clock::system();
        let folder = state::limits();
        let known = match &folder {
            Some(folder) => known(folder, &clock)?,
            None => Vec::new(),
        };
        if self.json {
            let budgets: Vec<Value> = known.iter().map(data).collect();
            let told = json!({ "folder": folder, "budgets": budgets });
            out::stdout(&format!("{told}\n"))?;
        } else if known.is_empty() {
            let place = folder.map_or_else(
                || "there is no home folder to keep them in".to_owned(),
                |folder| format!("they are kept in {}", folder.display()),
            );
            out::stderr(&format!(
                "no limit is known yet, each is from its first request on; {place}\n"
            ));
        } else {
            let zone = TimeZone::system();
            let now = clock.calendar();
            out::stdout(&draw(&known, now, &zone, table::width()))?;
        }
        Ok(Exit::Complete)
    }
}

fn known(folder: &Path, clock: &Clock) -> Result<Vec<Known>, Failure> {
    let unreadable = |problem| {
        Failure::new(Exit::Disk, "the book of limits cannot be read")
            .caused_by(&problem)
            .hint("it is the user's own; GLEANER_STATE_DIR names another folder")
    };
    match Shelf::open(folder).map_err(unreadable)? {
        Some(shelf) => shelf.budgets(clock).map_err(unreadable),
        None => Ok(Vec::new()),
    }
}

/// The budgets for people.
fn draw(known: &[Known], now: Timestamp, zone: &TimeZone, width: usize) -> String {
    let rows: Vec<Vec<String>> = known
        .iter()
        .map(|known| match &known.limit {
            Some(limit) => row(known, limit, now, zone),
            None => unknown(known, now, zone),
        })
        .collect();
    let header = ["LIMIT", "OF", "LEFT", "FREE AGAIN", "WHO"];
    table::wrapped(&header, &rows, width)
}

fn row(known: &Known, limit: &KnownLimit, now: Timestamp, zone: &TimeZone) -> Vec<String> {
    let unit = limit.unit.as_ref().map(|unit| format!(" {unit}"));
    let left = format!(
        "{} of {}{}",
        number(limit.allows - limit.used),
        number(limit.allows),
        unit.unwrap_or_default()
    );
    let mut free = Vec::new();
    if let Some((until, told)) = &known.paused {
        free.push(format!("paused until {}: {told}", when(*until, now, zone)));
    } else {
        match limit.next {
            Next::Now => {}
            Next::At(at) => free.push(format!("next {}", when(at, now, zone))),
            Next::Unknown => free.push("next with an answer".to_owned()),
        }
    }
    free.push(match limit.whole {
        None if limit.used > 0.0 => "all with the answers".to_owned(),
        None => "all".to_owned(),
        Some(at) => format!("all {}", when(at, now, zone)),
    });
    let mut who = Vec::new();
    who.extend(known.holding.iter().map(|one| member(one, "in flight")));
    who.extend(known.waiting.iter().map(|one| member(one, "waiting")));
    if who.is_empty() {
        who.push("-".to_owned());
    }
    vec![
        limit.limit.clone(),
        of(limit).join("\n"),
        left,
        free.join("\n"),
        who.join("\n"),
    ]
}

/// What a limit is for, a line each.
fn of(limit: &KnownLimit) -> Vec<String> {
    let mut of = Vec::new();
    of.extend(limit.origin.clone());
    of.extend(
        limit
            .shared_as
            .as_ref()
            .map(|name| format!("shared as {name}")),
    );
    of.extend(limit.routes.iter().cloned());
    let scope = limit.scope.iter();
    of.extend(scope.map(|(name, value)| format!("{name}={value}")));
    if limit.credential {
        of.push("with credential".to_owned());
    }
    let names: Vec<&str> = limit
        .pipelines
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    if !names.is_empty() {
        of.push(format!("by {}", names.join(", ")));
    }
    of
}

fn member(one: &Member, does: &str) -> String {
    let who = one
        .pid
        .map_or("a process".to_owned(), |pid| format!("pid {pid}"));
    format!("{who}: {} {does}", number(one.amount))
}

/// A budget of which only the file is known.
fn unknown(known: &Known, now: Timestamp, zone: &TimeZone) -> Vec<String> {
    let of = if known.is_broken {
        "unreadable; counts as used up when it is used next"
    } else {
        "of another version; named when it is used next"
    };
    let used = known
        .written
        .map(|at| format!("used {}", when(at, now, zone)));
    let cell = |text: &str| text.to_owned();
    vec![
        cell("?"),
        format!("{of}\n{}", clean(&known.file)),
        cell("?"),
        used.unwrap_or_else(|| cell("?")),
        cell("-"),
    ]
}

/// The budget for programs.
fn data(known: &Known) -> Value {
    let members = |all: &[Member], what: &str| -> Vec<Value> {
        all.iter()
            .map(|one| json!({ "pid": one.pid, "pipeline": one.pipeline, what: one.amount }))
            .collect()
    };
    let limit = known.limit.as_ref().map(|limit| {
        let pipelines: serde_json::Map<String, Value> = limit
            .pipelines
            .iter()
            .map(|(name, seen)| (name.clone(), json!(seen)))
            .collect();
        let scope: serde_json::Map<String, Value> = limit
            .scope
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        let next = match limit.next {
            Next::Now => json!("now"),
            Next::At(at) => json!(at),
            Next::Unknown => Value::Null,
        };
        json!({
            "limit": limit.limit,
            "unit": limit.unit,
            "origin": limit.origin,
            "shared_as": limit.shared_as,
            "routes": limit.routes,
            "scope": scope,
            "credential": limit.credential,
            "pipelines": pipelines,
            "window": limit.window.map(|window| window.as_secs_f64()),
            "allows": limit.allows,
            "used": limit.used,
            "left": limit.allows - limit.used,
            "next": next,
            "whole": limit.whole,
        })
    });
    json!({
        "file": known.file,
        "limit": limit,
        "broken": known.is_broken,
        "written": known.written,
        "paused": known.paused.as_ref().map(|(until, told)| json!({ "until": until, "told": told })),
        "holding": members(&known.holding, "amount"),
        "waiting": members(&known.waiting, "requests"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_mins(minutes)
    }

    fn one() -> Known {
        let limit = KnownLimit {
            limit: "5000/h".to_owned(),
            unit: None,
            origin: Some("https://api.github.com".to_owned()),
            shared_as: None,
            routes: Vec::new(),
            scope: vec![("repo".to_owned(), "a/b".to_owned())],
            credential: true,
            pipelines: vec![("github_issues".to_owned(), at(0))],
            window: Some(Duration::from_hours(1)),
            allows: 5000.0,
            used: 4321.0,
            next: Next::Now,
            whole: Some(at(38)),
        };
        let member = |pid, amount| Member {
            pid,
            pipeline: Some("github_issues".to_owned()),
            amount,
        };
        Known {
            file: "0123456789abcdef0123456789abcdef.budget".to_owned(),
            limit: Some(limit),
            is_broken: false,
            written: Some(at(0)),
            paused: None,
            holding: vec![member(Some(4711), 2.0)],
            waiting: vec![member(Some(4711), 3.0), member(None, 1.0)],
        }
    }

    fn all() -> Vec<Known> {
        let (mut paused, mut old) = (one(), one());
        paused.paused = Some((at(4), "429 with Retry-After: 240".to_owned()));
        paused.holding.clear();
        paused.waiting.clear();
        old.limit = None;
        let mut flight = one();
        flight.limit = flight.limit.map(|limit| KnownLimit {
            limit: "4 in flight".to_owned(),
            window: None,
            allows: 4.0,
            used: 2.0,
            whole: None,
            scope: Vec::new(),
            ..limit
        });
        flight.waiting.clear();
        vec![one(), paused, flight, old]
    }

    #[test]
    fn wide() {
        insta::assert_snapshot!(draw(&all(), at(0), &TimeZone::UTC, 120), @r"
        LIMIT        OF                                 LEFT          FREE AGAIN                         WHO
        5000/h       https://api.github.com             679 of 5,000  all 00:38 (in 38min)               pid 4711: 2 in flight
                     repo=a/b                                                                            pid 4711: 3 waiting
                     with credential                                                                     a process: 1 waiting
                     by github_issues
        5000/h       https://api.github.com             679 of 5,000  paused until 00:04 (in 4min): 429  -
                     repo=a/b                                         with Retry-After: 240
                     with credential                                  all 00:38 (in 38min)
                     by github_issues
        4 in flight  https://api.github.com             2 of 4        all with the answers               pid 4711: 2 in flight
                     with credential
                     by github_issues
        ?            of another version; named when it  ?             used 00:00 (now)                   -
                     is used next
                     0123456789abcdef0123456789abcdef.
                     budget
        ");
    }

    #[test]
    fn narrow() {
        let shown = draw(&all(), at(0), &TimeZone::UTC, 60);
        assert!(
            shown.lines().all(|line| line.chars().count() <= 60),
            "{shown}"
        );
        insta::assert_snapshot!(shown, @r"
        LIMIT   OF             LEFT    FREE AGAIN     WHO
        5000/h  https://api.g  679 of  all 00:38 (in  pid 4711: 2
                ithub.com      5,000   38min)         in flight
                repo=a/b                              pid 4711: 3
                with                                  waiting
                credential                            a process: 1
                by                                    waiting
                github_issues
        5000/h  https://api.g  679 of  paused until   -
                ithub.com      5,000   00:04 (in
                repo=a/b               4min): 429
                with                   with
                credential             Retry-After:
                by                     240
                github_issues          all 00:38 (in
                                       38min)
        4 in    https://api.g  2 of 4  all with the   pid 4711: 2
        flight  ithub.com              answers        in flight
                with
                credential
                by
                github_issues
        ?       of another     ?       used 00:00     -
                version;               (now)
                named when it
                is used next
                0123456789abc
                def0123456789
                abcdef.budget
        ");
    }
}
