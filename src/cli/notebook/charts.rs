//! Which two charts a table is first drawn as: chosen by the types of its columns, how many different
//! values they have, and what names of columns usually mean.

use crate::plan::typed::Kind;
use crate::sink::glance::Seen;
use crate::sink::infer::Native;

use super::outputs::Output;

/// How wide a step of time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

/// What a whole number counts since 1970, where it is an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    Seconds,
    Millis,
}

impl Since {
    /// As pandas and Polars call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
        }
    }
}

/// A chart of columns, by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chart {
    /// Places on a map; the number is their size.
    Places {
        x: String,
        y: String,
        size: Option<String>,
    },
    /// A number over time, a line for each of few values.
    Series {
        time: String,
        number: String,
        by: Option<String>,
    },
    /// Records a step of time; the column may hold numbers.
    Counts {
        time: String,
        step: Step,
        since: Option<Since>,
    },
    /// The most frequent values.
    Top { column: String },
    /// The records with the greatest numbers.
    Greatest { label: String, number: String },
    /// The mean of a number for each of few values.
    Means { group: String, number: String },
    /// How a number is spread.
    Spread { number: String },
    /// Two numbers.
    Pair { x: String, y: String },
    /// How much of each column has a value.
    Filled,
}

/// Few enough to tell apart as lines.
const LINES: usize = 8;

/// Whole numbers that are all greater than this are taken for names.
const MANY: i64 = 10_000_000;

/// The charts of an output, the best first; always two.
pub(super) fn choose(output: &Output) -> Vec<Chart> {
    let columns = &output.columns;
    let rows = output.rows;
    let is_key = |seen: &Seen| output.key.contains(&seen.column.name);
    let is_instant = |seen: &&Seen| is_time(seen) || since(seen).is_some();
    let instants: Vec<&Seen> = columns.iter().filter(is_instant).collect();
    let times: Vec<&Seen> = instants
        .iter()
        .copied()
        .filter(|seen| seen.different > 2 && step(seen).1 >= 2)
        .collect();
    let mut numbers: Vec<&Seen> = columns
        .iter()
        .filter(|seen| is_number(seen) && seen.different > 2)
        .filter(|seen| !is_key(seen) && !is_label(seen))
        .collect();
    // What varies most says most; the order of the columns decides among equals.
    numbers.sort_by_key(|seen| std::cmp::Reverse(worth(seen)));
    let groups: Vec<&Seen> = columns
        .iter()
        .filter(|seen| is_text(seen) && (2..=60).contains(&seen.different) && seen.length <= 24)
        .filter(|seen| (seen.different as u64) * 2 <= seen.column.values)
        .filter(|seen| !is_measured(seen) && !is_numeral(seen))
        .collect();
    // Bars of one length say nothing.
    let (even, groups): (Vec<&Seen>, Vec<&Seen>) =
        groups.into_iter().partition(|seen| seen.is_even);
    let labels: Vec<&Seen> = columns
        .iter()
        .filter(|seen| {
            is_text(seen)
                && seen.length <= 60
                && seen.different as u64 * 10 >= seen.column.values * 9
        })
        .filter(|seen| !is_code(&seen.column.name) && !is_address(seen))
        .filter(|seen| seen.column.values * 2 >= rows)
        .collect();
    let name = |seen: &&Seen| seen.column.name.clone();
    let mut charts = Vec::new();

    let place = |names: &[&str]| {
        columns
            .iter()
            .find(|seen| is_number(seen) && names.contains(&last(&seen.column.name).as_str()))
    };
    if let (Some(x), Some(y)) = (
        place(&["longitude", "lon", "lng", "long"]),
        place(&["latitude", "lat"]),
    ) && x.different > 2
    {
        let size = numbers.iter().find(|seen| {
            ["mag", "magnitude", "size", "population", "depth"]
                .contains(&last(&seen.column.name).as_str())
        });
        charts.push(Chart::Places {
            x: name(&x),
            y: name(&y),
            size: size.map(name),
        });
    }
    // A measurement is there once for each time, or for each time and each of few values; what
    // happened, happened when it liked, and is counted.
    let is_series = |time: &Seen, by: Option<&Seen>| {
        let lines = by.map_or(1, |by| by.different);
        let points = (time.different * lines) as u64;
        is_measured(time)
            && time.column.nulls == 0
            && lines <= LINES
            && points * 5 >= rows * 4
            && points * 4 <= rows * 5
    };
    let series = times.iter().filter(|time| is_time(time)).find_map(|time| {
        let number = numbers.first()?;
        let is_alone = is_series(time, None);
        // Each line has as many points.
        let by = even
            .iter()
            .chain(&groups)
            .find(|by| is_series(time, Some(by)));
        (is_alone || by.is_some()).then(|| Chart::Series {
            time: name(time),
            number: name(number),
            by: by.map(name),
        })
    });
    if let Some(series) = series {
        charts.push(series);
    } else if let Some(time) = best_time(&times) {
        charts.push(counts(time));
    }
    if let (Some(label), Some(number)) = (labels.first(), numbers.first())
        && stands_out(number)
    {
        charts.push(Chart::Greatest {
            label: name(label),
            number: name(number),
        });
    }
    let group = groups.iter().max_by_key(|seen| seen.different.min(12));
    charts.extend(group.map(|seen| Chart::Top { column: name(seen) }));
    // Where all come as often, their means may differ.
    if let (Some(group), Some(number)) = (group.or(even.first()), numbers.first()) {
        charts.push(Chart::Means {
            group: name(group),
            number: name(number),
        });
    }
    charts.extend(
        numbers
            .iter()
            .take(2)
            .map(|seen| Chart::Spread { number: name(seen) }),
    );
    if let [x, y, ..] = numbers[..] {
        charts.push(Chart::Pair {
            x: x.column.name.clone(),
            y: y.column.name.clone(),
        });
    }
    charts.extend(
        groups
            .iter()
            .take(2)
            .map(|seen| Chart::Top { column: name(seen) }),
    );
    let has_gaps = columns.iter().any(|seen| seen.column.nulls > 0);
    charts.extend(has_gaps.then_some(Chart::Filled));
    // From here on they say less and less; there are two all the same.
    charts.extend(even.iter().map(|seen| Chart::Top { column: name(seen) }));
    charts.extend(times.iter().map(|time| counts(time)));
    let some = instants.iter().filter(|seen| seen.different > 0);
    charts.extend(some.map(|time| counts(time)));
    charts.push(Chart::Filled);
    let texts = columns.iter().filter(|seen| {
        matches!(seen.column.kind, Some(Kind::Text | Kind::Boolean)) && seen.different > 0
    });
    let texts = texts.map(|seen| (seen.different == 1, seen));
    let (one, texts): (Vec<_>, Vec<_>) = texts.partition(|(is_one, _)| *is_one);
    let texts = texts.into_iter().chain(one).map(|(_, seen)| seen);
    charts.extend(texts.map(|seen| Chart::Top {
        column: name(&seen),
    }));
    let mut chosen: Vec<Chart> = Vec::new();
    for chart in charts {
        if chosen.len() < 2 && !chosen.contains(&chart) {
            chosen.push(chart);
        }
    }
    chosen
}

