//! What an API allows: so many calls per window.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// One entry of `limits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitPlan {
    /// Most calls in any window.
    pub calls: NonZeroU32,
    /// The window's length.
    pub window: Duration,
    /// Which requests it counts.
    pub when: LimitWhen,
    /// How calls are spaced inside the window.
    pub spacing: Spacing,
    /// As written, for messages: `80/min`.
    pub written: String,
}

/// Which requests a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitWhen {
    /// All.
    Always,
    /// Only when a credential is sent (`if: auth`).
    Auth,
    /// Only when none is (`if: not auth`).
    NoAuth,
}

/// How calls are spaced inside the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// Windows up to a minute: a tenth at once, then evenly; longer ones: as asked.
    Usual,
    /// `spread: true`: evenly from the first call.
    Even,
    /// `spread: false`: as fast as asked, until the window is used up.
    Burst,
}

impl LimitPlan {
    /// Reads the short form `N/[k]TIME`: `5000/h`, `1/3s`, `80/min`.
    ///
    /// # Errors
    /// A sentence that shows the form.
    pub fn parse(written: &str) -> Result<Self, String> {
        let _ = written;
        todo!()
    }
}

impl fmt::Display for LimitPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}
