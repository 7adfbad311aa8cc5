//! Every mistake of a file at once, each drawn at its place, offline.

use std::fs;
use std::path::{Path, PathBuf};

use gleaner::plan::Plan;
use gleaner::plan::compile::{CompileProblem, Overrides, compile};
use gleaner::spec::diagnostic::{Diagnostics, SourceText};
use gleaner::spec::load;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics")
}

fn plan(name: &str, text: String, overrides: &Overrides) -> Result<Plan, CompileProblem> {
    let path = PathBuf::from(name);
    let written = load::parse(SourceText { path, text }).map_err(CompileProblem::File)?;
    compile(&written, overrides)
}

fn mistakes(name: &str, text: String) -> Option<Diagnostics> {
    match plan(name, text, &Overrides::default()) {
        Ok(_) => None,
        Err(CompileProblem::File(found)) => Some(found),
        Err(other) => panic!("{name}: {other}"),
    }
}

/// All files of the folder, those called `good_…` and the broken ones.
fn files() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = fs::read_dir(folder())
        .expect("the folder of broken files")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(path).expect("a readable file"))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn broken_files_are_told_what_is_wrong() {
    let mut broken = 0;
    for (name, text) in files() {
        if name.starts_with("good_") {
            continue;
        }
        broken += 1;
        let Some(found) = mistakes(&name, text) else {
            panic!("{name} is broken, and nothing was said");
        };
        for one in &found.all {
            assert!(one.span.end <= found.source.text.len(), "{name}: {one:?}");
            assert!(!one.message.ends_with('.'), "{name}: {}", one.message);
        }
        insta::with_settings!({
            snapshot_path => folder(),
            prepend_module_to_snapshot => false,
            omit_expression => true,
        }, {
            insta::assert_snapshot!(name.trim_end_matches(".yaml"), found.draw(false));
        });
    }
    assert!(broken >= 25, "{broken} broken files");
}

#[test]
fn good_files_make_plans() {
    for (name, text) in files() {
        if name.starts_with("good_")
            && let Some(found) = mistakes(&name, text)
        {
            panic!("{}", found.draw(false));
        }
    }
}

#[test]
fn mistakes_are_in_the_order_of_the_file_and_as_json() {
    let text = fs::read_to_string(folder().join("many_shapes.yaml")).expect("the file");
    let found = mistakes("many_shapes.yaml", text).expect("mistakes");
    let json = found.to_json();
    let all = json.as_array().expect("an array");
    assert!(all.len() >= 5, "{json:#}");
    let lines: Vec<u64> = all.iter().filter_map(|one| one["line"].as_u64()).collect();
    assert_eq!(lines.len(), all.len());
    assert!(lines.is_sorted(), "{lines:?}");
    assert!(
        all.iter()
            .all(|one| one["code"].is_string() && one["file"] == "many_shapes.yaml")
    );
}

#[test]
fn defaults_and_the_source_are_merged() {
    let text = fs::read_to_string(folder().join("good_core.yaml")).expect("the file");
    let plan = plan("pipelines/good_core.yaml", text, &Overrides::default()).expect("a plan");
    assert_eq!(plan.name, "good_core");
    let needed: Vec<&str> = plan.secrets.iter().map(|need| need.name.as_str()).collect();
    assert_eq!(needed, ["TOKEN"]);
    assert!(plan.secrets[0].optional);
    let issues = &plan.streams[0];
    let names: Vec<&str> = issues
        .request
        .query
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["site", "per_page", "state"]);
    let headers: Vec<&str> = issues
        .request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(headers, ["accept", "x-more"]);
    assert_eq!(issues.request.headers[0].1.written(), "application/json");
    assert_eq!(issues.responses.len(), 3);
    assert_eq!(issues.key, ["repo", "id"]);
    assert_eq!(plan.source.limits.len(), 3);
}

