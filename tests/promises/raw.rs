//! `keep: raw`: the answers of a published stream are there as they came, whatever happened on the way;
//! no secret is in them, and they go with the run.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gleaner::clock::Clock;
use serde_json::{Value, json};

use crate::real_time::{millis, pass};
use crate::scene::{Project, Reply, Server};

fn target(request: &str) -> &str {
    request.split(' ').nth(1).unwrap_or_default()
}

/// Pages of three lists, token by token, spelled as no program would.
fn body(target: &str) -> String {
    let url = url::Url::parse(&format!("http://x{target}")).expect("an address");
    let page: usize = url
        .query_pairs()
        .find(|(name, _)| name == "t")
        .map_or(0, |(_, value)| value.parse().expect("a number"));
    let next = if page < 4 {
        (page + 1).to_string()
    } else {
        "null".to_owned()
    };
    let of = url.path().trim_matches('/');
    format!("{{ \"next\" : {next},\n  \"data\":[ {{\"id\":{page},  \"of\":\"{of}\"}} ] }}\n")
}

fn pipeline(server: &Server) -> String {
    format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 3 }}
defaults: {{ keep: raw, records: data, pages: {{ token: {{ from: next, to: t }} }} }}
streams:
  lists: {{ for: {{ of: [a, b, c] }}, get: \"/{{{{ of }}}}\", key: [of, id] }}
sink: {{ csv: data/lists.csv }}
",
        server.url()
    )
}

/// Bodies and lines of the only run that has some, below `.gleaner/raw`.
fn kept(project: &Project, stream: &str) -> (String, Vec<Value>) {
    let mut folders = folders(project);
    assert_eq!(folders.len(), 1, "{folders:?}");
    let folder = folders.remove(0);
    let packed = std::fs::read(folder.join(format!("{stream}.zst"))).expect("bodies");
    let bodies = zstd::decode_all(&packed[..]).expect("whole frames");
    let lines = std::fs::read_to_string(folder.join(format!("{stream}.ndjson"))).expect("lines");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    // Each line leads to its answer.
    for line in &lines {
        let number = |name: &str| usize::try_from(line[name].as_u64().expect(name)).expect(name);
        let frame = &packed[number("at")..number("at") + number("bytes")];
        let body = zstd::decode_all(frame).expect("a frame");
        assert_eq!(body.len(), number("size"));
    }
    (String::from_utf8(bodies).expect("text"), lines)
}

fn folders(project: &Project) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(project.path().join(".gleaner/raw/items")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.expect("it").path()).collect()
}

fn whole() -> String {
    let pages = ["a", "b", "c"].iter().flat_map(|of| {
        (0..5).map(move |page| match page {
            0 => body(&format!("/{of}")),
            page => body(&format!("/{of}?t={page}")),
        })
    });
    pages.collect()
}

