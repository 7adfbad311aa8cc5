//! Lines of JSON: each is a value, sliced as it is; empty lines are passed over.

use memchr::memchr;
use serde_json::value::RawValue;

use super::problem::{self, SelectError};
use super::select::DEEPEST;
use crate::json::valid::{self, Names};

/// Hands on every line of `text` that holds a value; `line` is how many lines came before it, and
/// then how many came with it.
pub(super) fn rows(
    text: &str,
    line: &mut u64,
    out: &mut dyn FnMut(&str) -> Result<(), SelectError>,
) -> Result<(), SelectError> {
    let mut names = Names::default();
    let (bytes, mut at) = (text.as_bytes(), 0);
    while at < bytes.len() {
        *line += 1;
        let rest = bytes.get(at..).unwrap_or_default();
        let (end, is_whole) = match memchr(b'\n', rest) {
            Some(found) => (at + found, true),
            None => (bytes.len(), false),
        };
        let start = valid::space(bytes, at).min(end);
        let value = text.get(start..end).unwrap_or_default().trim_ascii_end();
        if !value.is_empty() {
            names.rewind();
            // The fast reader refuses some that are valid; serde_json has the last word.
            if valid::skip(bytes, start, &mut names) != Some(start + value.len()) {
                check(value, *line, is_whole)?;
            }
            out(value)?;
        }
        at = end + 1;
    }
    Ok(())
}

fn check(value: &str, line: u64, is_whole: bool) -> Result<(), SelectError> {
    let wrong = |what: String, cut: bool| SelectError::Line {
        line,
        what,
        cut,
        sample: problem::around(value, 0, problem::SAMPLE),
    };
    match serde_json::from_str::<&RawValue>(value) {
        // Only the last line has no end, and one that is no JSON was cut off there.
        Err(_) if !is_whole => Err(wrong("the last line is cut off".to_owned(), true)),
        Err(error) => Err(wrong(problem::what(&error), false)),
        Ok(_) if valid::deeper_than(value, DEEPEST).is_some() => Err(wrong(
            format!("it nests deeper than {DEEPEST} levels"),
            false,
        )),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<String>, SelectError> {
        let mut all = Vec::new();
        rows(text, &mut 0, &mut |row| {
            all.push(row.to_owned());
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn lines_are_values_as_they_are() {
        let text = "{\"id\": 1.10}\r\n\n  {\"id\":12345678901234567890123}\t\n\r\n[1]\nnull\n\"x\"";
        let all = read(text).unwrap();
        assert_eq!(
            all,
            [
                "{\"id\": 1.10}",
                "{\"id\":12345678901234567890123}",
                "[1]",
                "null",
                "\"x\""
            ]
        );
        assert!(read("").unwrap().is_empty());
        let deep = format!("{{\"a\":{}1{}}}\n", "[".repeat(100), "]".repeat(100));
        assert_eq!(read(&deep).unwrap().len(), 1);
    }

    #[test]
    fn a_line_that_is_no_json_is_named() {
        let error = read("{}\n{\"a\":}\n{}\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: expected value; it begins \"{\\\"a\\\":}\""
        );
        assert!(!error.is_cut());
        let error = read("{}\n{\"a\": 1").unwrap_err();
        assert!(error.is_cut(), "{error}");
        assert!(!read("{}\n{\"a\": 1\n").unwrap_err().is_cut());
        assert!(read("{} {}\n").is_err());
        let deep = format!("{}{}\n", "[".repeat(200), "]".repeat(200));
        assert!(read(&deep).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn lines_are_what_serde_sees(lines in prop::collection::vec("[\\[\\]{}\":,a1 \\\\\r]{0,8}", 0..6), end: bool) {
            let text = lines.join("\n") + if end { "\n" } else { "" };
            let naive: Result<Vec<String>, ()> = text
                .split('\n')
                .map(str::trim_ascii)
                .filter(|line| !line.is_empty())
                .map(|line| match serde_json::from_str::<&RawValue>(line) {
                    Ok(_) => Ok(line.to_owned()),
                    Err(_) => Err(()),
                })
                .collect();
            prop_assert_eq!(read(&text).map_err(|_| ()), naive);
        }
    }
}
