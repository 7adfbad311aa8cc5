//! `expect: { columns: closed }`: which fields of the records no column reads.
//!
//! A column reads the value at its path and all that is in it. What stands beside that path, at any
//! depth, is undeclared, and is named by the shortest path that no column goes along.

use std::collections::BTreeSet;

use crate::json;
use crate::plan::path::{Path, Step};
use crate::plan::{ColumnFrom, ColumnPlan};

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
        let mut read = Vec::new();
        for column in columns {
            match &column.from {
                ColumnFrom::Path(path) => read.push(path.steps.clone()),
                ColumnFrom::Nothing => read.push(vec![Step::Key(column.name.clone())]),
                ColumnFrom::Jq(jq) => {
                    let fields = named(jq.written()).into_iter();
                    read.extend(fields.map(|name| vec![Step::Key(name)]));
                }
                ColumnFrom::Template(_) => {}
            }
        }
        Self {
            read,
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

/// The fields of its input that a filter names: `.a`, `."a b"`, `.["a b"]`, `{a}`. Which value `.a` looks
/// into is not known after a pipe, and it counts all the same: a guess must not hold what is good.
fn named(filter: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = |before: &str| {
        let before = before.strip_suffix('.');
        before.is_some_and(|b| !b.ends_with(|c: char| is_word(c) || "])\"?.".contains(c)))
    };
    let mut names = Vec::new();
    let mut at = 0;
    while let Some(first) = filter[at..].chars().next() {
        let (before, rest) = filter.split_at(at);
        if let Some(inside) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = inside.find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let text = &inside[..end.unwrap_or(inside.len())];
            if begins(before.strip_suffix('[').unwrap_or(before)) {
                names.push(json::unescape(text).into_owned());
            }
            at += text.len() + 1 + usize::from(end.is_some());
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let is_member = before.trim_end().ends_with(['{', ','])
                && after.trim_start().starts_with([',', '}']);
            if is_member || begins(before) {
                names.push(word.to_owned());
            }
            at += end;
        } else {
            at += first.len_utf8();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_filter_reads_the_fields_that_it_names() {
        let names = |filter| named(filter).join(" ");
        assert_eq!(
            names(".link[] | select(.type == \"pdf\") | .href"),
            "link type href"
        );
        assert_eq!(names(".a.b.c + .d?.e"), "a d");
        assert_eq!(names(r#".["odd name"] // ."a\"b".c"#), r#"odd name a"b"#);
        assert_eq!(names("{id, name: .title, at}"), "id title at");
        assert_eq!(names(". as $x | length, keys"), "");
        assert_eq!(names(".é | \"open"), "");
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
