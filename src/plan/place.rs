//! Where something stands in a pipeline file: for mistakes that only the data show.
//!
//! What `check` finds is drawn with the whole file at hand (`spec::draw`); a run has the plan alone,
//! so a plan keeps the lines of what may turn out not to fit.

use std::fmt;
use std::ops::Range;
use std::path::Path;

/// Most characters of a line that are shown.
const MOST_SHOWN: usize = 100;

/// A place in a pipeline file, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: String,
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    /// The line, without what it is indented by.
    text: String,
    /// Characters of `text` before the place.
    before: usize,
    /// Characters of the place.
    width: usize,
}

impl Place {
    /// The place of these bytes of a file's text; of several lines the first.
    pub fn new(file: &Path, text: &str, span: &Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        let (before, after) = text.split_at(start);
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let rest = after.find('\n').map_or(text.len(), |at| start + at);
        let whole = text.get(begin..rest).unwrap_or_default().trim_end();
        let shown = whole.trim_start();
        let indent = whole.chars().count() - shown.chars().count();
        let column = text
            .get(begin..start)
            .map_or(0, |head| head.chars().count());
        let place = text.get(start..end.min(begin + whole.len()).max(start));
        Self {
            file: file.display().to_string(),
            line: 1 + before.matches('\n').count(),
            column: column + 1,
            text: shown.to_owned(),
            before: column.saturating_sub(indent),
            width: place.map_or(1, |place| place.chars().count()).max(1),
        }
    }
}

impl fmt::Display for Place {
    /// Three lines: the place, its line, and a mark below.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}", self.file, self.line, self.column)?;
        // A long line is cut so that the place is seen.
        let skip = (self.before + self.width.min(MOST_SHOWN / 2)).saturating_sub(MOST_SHOWN - 10);
        let cut = if skip > 0 { "…" } else { "" };
        let text: String = self.text.chars().skip(skip).take(MOST_SHOWN).collect();
        writeln!(f, "  {cut}{text}")?;
        let before = self.before - skip + cut.chars().count();
        let width = self
            .width
            .min(MOST_SHOWN.saturating_sub(self.before - skip))
            .max(1);
        write!(f, "  {}{}", " ".repeat(before), "^".repeat(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, what: &str) -> String {
        let start = text.find(what).unwrap();
        Place::new(Path::new("p/x.yaml"), text, &(start..start + what.len())).to_string()
    }

    #[test]
    fn a_place_is_shown_with_its_line() {
        assert_eq!(
            shown("a: 1\n  é: { b: 2 }\n", "{ b"),
            "p/x.yaml:2:6\n  é: { b: 2 }\n     ^^^"
        );
        assert_eq!(
            shown("a: |\n  b\n  c\n", "|\n  b"),
            "p/x.yaml:1:4\n  a: |\n     ^"
        );
        let long = format!("  k: {}HERE{}", "x".repeat(200), "y".repeat(200));
        let lines = shown(&long, "HERE");
        let lines: Vec<&str> = lines.lines().collect();
        let mark = lines[2].chars().position(|c| c == '^').unwrap();
        assert!(
            lines[1]
                .chars()
                .skip(mark)
                .collect::<String>()
                .starts_with("HERE")
        );
        assert!(lines[1].chars().count() < 110);
    }

    #[test]
    fn a_place_that_is_nowhere_does_no_harm() {
        for span in [0..0, 3..99, 99..100] {
            Place::new(Path::new("x"), "ä\nb", &span).to_string();
        }
        Place::new(Path::new("x"), "", &(0..0)).to_string();
    }
}