fn counts(time: &Seen) -> Chart {
    Chart::Counts {
        time: time.column.name.clone(),
        step: step(time).0,
        since: since(time),
    }
}

/// Whether whole numbers are instants: their name says so, and so do all values, from 2000 to 2100.
fn since(seen: &Seen) -> Option<Since> {
    let name = last(&seen.column.name);
    let name = name.trim_end_matches("_ms").trim_end_matches("_s");
    let ends = [
        "time",
        "date",
        "stamp",
        "_at",
        "_ts",
        "created",
        "updated",
        "modified",
        "published",
        "start",
        "end",
        "expires",
        "since",
    ];
    let is_named = name == "ts" || ends.iter().any(|end| name.ends_with(end));
    let whole = |end: &Option<String>| end.as_deref().and_then(|end| end.parse::<i64>().ok());
    if !is_named || seen.column.native != Native::Int64 {
        return None;
    }
    let (least, most) = (whole(&seen.column.min)?, whole(&seen.column.max)?);
    let seconds = 946_684_800..4_102_444_800;
    let is_in = |unit: i64| seconds.contains(&(least / unit)) && seconds.contains(&(most / unit));
    if is_in(1) {
        Some(Since::Seconds)
    } else if is_in(1000) {
        Some(Since::Millis)
    } else {
        None
    }
}

/// Whether a few records have far more of it than the others.
fn stands_out(number: &Seen) -> bool {
    let end = |end: &Option<String>| end.as_deref().and_then(|end| end.parse::<f64>().ok());
    match (end(&number.column.min), end(&number.column.max)) {
        (Some(least), Some(most)) => least >= 0.0 && most > 3.0 * number.mean,
        _ => false,
    }
}

