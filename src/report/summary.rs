//! What a run came to, as a small aligned text.

use std::fmt::Write;
use std::time::Duration;

use crate::event::FailureClass;
use crate::failure::{Exit, Failure};
use crate::harvest::summary::{LearnedLimits, StreamSummary, Summary};

use super::clean::clean;
use super::failure;
use super::show::{self, duration, size};
use super::style::{BAD, GOOD, NAME, NOTE, paint};
use crate::count::{plural, thousands};

/// So many waits are named, the longest.
const LONGEST_WAITS: usize = 5;
/// So many fields are named.
const NAMED: usize = 5;

/// Draws it, with styles and a last newline.
pub fn draw(summary: &Summary) -> String {
    let mut out = format!(
        "{} {}\n",
        paint(NAME, &format!("{}:", clean(&summary.pipeline))),
        verdict(summary, &duration(summary.took))
    );
    out.push_str(&streams(&summary.streams));
    for stream in summary.streams.iter().filter(|one| !one.unread.is_empty()) {
        out.push_str(&unread(stream));
    }
    let _ = writeln!(
        out,
        "  requests  {}{}",
        thousands(summary.requests),
        retries(summary)
    );
    if !summary.waited.is_empty() {
        let mut waits: Vec<_> = summary.waited.iter().collect();
        waits.sort_by_key(|(_, time)| std::cmp::Reverse(**time));
        let more = waits.len().saturating_sub(LONGEST_WAITS);
        let shown = waits.iter().take(LONGEST_WAITS);
        let mut waits: Vec<String> = shown
            .map(|(limit, time)| format!("{} for {}", duration(**time), clean(limit)))
            .collect();
        if more > 0 {
            waits.push(format!("less for {} more", thousands(more as u64)));
        }
        let _ = writeln!(
            out,
            "  waited    {} (all requests together)",
            waits.join(", ")
        );
    }
    if let Some(margin) = summary.margin {
        let _ = writeln!(
            out,
            "  margin    {} for the network's jitter, at the limits",
            duration(margin)
        );
    }
    if summary.ignored_signals > 0 {
        let _ = writeln!(
            out,
            "  signals   {} about limits in answers made no sense; ignored",
            plural(summary.ignored_signals, "value")
        );
    }
    if let Some(learned) = &summary.learned {
        out.push_str(&found(learned, summary.took));
    }
    if let Some(unfinished) = &summary.unfinished {
        let pages = plural(unfinished.pages, "page");
        let _ = writeln!(out, "  kept      {pages}; run again to continue");
    }
    if let Some(failure) = &summary.failure {
        out.push_str(&failure::draw(failure));
    }
    for stream in &summary.streams {
        // That a stream was stopped is no error: the first line has said it.
        if let Some(failure) = stream.failure.as_ref().filter(|failure| !stopped(failure)) {
            out.push_str(&failure::draw_stream(&stream.stream, failure));
        }
    }
    out
}

/// What it came to in one line, for logs.
pub(super) fn in_a_line(summary: &Summary) -> String {
    let sum = |of: fn(&StreamSummary) -> u64| summary.streams.iter().map(of).sum::<u64>();
    format!(
        "{}: {} of {}, {}",
        verdict(summary, &duration(summary.took)),
        plural(sum(|stream| stream.records), "record"),
        plural(sum(|stream| stream.pages), "page"),
        plural(summary.requests, "request"),
    )
}

/// What `limits: auto` came to, to be copied into the file; how much it is worth goes along.
fn found(learned: &LearnedLimits, took: Duration) -> String {
    let refused = match learned.refusals {
        0 => "refused nothing: this was tried, more may be allowed".to_owned(),
        1 => "refused once".to_owned(),
        n => format!("refused {} times", thousands(n)),
    };
    format!(
        "  limits    found by asking; to be copied to the place of `limits: auto`:\n\n    \
         # found in {}; the API {refused}\n    \
         # longer quotas than that, such as a day's, show only in longer runs\n    \
         limits: [{}]\n    concurrency: {}\n\n",
        duration(took),
        clean(&learned.limit),
        learned.concurrency
    )
}

