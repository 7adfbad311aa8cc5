//! What the rim prints when something went wrong: kind, causes, hint; each kind has an exit code.

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
    /// Complete, but checks hold the data.
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

/// An error as a person reads it.
#[derive(Debug)]
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
