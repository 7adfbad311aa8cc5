//! The windows of time that a variable of `for` runs over: from where the cursor stands, or as said.

use jiff::Timestamp;
use minijinja::Value;

use super::Partition;
use crate::harvest::run::Run;
use crate::plan::StreamPlan;
use crate::plan::cursor::Bound;
use crate::plan::dates::{DatesPlan, Edge, Windows};
use crate::plan::language::LanguageProblem;
use crate::plan::position::{Format, Position};

/// The windows of a variable, those before it having these values.
pub(in crate::harvest) fn windows(
    run: &Run,
    plan: &StreamPlan,
    dates: &DatesPlan,
    variables: Vec<(String, Value)>,
) -> Result<Windows, LanguageProblem> {
    let partition = Partition {
        ordinal: 0,
        variables,
    };
    let at = run
        .plan
        .streams
        .iter()
        .position(|one| one.name == plan.name);
    let of_run = at.and_then(|at| run.windows.get(at)?.as_ref());
    let cursor = plan.cursor.as_ref().zip(of_run);
    let (from, fixed) = match (&dates.from, cursor) {
        (Some(edge), _) => {
            let (from, is_fixed) = at_edge(run, dates, edge, &partition)?;
            (from, is_fixed.then_some(from))
        }
        (None, Some((cursor, windows))) => {
            let fixed = match &cursor.start {
                Bound::Fixed(Position::Instant(start)) => Some(*start),
                _ => None,
            };
            (instant(&windows.from(cursor, &partition), run), fixed)
        }
        // Nobody asks for this stream.
        (None, None) => (run.started, None),
    };
    let to = match (&dates.to, cursor) {
        (Some(edge), _) => at_edge(run, dates, edge, &partition)?.0,
        (None, Some((_, windows))) => windows.to().map_or(run.started, |to| instant(to, run)),
        (None, None) => run.started,
    };
    // Without anything between them the grid must not make a window of what lies before.
    Ok(dates
        .grid
        .windows(from, fixed, if from < to { to } else { Timestamp::MIN }))
}

/// A side of all windows, and whether it is the same in every run.
fn at_edge(
    run: &Run,
    dates: &DatesPlan,
    edge: &Edge,
    partition: &Partition,
) -> Result<(Timestamp, bool), LanguageProblem> {
    let zone = &dates.grid.zone;
    let of = |bound: &Bound| {
        let at = instant(&bound.at_in(run.started, zone), run);
        (at, matches!(bound, Bound::Fixed(_)))
    };
    match edge {
        Edge::Bound(bound) => Ok(of(bound)),
        Edge::Template(template) => {
            let text = template.text(&run.names.request(&partition.variables))?;
            let bound = Bound::parse_in(&text, &Format::Iso, zone);
            bound
                .map(|bound| of(&bound))
                .map_err(|message| LanguageProblem {
                    message,
                    range: None,
                    place: None,
                })
        }
    }
}

/// `check` has seen to it that they are instants.
fn instant(position: &Position, run: &Run) -> Timestamp {
    match position {
        Position::Instant(at) => *at,
        Position::Integer(_) | Position::Text(_) => run.started,
    }
}