/// Times that something is measured at.
fn is_measured(time: &Seen) -> bool {
    let name = last(&time.column.name);
    let names = [
        "time",
        "timestamp",
        "date",
        "day",
        "hour",
        "month",
        "period",
        "interval",
    ];
    time.column.kind == Some(Kind::Date) || names.iter().any(|end| name.ends_with(end))
}

/// What was made or happened says more than what was changed.
fn best_time<'s>(times: &[&'s Seen]) -> Option<&'s Seen> {
    let rank = |seen: &Seen| {
        let name = last(&seen.column.name);
        match name {
            _ if name.contains("creat") || name.contains("publish") => 0,
            _ if name == "time" || name == "date" || name == "timestamp" => 1,
            _ if name.contains("updat") || name.contains("modif") => 3,
            _ => 2,
        }
    };
    times.iter().copied().min_by_key(|seen| rank(seen))
}

/// How wide the bars of a time are, and how many of them there are room for at most.
fn step(time: &Seen) -> (Step, i64) {
    let instant = |end: &Option<String>| {
        let text = end.as_deref()?.trim_matches('"');
        if let Some(unit) = since(time) {
            let number: i64 = text.parse().ok()?;
            return Some(match unit {
                Since::Seconds => number / 60,
                Since::Millis => number / 60_000,
            });
        }
        let day: Option<jiff::civil::Date> = text.get(..10)?.parse().ok();
        let part = |at| {
            let part = text.get(at).and_then(|part: &str| part.parse::<i64>().ok());
            part.unwrap_or(0)
        };
        let days = day?
            .duration_since(jiff::civil::date(1970, 1, 1))
            .as_hours();
        Some((days + part(11..13)) * 60 + part(14..16))
    };
    let minutes = match (instant(&time.column.min), instant(&time.column.max)) {
        (Some(from), Some(to)) => to - from,
        _ => i64::MAX,
    };
    let hours = minutes / 60;
    let is_instant = time.column.kind != Some(Kind::Date);
    if hours < 2 && is_instant {
        (Step::Minute, minutes)
    } else if hours <= 96 && is_instant {
        (Step::Hour, hours)
    } else if hours <= 2_900 {
        (Step::Day, hours / 24)
    } else if hours <= 70_000 {
        (Step::Month, hours / (24 * 30))
    } else {
        (Step::Year, hours / (24 * 365))
    }
}

fn is_time(seen: &Seen) -> bool {
    matches!(seen.column.kind, Some(Kind::Date | Kind::Timestamp))
        && seen.column.native != Native::Text
}

fn is_number(seen: &Seen) -> bool {
    matches!(seen.column.native, Native::Int64 | Native::Float64) && seen.column.kind.is_some()
}

fn is_text(seen: &Seen) -> bool {
    matches!(seen.column.kind, Some(Kind::Text | Kind::Boolean))
}

/// The last part of a dotted name, in lower case.
fn last(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase()
}

/// Whether its texts are numbers that are no names of groups: with a fraction, as prices have, or so long that
/// they are ids.
fn is_numeral(seen: &Seen) -> bool {
    let mut examples = seen.column.examples.iter();
    let is_one = |example: &String| {
        let text = example.trim_matches('"');
        (text.contains('.') || text.len() > 4) && text.parse::<f64>().is_ok()
    };
    seen.column.kind == Some(Kind::Text) && examples.len() > 0 && examples.all(is_one)
}

/// Whether its values are URLs.
fn is_address(seen: &Seen) -> bool {
    let mut examples = seen.column.examples.iter();
    examples.any(|example| example.starts_with("\"http"))
}

/// Numbers that name things and measure nothing.
fn is_label(seen: &Seen) -> bool {
    let name = last(&seen.column.name);
    // Instants, and numbers so great that they hardly count anything.
    let least = seen.column.min.as_deref().and_then(|min| min.parse().ok());
    since(seen).is_some()
        || (seen.column.native == Native::Int64 && least.is_some_and(|least: i64| least >= MANY))
        || is_code(&seen.column.name)
        || [
            "latitude",
            "longitude",
            "lat",
            "lon",
            "lng",
            "long",
            "number",
            "page",
            "index",
            "year",
            "month",
            "day",
            "position",
            "rank",
        ]
        .contains(&name.as_str())
}

