//! `expect: { columns: closed }`: which fields of the records no column reads.
//!
//! A column reads the value at its path and all that is in it. What stands beside that path, at any
//! depth, is undeclared, and is named by the shortest path that no column goes along.

use std::collections::BTreeSet;

use crate::json;
use crate::plan::ColumnPlan;
use crate::plan::path::{Path, Step};
use crate::plan::reads::read;

/// So many fields are named.
const NAMED: usize = 5;
/// So many are told apart: where names are data (`by_day.2026-11-01`), there is no end of them.
const COUNTED: usize = 1000;

/// Fields that no column reads.
#[derive(Debug)]
pub(super) struct Undeclared {
    /// What columns read, from the record downward.
    read: Vec<Vec<Step>>,
    /// The first of them, each with a value.
    examples: Vec<String>,
    seen: BTreeSet<String>,
}

impl Undeclared {
    /// Beside what these columns read.
    pub(super) fn of(columns: &[ColumnPlan]) -> Self {
        Self {
            read: read(columns),
            examples: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Looks at a record; `example` says what a value is and where it stands.
    pub(super) fn see(&mut self, record: &str, example: &dyn Fn(&str) -> String) {
        let (examples, seen) = (&mut self.examples, &mut self.seen);
        let ways: Vec<&[Step]> = self.read.iter().map(Vec::as_slice).collect();
        walk(record, &ways, &mut Vec::new(), &mut |path, value| {
            if seen.len() < COUNTED && seen.insert(path.to_string()) && examples.len() < NAMED {
                examples.push(format!("`{path}` ({})", example(value)));
            }
        });
    }

    /// All of them in words, if there are any.
    pub(super) fn told(&self) -> Option<String> {
        let more = self.seen.len().checked_sub(self.examples.len())?;
        let named = self.examples.join("; ");
        match (self.examples.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(named),
            (false, _) if self.seen.len() == COUNTED => {
                Some(format!("{named}; and {more} more at least"))
            }
            (false, _) => Some(format!("{named}; and {more} more")),
        }
    }
}

/// Goes down a value along the ways that lead on from it, and tells what none of them takes.
fn walk(value: &str, ways: &[&[Step]], at: &mut Vec<Step>, tell: &mut dyn FnMut(&Path, &str)) {
    // The value itself is read.
    if ways.iter().any(|way| way.is_empty()) {
        return;
    }
    match value.as_bytes().first() {
        Some(b'{') => {
            for (key, value) in json::members(value) {
                below(
                    Step::Key(json::unescape(key).into_owned()),
                    value,
                    ways,
                    at,
                    tell,
                );
            }
        }
        Some(b'[') => {
            let all: Vec<&[Step]> = (ways.iter().copied())
                .filter(|way| way.first() == Some(&Step::All))
                .collect();
            for (number, value) in json::elements(value).enumerate() {
                let number = Step::Key(number.to_string());
                // Elements have one name where columns take all of them.
                if all.is_empty() || ways.iter().any(|way| way.first() == Some(&number)) {
                    below(number, value, ways, at, tell);
                } else {
                    below(Step::All, value, &all, at, tell);
                }
            }
        }
        // Columns would read what is in it, and there is nothing.
        Some(b'n') | None => {}
        // They would go further down, and here is a plain value.
        Some(_) => tell(&Path { steps: at.clone() }, value),
    }
}

/// One step down.
fn below(
    step: Step,
    value: &str,
    ways: &[&[Step]],
    at: &mut Vec<Step>,
    tell: &mut dyn FnMut(&Path, &str),
) {
    let on: Vec<&[Step]> = (ways.iter())
        .filter_map(|way| way.split_first())
        .filter(|(first, _)| **first == step || **first == Step::All)
        .map(|(_, rest)| rest)
        .collect();
    at.push(step);
    if on.is_empty() {
        tell(&Path { steps: at.clone() }, value);
    } else {
        walk(value, &on, at, tell);
    }
    at.pop();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ColumnFrom;

    /// What columns with these paths do not read of a record.
    fn beside(paths: &[&str], record: &str) -> Vec<String> {
        let columns: Vec<ColumnPlan> = (paths.iter())
            .map(|path| {
                ColumnPlan::new(*path, ColumnFrom::Path(Path::parse(path).expect("a path")))
            })
            .collect();
        let mut undeclared = Undeclared::of(&columns);
        undeclared.see(record, &str::to_owned);
        undeclared.examples
    }

    #[test]
    fn a_column_reads_what_is_in_its_value_and_nothing_beside_it() {
        let record = r#"{"id":1,"user":{"name":"a","age":3},"tags":[{"n":1,"c":2},{"n":3,"c":4}],"at":[1,2]}"#;
        let none: [String; 0] = [];
        assert_eq!(beside(&["$"], record), none);
        assert_eq!(beside(&["id", "user", "tags", "at"], record), none);
        assert_eq!(
            beside(&["id", "user.name", "tags.*.n", "at.0"], record),
            ["`user.age` (3)", "`tags.*.c` (2)", "`at.1` (2)"]
        );
        assert_eq!(
            beside(&["tags.0", "tags.*.n", "user.*", "at.*"], record),
            ["`id` (1)", "`tags.*.c` (4)"]
        );
        assert_eq!(
            beside(&["id"], record),
            [
                r#"`user` ({"name":"a","age":3})"#,
                r#"`tags` ([{"n":1,"c":2},{"n":3,"c":4}])"#,
                "`at` ([1,2])"
            ]
        );
    }

    #[test]
    fn what_is_not_there_is_no_field_and_what_is_null_is_one() {
        let empty = r#"{"id":1,"user":null,"tags":[],"at":{}}"#;
        let paths = ["id", "user.name", "tags.*.n", "at.day"];
        assert!(beside(&paths, empty).is_empty());
        // A plain value where an object was declared is read by nobody.
        assert_eq!(
            beside(&paths, r#"{"id":1,"user":"a","odd name":null}"#),
            ["`user` (\"a\")", "`\"odd name\"` (null)"]
        );
        assert_eq!(beside(&["a"], r#"{"\u0061":1}"#), [""; 0]);
    }

    #[test]
    fn names_without_end_are_counted_up_to_a_bound() {
        let mut undeclared = Undeclared::of(&[]);
        for number in 0..7 {
            undeclared.see(&format!(r#"{{"f{number}":{number}}}"#), &str::to_owned);
            undeclared.see(&format!(r#"{{"f{number}":"again"}}"#), &str::to_owned);
        }
        assert_eq!(
            undeclared.told().as_deref(),
            Some("`f0` (0); `f1` (1); `f2` (2); `f3` (3); `f4` (4); and 2 more")
        );
        for number in 0..2 * COUNTED {
            undeclared.see(&format!(r#"{{"g{number}":1}}"#), &str::to_owned);
        }
        assert_eq!(undeclared.seen.len(), COUNTED);
        let told = undeclared.told().unwrap_or_default();
        assert!(told.ends_with("; and 995 more at least"), "{told}");
        assert_eq!(Undeclared::of(&[]).told(), None);
    }
}
