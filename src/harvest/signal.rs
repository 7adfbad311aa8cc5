//! What a signal means for the pace: so many calls and no more, until then.
//!
//! A signal can only lower what the declared limit allows. Of one budget (dialect, scope, unit and
//! window) the latest answer counts, of several budgets the lesser advice.

use std::time::Duration;

use crate::clock::Instant;
use crate::fetch::signals::{Signal, Unit};

/// Resets are written in whole seconds, cut off or rounded: up to one may be missing.
const ROUNDING: Duration = Duration::from_secs(1);

/// At most so many calls until an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lowering {
    /// Calls that may still be made; those in flight may be among them.
    pub at_most: u64,
    /// When the allowance is new.
    pub until: Instant,
}

/// What `signal`, of an answer received at `now`, says about the calls to come.
///
/// Nothing where it counts something else than calls, where it does not say how much is left,
/// or where neither a reset nor the window (which is longer at most) says for how long.
pub fn advice(signal: &Signal, now: Instant) -> Option<Lowering> {
    if signal.unit != Unit::Calls {
        return None;
    }
    let left = signal.remaining.filter(|left| *left >= 0.0)?;
    let until = match signal.resets_in {
        Some(resets_in) => resets_in.checked_add(ROUNDING)?,
        None => signal.window?,
    };
    Some(Lowering {
        at_most: whole(left),
        until: now.checked_add(until)?,
    })
}

/// The calls that a count with a fraction leaves: no part of a call can be made.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates, and it is not negative"
)]
fn whole(left: f64) -> u64 {
    left as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn signal(remaining: Option<f64>, resets_in: Option<u64>, window: Option<u64>) -> Signal {
        Signal {
            scope: None,
            unit: Unit::Calls,
            limit: Some(100),
            remaining,
            used: None,
            window: window.map(Duration::from_secs),
            resets_in: resets_in.map(Duration::from_secs),
            dialect: "x-ratelimit",
        }
    }

    #[test]
    fn what_is_left_holds_until_the_reset_and_never_shorter() {
        let now = Clock::system().now();
        for (remaining, resets_in, window, expected) in [
            (Some(7.0), Some(30), None, Some((7, 31))),
            (Some(0.0), Some(30), Some(60), Some((0, 31))),
            // A fraction of a call is none.
            (Some(7.9), Some(0), None, Some((7, 1))),
            // Sliding windows name no reset: all of it is over in a window.
            (Some(7.0), None, Some(60), Some((7, 60))),
            (Some(f64::MAX), Some(1), None, Some((u64::MAX, 2))),
            (Some(7.0), None, None, None),
            (None, Some(30), Some(60), None),
            (Some(f64::NAN), Some(30), None, None),
        ] {
            let advice = advice(&signal(remaining, resets_in, window), now)
                .map(|a| (a.at_most, (a.until - now).as_secs()));
            assert_eq!(advice, expected, "{remaining:?} {resets_in:?} {window:?}");
        }
    }

    #[test]
    fn tokens_and_percent_say_nothing_about_calls() {
        let now = Clock::system().now();
        let tokens = Signal {
            unit: Unit::Named("tokens".to_owned()),
            ..signal(Some(0.0), Some(30), None)
        };
        assert_eq!(advice(&tokens, now), None);
    }
}