#[test]
fn answers_are_kept_as_they_came_with_a_line_for_each() {
    let server = Server::start(|request| Reply::json(body(target(request))).header("x-quota", "7"));
    let project = Project::new(&pipeline(&server));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let (bodies, lines) = kept(&project, "lists");
    // In the order of the file's records, byte for byte.
    assert_eq!(bodies, whole());
    assert_eq!(lines.len(), 15);
    let told = &lines[6];
    assert_eq!(told["for"], json!({"of": "b"}));
    assert_eq!((&told["page"], &told["records"]), (&json!(2), &json!(1)));
    assert_eq!(told["url"], json!(format!("{}/b?t=1", server.url())));
    assert_eq!(told["status"], 200);
    let headers = told["headers"].as_array().expect("headers");
    assert!(headers.contains(&json!(["x-quota", "7"])), "{told}");
    // Nobody else reads them.
    for path in [".gleaner/raw", ".gleaner/raw/items"] {
        assert_eq!(mode(&project.path().join(path)), 0o700, "{path}");
    }
    for entry in std::fs::read_dir(&folders(&project)[0]).expect("a folder") {
        assert_eq!(mode(&entry.expect("a file").path()), 0o600);
    }
    // The commands that show them.
    let id = folders(&project)[0].file_name().expect("a name").to_owned();
    let id = id.to_str().expect("text");
    assert_eq!(project.run(&["runs", "raw", id, "lists"]).stdout, bodies);
    assert_eq!(
        project.run(&["runs", "raw", id, "lists", "7"]).stdout,
        body("/b?t=1")
    );
    let listed = project.run(&["runs", "raw", id]).stdout;
    assert!(
        listed.contains("lists") && listed.contains("15"),
        "{listed}"
    );
    for wrong in [&["lists", "16"][..], &["lists", "0"], &["list"]] {
        let all = [&["runs", "raw", id], wrong].concat();
        assert_eq!(project.run(&all).code, Some(2), "{wrong:?}");
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_secret_that_the_server_says_back_is_not_kept() {
    let server = Server::start(|_| {
        Reply::json(r#"[{"id":1,"key":"hunter2secret","url":"https://x/?k=hunter2secret"}]"#)
            .header("x-echo", "hunter2secret")
            .header("set-cookie", "session=abcdef")
    });
    let text = format!(
        "source: {{ url: \"{}\", limits: none, auth: {{ query: {{ k: \"{{{{ secret.KEY }}}}\" }} }} }}
streams: {{ items: {{ get: /items, keep: raw, columns: {{ id: }} }} }}
sink: {{ csv: data/items.csv }}
",
        server.url()
    );
    let project = Project::new(&text);
    let run = |value: &str| {
        let mut command = project.command(&["run", "items"]);
        command.env("KEY", value).output().expect("it ran")
    };
    let said = run("hunter2secret");
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(0), "{told}");
    assert!(server.heard()[0].contains("hunter2secret"));
    let (bodies, lines) = kept(&project, "items");
    assert!(bodies.contains("\"id\":1"), "{bodies}");
    let all = format!("{bodies}{}", Value::Array(lines));
    assert!(!all.contains("hunter2") && !all.contains("abcdef"), "{all}");
    // One that cannot be found again must not be written down by chance.
    let short = run("abc");
    assert_eq!(short.status.code(), Some(2));
}

#[test]
fn they_go_with_the_run() {
    let server = Server::start(|request| Reply::json(body(target(request))));
    let project = Project::new(&pipeline(&server));
    for _ in 0..2 {
        let said = project.run(&["run", "items", "-q"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
    }
    assert_eq!(folders(&project).len(), 2);
    // A sample leaves nothing behind.
    project.run(&["run", "items", "--limit-records", "1", "-q"]);
    assert_eq!(folders(&project).len(), 2);
    // The history forgets the runs; the next one clears up.
    let state = project.path().join(".gleaner/state.db");
    let state = rusqlite::Connection::open(state).expect("the state");
    state.execute("DELETE FROM runs", []).expect("forgotten");
    drop(state);
    project.run(&["run", "items", "-q"]);
    assert_eq!(kept(&project, "lists").0, whole());
}

#[test]
fn a_run_that_is_killed_keeps_each_answer_once() {
    let server = Server::start(|request| {
        // Longer than pages wait for others to be committed with: else no run leaves any behind.
        pass(Duration::from_millis(150));
        Reply::json(body(target(request)))
    });
    // A machine that is busy needs longer, and all of a run is to be cut off somewhere.
    let clock = Clock::system();
    let began = clock.now();
    Project::new(&pipeline(&server)).run(&["run", "items", "-q"]);
    let took = millis(clock.now().duration_since(began));
    let (mut kills, mut went_on) = (0, 0);
    for round in 0..12_u64 {
        let mut dice = fastrand::Rng::with_seed(round);
        let project = Project::new(&pipeline(&server));
        let from = server.heard().len();
        for _ in 0..5 {
            let mut child = project
                .command(&["run", "items", "-q"])
                .spawn()
                .expect("it");
            pass(Duration::from_millis(dice.u64(1..=took)));
            child.kill().expect("a kill");
            if child.wait().expect("an end").success() {
                break;
            }
            kills += 1;
        }
        let killed = server.heard().len();
        let said = project.run(&["run", "items", "-q"]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        if server.heard().len() - killed < 15 && killed > from {
            went_on += 1;
        }
        // A process that was killed when all was done leaves answers of its own run.
        for folder in folders(&project) {
            let packed = std::fs::read(folder.join("lists.zst")).expect("bodies");
            let bodies = zstd::decode_all(&packed[..]).expect("whole frames");
            assert_eq!(String::from_utf8(bodies).expect("text"), whole(), "{round}");
            let names = std::fs::read_dir(&folder).expect("a folder");
            let names: BTreeSet<String> = names
                .map(|entry| entry.expect("it").file_name().to_string_lossy().into())
                .collect();
            let names: Vec<&String> = names.iter().collect();
            assert_eq!(names, ["lists.ndjson", "lists.zst"], "{round}");
        }
    }
    // Else nothing was tried.
    assert!(kills > 6 && went_on > 0, "{kills} kills, {went_on} went on");
}

#[test]
fn a_partition_that_is_begun_again_leaves_no_answer_behind() {
    let died = Arc::new(AtomicBool::new(false));
    let server = Server::start(move |request| {
        let target = target(request);
        if target.contains("/b?t=1") && !died.swap(true, Ordering::SeqCst) {
            return Reply::new(404, r#"{"error":"expired"}"#)
                .header("content-type", "application/json");
        }
        Reply::json(body(target))
    });
    let text = pipeline(&server).replace(
        "key: [of, id]",
        "key: [of, id], responses: [{ if: status == 404, then: restart }]",
    );
    let project = Project::new(&text);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(server.heard().len(), 17);
    assert_eq!(kept(&project, "lists").0, whole());
}
