//! What becomes of what is there: merge, append, and the cursors that both go by.

use std::sync::{Arc, Mutex};

use crate::scene::{Project, Reply, Server};

/// A server whose answer to every request is what was last said, or made of the request.
#[derive(Clone)]
struct Says(Arc<Mutex<String>>);

impl Says {
    fn start(first: &str) -> (Self, Server) {
        let says = Self(Arc::new(Mutex::new(first.to_owned())));
        let answer = says.clone();
        let server = Server::start(move |_| Reply::json(answer.0.lock().expect("it").clone()));
        (says, server)
    }

    fn now(&self, body: &str) {
        body.clone_into(&mut self.0.lock().expect("it"));
    }
}

/// A pipeline with one stream, `items`.
fn pipeline(server: &Server, stream: &str, sink: &str) -> String {
    let url = server.url();
    format!(
        "source: {{ url: \"{url}\", limits: none }}\nstreams:\n  items: {{ get: /items, {stream} }}\nsink: {{ {sink} }}\n"
    )
}

fn read(project: &Project, file: &str) -> String {
    std::fs::read_to_string(project.path().join(file)).expect("a file")
}

fn good(project: &Project, args: &[&str]) -> String {
    let said = project.run(args);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    said.stdout + &said.stderr
}

fn in_folder(project: &Project, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(project.path().join(folder)).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

const MERGE: &str = "csv: data/items.csv, mode: merge";

#[test]
fn of_equal_keys_the_greatest_cursor_wins_and_then_the_latest() {
    let (says, server) = Says::start(
        r#"[{"id":2,"at":5,"v":"new"},{"id":2,"at":4,"v":"old"},{"id":10,"at":1,"v":"x"},{"id":1,"at":null,"v":"n"}]"#,
    );
    let stream = r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, format: integer, start: 0 }"#;
    let project = Project::new(&pipeline(&server, stream, MERGE));
    let told = good(&project, &["run", "items"]);
    assert!(told.contains("1 record without `at`"), "{told}");
    // Numbers in the order of numbers.
    assert_eq!(
        read(&project, "data/items.csv"),
        "id,at,v\r\n1,,n\r\n2,5,new\r\n10,1,x\r\n"
    );

    // A copy that lags sends an older version; another is as old as the one that is known.
    says.now(
        r#"[{"id":2,"at":3,"v":"stale"},{"id":10,"at":1,"v":"again"},{"id":1,"at":0,"v":"known"}]"#,
    );
    good(&project, &["run", "items"]);
    assert!(server.heard()[1].contains("s=5 "), "{:?}", server.heard());
    assert_eq!(
        read(&project, "data/items.csv"),
        "id,at,v\r\n1,0,known\r\n2,5,new\r\n10,1,again\r\n"
    );

    // Nothing new is no harm, and the cursor stays.
    says.now("[]");
    good(&project, &["run", "items"]);
    good(&project, &["run", "items"]);
    assert!(server.heard()[3].contains("s=5 "), "{:?}", server.heard());
    assert!(read(&project, "data/items.csv").contains("2,5,new"));
    assert_eq!(
        in_folder(&project, ".gleaner/base/items").len(),
        1,
        "old ones are swept"
    );
}

