//! Keeps a flood of failed attempts from scrolling everything else away.

use jiff::{SignedDuration, Timestamp};

/// Lines let through in one window.
const LINES: u32 = 3;
/// The window.
const WINDOW: SignedDuration = SignedDuration::from_secs(10);

/// Lets a few lines through in each window and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    since: Option<Timestamp>,
    shown: u32,
    hidden: u64,
}

impl Throttle {
    /// Whether a line may be shown now; if so, how many were held back before it.
    pub(super) fn admit(&mut self, now: Timestamp) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.duration_since(since) >= WINDOW)
        {
            self.since = Some(now);
            self.shown = 0;
        }
        if self.shown < LINES {
            self.shown += 1;
            Some(std::mem::take(&mut self.hidden))
        } else {
            self.hidden += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_three_lines_and_a_count() {
        let mut throttle = Throttle::default();
        let start = Timestamp::UNIX_EPOCH;
        let shown = (0..100).filter(|_| throttle.admit(start).is_some()).count();
        assert_eq!(shown, 3);
        assert_eq!(
            throttle.admit(start + SignedDuration::from_secs(10)),
            Some(97)
        );
    }
}