fn verdict(summary: &Summary, took: &str) -> String {
    let is_held = |stream: &StreamSummary| stream.failure.is_some();
    let (style, word, why) = match summary.exit {
        Exit::Complete => return format!("{} in {took}", paint(GOOD, "complete")),
        Exit::Held if !summary.streams.iter().any(is_held) => {
            (NOTE, "published", "; records are missing")
        }
        Exit::Held => (NOTE, "held back by its checks", ""),
        Exit::Resumable => (NOTE, "not finished", "; run it again later"),
        Exit::Interrupted | Exit::Terminated => (NOTE, "stopped", ""),
        Exit::Disk => (BAD, "failed", "; the disk is full or not writable"),
        Exit::Locked => (BAD, "not started", "; another run holds the lock"),
        Exit::Failed | Exit::Usage | Exit::Invalid => (BAD, "failed", ""),
    };
    format!("{} after {took}{why}", paint(style, word))
}

fn stopped(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Interrupted | Exit::Terminated)
}

/// One line a file, the numbers to the right of their columns.
fn streams(streams: &[StreamSummary]) -> String {
    let mut table = vec![["stream", "rows", "pages", "file"].map(str::to_owned)];
    for stream in streams {
        let name = clean(&stream.stream).into_owned();
        let pages = thousands(stream.pages);
        let repeats = match stream.repeats {
            0 => String::new(),
            n => format!(", {} dropped", plural(n, "repeat")),
        };
        let repeats = match stream.rejected {
            0 => repeats,
            n => format!("{repeats}, {} rejected", plural(n, "record")),
        };
        let repeats = match stream.shortfalls {
            0 => repeats,
            _ => format!("{repeats}, records are missing"),
        };
        if stream.files.is_empty() {
            let note = match &stream.failure {
                Some(failure) if stopped(failure) => {
                    "stopped, nothing published; an older file, if any, stays".to_owned()
                }
                Some(failure) => match failure.exit {
                    Exit::Held => {
                        "held, nothing published; an older file, if any, stays".to_owned()
                    }
                    Exit::Resumable => {
                        "not finished, nothing published; an older file, if any, stays".to_owned()
                    }
                    _ => "failed, nothing published".to_owned(),
                },
                None if stream.published_before => "published before, by this run".to_owned(),
                None => match &stream.table {
                    Some(first) => format!("in the table of {}", clean(first)),
                    None => "-".to_owned(),
                },
            };
            table.push([
                name,
                thousands(stream.records),
                pages,
                format!("{note}{repeats}"),
            ]);
            continue;
        }
        for (i, file) in stream.files.iter().enumerate() {
            let path = show::path(&file.path);
            let place = format!(
                "{path} ({}){}",
                size(file.bytes),
                if i == 0 { &repeats } else { "" }
            );
            let first = |text: &String| if i == 0 { text.clone() } else { String::new() };
            table.push([first(&name), thousands(file.rows), first(&pages), place]);
        }
    }
    let width = |column: usize| {
        table
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (name, rows, pages) = (width(0).max(8), width(1), width(2));
    let mut out = String::new();
    for [a, b, c, d] in &table {
        let _ = writeln!(out, "  {a:<name$}  {b:>rows$}  {c:>pages$}  {d}");
    }
    out
}

/// What the columns leave out: whoever declared them may not know of it.
fn unread(stream: &StreamSummary) -> String {
    let count = stream.unread.len();
    let named: Vec<_> = stream.unread.iter().take(NAMED).map(|f| clean(f)).collect();
    let more = match count.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {} more", thousands(more as u64)),
    };
    format!(
        "  unread    {}: {} that no column reads: {}{more}\n",
        clean(&stream.stream),
        plural(count as u64, "field"),
        named.join(", ")
    )
}