fn is_code(name: &str) -> bool {
    let name = last(name);
    name == "id"
        || [
            "_id",
            "-id",
            "url",
            "uuid",
            "hash",
            "sha",
            "code",
            "token",
            "_key",
            "guid",
            "doi",
            "time",
            "timestamp",
        ]
        .iter()
        .any(|end| name.ends_with(end))
}

/// How much a number says: what people count first, then how many values it takes.
fn worth(seen: &Seen) -> (bool, usize) {
    let name = last(&seen.column.name);
    let counted = [
        "value",
        "views",
        "downloads",
        "count",
        "score",
        "points",
        "mag",
        "price",
        "amount",
        "total",
        "close",
        "stars",
        "likes",
        "comments",
        "reactions",
        "cited_by_count",
    ];
    let known = counted.iter().any(|word| {
        name == *word
            || name.ends_with(&format!("_{word}"))
            || name.starts_with(&format!("{word}_"))
    });
    (known, seen.different)
}

#[cfg(test)]
mod tests {
    use crate::cli::notebook::outputs::Format;
    use crate::sink::back::{Kept, Source};
    use crate::sink::glance::glance;

    use super::*;

    /// The charts of records, each made of its number.
    fn of(records: usize, record: &dyn Fn(usize) -> String) -> Vec<Chart> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.ndjson");
        let lines: Vec<String> = (0..records).map(record).collect();
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let source = Source::open(vec![file], Kept::Ndjson, None).unwrap();
        let (rows, columns) = glance(&source, 1000).unwrap();
        choose(&Output {
            stream: "x".to_owned(),
            format: Format::Ndjson,
            files: Vec::new(),
            package: String::new(),
            rows,
            columns,
            key: vec!["id".to_owned()],
        })
    }

    fn top(column: &str) -> Chart {
        Chart::Top {
            column: column.to_owned(),
        }
    }

    #[test]
    fn what_would_be_bars_of_one_length_comes_after_what_says_more() {
        let chosen = of(60, &|n| {
            let status = ["open", "closed"][n % 2];
            let city = ["Ulm", "Ulm", "Oslo"][n % 3];
            format!(r#"{{"id":{n},"one":"same","status":"{status}","city":"{city}"}}"#)
        });
        assert_eq!(chosen, [top("city"), top("status")]);
        let chosen = of(60, &|n| {
            let status = ["\"open\"", "\"closed\"", "null"][n % 3];
            format!(r#"{{"id":{n},"one":"same","status":{status}}}"#)
        });
        assert_eq!(chosen, [Chart::Filled, top("status")]);
        // And what has one value alone is the last of all.
        let chosen = of(60, &|n| {
            format!(r#"{{"id":{n},"one":"same","text":"{n} of many"}}"#)
        });
        assert_eq!(chosen, [Chart::Filled, top("text")]);
    }

    #[test]
    fn a_price_that_is_a_text_is_no_group() {
        let chosen = of(90, &|n| {
            let price = ["19.90", "19.90", "0.00"][n % 3];
            format!(r#"{{"id":{n},"price":"{price}","n":{}}}"#, n * n % 97)
        });
        assert!(!chosen.contains(&top("price")), "{chosen:?}");
    }

    #[test]
    fn a_time_that_would_be_one_bar_and_ids_that_are_texts_are_no_first_charts() {
        let chosen = of(90, &|n| {
            let (id, kind) = (["0000320193", "0000789019"][n % 2], ["a", "a", "b"][n % 3]);
            format!(
                r#"{{"cik":"{id}","created":{},"kind":"{kind}"}}"#,
                1_772_000_000 + n % 20
            )
        });
        assert_eq!(chosen[0], top("kind"));
        assert!(!chosen.contains(&top("cik")), "{chosen:?}");
    }

    #[test]
    fn an_hour_of_records_is_counted_by_minutes_and_one_time_is_enough() {
        let chosen = of(40, &|n| {
            format!(
                r#"{{"id":{n},"created_at":"2026-03-01T10:{n:02}:00Z","updated_at":"2026-03-01T10:{n:02}:30Z","by":{}}}"#,
                if n % 3 == 0 {
                    "null".to_owned()
                } else {
                    format!("\"user {}\"", n % 2)
                }
            )
        });
        let counts = Chart::Counts {
            time: "created_at".to_owned(),
            step: Step::Minute,
            since: None,
        };
        assert_eq!(chosen[0], counts);
        assert!(!matches!(chosen[1], Chart::Counts { .. }), "{chosen:?}");
    }
}
