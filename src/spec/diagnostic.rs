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

impl Diagnostic {
    /// What to do: of this mistake, or else of all of its kind. Where the message itself says it, nothing.
    pub fn advice(&self) -> Option<&str> {
        let usual = match self.code {
            "wrong-type" => Some(
                "each key with its forms: docs/language.md, or the JSON Schema of `gleaner schema`, which editors read",
            ),
            "bad-template" | "bad-expression" => Some(
                "templates and conditions are minijinja's; what may stand in them: docs/language.md, \"Templates, expressions, paths\"",
            ),
            "bad-jq" => Some("what a filter may be: docs/language.md, \"jq\""),
            "syntax" => Some("compare indentation, quotes and brackets with the lines above"),
            _ => None,
        };
        self.hint
            .as_deref()
            .filter(|hint| !hint.is_empty())
            .or(usual)
    }
}

/// All mistakes of one file, in the order of the file.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// The file.
    pub source: SourceText,
    /// The mistakes.
    pub all: Vec<Diagnostic>,
}
