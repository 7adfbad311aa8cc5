//! The schedule's rules as tables of cases: what becomes of times that were missed, that overlap, that
//! jitter; and that whatever happens, each time is settled once.

use std::collections::BTreeSet;
use std::time::Duration;

use gleaner::plan::cron::Cron;
use gleaner::plan::schedule::{Missed, Overlap, SchedulePlan};
use gleaner::schedule::agenda::{self, Busy, Fate, LATE, Moment};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn plan(cron: &str, missed: Missed, overlap: Overlap) -> SchedulePlan {
    SchedulePlan {
        cron: Cron::parse(cron).unwrap_or_else(|(message, _)| panic!("{message}")),
        zone: TimeZone::UTC,
        missed,
        overlap,
        jitter: Duration::ZERO,
        deadline: None,
    }
}

/// A moment of November 2026: `22 02:30`.
fn at(written: &str) -> Timestamp {
    let (day, time) = written.split_once(' ').expect("a day and a time");
    format!("2026-11-{day}T{time}:00Z")
        .parse()
        .expect("a moment")
}

const FREE: Busy = Busy {
    runs: false,
    waiting: 0,
    inherited: false,
};
const RUNS: Busy = Busy { runs: true, ..FREE };
const RUNS_AND_WAITS: Busy = Busy { waiting: 1, ..RUNS };
const INHERITED: Busy = Busy {
    waiting: 1,
    inherited: true,
    ..FREE
};

/// What is settled, for people: `run 22 02:30 for 3; mark 22 02:30`.
fn told(
    plan: &SchedulePlan,
    jitter: SignedDuration,
    mark: &str,
    busy: Busy,
    since: &str,
    now: &str,
) -> String {
    let moment = Moment {
        now: at(now),
        since: at(since),
    };
    let verdict = agenda::settle(plan, jitter, at(mark), busy, moment);
    let show = |at: Timestamp| at.strftime("%d %H:%M").to_string();
    let mut told: Vec<String> = verdict
        .settled
        .iter()
        .map(|one| {
            let fate = match one.fate {
                Fate::Run => "run",
                Fate::Missed => "missed",
                Fate::Overlaps => "overlaps",
                Fate::Queued => "one waits",
            };
            match one.times {
                1 => format!("{fate} {}", show(one.at)),
                times => format!("{fate} {} for {times}", show(one.at)),
            }
        })
        .collect();
    told.push(format!("mark {}", show(verdict.mark)));
    told.join("; ")
}

#[test]
fn what_becomes_of_missed_times() {
    use Missed::{All, Once, Skip};
    // Nightly at 02:30; settled up to the 18th.
    for (missed, now, expected) in [
        // Nothing is due yet, or it is just due.
        (Once, "19 02:29", "mark 18 02:30"),
        (Once, "19 02:30", "run 19 02:30; mark 19 02:30"),
        (All, "19 02:30", "run 19 02:30; mark 19 02:30"),
        (Skip, "19 02:30", "run 19 02:30; mark 19 02:30"),
        // An hour is late and not missed.
        (Skip, "19 03:30", "run 19 02:30; mark 19 02:30"),
        (Skip, "19 03:31", "missed 19 02:30; mark 19 02:30"),
        (Once, "19 09:00", "run 19 02:30; mark 19 02:30"),
        (All, "19 09:00", "run 19 02:30; mark 19 02:30"),
        // Several nights.
        (Once, "21 09:00", "run 21 02:30 for 3; mark 21 02:30"),
        (Skip, "21 09:00", "missed 21 02:30 for 3; mark 21 02:30"),
        (
            Skip,
            "21 02:40",
            "missed 20 02:30 for 2; run 21 02:30; mark 21 02:30",
        ),
        (
            All,
            "21 09:00",
            "run 19 02:30; run 20 02:30; run 21 02:30; mark 21 02:30",
        ),
    ] {
        let plan = plan("30 2 * * *", missed, Overlap::Skip);
        // Whoever looks has just come.
        let told = told(&plan, SignedDuration::ZERO, "18 02:30", FREE, now, now);
        assert_eq!(told, expected, "{missed:?} at {now}");
    }
}

