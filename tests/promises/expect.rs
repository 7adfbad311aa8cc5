//! Checks of `expect` over many nights: what does not hold is not published, all of it is told
//! at once, and a person can publish it all the same, without a request.

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Dataset, Listing, Paging, Route, Rules};
use jiff::civil::{Weekday, date};

use super::fixture::{Ran, Scene};
use super::history::past;
use super::scene::{Project, Reply, Server};

fn yaml(stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none }}
streams:
  a: {{ get: /a, records: data, pages: {{ page: {{ to: page }} }}, {stream} }}
sink: {{ ndjson: out/a.ndjson }}
"
    )
}

fn giving(records: impl IntoIterator<Item = String>) -> Rules {
    let data = Dataset::from_texts(records);
    Rules {
        routes: vec![Route::list(
            "/a",
            Listing::new(data, Paging::page()).size(10),
        )],
        ..Rules::default()
    }
}

fn numbered(count: usize) -> Rules {
    giving((1..=count).map(|id| format!(r#"{{"id":{id}}}"#)))
}

/// Nights in one project.
struct Nights {
    yaml: String,
    root: Option<tempfile::TempDir>,
}

impl Nights {
    fn of(stream: &str) -> Self {
        Self {
            yaml: yaml(stream),
            root: None,
        }
    }

    fn night(&mut self, at: &str, rules: Rules) -> Night {
        let scene = Scene::new(&self.yaml, rules).at(at);
        let ran = match self.root.take() {
            Some(root) => scene.within(root).run(),
            None => scene.run(),
        };
        let night = Night::of(&ran);
        self.root = Some(ran.root);
        night
    }

    fn rows(&self) -> usize {
        let root = self.root.as_ref().expect("a night");
        let text = std::fs::read_to_string(root.path().join("out/a.ndjson"));
        text.map_or(0, |text| text.lines().count())
    }
}

/// What a night came to.
struct Night {
    exit: Exit,
    /// Message, causes and hint.
    told: String,
    checks: Vec<String>,
}

impl Night {
    fn of(ran: &Ran) -> Self {
        let failure = ran.stream("a").failure.as_ref();
        Self {
            exit: ran.summary.exit,
            told: failure.map_or_else(String::new, |failure| {
                format!("{failure} {}", failure.hint.as_deref().unwrap_or_default())
            }),
            checks: ran
                .events
                .iter()
                .filter_map(|event| match &event.fact {
                    Fact::CheckFailed { check, .. } => Some(check.to_string()),
                    _ => None,
                })
                .collect(),
        }
    }

    fn held(&self, by: &[&str], says: &str) {
        assert_eq!(self.exit, Exit::Held, "{}", self.told);
        assert_eq!(self.checks, by);
        assert!(self.told.contains(says), "{}", self.told);
    }

    fn complete(&self) {
        assert_eq!(self.exit, Exit::Complete, "{}", self.told);
        assert!(self.checks.is_empty(), "{:?}", self.checks);
    }
}

#[test]
fn fewer_records_than_on_earlier_days_of_the_week() {
    let mut nights = Nights::of("key: id");
    let mut day = date(2026, 11, 1);
    let at = |day: jiff::civil::Date| format!("{day}T02:30:00Z");
    // Sundays bring a hundred, all other days ten.
    let usual = |day: jiff::civil::Date| match day.weekday() {
        Weekday::Sunday => 100,
        _ => 10,
    };
    while day < date(2026, 11, 22) {
        nights.night(&at(day), numbered(usual(day))).complete();
        day = day.tomorrow().expect("a day");
    }
    assert_eq!(day.weekday(), Weekday::Sunday);
    nights.yaml = yaml("key: id, expect: { max_drop: 50% }");
    let few = nights.night(&at(day), numbered(49));
    few.held(
        &["max_drop"],
        "49 records are 51% fewer than the usual 100, the median of the last 3 runs of a Sunday",
    );
    assert_eq!(nights.rows(), 10, "Saturday's file stays");
    // What was held is no measure for what comes; half is just enough.
    nights.night(&at(day), numbered(50)).complete();
    assert_eq!(nights.rows(), 50);
    let monday = day.tomorrow().expect("a day");
    nights.night(&at(monday), numbered(10)).complete();
}

#[test]
fn what_is_published_counts_and_not_how_often_the_api_gave_it() {
    // Ten records, each of them twice.
    let twice = |count: usize| giving((0..count).map(|n| format!(r#"{{"id":{}}}"#, n / 2)));
    let mut nights = Nights::of("key: id, expect: { min_records: 10 }");
    nights.night("2026-11-01T02:30:00Z", twice(20)).complete();
    let few = nights.night("2026-11-02T02:30:00Z", twice(18));
    few.held(
        &["min_records"],
        "9 records, but `expect.min_records` wants 10",
    );
    let mut nights = Nights::of("key: id, expect: { max_drop: 10% }");
    nights
        .night("2026-11-01T02:30:00Z", numbered(10))
        .complete();
    nights.night("2026-11-02T02:30:00Z", twice(20)).complete();
    let few = nights.night("2026-11-03T02:30:00Z", twice(16));
    few.held(&["max_drop"], "8 records are 20% fewer than the usual 10");
}

#[test]
fn the_first_night_has_nothing_to_keep_to() {
    let mut nights = Nights::of("expect: { max_drop: 10%, schema: same }");
    nights.night("2026-11-01T02:30:00Z", numbered(3)).complete();
    let second = nights.night("2026-11-02T02:30:00Z", numbered(2));
    second.held(
        &["max_drop"],
        "2 records are 33% fewer than the usual 3, as the run before had",
    );
}

#[test]
fn a_check_that_finds_nothing_to_look_at_does_not_hold() {
    let night = |stream: &str| Nights::of(stream).night("2026-11-01T02:30:00Z", numbered(3));
    night("expect: { total: meta.totl }")
        .held(&["total"], "no page tells a whole number at `expect.total`");
    night("expect: { unique: nope }").held(
        &["unique"],
        "`expect.unique`: no record has a value of nope",
    );
    let ran = Scene::new(&yaml("key: nope"), numbered(3)).run().complete();
    let wanted = "3 of 3 records have no `nope`";
    let told =
        |fact: &Fact| matches!(fact, Fact::Noticed { message, .. } if message.starts_with(wanted));
    assert_eq!(ran.facts(told), 1);
}

#[test]
fn values_that_several_records_share() {
    let mail = |mails: &[&str]| {
        let texts: Vec<String> = (mails.iter().enumerate())
            .map(|(id, mail)| format!(r#"{{"id":{id},"user":{{"mail":{mail}}}}}"#))
            .collect();
        giving(texts)
    };
    for columns in ["", "columns: { id: , mail: user.mail }, "] {
        let name = if columns.is_empty() {
            "user.mail"
        } else {
            "mail"
        };
        let mut nights = Nights::of(&format!("{columns}expect: {{ unique: {name} }}"));
        // Two records without one do not share it.
        nights
            .night(
                "2026-11-01T02:30:00Z",
                mail(&[r#""a@x""#, r#""b@x""#, "null", "null"]),
            )
            .complete();
        let twice = nights.night(
            "2026-11-02T02:30:00Z",
            mail(&[r#""a@x""#, r#""b@x""#, r#""a@x""#, r#""a@x""#]),
        );
        twice.held(
            &["unique"],
            &format!("1 value of {name} stand in several records, a@x among them"),
        );
    }
    // What `key` takes for one record is one.
    let mut nights = Nights::of("key: user.mail, expect: { unique: user.mail }");
    nights
        .night("2026-11-01T02:30:00Z", mail(&[r#""a@x""#, r#""a@x""#]))
        .complete();
    let mut both = Nights::of("expect: { unique: [user.mail, id] }");
    both.night("2026-11-01T02:30:00Z", mail(&[r#""a@x""#, r#""a@x""#]))
        .complete();
}

#[test]
fn records_that_are_too_old() {
    let days = |days: &[&str]| {
        let texts: Vec<String> = (days.iter().map(|day| format!(r#"{{"at":{day}}}"#))).collect();
        giving(texts)
    };
    let mut nights = Nights::of("expect: { fresh: { field: at, within: 2d } }");
    let night = "2026-11-22T02:30:00Z";
    nights
        .night(
            night,
            days(&[r#""2026-11-01""#, r#""2026-11-20T02:30:00Z""#]),
        )
        .complete();
    let old = nights.night(
        night,
        days(&[r#""2026-11-20T02:29:59Z""#, "null", r#""2026-11-01""#]),
    );
    old.held(&["fresh"], "the newest `at` is 2026-11-20T02:29:59Z");
    let none = nights.night(night, days(&[]));
    none.held(&["fresh"], "no record has a `at`");
    // One from the future is no news; a day ahead may be a zone that nobody wrote.
    let ahead = nights.night(
        night,
        days(&[
            r#""2026-11-01""#,
            r#""2099-01-01""#,
            r#""2026-11-23T02:30:01Z""#,
        ]),
    );
    ahead.held(
        &["fresh"],
        "the newest `at` is 2026-11-01T00:00:00Z; `expect.fresh` wants one within 2d before the run; 2 are more than a day ahead of the clock, up to 2099-01-01T00:00:00Z, and do not count",
    );
    nights
        .night(night, days(&[r#""2026-11-23T02:30:00Z""#]))
        .complete();
    let mut epoch = Nights::of("expect: { fresh: { field: at, within: 1d, format: epoch } }");
    epoch.night("1970-01-02T00:00:00Z", days(&["1"])).complete();
    epoch
        .night("1970-01-03T00:00:00Z", days(&["1"]))
        .held(&["fresh"], "1970-01-01T00:00:01Z");
}

#[test]
fn values_that_are_missing_and_columns_that_change_are_told_together() {
    let people = |texts: &[&str]| giving(texts.iter().map(|text| (*text).to_owned()));
    let mut nights = Nights::of("expect: { nulls: { mail: 50% }, schema: grow, min_records: 2 }");
    let good = [
        r#"{"id":1,"mail":"a","age":30}"#,
        r#"{"id":2,"mail":null,"age":31.5}"#,
    ];
    nights
        .night("2026-11-01T02:30:00Z", people(&good))
        .complete();
    let grown = [
        good[0],
        good[1],
        r#"{"id":3,"mail":"c","age":1,"new":true}"#,
    ];
    nights
        .night("2026-11-02T02:30:00Z", people(&grown))
        .complete();
    let bad = nights.night("2026-11-03T02:30:00Z", people(&[r#"{"id":"x"}"#]));
    bad.held(
        &["min_records", "nulls", "schema"],
        "a: 3 checks do not hold: min_records, nulls, schema: 1 records, but `expect.min_records` wants 2: `mail` has no value in 100.0% (1 of 1); `expect.nulls` allows 50%: its columns are others than before: `age` is gone; `mail` is gone; `id` was integer and is text",
    );
    assert!(
        bad.told.contains("`gleaner runs publish 20261103T023000Z-"),
        "{}",
        bad.told
    );
    assert_eq!(nights.rows(), 3);
}

#[test]
fn closed_columns_hold_what_they_do_not_name() {
    let people = |texts: &[&str]| giving(texts.iter().map(|text| (*text).to_owned()));
    let declared = [
        r#"{"id":1,"user":{"mail":"a"},"links":[{"href":"x"}],"at":5}"#,
        r#"{"id":2,"user":null,"links":[]}"#,
    ];
    let more = [
        declared[0],
        r#"{"id":2,"user":{"mail":"b","age":30},"phone":"030"}"#,
        r#"{"id":3,"links":[{"href":"y","rel":null}],"phone":"040"}"#,
    ];
    let columns = "columns: { id: , mail: user.mail, hrefs: links.*.href, day: { jq: '.at' }, of: '{{ run.date }}' }";
    for word in ["", ", expect: { columns: open }"] {
        let mut nights = Nights::of(&format!("{columns}{word}"));
        nights
            .night("2026-11-01T02:30:00Z", people(&more))
            .complete();
        assert_eq!(nights.rows(), 3);
    }
    let mut nights = Nights::of(&format!("{columns}, expect: {{ columns: closed }}"));
    let first = nights.night("2026-11-01T02:30:00Z", people(&declared));
    first.complete();
    let held = nights.night("2026-11-02T02:30:00Z", people(&more));
    held.held(
        &["columns"],
        "`expect.columns` is `closed`, and no column reads `user.age` (30 in page 1, record 2); `phone` (\"030\" in page 1, record 2); `links.*.rel` (null in page 1, record 3)",
    );
    assert_eq!(nights.rows(), 2, "what was published stays");

    // A record is what the steps of `transform` make of it.
    let dropped = "transform: [{ drop: [phone, user.age, links] }]";
    let mut nights = Nights::of(&format!(
        "{dropped}, {columns}, expect: {{ columns: closed }}"
    ));
    nights
        .night("2026-11-01T02:30:00Z", people(&more))
        .complete();
    let mut nights = Nights::of(&format!(
        "transform: [{{ rename: {{ phone: tel }} }}], {columns}, expect: {{ columns: closed }}"
    ));
    let renamed = nights.night("2026-11-01T02:30:00Z", people(&more));
    renamed.held(&["columns"], "`tel` (\"030\" in page 1, record 2)");
}

#[test]
fn what_closed_columns_hold_is_published_by_a_person() {
    let server = Server::start(|_| Reply::json(r#"{"data":[{"id":1,"note":"new"},{"id":2}]}"#));
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items, records: data, columns: {{ id: }}, expect: {{ columns: closed }} }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    ))
    .knows(&server);
    let held = project.run(&["run", "items"]);
    assert_eq!(held.code, Some(3), "{}", held.shown);
    let told = "no column reads `note` (\"new\" in page 1, record 1)";
    assert!(held.stderr.contains(told), "{}", held.shown);
    let row = &past(&project)[0];
    assert_eq!(row["streams"][0]["checks"][0]["check"], "columns");
    let id = row["run"].as_str().expect("an id").to_owned();
    let asked = server.heard().len();
    let published = project.run(&["runs", "publish", &id]);
    assert_eq!(published.code, Some(0), "{}", published.shown);
    assert_eq!(server.heard().len(), asked, "nothing is asked");
    let rows = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(rows, "id\r\n1\r\n2\r\n");
}

/// Who publishes has seen the rows, and need not be who may ask for them.
#[test]
fn a_person_publishes_without_the_secrets_of_the_run() {
    let server = Server::start(|_| Reply::json(r#"{"data":[{"id":1},{"id":2}]}"#));
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none, auth: {{ bearer: \"{{{{ secret.TOKEN }}}}\" }} }}\nstreams:\n  items: {{ get: \"/of/{{{{ secret.KEY }}}}\", query: {{ key: \"{{{{ secret.KEY }}}}\" }}, records: data, expect: {{ min_records: 3 }} }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    ))
    .knows(&server);
    let env = [("KEY", "ruth-invented"), ("TOKEN", "boaz-invented")];
    let held = project.run_with(&["run", "items"], &env);
    assert_eq!(held.code, Some(3), "{}", held.shown);
    let heard = server.heard();
    assert_eq!(heard.len(), 1);
    let wanted = "GET /of/ruth-invented?key=ruth-invented ";
    assert!(heard[0].starts_with(wanted), "{}", heard[0]);
    let id = past(&project)[0]["run"].as_str().expect("an id").to_owned();
    // The run itself cannot be begun without them, so they are away.
    let without = project.run(&["run", "items"]);
    assert_ne!(without.code, Some(0), "{}", without.shown);
    assert!(without.stderr.contains("not set"), "{}", without.shown);
    let published = project.run(&["runs", "publish", &id]);
    assert_eq!(published.code, Some(0), "{}", published.shown);
    assert_eq!(server.heard().len(), 1, "nothing is asked");
    let rows = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(rows, "id\r\n1\r\n2\r\n");
}

/// A server with so many records, and a pipeline that wants three.
fn project(server: &Server) -> Project {
    Project::new(&format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items, records: data, expect: {{ min_records: 3 }} }}\n  others: {{ get: /others, records: data, sink: {{ csv: data/others.csv }} }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    ))
    .knows(server)
}

#[test]
fn a_person_publishes_what_checks_hold() {
    let server = Server::start(|_| Reply::json(r#"{"data":[{"id":1},{"id":2}]}"#));
    let project = project(&server);
    let held = project.run(&["run", "items"]);
    assert_eq!(held.code, Some(3), "{}", held.shown);
    let row = &past(&project)[0];
    assert_eq!(row["status"], "held");
    assert_eq!(row["streams"][0]["checks"][0]["expected"], "at least 3");
    assert_eq!(row["streams"][0]["checks"][0]["seen"], "2");
    let id = row["run"].as_str().expect("an id").to_owned();
    let next = row["next"].to_string();
    assert!(
        next.contains(&format!("gleaner runs publish {id}")),
        "{next}"
    );
    assert!(
        held.stderr.contains(&format!("gleaner runs publish {id}")),
        "{}",
        held.stderr
    );
    let old = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert!(old.contains("old"), "{old}");

    let asked = server.heard().len();
    let published = project.run(&["runs", "publish", &id]);
    assert_eq!(published.code, Some(0), "{}", published.shown);
    assert!(
        published.stderr.contains("published all the same"),
        "{}",
        published.shown
    );
    assert_eq!(server.heard().len(), asked, "nothing is asked");
    let rows = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(rows, "id\r\n1\r\n2\r\n");
    let all = past(&project);
    assert_eq!((all.len(), &all[0]["status"]), (1, &"released".into()));
    assert_eq!(all[0]["rows"], 4);
    assert!(all[0]["released"].is_string());
    assert_eq!(all[0]["files"].as_array().map(Vec::len), Some(2));

    let again = project.run(&["runs", "publish", &id]);
    assert_eq!(again.code, Some(0), "{}", again.shown);
    assert!(
        again.stderr.contains("is published already"),
        "{}",
        again.shown
    );
    assert_eq!(past(&project), all);
}

#[test]
fn a_short_page_between_pages_side_by_side_can_be_released_too() {
    let server = Server::start(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let from = target.split("o=").nth(1).and_then(|text| text.parse().ok());
        let from: usize = from.unwrap_or(0);
        let most = if from == 20 { 5 } else { 10 };
        let ids: Vec<String> = (from..(from + most).min(45))
            .map(|id| format!(r#"{{"id":{id}}}"#))
            .collect();
        Reply::json(format!(r#"{{"data":[{}],"n":45}}"#, ids.join(",")))
    });
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none }}\nstreams:\n  items: {{ get: /items, records: data, pages: {{ offset: {{ to: o, total: n }} }} }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    ));
    let held = project.run(&["run", "items"]);
    assert_eq!(held.code, Some(3), "{}", held.shown);
    assert!(
        held.stderr.contains("gleaner runs publish"),
        "{}",
        held.shown
    );
    let id = past(&project)[0]["run"].as_str().expect("an id").to_owned();
    let asked = server.heard().len();
    let said = project.run(&["runs", "publish", &id]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(server.heard().len(), asked, "nothing is asked");
    let file = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert_eq!(file.lines().count(), 1 + 40);
}

#[test]
fn what_is_held_is_not_published_over_what_is_newer() {
    let held_back = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let few = std::sync::Arc::clone(&held_back);
    let server = Server::start(move |_| {
        if few.load(std::sync::atomic::Ordering::SeqCst) {
            Reply::json(r#"{"data":[{"id":1}]}"#)
        } else {
            Reply::json(r#"{"data":[{"id":7},{"id":8},{"id":9}]}"#)
        }
    });
    let project = project(&server);
    for _ in 0..2 {
        assert_eq!(project.run(&["run", "items"]).code, Some(3));
    }
    let runs = past(&project);
    let ids: Vec<&str> = runs.iter().filter_map(|run| run["run"].as_str()).collect();
    // Of two that wait for a person the latest counts, and what it keeps is all there is.
    let older = project.run(&["runs", "publish", ids[1]]);
    assert_eq!(older.code, Some(2), "{}", older.shown);
    assert!(
        older.stderr.contains("keeps nothing any more"),
        "{}",
        older.shown
    );
    // `others` was published by a run since: what it holds is newer.
    held_back.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        project.run(&["run", "items", "--stream", "others"]).code,
        Some(0)
    );
    let newer = project.run(&["runs", "publish", ids[0]]);
    assert_ne!(newer.code, Some(0), "{}", newer.shown);
    let old = std::fs::read_to_string(project.path().join("data/others.csv")).expect("a file");
    assert!(old.contains('9'), "{old}");
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    assert_eq!(past(&project)[0]["status"], "complete");
    assert_ne!(project.run(&["runs", "publish", ids[0]]).code, Some(0));
}
