//! The schedule: every day has its nightly run and one only, in every zone, whatever the clocks do.

use std::collections::BTreeMap;

use gleaner::plan::cron::Cron;
use gleaner::plan::schedule::{Missed, Overlap, SchedulePlan};
use gleaner::schedule::agenda::{self, Busy, Fate, Moment};
use jiff::civil::{Date, date};
use jiff::tz::{TimeZone, db};
use jiff::{SignedDuration, Timestamp};

const FIRST: Date = date(2026, 1, 1);
const LAST: Date = date(2035, 12, 31);

fn cron(written: &str) -> Cron {
    Cron::parse(written).unwrap_or_else(|(message, _)| panic!("{message}"))
}

/// Every zone of the database, one of each kind: those whose clocks are the same in these years are
/// one. What tells them apart are their changes.
fn zones() -> Vec<(String, TimeZone)> {
    let names: Vec<String> = db().available().map(|name| name.to_string()).collect();
    assert!(names.len() > 400, "{} zones", names.len());
    let begin = TimeZone::UTC
        .to_timestamp(date(2025, 12, 1).at(0, 0, 0, 0))
        .unwrap();
    let end = TimeZone::UTC
        .to_timestamp(date(2036, 2, 1).at(0, 0, 0, 0))
        .unwrap();
    let mut kinds = BTreeMap::new();
    for name in names {
        let zone = TimeZone::get(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut kind = vec![(begin, zone.to_offset(begin).seconds())];
        let changes = zone.following(begin);
        kind.extend(
            changes
                .map(|change| (change.timestamp(), change.offset().seconds()))
                .take_while(|(at, _)| *at < end),
        );
        kinds.entry(kind).or_insert((name, zone));
    }
    let kinds: Vec<_> = kinds.into_values().collect();
    assert!(kinds.len() > 60, "{} kinds of zones", kinds.len());
    kinds
}

/// The days of these years that the clock of a zone shows at all, found by asking it every quarter of
/// an hour.
fn days(zone: &TimeZone) -> BTreeMap<Date, u32> {
    let mut days = BTreeMap::new();
    let mut day = FIRST;
    while day <= LAST {
        // A day is there if some quarter of it is: only a leap over all of it takes it away.
        let is_there = (0..96).any(|quarter| {
            let at = day.at(quarter / 4, quarter % 4 * 15, 0, 0);
            !zone.to_ambiguous_timestamp(at).is_gap_like()
        });
        if is_there {
            days.insert(day, 0);
        }
        day = day.tomorrow().unwrap();
    }
    days
}

trait GapLike {
    fn is_gap_like(&self) -> bool;
}

impl GapLike for jiff::tz::AmbiguousTimestamp {
    fn is_gap_like(&self) -> bool {
        matches!(self.offset(), jiff::tz::AmbiguousOffset::Gap { .. })
    }
}

/// All times of these years, on the clock of the zone.
fn times(cron: &Cron, zone: &TimeZone) -> Vec<Timestamp> {
    let before = FIRST.yesterday().unwrap().at(12, 0, 0, 0);
    let mut at = zone.to_timestamp(before).unwrap();
    let mut found = Vec::new();
    while let Some(next) = cron.next(at, zone) {
        assert!(next > at, "{next} after {at}");
        at = next;
        let day = zone.to_datetime(at).date();
        if day > LAST {
            break;
        }
        if day >= FIRST {
            found.push(at);
        }
    }
    found
}

/// Issues of a night: what is not exactly one run on every day that exists.
fn wrong(written: &str, name: &str, zone: &TimeZone) -> Vec<String> {
    let mut days = days(zone);
    let mut wrong = Vec::new();
    for at in times(&cron(written), zone) {
        match days.get_mut(&zone.to_datetime(at).date()) {
            Some(runs) => *runs += 1,
            None => wrong.push(format!("{name} {written}: {at} is on no day")),
        }
    }
    let odd = days.iter().filter(|(_, runs)| **runs != 1);
    wrong.extend(odd.map(|(day, runs)| format!("{name} {written}: {runs} runs on {day}")));
    wrong
}

#[test]
fn every_day_of_ten_years_has_one_nightly_run_in_every_zone() {
    let zones = zones();
    let nights = [
        "30 2 * * *",
        "0 0 * * *",
        "30 23 * * *",
        "59 1 * * *",
        "@daily",
    ];
    let (one, other) = zones.split_at(zones.len() / 2);
    let halves = [one, other];
    let found: Vec<String> = std::thread::scope(|scope| {
        let tasks = halves.map(|half| {
            scope.spawn(move || {
                let each = half.iter().flat_map(|(name, zone)| {
                    nights
                        .into_iter()
                        .flat_map(move |night| wrong(night, name, zone))
                });
                each.collect::<Vec<_>>()
            })
        });
        tasks
            .into_iter()
            .flat_map(|task| task.join().unwrap())
            .collect()
    });
    assert!(
        found.is_empty(),
        "{} wrong, such as {:?}",
        found.len(),
        &found[..found.len().min(10)]
    );
}

/// Days of these years that had no run or several, of a scheduler that looks at its clock every so often and
/// begins what is due, each run over at once.
fn kept_badly(name: &str, zone: &TimeZone) -> Vec<String> {
    let plan = SchedulePlan {
        cron: cron("30 2 * * *"),
        zone: zone.clone(),
        missed: Missed::All,
        overlap: Overlap::Skip,
        jitter: std::time::Duration::ZERO,
        deadline: None,
    };
    let mut days = days(zone);
    let begin = zone
        .to_timestamp(FIRST.yesterday().unwrap().at(12, 0, 0, 0))
        .unwrap();
    let end = zone
        .to_timestamp(LAST.tomorrow().unwrap().at(12, 0, 0, 0))
        .unwrap();
    // No divisor of a day: it looks before, at and after every hour.
    let every = SignedDuration::from_mins(20 * 60 + 13);
    let (mut now, mut mark) = (begin, begin);
    while now < end {
        now += every;
        let moment = Moment { now, since: begin };
        let verdict = agenda::settle(&plan, SignedDuration::ZERO, mark, Busy::default(), moment);
        mark = verdict.mark;
        for one in verdict.settled {
            assert_eq!((one.fate, one.times), (Fate::Run, 1), "{name}: {one:?}");
            if let Some(runs) = days.get_mut(&zone.to_datetime(one.at).date()) {
                *runs += 1;
            }
        }
    }
    let odd = days.iter().filter(|(_, runs)| **runs != 1);
    odd.map(|(day, runs)| format!("{name}: {runs} runs on {day}"))
        .collect()
}

#[test]
fn who_looks_at_the_clock_now_and_then_begins_one_run_on_every_day_in_every_zone() {
    let found: Vec<String> = zones()
        .iter()
        .flat_map(|(name, zone)| kept_badly(name, zone))
        .collect();
    assert!(
        found.is_empty(),
        "{} wrong, such as {:?}",
        found.len(),
        &found[..found.len().min(10)]
    );
}

#[test]
fn a_field_that_is_none_is_named_in_our_words() {
    for (written, wanted) in [
        ("60 2 * * *", "`60` is no minute, which is 0 to 59"),
        ("0 24 * * *", "`24` is no hour, which is 0 to 23"),
        ("0 2 32 * *", "`32` is no day of the month"),
        (
            "0 2 * foo *",
            "`foo` is no month, which is 1 to 12, or JAN to DEC",
        ),
        ("0 2 * * 5-", "`5-` is no day of the week"),
    ] {
        let (message, _) = Cron::parse(written).expect_err("no time of cron");
        let whole = format!("`{written}` is not a time of cron: {wanted}");
        assert!(message.starts_with(&whole), "{message}");
    }
    for good in [
        "0 0 1 1 *",
        "0,30 1-5 L * MON-FRI",
        "*/7 * * JAN sun",
        "0 0 * * 7",
    ] {
        Cron::parse(good).unwrap_or_else(|(message, _)| panic!("{message}"));
    }
}
