//! The house keeps its shape: rooms import one way only, files stay short, and a few crates are
//! used in one file each. Read from the source text, so that it needs no compiler's help.

use std::fs;
use std::path::{Path, PathBuf};

/// What every room may see; these import nothing of ours.
const LEAVES: [&str; 6] = ["clock", "count", "crc", "event", "disk", "failure"];

/// What each room may see beside the leaves: `room` or `room::module`.
const ARROWS: [(&str, &[&str]); 15] = [
    ("spec", &[]),
    ("plan", &["spec"]),
    // What `records` and `sink` both need to look into JSON text.
    ("json", &["plan::path"]),
    ("limits", &["plan"]),
    ("fetch", &["plan"]),
    ("records", &["plan", "json"]),
    ("store", &["plan"]),
    ("sink", &["plan", "json"]),
    (
        "harvest",
        &[
            "plan", "json", "limits", "fetch", "records", "store", "sink",
        ],
    ),
    ("schedule", &["plan", "store", "harvest"]),
    ("report", &["harvest::summary"]),
    ("sim", &["fetch::transport"]),
    (
        "cli",
        &[
            "spec", "plan", "limits", "fetch", "records", "store", "sink", "harvest", "schedule",
            "report",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Single files that may see more than their room.
const EXCEPTIONS: [(&str, &str); 1] = [("cli/demo.rs", "sim")];

/// Leaves that `report` and `sim` do not need: they see less than the others.
const NARROW: [(&str, &[&str]); 2] = [
    ("report", &["count", "event", "failure"]),
    ("sim", &["clock", "count", "disk"]),
];

/// Crates that one file alone, with those below it, may name.
const ONE_DOOR: [(&str, &str); 14] = [
    ("governor", "limits/cell.rs"),
    ("arrow_array", "sink/parquet.rs"),
    ("arrow_schema", "sink/parquet.rs"),
    ("parquet", "sink/parquet.rs"),
    ("aws_lc_rs", "fetch/jwt.rs"),
    ("crc32c", "crc.rs"),
    ("croner", "plan/cron.rs"),
    ("reqwest", "fetch/client.rs"),
    ("backoff", "harvest/attempt/backoff.rs"),
    ("indicatif", "report/bars.rs"),
    ("jaq_core", "plan/jq.rs"),
    ("jaq_json", "plan/jq.rs"),
    ("jaq_std", "plan/jq.rs"),
    ("regex", "plan/pattern.rs"),
];

/// Longest a file may be before its tests.
const MOST_LINES: usize = 500;

const NAMES_THAT_SAY_NOTHING: [&str; 7] = [
    "util", "utils", "helper", "helpers", "common", "misc", "shared",
];

/// One source file: path below `src/`, and its text.
struct Source {
    path: String,
    text: String,
}

/// Everything wrong with the house, a sentence each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let path = source.path.as_str();
        let room = room_of(path);
        let (code, tests) = split_tests(&source.text);

        for name in path.trim_end_matches(".rs").split('/') {
            if NAMES_THAT_SAY_NOTHING.contains(&name) {
                found.push(format!("{path}: `{name}` does not say what is inside"));
            }
        }
        let lines = code.lines().count();
        if lines > MOST_LINES {
            found.push(format!(
                "{path}: {lines} lines before its tests; at most {MOST_LINES}"
            ));
        }

        for (part, in_tests) in [(code, false), (tests, true)] {
            let part = without_comments(part);
            for target in imports(&part) {
                if !may_see(path, room, &target, in_tests) {
                    found.push(format!("{path}: `{room}` must not see `{target}`"));
                }
            }
            if !in_tests && climbs_out(path, &part) {
                found.push(format!(
                    "{path}: leaves its room through `super`; write `crate::`"
                ));
            }
            for (name, door) in ONE_DOOR {
                let below = format!("{}/", door.trim_end_matches(".rs"));
                if path != door && !path.starts_with(&below) && names_crate(&part, name) {
                    found.push(format!(
                        "{path}: only {door} uses the crate `{name}` \
                         (a module of that name is written `self::{name}`)"
                    ));
                }
            }
        }
    }
    found
}

fn room_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or(path)
}

/// The file up to its test module, and the rest.
fn split_tests(text: &str) -> (&str, &str) {
    text.split_at(text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len()))
}

/// Blanks what follows `//` on a line: prose may name any room.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

fn may_see(path: &str, room: &str, target: &str, in_tests: bool) -> bool {
    let first = target.split("::").next().unwrap_or(target);
    if first == room || (in_tests && first == "sim") {
        return true;
    }
    if EXCEPTIONS.contains(&(path, first)) {
        return true;
    }
    if LEAVES.contains(&first) {
        return !LEAVES.contains(&room)
            && NARROW
                .iter()
                .find(|(name, _)| *name == room)
                .is_none_or(|(_, leaves)| leaves.contains(&first));
    }
    ARROWS
        .iter()
        .find(|(name, _)| *name == room)
        .is_some_and(|(_, seen)| seen.contains(&first) || seen.contains(&target))
}

/// What a text takes from our own crate, two steps deep: `plan::limit`, or `disk`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for root in ["crate::", "gleaner::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !is_word(c) && c != ':') {
                expand(&code[at + root.len()..], &mut Vec::new(), &mut found);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Follows one `a::{b, c::d}` tree; gives back how many bytes it took.
