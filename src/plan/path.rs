//! Paths into a JSON document: `a.0.b`, `a.*.b`, `$.1`, odd names quoted.

use std::fmt;

/// A place (or, with `*`, several places) in a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    /// From the root downward; empty is the root itself (`$`).
    pub steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of an object by name (or an array's element, where the name is digits).
    Key(String),
    /// Every element of an array, or every value of an object.
    All,
}

/// What is wrong with a path, and where in its text (bytes).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PathProblem {
    /// What is wrong.
    pub message: String,
    /// Byte offset in the written path.
    pub at: usize,
}

impl Path {
    /// Reads a path.
    pub fn parse(written: &str) -> Result<Self, PathProblem> {
        let _ = written;
        todo!()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}