#[test]
fn the_command_line_overrides_and_is_judged() {
    let text = fs::read_to_string(folder().join("good_core.yaml")).expect("the file");
    let ask = |vars: &[(&str, &str)], sinks: &[&str], streams: &[&str]| {
        let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
        let overrides = Overrides {
            vars: vars
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect(),
            sinks: own(sinks),
            streams: own(streams),
        };
        plan("good_core.yaml", text.clone(), &overrides)
    };
    let set = ask(
        &[("repos", "a/b, c/d")],
        &["ndjson=out/{{ stream }}.ndjson.gz"],
        &[],
    )
    .expect("a plan");
    assert_eq!(
        set.vars.get_attr("repos").expect("repos").to_string(),
        "['a/b', 'c/d']"
    );
    assert!(set.streams.iter().all(|stream| stream.sinks.len() == 1));
    let wrong = [
        ask(&[("repo", "x")], &[], &[]),
        ask(&[], &["cvs=x"], &[]),
        ask(&[], &["csv"], &[]),
        ask(&[], &["csv=x.csv"], &[]),
        ask(&[], &[], &["issue"]),
    ];
    let told: Vec<String> = wrong
        .into_iter()
        .map(|result| match result {
            Err(CompileProblem::Override { message, hint }) => {
                format!("{message} / {}", hint.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    insta::with_settings!({
        snapshot_path => folder(),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("command_line", told.join("\n"));
    });
}

#[test]
fn spellings_are_kept() {
    let text = fs::read_to_string(folder().join("good_core.yaml")).expect("the file");
    let plan = plan("good_core.yaml", text, &Overrides::default()).expect("a plan");
    let var = |name: &str| plan.vars.get_attr(name).expect("a var").to_string();
    assert_eq!(var("version"), "1.10");
    assert_eq!(var("code"), "007");
    assert_eq!(var("since"), "2024-01-01");
    assert_eq!(var("answer"), "no");
}

#[test]
fn no_damage_makes_it_panic() {
    let text = fs::read_to_string(folder().join("good_core.yaml")).expect("the file");
    let lines: Vec<&str> = text.lines().collect();
    let mut damaged = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let with = |replaced: &[&str]| {
            let (before, after) = (&lines[..index], &lines[index + 1..]);
            [before, replaced, after].concat().join("\n")
        };
        damaged.push(with(&[]));
        damaged.push(with(&[line, line]));
        damaged.push(with(&[line.trim_start()]));
        damaged.push(with(&[&line.replace(": ", ": ä🔑")]));
        damaged.push(with(&[&line.replace(['[', '{', '"'], "")]));
    }
    damaged.extend(
        (0..text.len())
            .step_by(23)
            .map(|end| text[..end].to_owned()),
    );
    for text in damaged {
        if let Some(found) = mistakes("damaged.yaml", text) {
            assert!(!found.all.is_empty(), "refused without a word");
            assert!(found.draw(true).contains("damaged.yaml"));
            assert_eq!(
                found.to_json().as_array().map(Vec::len),
                Some(found.all.len())
            );
        }
    }
}

#[test]
fn shipped_pipelines_make_plans() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in load::all(root).expect("pipelines") {
        let written = match load::read(&path) {
            Ok(written) => written,
            Err(load::LoadProblem::Invalid(found)) => panic!("{}", found.draw(false)),
            Err(other) => panic!("{other}"),
        };
        match compile(&written, &Overrides::default()) {
            Ok(plan) => assert!(!plan.streams.is_empty(), "{}", path.display()),
            Err(CompileProblem::File(found)) => panic!("{}", found.draw(false)),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Pieces of YAML in messages and hints, with the file that holds them: `` `key: value` `` in a line that
/// is no comment and no test.
fn pieces() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let piece = regex::Regex::new("`([a-z_]+: [^`]+)`").expect("a pattern");
    let (mut folders, mut found) = (vec![source], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a readable file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in lines {
                // As the program says it: quotes in a literal are escaped.
                let line = line.replace("\\\"", "\"");
                let found_here = piece.captures_iter(&line).map(|one| one[1].to_owned());
                found.extend(found_here.map(|piece| (path.display().to_string(), piece)));
            }
        }
    }
    found
}

#[test]
fn hints_say_what_the_language_knows() {
    const KEYS: &str = "about alerts allow_origins auth body columns concurrency conditional cost cursor expect for format headers keep key limits max_body once pages query records responses retry schedule sink stop streams timeouts tls transform vars where";
    let filled = regex::Regex::new(r"\{[a-z0-9_.]*\}").expect("a pattern");
    let named = regex::Regex::new(r"\{[a-z0-9_.]*\}+:").expect("a pattern");
    let pieces = pieces();
    let mut checked = 0;
    let mut unknown = Vec::new();
    for (file, piece) in &pieces {
        let key = piece.split(':').next().unwrap_or_default();
        // A word for a kind is no YAML to paste; neither is a name that is filled in.
        let is_yaml = piece.contains(['{', '[']) && !piece.ends_with("{}");
        if !is_yaml || !KEYS.split(' ').any(|known| known == key) || named.is_match(piece) {
            continue;
        }
        checked += 1;
        // In a `format!` braces are written twice; what it fills in is some word.
        let single = piece.replace("{{", "\u{1}").replace("}}", "\u{2}");
        let single = filled
            .replace_all(&single, "word")
            .replace('\u{1}', "{")
            .replace('\u{2}', "}");
        let all = [piece, &single]
            .map(|piece| ["word", "{ word: word }"].map(|by| piece.replace('…', by)));
        let is_known = all.concat().into_iter().any(|piece| {
            [
                format!("{piece}\nsource: {{ url: https://a.example }}\nstreams: {{ a: {{ get: /a }} }}\n"),
                format!("source:\n  url: https://a.example\n  {piece}\nstreams: {{ a: {{ get: /a }} }}\n"),
                format!("source: {{ url: https://a.example }}\nstreams:\n  a:\n    get: /a\n    {piece}\n"),
            ]
            .into_iter()
            .any(|text| {
                mistakes("hint.yaml", text).is_none_or(|found| {
                    let shape = ["unknown-key", "unknown-value", "wrong-type", "several-variants", "syntax"];
                    found.all.iter().all(|one| !shape.contains(&one.code))
                })
            })
        });
        if !is_known {
            unknown.push(format!("{file}: {piece}"));
        }
    }
    assert!(checked >= 25, "{checked} of {}", pieces.len());
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}
