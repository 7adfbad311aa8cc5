//! `docs/coverage.md`: which APIs of the survey the language can say, made of the plays. A test
//! compares it; `UPDATE=1` renews it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::play::{Pair, Proof, project, read};

/// `tests/apis/survey.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Survey {
    /// The APIs, in the order of the survey; with a word where one cannot be said.
    apis: Vec<Entry>,
    /// The kinds of what a language must be able to say, by group; in the file's order.
    kinds: Map<String, Json>,
}

/// A kind: what it is, and where a play cannot take it away, what else stands for it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kind {
    Words(String),
    Else(Otherwise),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Otherwise {
    what: String,
    /// The test that fails without it: `suite::name`.
    test: Option<String>,
    /// Why it is left out.
    out: Option<String>,
}

impl Kind {
    fn of(written: &Json) -> Otherwise {
        match serde_json::from_value(written.clone()).expect("a kind is words, or what, test, out")
        {
            Self::Words(what) => Otherwise {
                what,
                test: None,
                out: None,
            },
            Self::Else(otherwise) => otherwise,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Name(String),
    Missing { name: String, missing: String },
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Missing { name, .. } => name,
        }
    }
}

const HEAD: &str = "# What is covered

Made by `UPDATE=1 cargo test --test promises apis::` from the pipelines and plays in [tests/apis](../tests/apis/README.md);
do not edit. A play is a stand-in for one API, as data: its documented paging, page sizes, limits, refusals and
errors, with invented records. Each pipeline passes `check`, is harvested whole from its play in stopped time, and once more with a
refusal at a limit and an outage in the middle of its paging; and with what it needs taken out, or not told, it fails.

";

fn survey() -> Survey {
    let path = project().join("tests/apis/survey.yaml");
    serde_saphyr::from_str(&read(&path)).unwrap_or_else(|e| panic!("survey.yaml: {e}"))
}

/// The page.
fn page(pairs: &[Pair]) -> String {
    let survey = survey();
    let mut by_api: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        by_api.entry(&pair.play.api).or_default().push(pair);
    }
    let mut rows = String::new();
    let mut covered = 0;
    for (at, entry) in survey.apis.iter().enumerate() {
        let found = by_api.remove(entry.name()).unwrap_or_default();
        let row = Row::of(&found);
        covered += usize::from(row.covered);
        let state = match (entry, row.covered) {
            (_, true) => "yes".to_owned(),
            (Entry::Missing { missing, .. }, false) => format!("**no**: {missing}"),
            (Entry::Name(_), false) if found.is_empty() => "**not yet**".to_owned(),
            (Entry::Name(_), false) => format!("**waits for** {}", row.needs),
        };
        let (name, files) = (entry.name(), &row.files);
        let _ = writeln!(
            rows,
            "| {} | {name} | {files} | {} | {} | {state} |",
            at + 1,
            row.kinds,
            row.keys
        );
    }
    let total = survey.apis.len();
    let mut page = format!("{HEAD}**{covered} of {total}** APIs of the survey are covered.\n\n");
    page.push_str("| | API | pipeline | what it needs | the keys that say it | covered |\n|---|---|---|---|---|---|\n");
    page.push_str(&rows);
    if !by_api.is_empty() {
        page.push_str("\nBeside the survey:\n\n| API | pipeline | what it needs | the keys that say it | covered |\n|---|---|---|---|---|\n");
        for (name, found) in &by_api {
            let row = Row::of(found);
            let state = if row.covered {
                "yes".to_owned()
            } else {
                format!("**waits for** {}", row.needs)
            };
            let _ = writeln!(
                page,
                "| {name} | {} | {} | {} | {state} |",
                row.files, row.kinds, row.keys
            );
        }
    }
    page.push_str("\n## Kinds\n\nEach kind of thing that APIs ask of a language, and the pipelines that have it. Where a change is named, the suite makes it\nand sees the pipeline fail; what no change of a file can take away has a test of its own.\n\n");
    page.push_str("| kind | what | pipelines | fails when |\n|---|---|---|---|\n");
    for (name, what) in &survey.kinds {
        let kind = Kind::of(what);
        let mut having = Vec::new();
        let mut fails = BTreeSet::new();
        for pair in pairs.iter().filter(|pair| pair.play.needs.is_empty()) {
            let Some(proof) = pair.play.kinds.get(name) else {
                continue;
            };
            having.push(pair.name.as_str());
            match proof {
                None => {}
                Some(Proof::Without(key)) => {
                    fails.insert(format!("{} is without `{key}`", pair.name));
                }
                Some(Proof::Deaf { deaf }) => {
                    fails.insert(format!("{} is not told `{deaf}`", pair.name));
                }
                Some(Proof::Swap { swap, by }) => {
                    fails.insert(format!(
                        "{} has `{}` for `{}`",
                        pair.name,
                        one_line(by),
                        one_line(swap)
                    ));
                }
            }
        }
        let test = kind.test.map(|test| format!("it is broken: `{test}`"));
        let out = kind.out.map(|why| format!("**left out**: {why}"));
        let fails: Vec<_> = fails.into_iter().take(3).chain(test).chain(out).collect();
        let shown = having
            .iter()
            .take(6)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let more = having.len().saturating_sub(6);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let _ = writeln!(
            page,
            "| {name} | {} | {shown}{more} | {} |",
            kind.what,
            fails.join("; ")
        );
    }
    page
}

