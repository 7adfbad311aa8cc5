//! Paths into a JSON document: `a.0.b`, `a.*.b`, `$.1`, odd names quoted.
//!
//! A name needs quotes only where it holds a dot, a quote, a backslash, white space, or is `*`,
//! `$` or empty: `arxiv:primary_category.@term` and `message.next-cursor` stand as they are.

use std::fmt;

/// A place (or, with `*`, several places) in a JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Path {
    /// From the root downward; empty is the root itself (`$`).
    pub steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

impl PathProblem {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            at,
        }
    }
}

impl Path {
    /// Reads a path.
    pub fn parse(written: &str) -> Result<Self, PathProblem> {
        if written.is_empty() {
            return Err(PathProblem::new(0, "an empty path; `$` means the root"));
        }
        let mut steps = Vec::new();
        let mut at = 0;
        loop {
            let (step, end) = read_step(written, at)?;
            match step {
                Some(step) => steps.push(step),
                None if at == 0 => {}
                None => {
                    return Err(PathProblem::new(
                        at,
                        "`$` means the root and stands only at the beginning; quote it if it is a name",
                    ));
                }
            }
            match written.as_bytes().get(end) {
                None => return Ok(Self { steps }),
                Some(b'.') if end + 1 == written.len() => {
                    return Err(PathProblem::new(
                        end,
                        "the path ends with a dot; a name is missing",
                    ));
                }
                Some(b'.') => at = end + 1,
                Some(_) => {
                    return Err(PathProblem::new(
                        end,
                        "a dot is missing after the quoted name",
                    ));
                }
            }
        }
    }

    /// Whether it may name several places (it holds a `*`).
    pub fn is_many(&self) -> bool {
        self.steps.contains(&Step::All)
    }
}

/// Reads one step from `at`; gives it (`None` for a bare `$`) and where it ends.
fn read_step(written: &str, at: usize) -> Result<(Option<Step>, usize), PathProblem> {
    let rest = &written[at..];
    if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
        let (name, end) = read_quoted(written, at, quote)?;
        return Ok((Some(Step::Key(name)), end));
    }
    let bare = rest.split_once('.').map_or(rest, |(bare, _)| bare);
    let end = at + bare.len();
    let step = match bare {
        "" => {
            return Err(PathProblem::new(
                at,
                "a name is missing between two dots; an empty name is written `\"\"`",
            ));
        }
        "$" => None,
        "*" => Some(Step::All),
        name => {
            if let Some((offset, odd)) = name.char_indices().find(|&(_, c)| is_odd(c)) {
                return Err(PathProblem::new(
                    at + offset,
                    format!(
                        "`{}` in a name needs quotes, as in `a.\"b c\"`",
                        odd.escape_debug()
                    ),
                ));
            }
            Some(Step::Key(name.to_owned()))
        }
    };
    Ok((step, end))
}

/// Reads a quoted name that opens at `at`; gives it and where its closing quote ends.
fn read_quoted(written: &str, at: usize, quote: char) -> Result<(String, usize), PathProblem> {
    let mut name = String::new();
    let mut chars = written[at + 1..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => name.push(escaped),
                None => break,
            },
            c if c == quote => return Ok((name, at + 1 + offset + 1)),
            c => name.push(c),
        }
    }
    Err(PathProblem::new(at, "the quote is not closed"))
}

/// Whether a name that holds this character must be quoted.
fn is_odd(c: char) -> bool {
    matches!(c, '.' | '"' | '\'' | '\\') || c.is_whitespace() || c.is_control()
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return f.write_str("$");
        }
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            step.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Key(name)
                if name.is_empty() || name == "*" || name == "$" || name.contains(is_odd) =>
            {
                let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{escaped}\"")
            }
            Self::Key(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(written: &str) -> Vec<String> {
        Path::parse(written)
            .unwrap()
            .steps
            .into_iter()
            .map(|step| match step {
                Step::Key(name) => name,
                Step::All => "<all>".to_owned(),
            })
            .collect()
    }

    #[test]
    fn reads_the_forms_of_the_design() {
        assert_eq!(keys("a.0.b"), ["a", "0", "b"]);
        assert_eq!(keys("a.*.b"), ["a", "<all>", "b"]);
        assert_eq!(keys("$"), [""; 0]);
        assert_eq!(keys("$.1"), ["1"]);
        assert_eq!(keys("message.next-cursor"), ["message", "next-cursor"]);
        assert_eq!(
            keys("arxiv:primary_category.@term"),
            ["arxiv:primary_category", "@term"]
        );
        assert_eq!(
            keys("message.\"next.cursor\".x"),
            ["message", "next.cursor", "x"]
        );
        assert_eq!(keys(r#"'a "b"'."c\"d""#), ["a \"b\"", "c\"d"]);
        assert_eq!(keys("\"*\".\"$\""), ["*", "$"]);
    }

    #[test]
    fn points_at_what_is_wrong() {
        for (written, at, word) in [
            ("", 0, "empty"),
            ("a..b", 2, "between two dots"),
            (".a", 0, "missing"),
            ("a.", 1, "ends with a dot"),
            ("a.\"b", 2, "not closed"),
            ("a.\"b\"c", 5, "dot is missing"),
            ("a.b c", 3, "quotes"),
            ("a.$", 2, "root"),
        ] {
            let problem = Path::parse(written).unwrap_err();
            assert_eq!(problem.at, at, "{written}: {problem}");
            assert!(problem.message.contains(word), "{written}: {problem}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_it_prints_reads_back(steps in prop::collection::vec(
            prop_oneof![
                Just(Step::All),
                "[a-z0-9.*$'\" \\\\ä-]{0,6}".prop_map(Step::Key),
            ],
            0..5,
        )) {
            let path = Path { steps };
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn any_text_is_read_or_refused(written in ".{0,12}") {
            if let Err(problem) = Path::parse(&written) {
                prop_assert!(problem.at <= written.len());
            }
        }
    }
}