#[test]
fn columns_and_keys_may_change_between_runs() {
    let (says, server) = Says::start(r#"[{"id":1,"kind":"a","v":1.10},{"id":2,"kind":"a","v":2}]"#);
    let project = Project::new(&pipeline(&server, "key: id, columns: { id: }", MERGE));
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/items.csv"), "id\r\n1\r\n2\r\n");

    // A new column has values for what came before it; another key sorts everything anew.
    says.now(r#"[{"id":1,"kind":"b","v":3}]"#);
    let stream = "key: [kind, id], columns: { kind: , id: , v: }";
    project.write("pipelines/items.yaml", &pipeline(&server, stream, MERGE));
    good(&project, &["run", "items"]);
    assert_eq!(
        read(&project, "data/items.csv"),
        "kind,id,v\r\na,1,1.10\r\na,2,2\r\nb,1,3\r\n"
    );
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/items.csv").lines().count(), 4);
}

#[test]
fn a_record_without_a_key_or_a_damaged_base_leaves_the_old_file() {
    let (says, server) = Says::start(r#"[{"id":1}]"#);
    let project = Project::new(&pipeline(&server, "key: id", MERGE));
    good(&project, &["run", "items"]);
    let before = read(&project, "data/items.csv");

    says.now(r#"[{"id":2},{"name":"nobody"}]"#);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(3), "{}", said.shown);
    assert!(
        said.stderr.contains("1 record without `key: id`"),
        "{}",
        said.shown
    );
    assert_eq!(read(&project, "data/items.csv"), before);

    says.now(r#"[{"id":2}]"#);
    let base = format!(
        ".gleaner/base/items/{}",
        in_folder(&project, ".gleaner/base/items")[0]
    );
    let whole = read(&project, &base);
    project.write(&base, &whole.replace("{\"id\":1}", "{\"id\":7}"));
    let said = project.run(&["run", "items", "--fresh"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("do not have their checksum"),
        "{}",
        said.shown
    );
    assert_eq!(read(&project, "data/items.csv"), before);

    project.write(&base, &whole);
    good(&project, &["run", "items", "--fresh"]);
    assert_eq!(read(&project, "data/items.csv"), "id\r\n1\r\n2\r\n");
}

#[test]
fn append_adds_a_whole_file_each_run_that_found_something() {
    let (says, server) = Says::start(r#"[{"id":1,"at":"2024-02-01"},{"id":1,"at":"2024-02-02"}]"#);
    let stream =
        r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, start: 2024-01-01 }"#;
    let project = Project::new(&pipeline(
        &server,
        stream,
        "ndjson: data/events.gz/, mode: append",
    ));
    good(&project, &["run", "items"]);
    let first = in_folder(&project, "data/events.gz");
    assert!(
        matches!(&first[..], [name] if name.ends_with(".ndjson.gz")),
        "{first:?}"
    );
    let bytes =
        || std::fs::read(project.path().join("data/events.gz").join(&first[0])).expect("it");
    let before = bytes();

    says.now("[]");
    good(&project, &["run", "items"]);
    assert_eq!(in_folder(&project, "data/events.gz"), first);
    says.now(r#"[{"id":2,"at":"2024-02-03"}]"#);
    good(&project, &["run", "items"]);
    assert_eq!(in_folder(&project, "data/events.gz").len(), 2);
    assert_eq!(bytes(), before);
    let heard = server.heard();
    assert!(heard[0].contains("s=2024-01-01T00%3A00%3A00Z"), "{heard:?}");
    assert!(heard[2].contains("s=2024-02-02T00%3A00%3A00Z"), "{heard:?}");
}

#[test]
fn a_look_at_what_is_new_keeps_nothing() {
    let (_, server) = Says::start(r#"[{"id":1,"at":"b"},{"id":2,"at":"c"}]"#);
    let stream = r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, format: text, start: a }"#;
    let project = Project::new(&pipeline(&server, stream, MERGE));
    let shown = project.run(&["run", "items", "--sink", "ndjson=-"]);
    assert_eq!(
        (shown.code, shown.stdout.lines().count()),
        (Some(0), 2),
        "{}",
        shown.shown
    );
    good(&project, &["run", "items", "--limit-records", "1"]);
    assert_eq!(read(&project, "data/items.sample.csv"), "id,at\r\n1,b\r\n");
    assert_eq!(read(&project, "data/items.csv"), crate::scene::OLD);
    assert!(good(&project, &["state", "show"]).contains("has a cursor yet"));
    good(&project, &["run", "items"]);
    assert!(
        server
            .heard()
            .iter()
            .all(|request| request.contains("s=a "))
    );
    assert!(good(&project, &["state", "show"]).contains("  c  "));
}

#[test]
fn newest_first_ends_at_what_is_known_and_nulls_end_nothing() {
    // Ten pages of two, the newest first; on the second page neither has a value.
    let server = Server::start(|request| {
        let page: u32 = request
            .split_once("page=")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .expect("a page");
        let item = |n: u32| match page {
            2 => format!(r#"{{"id":{n},"at":null}}"#),
            _ => format!(r#"{{"id":{n},"at":{}}}"#, 1_704_100_000 - n * 1_000),
        };
        match page {
            1..=10 => Reply::json(format!("[{},{}]", item(page * 2), item(page * 2 + 1))),
            _ => Reply::json("[]"),
        }
    });
    let stream = "key: id, pages: { page: { to: page } }, cursor: { field: at, format: epoch, start: 2023-01-01, newest_first: true }";
    let project = Project::new(&pipeline(&server, stream, MERGE));
    good(&project, &["run", "items"]);
    assert_eq!(server.heard().len(), 11);
    good(
        &project,
        &["state", "set", "items", "items", "2024-01-01T07:40:00Z"],
    );
    good(&project, &["run", "items"]);
    // 1704094800: page 3 holds up to n=7, older by far; page 2 said nothing.
    assert_eq!(server.heard().len(), 11 + 3, "{:?}", &server.heard()[11..]);
    assert_eq!(read(&project, "data/items.csv").lines().count(), 21);
}

#[test]
fn a_cursor_is_set_by_the_clock_of_its_zone() {
    let (_says, server) = Says::start("[]");
    let stream = r#"for: { day: { dates: 1d, zone: America/New_York } }, query: { from: "{{ day.from }}" }, cursor: { start: 2024-01-01, end: 2024-01-03 }"#;
    let project = Project::new(&pipeline(&server, stream, "csv: data/all/, mode: append"));
    good(&project, &["run", "items"]);
    good(&project, &["state", "set", "items", "items", "2024-01-02"]);
    good(&project, &["run", "items"]);
    let heard = server.heard();
    assert_eq!(heard.len(), 3, "{heard:?}");
    let set = "from=2024-01-02T00%3A00%3A00-05%3A00 ";
    assert!(heard[2].contains(set), "{}", heard[2]);
}

#[test]
fn a_cursor_at_the_wrong_place_is_told() {
    let (says, server) = Says::start(r#"[{"id":1,"at":"soon"}]"#);
    let stream =
        r#"key: id, query: { s: "{{ cursor.from }}" }, cursor: { field: at, start: 2024-01-01 }"#;
    let project = Project::new(&pipeline(&server, stream, MERGE));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr
            .contains("\"soon\" is not an RFC 3339 timestamp"),
        "{}",
        said.shown
    );
    says.now(r#"[{"id":1}]"#);
    let said = project.run(&["run", "items", "--fresh"]);
    assert!(
        said.stderr.contains("no record has a `at`"),
        "{}",
        said.shown
    );
    // One that is not alone is no reason to stop.
    says.now(r#"[{"id":1,"at":"0000-00-00"},{"id":2,"at":"2024-02-01"}]"#);
    let told = good(&project, &["run", "items", "--fresh"]);
    assert!(
        told.contains("1 record with, like \"0000-00-00\", an unreadable `at`"),
        "{told}"
    );

    let other = stream
        .replace("field: at", "field: id, format: integer")
        .replace("2024-01-01", "0");
    project.write("pipelines/items.yaml", &pipeline(&server, &other, MERGE));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(said.stderr.contains("kept for `at`") && said.stderr.contains("gleaner state reset"));
    good(&project, &["state", "reset", "items", "--base"]);
    good(&project, &["run", "items"]);
}

#[test]
fn cursors_are_shown_set_and_reset() {
    let (_, server) = Says::start(r#"[{"id":1,"at":"2024-02-01T00:00:00.5Z"}]"#);
    let stream = r#"for: { repo: [a/b, "c d"] }, key: [repo, id], query: { r: "{{ repo }}", s: "{{ cursor.from }}" }, cursor: { field: at, start: 2024-01-01 }"#;
    let project = Project::new(&pipeline(&server, stream, MERGE));
    assert!(good(&project, &["state", "show", "items"]).contains("no stream of this pipeline"));
    assert!(
        !project.path().join(".gleaner").exists(),
        "looking makes nothing"
    );
    good(&project, &["run", "items"]);
    let json: serde_json::Value =
        serde_json::from_str(&project.run(&["state", "show", "--json"]).stdout).expect("JSON");
    assert_eq!(json[1]["partition"]["repo"], "c d");
    assert_eq!(json[1]["value"], "2024-02-01T00:00:00.5Z");
    assert_eq!(json[0]["field"], "at");

    let shown = good(&project, &["state", "show", "items"]);
    assert!(
        shown.contains("repo=a/b") && shown.contains("by run "),
        "{shown}"
    );
    let told = good(
        &project,
        &[
            "state",
            "set",
            "items",
            "items",
            "2024-03-01",
            "--for",
            "repo=c d",
        ],
    );
    assert!(
        told.contains("1 cursor set to 2024-03-01T00:00:00Z"),
        "{told}"
    );
    assert!(good(&project, &["state", "show", "items"]).contains("by hand"));
    let asked = server.heard().len();
    good(&project, &["run", "items"]);
    let heard = server.heard().split_off(asked);
    let of = |repo: &str| {
        heard
            .iter()
            .find(|request| request.contains(repo))
            .expect("it")
    };
    assert!(of("r=c+d").contains("s=2024-03-01") || of("r=c%20d").contains("s=2024-03-01"));
    assert!(of("r=a%2Fb").contains("s=2024-02-01"));

    good(&project, &["state", "reset", "items", "--for", "repo=a/b"]);
    assert!(!good(&project, &["state", "show", "items"]).contains("a/b"));
    let told = good(&project, &["state", "reset", "items"]);
    assert!(told.contains("1 cursor reset"), "{told}");
    for (args, problem) in [
        (
            ["state", "set", "items", "nothing", "2024-01-01"],
            "no stream `nothing`",
        ),
        (["state", "set", "items", "items", "soon"], "not a date"),
        (
            ["state", "set", "items", "items", "2024-01-01"],
            "has a cursor yet",
        ),
    ] {
        let said = project.run(&args);
        assert_eq!(said.code, Some(2), "{}", said.shown);
        assert!(said.stderr.contains(problem), "{}", said.shown);
    }
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    // Two pages by Link; the first has an ETag, the second a date alone.
    let says = Arc::new(Mutex::new((1, 1)));
    let now = Arc::clone(&says);
    let server = Server::start(move |request| {
        let (first, second) = *now.lock().expect("it");
        let asks = |what: String| request.contains(&format!("{what}\r\n"));
        if request.starts_with("GET /items?page=2") {
            let stamp = format!("Mon, 0{second} Jan 2024 00:00:00 GMT");
            if asks(format!("if-modified-since: {stamp}")) {
                return Reply::new(304, "");
            }
            let body = format!(r#"[{{"id":2,"v":{second}}}]"#);
            return Reply::json(body).header("last-modified", stamp);
        }
        let etag = format!("W/\"v{first}\"");
        if asks(format!("if-none-match: {etag}")) {
            return Reply::new(304, "").header("etag", etag);
        }
        Reply::json(format!(r#"[{{"id":1,"v":{first}}}]"#))
            .header("etag", etag)
            .header("link", "</items?page=2>; rel=\"next\"")
    });
    let stream = "pages: link, conditional: true";
    let project = Project::new(&pipeline(&server, stream, "csv: data/items.csv"));
    let statuses = |asked: usize| -> usize {
        let heard = server.heard().split_off(asked);
        assert_eq!(heard.len(), 2, "{heard:?}");
        let asks = |request: &&String| {
            request.contains("if-none-match") || request.contains("if-modified-since")
        };
        heard.iter().filter(asks).count()
    };
    for (night, (wanted, asked)) in [((1, 1), 0), ((1, 1), 2), ((1, 2), 2), ((2, 2), 2)]
        .into_iter()
        .enumerate()
    {
        *says.lock().expect("it") = wanted;
        let before = server.heard().len();
        good(&project, &["run", "items"]);
        assert_eq!(statuses(before), asked, "night {night}");
        let file = format!("id,v\r\n1,{}\r\n2,{}\r\n", wanted.0, wanted.1);
        assert_eq!(read(&project, "data/items.csv"), file, "night {night}");
    }

    // A copy that cannot be trusted is no copy; nobody asked by a sample.
    let folder = ".gleaner/pages/items/items";
    for copy in in_folder(&project, folder) {
        let place = format!("{folder}/{copy}");
        let whole = read(&project, &place);
        project.write(&place, &whole.replace("\"v\":2", "\"v\":9"));
    }
    good(&project, &["run", "items"]);
    assert_eq!(read(&project, "data/items.csv"), "id,v\r\n1,2\r\n2,2\r\n");
    let before = server.heard().len();
    good(&project, &["run", "items", "--limit-records", "9"]);
    assert_eq!(statuses(before), 0);
    // What is no longer asked for goes.
    project.write(
        "pipelines/items.yaml",
        &pipeline(
            &server,
            "pages: none, conditional: true",
            "csv: data/items.csv",
        ),
    );
    good(&project, &["run", "items"]);
    assert_eq!(in_folder(&project, folder).len(), 1);
}

#[test]
fn a_window_needs_a_cursor() {
    let (_, server) = Says::start("[]");
    let project = Project::new(&pipeline(&server, "key: id", MERGE));
    let said = project.run(&["run", "items", "--full"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.stderr.contains("no stream of `items` has a `cursor`"),
        "{}",
        said.shown
    );
    assert!(server.heard().is_empty());
}

/// A window that ends before it begins: no API is asked what it thinks of that.
#[test]
fn an_inverted_window_is_not_asked_for() {
    let (_, server) = Says::start(r#"[{"id":1},{"id":9}]"#);
    let stream = |end: u8| {
        format!(
            r#"key: id, query: {{ s: "{{{{ cursor.from }}}}" }}, cursor: {{ field: id, format: integer, start: 0, end: {end} }}"#
        )
    };
    let project = Project::new(&pipeline(&server, &stream(5), MERGE));
    good(&project, &["run", "items"]);
    assert_eq!(server.heard().len(), 1);
    let before = read(&project, "data/items.csv");
    project.write(
        "pipelines/items.yaml",
        &pipeline(&server, &stream(3), MERGE),
    );
    let told = good(&project, &["run", "items"]);
    assert!(
        told.contains("nothing to ask for: the window begins at 5 and ends before, at 3"),
        "{told}"
    );
    assert_eq!(server.heard().len(), 1);
    assert_eq!(read(&project, "data/items.csv"), before);
    assert!(good(&project, &["state", "show"]).contains('5'));
    // Nor by those who look ahead.
    for look in [
        &["plan", "items"][..],
        &["plan", "items", "--probe"],
        &["preview", "items"],
    ] {
        let said = project.run(look);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let times = said.stderr.matches("nothing to ask for").count();
        assert_eq!(times, 1, "{look:?}: {}", said.shown);
        if look[0] == "plan" {
            assert!(said.stdout.contains("items: 0 requests"), "{}", said.shown);
        }
    }
    assert_eq!(server.heard().len(), 1);
}
