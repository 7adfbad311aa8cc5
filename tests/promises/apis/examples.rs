//! The 25 files that the language was drafted by: each is a shipped pipeline or one beside its play, and
//! says all that the draft said. `tests/apis/examples.yaml` is the list.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::play::{project, read};

/// Where a draft lives now.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// The stem of its pipeline and its play.
    pair: String,
    /// Paths of keys that the draft has.
    keys: Vec<String>,
    /// What is said otherwise, and why.
    #[serde(default)]
    differs: String,
}

/// Keys whose own keys are names.
const OF_NAMES: [&str; 10] = [
    "streams",
    "vars",
    "headers",
    "columns",
    "header",
    "query",
    "variables",
    "for",
    "form",
    "claims",
];

/// Bodies are the API's, not the language's.
const BODIES: [&str; 2] = ["json", "form"];

/// All paths of keys in a file, names as `*`.
fn keys(node: &Json, path: &str, named: bool, found: &mut BTreeSet<String>) {
    match node {
        Json::Object(map) => {
            for (key, value) in map {
                let step = if named { "*" } else { key.as_str() };
                let path = if path.is_empty() {
                    step.to_owned()
                } else {
                    format!("{path}.{step}")
                };
                let body = !named && BODIES.contains(&key.as_str());
                if !body {
                    let named = !named && OF_NAMES.contains(&key.as_str());
                    keys(value, &path, named, found);
                }
                found.insert(path);
            }
        }
        Json::Array(list) => {
            for one in list {
                keys(one, path, false, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_draft_of_the_language_is_a_file_that_runs() {
    let list = read(&project().join("tests/apis/examples.yaml"));
    let list: BTreeMap<String, Example> =
        serde_saphyr::from_str(&list).unwrap_or_else(|e| panic!("examples.yaml: {e}"));
    assert_eq!(list.len(), 25);
    let mut wrong = Vec::new();
    for (name, example) in &list {
        let stem = &example.pair;
        let Some(pair) = super::PAIRS.iter().find(|pair| pair.name == *stem) else {
            wrong.push(format!("{name}: {stem} has no play"));
            continue;
        };
        // What waits for a key of the language is checked by nobody and run by nobody.
        if !pair.play.needs.is_empty() {
            wrong.push(format!(
                "{name}: {stem} waits for {}",
                pair.play.needs.join(", ")
            ));
        }
        let file: Map<String, Json> =
            serde_saphyr::from_str(&pair.pipeline).unwrap_or_else(|e| panic!("{stem}: {e}"));
        let mut has = BTreeSet::new();
        keys(&Json::Object(file), "", false, &mut has);
        for key in &example.keys {
            if !has.contains(key) {
                wrong.push(format!("{name}: {stem} does not say {key}"));
            }
        }
        if example.keys.is_empty() {
            wrong.push(format!("{name}: no key is asked for; {}", example.differs));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
