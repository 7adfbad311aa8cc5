//! What the schedule does, a line each: logs are read in other places than they are written, so times
//! are in UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::clean::clean;
use super::show;
use super::style::{BAD, GOOD, NOTE, paint};
use crate::count::{plural, thousands};
use crate::event::Fact;

/// The line of a fact of the schedule; `None` where it is another one.
pub(super) fn line(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::Scheduled {
            pipeline,
            cron,
            zone,
            next,
            again,
        } => format!(
            "{}: {}{} in {}{}",
            clean(pipeline),
            if *again { "its file changed; " } else { "" },
            clean(cron),
            clean(zone),
            then(*next)
        ),
        Fact::ScheduleBroken {
            pipeline,
            message,
            kept,
        } => format!(
            "{}: {} {}; {}",
            clean(pipeline),
            paint(BAD, "broken file:"),
            clean(message),
            if *kept {
                "what stood in it before stays in force"
            } else {
                "it does not run until that is corrected"
            }
        ),
        Fact::ScheduleMended { pipeline } => {
            format!("{}: its file can be understood again", clean(pipeline))
        }
        Fact::Unscheduled { pipeline } => {
            format!("{}: has no schedule any more", clean(pipeline))
        }
        Fact::TimeSkipped {
            pipeline,
            planned,
            times,
            why,
        } => format!(
            "{}: {} {}{}: {}",
            clean(pipeline),
            paint(NOTE, "left out"),
            utc(*planned),
            more(*times, "earlier ones"),
            clean(why)
        ),
        Fact::TimeCame {
            pipeline,
            planned,
            times,
            again,
        } => format!(
            "{}: {} the run of {}{}",
            clean(pipeline),
            if *again { "going on with" } else { "beginning" },
            utc(*planned),
            more(*times, "missed before it"),
        ),
        Fact::TimeDone {
            pipeline,
            planned,
            run,
            exit,
            took,
            next,
        } => format!(
            "{}: the run of {}{} {} after {}{}",
            clean(pipeline),
            utc(*planned),
            (run.as_ref()).map_or_else(String::new, |run| format!(" ({})", clean(run))),
            match exit {
                0 => paint(GOOD, "is complete"),
                3 => paint(
                    NOTE,
                    "wants a person: checks hold it, or records are missing,"
                ),
                75 => paint(NOTE, "is not finished"),
                77 => paint(NOTE, "was not started: another run holds the lock"),
                130 | 143 => paint(NOTE, "was stopped"),
                code => paint(BAD, &format!("failed with exit code {code}")),
            },
            show::duration(*took),
            then(*next)
        ),
        Fact::ScheduleWaits {
            pipeline: Some(pipeline),
            next: Some(next),
            local,
            ..
        } => match local {
            Some(local) if !local.ends_with("UTC") => format!(
                "waiting; next: {} at {} ({})",
                clean(pipeline),
                clean(local),
                utc(*next)
            ),
            _ => format!("waiting; next: {} at {}", clean(pipeline), utc(*next)),
        },
        Fact::ScheduleWaits { broken: 0, .. } => {
            "nothing to wait for: no pipeline here has a `schedule`; `schedule: { cron: \"30 2 * * *\" }` gives it one"
                .to_owned()
        }
        Fact::ScheduleWaits { broken, .. } => format!(
            "nothing to wait for: no pipeline that can be understood has a `schedule`, and {} cannot be; `gleaner check` says why",
            plural(*broken, "file")
        ),
        Fact::ScheduleNoticed { message } => {
            format!("{} {}", paint(NOTE, "note:"), clean(message))
        }
        Fact::ScheduleStuck { message } => format!(
            "{} {}; it is tried again, and nothing begins before",
            paint(BAD, "error:"),
            clean(message)
        ),
        _ => return None,
    })
}

fn utc(at: Timestamp) -> String {
    let at = at.to_zoned(TimeZone::UTC);
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn then(next: Option<Timestamp>) -> String {
    next.map_or_else(String::new, |at| format!("; next {}", utc(at)))
}

fn more(times: u32, what: &str) -> String {
    match times {
        0 | 1 => String::new(),
        n => format!(" and {} {what}", thousands(u64::from(n) - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_wait_for_has_a_next_step() {
        let said = |broken| {
            line(&Fact::ScheduleWaits {
                pipeline: None,
                next: None,
                local: None,
                broken,
            })
        };
        for (broken, step) in [
            (0, "gives it one"),
            (1, "1 file cannot be; `gleaner check` says why"),
            (2, "2 files cannot be; `gleaner check` says why"),
        ] {
            let said = said(broken).unwrap();
            assert!(said.ends_with(step), "{said}");
        }
    }
}
