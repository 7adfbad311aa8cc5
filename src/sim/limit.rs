//! A limit as the pretend API enforces it: so many requests per window, fixed or sliding.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

/// A limit and how a breach is answered.
#[derive(Debug, Clone)]
pub struct ServerLimit {
    /// Requests per window.
    pub requests: usize,
    /// The window.
    pub window: Duration,
    /// How windows are laid.
    pub style: WindowStyle,
    /// Only paths that begin with this are counted.
    pub under: Option<String>,
    /// Status of a refusal; 429 unless said (GitHub's secondary limits use 403).
    pub status: u16,
    /// How a refusal says when to come back.
    pub retry: RetryForm,
    /// What every answer tells about the limit.
    pub tell: Tell,
}

impl ServerLimit {
    /// A sliding limit that refuses with 429 and `Retry-After` in seconds.
    pub fn sliding(requests: usize, window: Duration) -> Self {
        Self {
            requests,
            window,
            style: WindowStyle::Sliding,
            under: None,
            status: 429,
            retry: RetryForm::Seconds,
            tell: Tell::Nothing,
        }
    }

    /// The same with fixed windows, the first of which begins with the first request.
    pub fn fixed(requests: usize, window: Duration) -> Self {
        Self {
            style: WindowStyle::Fixed {
                phase: Duration::ZERO,
            },
            ..Self::sliding(requests, window)
        }
    }

    /// Whether a path counts.
    pub fn covers(&self, path: &str) -> bool {
        self.under
            .as_deref()
            .is_none_or(|prefix| path.starts_with(prefix))
    }
}

/// How windows are laid.
#[derive(Debug, Clone, Copy)]
pub enum WindowStyle {
    /// Any span as long as the window, without its end.
    Sliding,
    /// One after the other; the first request comes `phase` after the start of its window.
    Fixed {
        /// How much of the first window was over by then.
        phase: Duration,
    },
}

/// How a refusal says when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryForm {
    /// `Retry-After: 3`.
    Seconds,
    /// `Retry-After: Fri, 31 Dec 1999 23:59:59 GMT`.
    Date,
    /// It does not.
    Silent,
}

/// What every answer tells about a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// `x-ratelimit-limit`, `-remaining` and `-reset` as seconds since 1970, as GitHub does.
    XRateLimit,
    /// `ratelimit-limit`, `-remaining` and `-reset` as seconds from now
    /// (draft-ietf-httpapi-ratelimit-headers-03).
    RateLimit,
}

/// How far a limit is used up.
#[derive(Debug, Default)]
pub struct LimitState {
    /// Admitted requests of the current window, oldest first.
    admitted: VecDeque<Instant>,
    /// When the current fixed window began.
    began: Option<Instant>,
}

/// A limit's standing at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests left.
    pub remaining: usize,
    /// When some come back.
    pub reset: Instant,
}

impl LimitState {
    /// How the limit stands at `now`; windows that have passed are forgotten.
    pub fn standing(&mut self, limit: &ServerLimit, now: Instant) -> Standing {
        let reset = match limit.style {
            WindowStyle::Sliding => {
                while self
                    .admitted
                    .front()
                    .is_some_and(|first| *first + limit.window <= now)
                {
                    self.admitted.pop_front();
                }
                self.admitted.front().map_or(now, |at| *at + limit.window)
            }
            WindowStyle::Fixed { phase } => {
                let mut began = self
                    .began
                    .unwrap_or_else(|| now.checked_sub(phase).unwrap_or(now));
                if !limit.window.is_zero() {
                    let passed = now.saturating_duration_since(began).as_nanos()
                        / limit.window.as_nanos().max(1);
                    if passed > 0 {
                        began += limit.window * u32::try_from(passed).unwrap_or(u32::MAX);
                        self.admitted.clear();
                    }
                }
                self.began = Some(began);
                began + limit.window
            }
        };
        Standing {
            remaining: limit.requests.saturating_sub(self.admitted.len()),
            reset,
        }
    }

    /// Counts a request that was let in.
    pub fn admit(&mut self, at: Instant) {
        self.admitted.push_back(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_sliding_window_forgets_a_request_one_window_later() {
        let limit = ServerLimit::sliding(2, ms(1000));
        let mut state = LimitState::default();
        let start = Clock::system().now();
        state.admit(start);
        state.admit(start + ms(600));
        let full = state.standing(&limit, start + ms(999));
        assert_eq!((full.remaining, full.reset), (0, start + ms(1000)));
        let later = state.standing(&limit, start + ms(1000));
        assert_eq!((later.remaining, later.reset), (1, start + ms(1600)));
    }

    #[test]
    fn a_fixed_window_is_laid_from_its_phase() {
        let mut limit = ServerLimit::fixed(2, ms(1000));
        limit.style = WindowStyle::Fixed { phase: ms(900) };
        let mut state = LimitState::default();
        let start = Clock::system().now();
        assert_eq!(state.standing(&limit, start).reset, start + ms(100));
        state.admit(start);
        state.admit(start);
        assert_eq!(state.standing(&limit, start + ms(99)).remaining, 0);
        let next = state.standing(&limit, start + ms(100));
        assert_eq!((next.remaining, next.reset), (2, start + ms(1100)));
        let far = state.standing(&limit, start + ms(5150));
        assert_eq!((far.remaining, far.reset), (2, start + ms(6100)));
    }
}
