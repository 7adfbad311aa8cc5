//! One mistake in a pipeline file: code, message, place, hint; drawn under its source line.

use std::ops::Range;
use std::path::PathBuf;

/// A pipeline file's text and name, for drawing.
#[derive(Debug, Clone)]
pub struct SourceText {
    /// As the user named it, relative where possible.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable, kebab-case: `unknown-key`.
    pub code: &'static str,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// Bytes in the file.
    pub span: Range<usize>,
    /// What to do: "did you mean `pages`?".
    pub hint: Option<String>,
}

/// All mistakes of one file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// The file.
    pub source: SourceText,
    /// The mistakes.
    pub all: Vec<Diagnostic>,
}