#[test]
fn what_becomes_of_times_that_overlap() {
    use Missed::{All, Once};
    use Overlap::{Queue, Skip};
    // Hourly; settled up to 10:00.
    let told = |missed, overlap, busy, since, now| {
        let plan = plan("0 * * * *", missed, overlap);
        told(&plan, SignedDuration::ZERO, "22 10:00", busy, since, now)
    };
    for (missed, overlap, busy, now, expected) in [
        (Once, Skip, FREE, "22 11:00", "run 22 11:00; mark 22 11:00"),
        (
            Once,
            Skip,
            RUNS,
            "22 11:00",
            "overlaps 22 11:00; mark 22 11:00",
        ),
        (Once, Queue, RUNS, "22 11:00", "run 22 11:00; mark 22 11:00"),
        (
            Once,
            Queue,
            RUNS_AND_WAITS,
            "22 11:00",
            "one waits 22 11:00; mark 22 11:00",
        ),
        (
            All,
            Skip,
            RUNS,
            "22 11:00",
            "overlaps 22 11:00; mark 22 11:00",
        ),
        (All, Queue, RUNS, "22 11:00", "run 22 11:00; mark 22 11:00"),
        // What waits of a backlog comes first, and nothing behind it is forgotten.
        (All, Skip, RUNS_AND_WAITS, "22 11:00", "mark 22 10:00"),
        (All, Queue, RUNS_AND_WAITS, "22 13:00", "mark 22 10:00"),
        // The machine slept while a run was under way.
        (
            Once,
            Skip,
            RUNS,
            "22 13:10",
            "overlaps 22 13:00 for 3; mark 22 13:00",
        ),
        (
            Once,
            Queue,
            RUNS,
            "22 13:10",
            "run 22 13:00 for 3; mark 22 13:00",
        ),
    ] {
        let told = told(missed, overlap, busy, "22 08:00", now);
        assert_eq!(told, expected, "{missed:?} {overlap:?} {busy:?} at {now}");
    }
    // A run that a dead scheduler has left was in nobody's way when the times passed.
    for (overlap, since, expected) in [
        (Skip, "22 11:40", "run 22 11:00; mark 22 11:00"),
        (Queue, "22 11:40", "run 22 11:00; mark 22 11:00"),
        (Skip, "22 10:50", "overlaps 22 11:00; mark 22 11:00"),
    ] {
        let told = told(Once, overlap, INHERITED, since, "22 11:45");
        assert_eq!(told, expected, "{overlap:?} since {since}");
    }
}

#[test]
fn what_becomes_of_times_with_jitter() {
    let plan = plan("30 2 * * *", Missed::Skip, Overlap::Skip);
    for (minutes, now, expected) in [
        (0, "22 02:30", "run 22 02:30; mark 22 02:30"),
        (7, "22 02:36", "mark 21 02:30"),
        (7, "22 02:37", "run 22 02:30; mark 22 02:30"),
        // Late counts from the jittered time.
        (7, "22 03:37", "run 22 02:30; mark 22 02:30"),
        (7, "22 03:38", "missed 22 02:30; mark 22 02:30"),
        // Over midnight, still that night's.
        (23 * 60, "23 01:29", "mark 21 02:30"),
        (23 * 60, "23 01:30", "run 22 02:30; mark 22 02:30"),
    ] {
        let jitter = SignedDuration::from_mins(minutes);
        let told = told(&plan, jitter, "21 02:30", FREE, "21 00:00", now);
        assert_eq!(told, expected, "{minutes} min at {now}");
    }
    let most = Duration::from_mins(10);
    let names: Vec<String> = (0..200).map(|n| format!("pipeline_{n}")).collect();
    let starts: BTreeSet<SignedDuration> = names
        .iter()
        .map(|name| agenda::jitter(name, most))
        .inspect(|jitter| {
            assert!(!jitter.is_negative() && *jitter <= SignedDuration::from_mins(10));
        })
        .collect();
    assert!(starts.len() > 120, "{} different starts", starts.len());
    // The same in every version and on every machine: a changed one would move every night.
    assert_eq!(
        agenda::jitter("github", most),
        SignedDuration::from_secs(JITTER_OF_GITHUB)
    );
    assert_eq!(
        agenda::jitter("github", Duration::ZERO),
        SignedDuration::ZERO
    );
}

const JITTER_OF_GITHUB: i64 = 330;

