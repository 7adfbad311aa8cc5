//! Looking up a path in JSON text.
//!
//! Where an object names a member twice the last one counts, as in `serde_json`'s own trees.

use super::{elements, key_is, members};
use crate::plan::path::{Path, Step};

/// The value at `path` as spelled; `None` where there is none, or the path has a `*`.
pub fn get<'a>(json: &'a str, path: &Path) -> Option<&'a str> {
    path.steps
        .iter()
        .try_fold(json.trim_ascii(), |value, step| match step {
            Step::Key(name) => child(value, name),
            Step::All => None,
        })
}

/// The values at a path with `*`, as the text of a JSON array.
///
/// Elements that lack the rest of the path are left out. `None` where what the first `*` should
/// open is missing or not a container.
pub fn get_all(json: &str, path: &Path) -> Option<String> {
    let star = path.steps.iter().position(|step| *step == Step::All)?;
    let (before, rest) = path.steps.split_at(star);
    let open = before
        .iter()
        .try_fold(json.trim_ascii(), |value, step| match step {
            Step::Key(name) => child(value, name),
            Step::All => None,
        })?;
    if !open.starts_with(['[', '{']) {
        return None;
    }
    let mut out = String::from("[");
    walk(open, rest, &mut |value| {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(value);
    });
    out.push(']');
    Some(out)
}

/// Calls `found` with every value at `path`, `*` opening arrays and objects.
pub fn each<'a>(json: &'a str, path: &Path, found: &mut dyn FnMut(&'a str)) {
    walk(json.trim_ascii(), &path.steps, found);
}

fn walk<'a>(value: &'a str, steps: &[Step], found: &mut dyn FnMut(&'a str)) {
    match steps.split_first() {
        None => found(value),
        Some((Step::Key(name), rest)) => {
            if let Some(value) = child(value, name) {
                walk(value, rest, found);
            }
        }
        Some((Step::All, rest)) => {
            for value in elements(value) {
                walk(value, rest, found);
            }
            for (_, value) in members(value) {
                walk(value, rest, found);
            }
        }
    }
}

/// The member `name` of an object, or the element of an array where `name` is digits.
fn child<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    if value.starts_with('[') {
        return elements(value).nth(name.parse().ok()?);
    }
    members(value)
        .filter(|(key, _)| key_is(key, name))
        .last()
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(written: &str) -> Path {
        Path::parse(written).unwrap()
    }

    #[test]
    fn paths_find_values_as_spelled() {
        let json = r#" {"a":{"b":[10,{"c":1.10}]},"0":"zero","a\u0062":2,"n":null,"n":7} "#;
        assert_eq!(get(json, &path("a.b.1.c")), Some("1.10"));
        assert_eq!(get(json, &path("0")), Some(r#""zero""#));
        assert_eq!(get(json, &path("ab")), Some("2"));
        assert_eq!(get(json, &path("n")), Some("7"));
        assert_eq!(get(json, &path("a.b.2")), None);
        assert_eq!(get(json, &path("a.b.*")), None);
        assert_eq!(get(json, &path("$")), Some(json.trim()));
    }

    #[test]
    fn stars_collect() {
        let json = r#"{"labels":[{"name":"x"},{"id":1},{"name":null}],"none":[],"s":1}"#;
        let all = |p| get_all(json, &path(p));
        assert_eq!(all("labels.*.name").as_deref(), Some(r#"["x",null]"#));
        assert_eq!(all("none.*.name").as_deref(), Some("[]"));
        assert_eq!(all("s.*"), None);
        assert_eq!(all("missing.*"), None);
        assert_eq!(
            get_all(r"[[1],[2,3]]", &path("*.*")).as_deref(),
            Some("[1,2,3]")
        );
    }
}