fn expand(rest: &str, above: &mut Vec<String>, found: &mut Vec<String>) -> usize {
    let start = rest.len() - rest.trim_start().len();
    let text = &rest[start..];
    if let Some(inside) = text.strip_prefix('{') {
        let mut at = 1;
        let mut left = inside;
        loop {
            let taken = expand(left, above, found);
            at += taken;
            left = &left[taken..];
            let gap = left.len() - left.trim_start().len();
            at += gap;
            left = &left[gap..];
            match left.chars().next() {
                Some(',') => {
                    at += 1;
                    left = &left[1..];
                }
                Some('}') => return start + at + 1,
                // Not a tree we understand: stop, and let the compiler complain.
                _ => return start + at.max(1),
            }
        }
    }
    let word: String = text.chars().take_while(|c| is_word(*c)).collect();
    let mut taken = start + word.len();
    if word.is_empty() {
        return taken;
    }
    let is_module = word.starts_with(|c: char| c.is_lowercase());
    if word != "self" && is_module {
        above.push(word.clone());
    }
    let tail = &rest[taken..];
    if let Some(next) = tail.strip_prefix("::").filter(|_| above.len() < 2) {
        taken += 2 + expand(next, above, found);
    } else {
        if !above.is_empty() {
            found.push(above.join("::"));
        }
        // The rest of this branch does not matter, but a group in it must be passed over.
        taken += skip(tail);
    }
    if word != "self" && is_module {
        above.pop();
    }
    taken
}

/// Length of what is left of a branch: to a comma or closing brace of this level.
fn skip(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' | ';' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether a `super` leads above the room.
fn climbs_out(path: &str, code: &str) -> bool {
    let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    code.contains(&"super::".repeat(depth + 1))
}

/// Whether the outside crate is named: `name::` or `use name`, not as a step of a longer path.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_root = before
            .chars()
            .next_back()
            .is_none_or(|c| !is_word(c) && c != ':');
        is_root && (after.starts_with("::") || before.ends_with("use "))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`, but for what is built, fetched or another's.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    const NOT_OURS: [&str; 5] = ["target", ".git", ".gleaner", "node_modules", "data"];
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if NOT_OURS.contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files_below(&src, &mut paths);
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| Source {
            text: fs::read_to_string(&path).expect("source is text"),
            path: path
                .strip_prefix(&src)
                .expect("below src")
                .to_string_lossy()
                .replace('\\', "/"),
        })
        .collect()
}

#[test]
fn rooms_see_only_what_they_may() {
    let sources = sources();
    assert!(sources.len() > 20, "src was not read");
    let found = violations(&sources);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // Written in halves, so that this file does not name one.
    let places = [
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/Us", "ers/"],
        ["/wo", "rk/"],
    ]
    .map(|halves| halves.concat());
    let mut files = Vec::new();
    files_below(&root(), &mut files);
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let named = places.iter().any(|place| {
                line.match_indices(place.as_str()).any(|(at, _)| {
                    line[..at]
                        .chars()
                        .next_back()
                        .is_none_or(|c| !is_word(c) && !".-".contains(c))
                })
            });
            if named {
                found.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn made_up(path: &str, text: &str) -> Vec<String> {
    violations(&[Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }])
}

#[test]
fn wrong_arrows_are_found() {
    for (path, text) in [
        ("limits/mod.rs", "use crate::fetch::link::Link;"),
        ("spec/mod.rs", "use crate::plan::Plan;"),
        ("clock.rs", "use crate::event::Event;"),
        (
            "records/scan.rs",
            "use crate::{\n    plan::path::Path,\n    sink,\n};",
        ),
        ("harvest/walk.rs", "fn f() { crate::report::line(); }"),
        ("harvest/walk.rs", "use super::super::report;"),
        ("report/bars.rs", "use crate::harvest::World;"),
        (
            "report/bars.rs",
            "use crate::harvest::{events::Events, summary::Summary};",
        ),
        ("cli/run.rs", "use crate::sim::Api;"),
        ("sim/mod.rs", "use crate::fetch::body::read;"),
        ("main.rs", "use gleaner::harvest::World;"),
        ("fetch/mod.rs", "fn f(c: reqwest::Client) {}"),
        ("harvest/attempt.rs", "use backoff::ExponentialBackoff;"),
        ("plan/utils.rs", ""),
        ("plan/long.rs", &"\n".repeat(501)),
    ] {
        assert_eq!(made_up(path, text).len(), 1, "{path}: {text:.60}");
    }
}

#[test]
fn right_arrows_pass() {
    for (path, text) in [
        (
            "limits/mod.rs",
            "use crate::plan::limit::LimitPlan;\nuse crate::clock::{Clock, Instant};",
        ),
        (
            "harvest/mod.rs",
            "use crate::{fetch::body, plan::{Plan, path::Path}, store};",
        ),
        (
            "harvest/mod.rs",
            "use self::backoff::Delay;\nuse crate::harvest::backoff::Delay;",
        ),
        (
            "harvest/attempt/backoff.rs",
            "use backoff::ExponentialBackoff;",
        ),
        (
            "report/bars.rs",
            "use crate::harvest::summary::Summary;\nuse crate::event::Event;",
        ),
        ("cli/demo.rs", "use crate::sim::Api;"),
        (
            "fetch/mod.rs",
            "//! see [`crate::harvest`]\nuse std::fmt; // not crate::sink",
        ),
        ("plan/path.rs", "use super::language::Template;"),
        (
            "sim/mod.rs",
            "use crate::{clock::Clock, fetch::transport::{Request, Response}};",
        ),
        (
            "harvest/mod.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::sim::Api;\n}",
        ),
    ] {
        assert_eq!(made_up(path, text), Vec::<String>::new(), "{path}");
    }
}