/// ` (5 failed attempts: 3 transient, 2 throttled)`
fn retries(summary: &Summary) -> String {
    let classes: Vec<String> = summary
        .retries
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(class, n)| {
            let word = match class {
                FailureClass::Transient => "transient",
                FailureClass::Throttle => "throttled",
                FailureClass::Suspect => "suspect",
                FailureClass::Fatal => "fatal",
            };
            format!("{} {word}", thousands(*n))
        })
        .collect();
    if classes.is_empty() {
        return String::new();
    }
    let all = summary.retries.values().sum();
    format!(
        " ({}: {})",
        plural(all, "failed attempt"),
        classes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::harvest::summary::FileSummary;

    use super::*;

    fn stream(name: &str) -> StreamSummary {
        StreamSummary {
            stream: name.into(),
            records: 12_400,
            pages: 124,
            kept: 0,
            published_before: false,
            partitions: 4,
            bytes: 2_000_000,
            repeats: 3,
            rejected: 0,
            unread: Vec::new(),
            shortfalls: 0,
            files: vec![FileSummary {
                path: format!("data/demo/{name}.csv").into(),
                rows: 12_397,
                bytes: 1_234_567,
                crc: 0,
            }],
            table: None,
            checks: Vec::new(),
            schema: None,
            types: None,
            failure: None,
        }
    }

    fn plain(summary: &Summary) -> String {
        anstream::adapter::strip_str(&draw(summary)).to_string()
    }

    #[test]
    fn a_whole_run() {
        let summary = Summary {
            pipeline: "demo".to_owned(),
            run: String::new(),
            streams: vec![
                stream("articles"),
                StreamSummary {
                    unread: ["a", "b.c", "d", "e", "f", "g"].map(str::to_owned).into(),
                    ..stream("events")
                },
            ],
            requests: 1204,
            retries: [(FailureClass::Transient, 3), (FailureClass::Throttle, 2)].into(),
            waited: [
                ("50/s".into(), Duration::from_secs(125)),
                ("429 with Retry-After: 2".into(), Duration::from_secs(2)),
            ]
            .into(),
            used: [].into(),
            margin: Some(Duration::from_millis(20)),
            learned: None,
            unfinished: None,
            failure: None,
            ignored_signals: 0,
            took: Duration::from_millis(24_300),
            exit: Exit::Complete,
        };
        insta::assert_snapshot!(plain(&summary), @r"
        demo: complete in 24s
          stream      rows  pages  file
          articles  12,397    124  data/demo/articles.csv (1.2 MB), 3 repeats dropped
          events    12,397    124  data/demo/events.csv (1.2 MB), 3 repeats dropped
          unread    events: 6 fields that no column reads: a, b.c, d, e, f and 1 more
          requests  1,204 (5 failed attempts: 3 transient, 2 throttled)
          waited    2min 5s for 50/s, 2s for 429 with Retry-After: 2 (all requests together)
          margin    20ms for the network's jitter, at the limits
        ");
    }

    #[test]
    fn what_was_learned_can_be_copied() {
        let learned = LearnedLimits {
            limit: "7/s".into(),
            concurrency: 4,
            refusals: 3,
        };
        let took = Duration::from_mins(31);
        insta::assert_snapshot!(found(&learned, took), @r"
          limits    found by asking; to be copied to the place of `limits: auto`:

            # found in 31min; the API refused 3 times
            # longer quotas than that, such as a day's, show only in longer runs
            limits: [7/s]
            concurrency: 4
        ");
        let untried = LearnedLimits {
            refusals: 0,
            ..learned
        };
        insta::assert_snapshot!(found(&untried, took), @r"
          limits    found by asking; to be copied to the place of `limits: auto`:

            # found in 31min; the API refused nothing: this was tried, more may be allowed
            # longer quotas than that, such as a day's, show only in longer runs
            limits: [7/s]
            concurrency: 4
        ");
    }

    #[test]
    fn a_failed_stream_says_why_and_what_to_do() {
        let failed = StreamSummary {
            files: Vec::new(),
            records: 0,
            pages: 0,
            repeats: 0,
            rejected: 0,
            unread: Vec::new(),
            failure: Some(
                Failure::new(
                    Exit::Failed,
                    "events: GET /events answered 401 Unauthorized",
                )
                .because("tried once")
                .hint("set DEMO_TOKEN in the environment or in .env"),
            ),
            ..stream("events")
        };
        let summary = Summary {
            pipeline: "demo".to_owned(),
            run: String::new(),
            streams: vec![stream("articles"), failed],
            requests: 125,
            retries: [(FailureClass::Fatal, 1)].into(),
            waited: [].into(),
            used: [].into(),
            margin: None,
            learned: None,
            unfinished: None,
            failure: None,
            ignored_signals: 0,
            took: Duration::from_secs(3),
            exit: Exit::Failed,
        };
        insta::assert_snapshot!(plain(&summary), @r"
        demo: failed after 3s
          stream      rows  pages  file
          articles  12,397    124  data/demo/articles.csv (1.2 MB), 3 repeats dropped
          events         0      0  failed, nothing published
          requests  125 (1 failed attempt: 1 fatal)
        error: events: GET /events answered 401 Unauthorized
          because: tried once
          hint: set DEMO_TOKEN in the environment or in .env
        ");
    }
}