#[test]
fn years_of_minutes_are_settled_at_once() {
    let plan = plan("* * * * *", Missed::Once, Overlap::Skip);
    let mark = "2016-11-22T00:00:00Z".parse().expect("a moment");
    let now = at("22 02:30");
    let verdict = agenda::settle(
        &plan,
        SignedDuration::ZERO,
        mark,
        FREE,
        Moment { now, since: now },
    );
    assert_eq!(verdict.mark, now);
    assert_eq!(verdict.settled.len(), 1);
    // And of a backlog that is worked off one by one, no more than can be overseen.
    let plan = SchedulePlan {
        missed: Missed::All,
        ..plan
    };
    let verdict = agenda::settle(
        &plan,
        SignedDuration::ZERO,
        mark,
        FREE,
        Moment { now, since: now },
    );
    assert_eq!(verdict.settled.len(), 100);
    assert!(verdict.mark < now);
}

/// What somebody who looks finds.
#[derive(Debug, Clone)]
struct Look {
    after: u32,
    runs: bool,
    waiting: usize,
    comes_anew: bool,
}

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let look = (1..20_000_u32, any::<bool>(), 0..3_usize, any::<bool>()).prop_map(
        |(after, runs, waiting, comes_anew)| Look {
            after,
            runs,
            waiting,
            comes_anew,
        },
    );
    prop::collection::vec(look, 1..40)
}

proptest! {
    /// However often and whenever somebody looks, whatever goes on: every time is settled once, in
    /// order, and none that is not due.
    #[test]
    fn every_time_is_settled_once(
        looks in looks(),
        missed in prop::sample::select(vec![Missed::Once, Missed::All, Missed::Skip]),
        overlap in prop::sample::select(vec![Overlap::Skip, Overlap::Queue]),
        cron in prop::sample::select(vec!["*/10 * * * *", "0 * * * *", "30 2 * * *", "5,50 1-4 * * *"]),
        jitter in 0..5_000_i64,
    ) {
        let plan = plan(cron, missed, overlap);
        let jitter = SignedDuration::from_secs(jitter);
        let begin = at("01 00:00");
        let (mut now, mut mark, mut since) = (begin, begin, begin);
        let mut counted = 0;
        let mut last = begin;
        for look in looks {
            now += SignedDuration::from_secs(i64::from(look.after));
            if look.comes_anew {
                since = now;
            }
            let busy = Busy { runs: look.runs, waiting: look.waiting, inherited: look.comes_anew };
            let verdict = agenda::settle(&plan, jitter, mark, busy, Moment { now, since });
            for one in &verdict.settled {
                prop_assert!(one.at > last, "{one:?} after {last}");
                prop_assert!(one.at + jitter <= now);
                last = one.at;
                counted += u64::from(one.times);
                if missed == Missed::All && now.duration_since(one.at) > LATE + jitter && one.fate != Fate::Overlaps {
                    prop_assert_eq!(one.fate, Fate::Run);
                }
            }
            prop_assert!(verdict.mark >= mark);
            mark = verdict.mark;
            // Nobody who is free leaves anything that is due, but the end of a long backlog.
            if busy.waiting == 0 && verdict.settled.len() < 100 {
                let next = agenda::next(&plan, jitter, mark);
                prop_assert!(next.is_none_or(|next| next > now));
            }
        }
        let mut planned = 0;
        let mut time = plan.next(begin);
        while let Some(at) = time.filter(|at| *at <= mark) {
            planned += 1;
            time = plan.next(at);
        }
        prop_assert_eq!(counted, planned);
    }
}

/// Of a schedule that nobody knew, times are old once they were due, and not once they were planned.
#[test]
fn the_first_times_of_a_schedule_are_those_that_come_due() {
    let plan = plan("30 2 * * *", Missed::Once, Overlap::Skip);
    let hour = SignedDuration::from_hours(1);
    for (jitter, reach, now, next_due) in [
        (0, hour, "22 02:29", "22 02:30"),
        (0, hour, "22 03:29", "22 02:30"),
        (0, hour, "22 03:31", "23 02:30"),
        // Due at 04:20, which is more than the reach behind what was planned.
        (110, hour, "22 03:45", "22 04:20"),
        (110, hour, "22 04:25", "22 04:20"),
        (110, hour, "22 05:19", "22 04:20"),
        (110, hour, "22 05:21", "23 04:20"),
        (110, SignedDuration::ZERO, "22 04:19", "22 04:20"),
        (110, SignedDuration::ZERO, "22 04:21", "23 04:20"),
        (0, SignedDuration::ZERO, "22 02:31", "23 02:30"),
    ] {
        let jitter = SignedDuration::from_mins(jitter);
        let mark = agenda::begin(&plan, jitter, at(now), reach);
        let due = agenda::next(&plan, jitter, mark);
        assert_eq!(due, Some(at(next_due)), "{now} with {jitter}, mark {mark}");
    }
}