/// What the table says of the pipelines for one API.
struct Row {
    files: String,
    kinds: String,
    keys: String,
    needs: String,
    covered: bool,
}

impl Row {
    fn of(found: &[&Pair]) -> Self {
        let mut kinds = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut needs = BTreeSet::new();
        let mut files = Vec::new();
        for pair in found {
            kinds.extend(pair.play.kinds.keys().cloned());
            needs.extend(pair.play.needs.iter().map(|need| format!("`{need}`")));
            let file: Json = serde_saphyr::from_str(&pair.pipeline).unwrap_or(Json::Null);
            said(&file, &mut keys);
            let folder = if pair.shipped {
                "pipelines"
            } else {
                "tests/apis"
            };
            files.push(format!("[{0}](../{folder}/{0}.yaml)", pair.name));
        }
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
        let keys = keys.into_iter().map(|key| format!("`{key}`")).collect();
        Self {
            files: files.join(", "),
            kinds: list(kinds),
            keys: list(keys),
            covered: found.iter().any(|pair| pair.play.needs.is_empty()),
            needs: list(needs),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// Keys whose own keys tell which kind they are.
const TELLING: [&str; 9] = [
    "auth", "pages", "records", "format", "body", "expect", "oauth2", "signals", "cost",
];

/// The keys that a file uses and that say something about its API.
fn said(file: &Json, keys: &mut BTreeSet<String>) {
    for place in ["source", "defaults"] {
        if let Some(map) = file.get(place).and_then(Json::as_object) {
            part(map, keys);
        }
    }
    for stream in file
        .get("streams")
        .and_then(Json::as_object)
        .into_iter()
        .flat_map(Map::values)
    {
        if let Some(map) = stream.as_object() {
            part(map, keys);
        }
    }
    if file.pointer("/sink/mode").is_some() {
        keys.insert("sink.mode".to_owned());
    }
}

fn part(map: &Map<String, Json>, keys: &mut BTreeSet<String>) {
    for (key, value) in map {
        match (key.as_str(), value) {
            ("for", Json::Object(variables)) => {
                for generator in variables.values() {
                    let kind = ["range", "file", "stream", "dates"]
                        .into_iter()
                        .find(|kind| generator.get(kind).is_some());
                    keys.insert(format!(
                        "for{}",
                        kind.map_or(String::new(), |kind| format!(".{kind}"))
                    ));
                }
            }
            ("limits", Json::Array(limits)) => {
                for limit in limits {
                    limit_keys(limit, keys);
                }
            }
            ("limits", Json::String(word)) => {
                keys.insert(format!("limits: {word}"));
            }
            ("responses", Json::Array(rules)) => {
                for rule in rules {
                    let verb = match rule.get("then") {
                        Some(Json::Object(map)) => map.keys().next().cloned(),
                        Some(Json::String(verb)) => Some(verb.clone()),
                        _ => None,
                    };
                    keys.insert(format!("responses.{}", verb.unwrap_or_default()));
                }
            }
            ("columns", Json::Object(columns)) => {
                let typed = columns.values().any(|column| column.get("type").is_some());
                keys.extend(typed.then(|| "columns.type".to_owned()));
            }
            ("transform", Json::Array(steps)) => {
                let named = steps.iter().filter_map(Json::as_object).flat_map(Map::keys);
                keys.extend(named.map(|step| format!("transform.{step}")));
            }
            ("cursor", Json::Object(cursor)) => {
                let newest = cursor.get("newest_first").is_some();
                keys.insert(
                    if newest {
                        "cursor.newest_first"
                    } else {
                        "cursor"
                    }
                    .to_owned(),
                );
            }
            ("url" | "concurrency" | "get" | "key" | "query" | "timeouts" | "retry", _) => {}
            ("sink", sink) => {
                let none = sink.as_str().map(|none| format!("sink: {none}"));
                keys.extend(none);
            }
            (key, Json::Object(inner)) if TELLING.contains(&key) => {
                keys.extend(inner.keys().map(|inner| format!("{key}.{inner}")));
                for (inner, value) in inner {
                    if let (true, Json::Object(_)) = (TELLING.contains(&inner.as_str()), value) {
                        part(&Map::from_iter([(inner.clone(), value.clone())]), keys);
                    }
                }
            }
            (key, Json::String(word))
                if TELLING.contains(&key)
                    && key != "records"
                    && !word.contains(['{', '.', '$']) =>
            {
                keys.insert(format!("{key}: {word}"));
            }
            ("records", _) => {}
            (key, _) => {
                keys.insert(key.to_owned());
            }
        }
    }
}

fn limit_keys(limit: &Json, keys: &mut BTreeSet<String>) {
    let written = match limit {
        Json::String(short) => short.as_str(),
        other => other
            .get("limit")
            .and_then(Json::as_str)
            .unwrap_or_default(),
    };
    keys.insert(
        if written.ends_with("in flight") {
            "limits: in flight"
        } else {
            "limits"
        }
        .to_owned(),
    );
    for (key, value) in limit.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("limit", _) => {}
            ("signals", Json::Object(signals)) => {
                keys.extend(
                    signals
                        .keys()
                        .map(|signal| format!("limits.signals.{signal}")),
                );
            }
            (key, _) => {
                keys.insert(format!("limits.{key}"));
            }
        }
    }
}

#[test]
fn the_table_is_up_to_date() {
    let page = page(&super::PAIRS);
    let path = project().join("docs/coverage.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page).expect("the page can be written");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/coverage.md is out of date; run the tests with UPDATE=1"
    );
}

/// Whether `suite::name` is a test: `suite` a file of the promises, or a room's own tests.
fn is_a_test(path: &str) -> bool {
    let Some((suite, name)) = path.rsplit_once("::") else {
        return false;
    };
    let suite = suite.replace("::", "/");
    let files = [
        format!("tests/promises/{suite}.rs"),
        format!("src/{suite}.rs"),
    ];
    files.iter().any(|file| {
        let text = std::fs::read_to_string(project().join(file)).unwrap_or_default();
        let defined = format!("fn {name}(");
        text.split("#[test]\n").skip(1).any(|after| {
            let head = after.lines().take(3);
            head.into_iter().any(|line| line.contains(&defined))
        })
    })
}

#[test]
fn every_kind_is_seen_to_fail_or_has_a_reason() {
    let survey = survey();
    let mut bare = Vec::new();
    for (name, written) in &survey.kinds {
        let kind = Kind::of(written);
        if let Some(test) = &kind.test {
            assert!(is_a_test(test), "{name}: there is no test {test}");
        }
        let proved = super::PAIRS
            .iter()
            .filter(|pair| pair.play.needs.is_empty())
            .any(|pair| matches!(pair.play.kinds.get(name), Some(Some(_))));
        assert!(
            !(proved && kind.out.is_some()),
            "{name} is proved, and said to be left out"
        );
        if !proved && kind.test.is_none() && kind.out.is_none() {
            bare.push(name.as_str());
        }
    }
    assert!(bare.is_empty(), "no change makes these fail: {bare:?}");
}

#[test]
fn plays_speak_of_apis_and_kinds_that_are_known() {
    let survey = survey();
    let mut names: Vec<&str> = survey.apis.iter().map(Entry::name).collect();
    assert_eq!(names.len(), 70, "the survey has 70 APIs");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 70, "each once");
    for pair in super::PAIRS.iter() {
        for kind in pair.play.kinds.keys() {
            assert!(
                survey.kinds.contains_key(kind),
                "{}: no kind {kind}",
                pair.name
            );
        }
        assert!(
            !pair.play.kinds.is_empty() && !pair.play.sources.is_empty(),
            "{}",
            pair.name
        );
        assert!(
            pair.pipeline.contains("checked on 2026-"),
            "{}: when were its limits checked?",
            pair.name
        );
    }
}
