//! What columns read of a record: the paths that they go along.

use super::path::Step;
use super::{ColumnFrom, ColumnPlan};

/// The way of each column, from the record downward; none of those that are made of other things.
pub fn read(columns: &[ColumnPlan]) -> Vec<Vec<Step>> {
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
    read
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
                names.push(unescaped(text));
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

/// As a JSON text between quotes, which is how a filter writes names.
fn unescaped(text: &str) -> String {
    serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
