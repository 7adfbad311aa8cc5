//! What the rim prints when something went wrong: kind, causes, hint; each kind has an exit code.

use std::error::Error;
use std::fmt;

use serde::{Serialize, Serializer};

/// Why a command ended; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was published.
    Complete = 0,
    /// Failed; needs a person.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Complete, but checks hold the data, or what is published lacks records.
    Held = 3,
    /// A pipeline file is invalid.
    Invalid = 4,
    /// The disk is full or not writable (`EX_CANTCREAT` of sysexits).
    Disk = 73,
    /// Resumable; run again (`EX_TEMPFAIL`).
    Resumable = 75,
    /// Somebody else holds the lock (`EX_NOPERM`).
    Locked = 77,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    const ALL: [Self; 10] = [
        Self::Complete,
        Self::Failed,
        Self::Usage,
        Self::Held,
        Self::Invalid,
        Self::Disk,
        Self::Resumable,
        Self::Locked,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number a shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What the number means, if anything.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// Of two ends the one that asks for more from a person.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.weight() > self.weight() {
            other
        } else {
            self
        }
    }

    /// What waits for nobody is light, what waits for a person is heavy, what was told to stop wins.
    fn weight(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Resumable => 1,
            Self::Locked => 2,
            Self::Held => 3,
            Self::Disk => 4,
            Self::Failed => 5,
            Self::Invalid => 6,
            Self::Usage => 7,
            Self::Interrupted => 8,
            Self::Terminated => 9,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

/// An error as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What failed, one line.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without causes or a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds `error` and everything below it as causes; a layer that repeats the one above is left out.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut layer = Some(error);
        while let Some(error) = layer {
            let text = error.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            layer = error.source();
        }
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_wins_in_both_orders() {
        for (a, b, worst) in [
            (Exit::Complete, Exit::Held, Exit::Held),
            (Exit::Resumable, Exit::Failed, Exit::Failed),
            (Exit::Interrupted, Exit::Failed, Exit::Interrupted),
        ] {
            assert_eq!(a.worst(b), worst);
            assert_eq!(b.worst(a), worst);
        }
    }

    #[test]
    fn causes_follow_the_message() {
        let error = std::io::Error::other("disk on fire");
        let failure = Failure::new(Exit::Disk, "cannot write data/x.csv").caused_by(&error);
        assert_eq!(failure.to_string(), "cannot write data/x.csv: disk on fire");
    }
}
