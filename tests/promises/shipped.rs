//! Every file in `pipelines/` runs, in stopped time, against a stand-in that answers in the shape
//! its API documents, holds it to the documented limit, and refuses what the API would refuse.
//!
//! `tests/shipped/NAME.json` is one whole answer with two records of invented values; the stand-ins
//! make more of them by counting up what identifies a record.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gleaner::clock::Clock;
use gleaner::disk::Disk;
use gleaner::failure::Exit;
use gleaner::harvest::events::Events;
use gleaner::harvest::summary::Summary;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::plan::Plan;
use gleaner::plan::compile::{Overrides, compile};
use gleaner::sim::demo;
use gleaner::sim::{
    Latency, MemoryTransport, Route, Rules, ServerLimit, SimApi, SimReply, SimRequest,
};
use gleaner::spec::load;
use serde_json::{Value, json};

// ---- running ---------------------------------------------------------------------------------

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Reads and checks a shipped pipeline, with its own variables.
fn plan(name: &str) -> Plan {
    let path = project().join("pipelines").join(format!("{name}.yaml"));
    let written = load::read(&path).unwrap_or_else(|e| panic!("{name}: {e:#?}"));
    compile(&written, &Overrides::default()).unwrap_or_else(|e| panic!("{name}: {e:#?}"))
}

/// What a run left behind.
struct Ran {
    summary: Summary,
    api: Arc<SimApi>,
    root: tempfile::TempDir,
}

/// Runs a shipped pipeline against `rules` in stopped time.
fn run(name: &str, rules: Rules) -> Ran {
    let root = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let (summary, api) = runtime.block_on(async {
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let api = SimApi::with_clock(rules, clock);
        let (_asks, stop) = tokio::sync::watch::channel(false);
        let world = World {
            clock,
            transport: MemoryTransport::shared(Arc::clone(&api)),
            disk: Disk::system(),
            root: root.path().to_owned(),
            events: Events::new(clock, |_| {}),
            stop,
        };
        let harvest = Harvest::open(plan(name), world, Options::default())
            .unwrap_or_else(|f| panic!("{name}: {f:?}"));
        (harvest.run().await, api)
    });
    let failures: Vec<_> = summary
        .streams
        .iter()
        .filter_map(|stream| stream.failure.as_ref())
        .collect();
    assert_eq!(summary.exit, Exit::Complete, "{name}: {failures:#?}");
    assert_eq!(api.audit().refusals(), 0, "{name}: the stand-in refused");
    Ran { summary, api, root }
}

impl Ran {
    fn csv(&self, path: &str) -> Vec<Vec<String>> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(self.root.path().join(path))
            .unwrap_or_else(|e| panic!("{path}: {e}"))
            .records()
            .map(|row| {
                row.expect("well-formed CSV")
                    .iter()
                    .map(str::to_owned)
                    .collect()
            })
            .collect()
    }

    fn ndjson(&self, path: &str) -> Vec<Value> {
        fs::read_to_string(self.root.path().join(path))
            .unwrap_or_else(|e| panic!("{path}: {e}"))
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON value a line"))
            .collect()
    }

    /// The file's own limit was kept, and the contact was named, on every request.
    fn assert_manners(&self, most: usize, window: Duration) {
        let audit = self.api.audit();
        assert!(audit.max_in_window(window) <= most);
        for entry in audit.entries() {
            let agent = entry.user_agent.unwrap_or_default();
            assert!(agent.contains("data-team@example.org"), "{agent}");
        }
    }
}

// ---- stand-ins -------------------------------------------------------------------------------

/// One documented answer.
fn answer(name: &str) -> Value {
    let path = project().join("tests/shipped").join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("the recorded answer is JSON")
}

/// `count` records: the two of the recorded answer as they are, then copies of the second that
/// `renumber` tells apart.
fn records(recorded: &Value, count: usize, renumber: impl Fn(&mut Value, usize)) -> Vec<Value> {
    let recorded = recorded.as_array().expect("records are an array");
    assert_eq!(recorded.len(), 2, "two records");
    (0..count)
        .map(|n| {
            let mut record = recorded[n.min(1)].clone();
            if n > 1 {
                renumber(&mut record, n);
            }
            record
        })
        .collect()
}

/// Rules for one host: its routes, a sliding limit, answers that take a while.
fn host(origin: &str, routes: Vec<Route>, limit: usize, window: Duration) -> Rules {
    Rules {
        routes: routes.into_iter().map(|route| route.at(origin)).collect(),
        limits: vec![ServerLimit::sliding(limit, window)],
        latency: Latency::Between(Duration::from_millis(20), Duration::from_millis(300), 7),
        gzip: true,
        ..Rules::default()
    }
}

fn route(path: &str, respond: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Route {
    Route::custom(path, Arc::new(respond))
}

fn ok(body: &Value) -> SimReply {
    SimReply::json(200, body.to_string())
}

/// A query parameter as a number.
fn number(request: &SimRequest, name: &str) -> Option<usize> {
    request.param(name)?.parse().ok()
}

/// Whether every named parameter has the given value; else the API would answer 400.
fn has(request: &SimRequest, wanted: &[(&str, &str)]) -> bool {
    wanted
        .iter()
        .all(|(name, value)| request.param(name).as_deref() == Some(*value))
}

fn cells(row: &[&str]) -> Vec<String> {
    row.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Checks that no two rows share the cell in `column`, and returns how many there are.
fn distinct(rows: &[Vec<String>], column: usize) -> usize {
    let seen: BTreeSet<_> = rows.iter().map(|row| &row[column]).collect();
    assert_eq!(seen.len(), rows.len(), "each row once");
    rows.len()
}

const SECOND: Duration = Duration::from_secs(1);

// ---- the files -------------------------------------------------------------------------------

#[test]
fn every_file_is_run_here() {
    let shipped: BTreeSet<String> = fs::read_dir(project().join("pipelines"))
        .expect("the folder is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let tested = [
        "crossref_recent_works",
        "demo",
        "github_issues",
        "huggingface_models",
        "usgs_earthquakes",
        "world_bank_indicators",
    ];
    assert_eq!(shipped, tested.map(str::to_owned).into());
    for name in &shipped {
        let _ = plan(name);
        let text = fs::read_to_string(project().join(format!("pipelines/{name}.yaml")));
        let text = text.expect("the file is text");
        assert!(
            text.starts_with("# yaml-language-server: $schema=../docs/pipeline.schema.json\n"),
            "{name} names its schema"
        );
        assert!(
            name == "demo" || text.contains("checked on 2026-"),
            "{name} says when its limits were checked"
        );
    }
}

#[test]
fn whole_files_in_the_docs_pass_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("it.yaml");
    let mut seen = 0;
    for page in ["README.md", "docs/language.md"] {
        let text = fs::read_to_string(project().join(page)).expect("the page is text");
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if !(block.contains("source:\n") && block.contains("streams:\n")) {
                continue;
            }
            seen += 1;
            fs::write(&path, block).expect("a file");
            let written = load::read(&path).unwrap_or_else(|e| panic!("{page}: {e:#?}"));
            compile(&written, &Overrides::default()).unwrap_or_else(|e| panic!("{page}: {e:#?}"));
        }
    }
    assert_eq!(seen, 2, "one whole file on each page");
}

#[test]
fn demo_runs_against_its_pretend_api() {
    let mut rules = demo::demo_api();
    for route in &mut rules.routes {
        route.origin = Some("http://127.0.0.1:8080".to_owned());
    }
    let ran = run("demo", rules);
    let articles = ran.csv("data/demo/articles.csv");
    let events = ran.csv("data/demo/events.csv");
    let id = |rows: &[Vec<String>]| rows[0].iter().position(|name| name == "id").expect("an id");
    assert_eq!(
        distinct(&articles[1..], id(&articles)),
        demo::ARTICLES_IN.iter().sum::<usize>()
    );
    assert_eq!(distinct(&events[1..], id(&events)), demo::EVENT_COUNT);
    assert_eq!(ran.api.audit().faults(), demo::FAULTS);
    assert!(ran.api.audit().max_in_window(demo::WINDOW) <= demo::LIMIT);
    assert_eq!(ran.summary.streams.len(), 2);
}

#[test]
fn usgs_earthquakes_runs() {
    const QUAKES: usize = 2_300;
    let recorded = answer("usgs_earthquakes");
    let all = records(&recorded["features"], QUAKES, |quake, n| {
        quake["id"] = json!(format!("zz{:08}", n + 1));
    });
    let query = route("/fdsnws/event/1/query", move |request| {
        let wanted = [
            ("format", "geojson"),
            ("starttime", "2025-01-01"),
            ("endtime", "2026-01-01"),
            ("minmagnitude", "4.5"),
            ("orderby", "time-asc"),
        ];
        let limit = number(request, "limit").filter(|limit| *limit <= 20_000);
        // The first is number 1; 0 is a mistake.
        let offset = number(request, "offset").unwrap_or(1);
        let (true, Some(limit), true) = (has(request, &wanted), limit, offset >= 1) else {
            return SimReply::new(400, &[("content-type", "text/plain")], "Bad Request");
        };
        let from = (offset - 1).min(all.len());
        let page = &all[from..(from + limit).min(all.len())];
        let mut body = recorded.clone();
        body["metadata"]["count"] = json!(page.len());
        body["metadata"]["offset"] = json!(offset);
        body["features"] = json!(page);
        ok(&body)
    });
    let ran = run(
        "usgs_earthquakes",
        host("https://earthquake.usgs.gov", vec![query], 1, SECOND),
    );
    ran.assert_manners(1, SECOND);
    assert_eq!(ran.api.audit().in_flight_max(), 1);
    assert_eq!(ran.api.audit().requests(), 3);
    let rows = ran.csv("data/usgs_earthquakes/quakes.csv");
    assert_eq!(
        rows[0],
        cells(&[
            "id",
            "magnitude",
            "magnitude_type",
            "place",
            "time_ms",
            "updated_ms",
            "longitude",
            "latitude",
            "depth_km",
            "status",
            "type",
        ])
    );
    assert_eq!(
        rows[1],
        cells(&[
            "zz00000001",
            "4.6",
            "mb",
            "23 km SSE of Nowhere, \"Invented\" Islands",
            "1735691234567",
            "1741385678040",
            "-150.1234",
            "-17.5",
            "10",
            "reviewed",
            "earthquake",
        ])
    );
    assert_eq!(distinct(&rows[1..], 0), QUAKES);
}

#[test]
fn usgs_earthquakes_with_nothing_to_tell() {
    let empty = route("/fdsnws/event/1/query", |_| SimReply::new(204, &[], ""));
    let ran = run(
        "usgs_earthquakes",
        host("https://earthquake.usgs.gov", vec![empty], 1, SECOND),
    );
    assert_eq!(ran.summary.streams[0].records, 0);
}

#[test]
fn world_bank_indicators_runs() {
    const MANY: usize = 10_050;
    let recorded = answer("world_bank_indicators");
    let values = route("/v2/country/all/indicator/{indicator}", move |request| {
        let indicator = request.param("indicator").unwrap_or_default();
        let size = number(request, "per_page").filter(|size| *size <= 32_500);
        let page = number(request, "page").unwrap_or(1);
        let asked = has(request, &[("format", "json"), ("date", "1990:2025")]);
        let (true, Some(size), true) = (asked, size, page >= 1) else {
            // Mistakes come with status 200.
            return ok(&json!([{ "message": [{
                "id": "120", "key": "Invalid value",
                "value": "The provided parameter value is not valid",
            }] }]));
        };
        let count = if indicator == "NY.GDP.PCAP.KD" {
            MANY
        } else {
            2
        };
        let mut all = records(&recorded[1], count, |row, n| {
            row["country"]["id"] = json!(format!("X{}", n / 36));
            row["date"] = json!((1990 + n % 36).to_string());
        });
        for row in &mut all {
            row["indicator"]["id"] = json!(indicator);
        }
        let mut about = recorded[0].clone();
        about["page"] = json!(page);
        about["pages"] = json!(count.div_ceil(size));
        about["total"] = json!(count);
        let rows = all.chunks(size).nth(page - 1).map(<[Value]>::to_vec);
        ok(&json!([about, rows]))
    });
    let ran = run(
        "world_bank_indicators",
        host("https://api.worldbank.org", vec![values], 2, SECOND),
    );
    ran.assert_manners(2, SECOND);
    let rows = ran.csv("data/world_bank_indicators/values.csv");
    assert_eq!(
        rows[0],
        cells(&[
            "indicator",
            "country_id",
            "iso3",
            "country",
            "year",
            "value"
        ])
    );
    assert_eq!(
        rows[1],
        cells(&[
            "NY.GDP.PCAP.KD",
            "ZH",
            "AFE",
            "Invented Union, East",
            "2025",
            ""
        ])
    );
    assert_eq!(
        rows[2],
        cells(&[
            "NY.GDP.PCAP.KD",
            "XA",
            "XXA",
            "Atlantis",
            "1990",
            "1234.56789012345"
        ])
    );
    assert_eq!(rows.len() - 1, MANY + 3 * 2);
    assert_eq!(ran.api.audit().requests(), 2 + 3);
}

#[test]
fn crossref_recent_works_runs() {
    const MANY: usize = 1_004;
    let recorded = answer("crossref_recent_works");
    let works = route("/works", move |request| {
        let filter = request.param("filter").unwrap_or_default();
        let issn = filter.rsplit("issn:").next().unwrap_or_default().to_owned();
        let count = if issn == "1476-4687" { MANY } else { 2 };
        let items = records(&recorded["message"]["items"], count, |work, n| {
            work["DOI"] = json!(format!("10.99999/inv.2026.{n:05}"));
        });
        let mut items = items;
        for work in &mut items {
            let doi = work["DOI"].as_str().unwrap_or_default().to_owned();
            work["DOI"] = json!(format!("{doi}/{issn}"));
        }
        let polite = has(request, &[("mailto", "data-team@example.org")]);
        let rows = number(request, "rows").filter(|rows| *rows <= 1_000);
        // A cursor is opaque, full of characters that need escaping, and given on the last page too.
        let from = match request.param("cursor").as_deref() {
            Some("*") => Some(0),
            Some(cursor) => cursor.strip_prefix("DnF+/==").and_then(|n| n.parse().ok()),
            None => None,
        };
        let (true, Some(rows), Some(from)) = (polite, rows, from) else {
            return SimReply::json(
                400,
                r#"{"status":"failed","message-type":"validation-failure"}"#,
            );
        };
        let until = (from + rows).min(items.len());
        let mut body = recorded.clone();
        body["message"]["total-results"] = json!(count);
        body["message"]["next-cursor"] = json!(format!("DnF+/=={until}"));
        body["message"]["items"] = json!(items[from..until]);
        ok(&body)
            .header("x-rate-limit-limit", "3")
            .header("x-rate-limit-interval", "1s")
    });
    let ran = run(
        "crossref_recent_works",
        host("https://api.crossref.org", vec![works], 3, SECOND),
    );
    ran.assert_manners(3, SECOND);
    assert!(ran.api.audit().in_flight_max() <= 3);
    let works = ran.ndjson("data/crossref_recent_works/works.ndjson");
    assert_eq!(works.len(), MANY + 2 * 2);
    let mut first = answer("crossref_recent_works")["message"]["items"][0].clone();
    first["DOI"] = json!("10.99999/inv.2026.00001/1476-4687");
    assert_eq!(works[0], first);
    let dois: BTreeSet<_> = works.iter().map(|work| work["DOI"].to_string()).collect();
    assert_eq!(dois.len(), works.len());
}

#[test]
fn huggingface_models_runs() {
    const MANY: usize = 1_002;
    let recorded = answer("huggingface_models");
    let models = route("/api/models", move |request| {
        let author = request.param("author").unwrap_or_default();
        let count = if author == "HuggingFaceTB" { MANY } else { 2 };
        let mut all = records(&recorded, count, |model, n| {
            model["id"] = json!(format!("invented/ear-{n}"));
        });
        for model in &mut all {
            let id = model["id"].as_str().unwrap_or_default();
            model["id"] = json!(id.replace("invented", &author));
            model["author"] = json!(author);
        }
        let limit = number(request, "limit").filter(|limit| *limit <= 1_000);
        let sorted = has(request, &[("sort", "lastModified"), ("direction", "-1")]);
        let (true, Some(limit)) = (sorted, limit) else {
            return SimReply::error(400, "bad request");
        };
        let from = number(request, "cursor").unwrap_or(0);
        let until = (from + limit).min(count);
        let reply = ok(&json!(all[from..until]));
        if until == count {
            return reply;
        }
        let next = request.target_with("cursor", &until.to_string());
        reply.header(
            "link",
            &format!("<https://huggingface.co{next}>; rel=\"next\""),
        )
    });
    let ran = run(
        "huggingface_models",
        host("https://huggingface.co", vec![models], 500, 300 * SECOND),
    );
    ran.assert_manners(500, 300 * SECOND);
    let rows = ran.csv("data/huggingface_models/models.csv");
    assert_eq!(
        rows[0],
        cells(&[
            "id",
            "author",
            "task",
            "library",
            "downloads",
            "likes",
            "gated",
            "tags",
            "created_at",
            "changed_at",
        ])
    );
    assert_eq!(
        rows[1],
        cells(&[
            "HuggingFaceTB/ear-1b",
            "HuggingFaceTB",
            "text-generation",
            "transformers",
            "1234",
            "7",
            "false",
            r#"["transformers","safetensors","region:us"]"#,
            "2026-01-02T03:04:05.000Z",
            "2026-11-20T10:11:12.000Z",
        ])
    );
    // No task and no library: null, not a mistake.
    assert_eq!(rows[2][2..4], cells(&["", ""])[..]);
    assert_eq!(distinct(&rows[1..], 0), MANY + 2 * 2);
}

#[test]
fn github_issues_runs() {
    const MANY: usize = 205;
    let recorded = answer("github_issues");
    let issues = route("/repos/{owner}/{name}/issues", move |request| {
        let owner = request.param("owner").unwrap_or_default();
        let count = if owner == "rust-lang" { MANY } else { 2 };
        let mut all = records(&recorded, count, |issue, n| {
            issue["id"] = json!(9_000_000_001_u64 + n as u64);
            issue["number"] = json!(11 + n);
        });
        for issue in &mut all {
            let id = issue["id"].as_u64().unwrap_or_default();
            issue["id"] = json!(id + if owner == "rust-lang" { 0 } else { 1_000_000 });
        }
        let wanted = [
            ("state", "all"),
            ("since", "2026-01-01T00:00:00Z"),
            ("sort", "updated"),
            ("direction", "asc"),
            ("header:accept", "application/vnd.github+json"),
            ("header:x-github-api-version", "2022-11-28"),
        ];
        let size = number(request, "per_page").filter(|size| *size <= 100);
        let (true, Some(size)) = (has(request, &wanted), size) else {
            return SimReply::error(422, "Validation Failed");
        };
        let page = number(request, "page").unwrap_or(1);
        let reply = ok(&json!(all.chunks(size).nth(page - 1).unwrap_or_default()));
        if page * size >= count {
            return reply;
        }
        let next = request.target_with("page", &(page + 1).to_string());
        let last = request.target_with("page", &count.div_ceil(size).to_string());
        reply.header(
            "link",
            &format!(
                "<https://api.github.com{next}>; rel=\"next\", <https://api.github.com{last}>; rel=\"last\""
            ),
        )
    });
    // Without a token 60 an hour; a machine that has one in its environment sends it.
    let hour = 3600 * SECOND;
    let ran = run(
        "github_issues",
        host("https://api.github.com", vec![issues], 60, hour),
    );
    ran.assert_manners(60, hour);
    let token = std::env::var_os("GITHUB_TOKEN").is_some_and(|token| !token.is_empty());
    for entry in ran.api.audit().entries() {
        assert_eq!(entry.credentials, token);
    }
    assert_eq!(ran.api.audit().requests(), 3 + 1);
    let rows = ran.csv("data/github_issues/issues.csv");
    assert_eq!(
        rows[0],
        cells(&[
            "repo",
            "id",
            "number",
            "title",
            "state",
            "author",
            "labels",
            "comments",
            "pull_request",
            "created_at",
            "updated_at",
            "closed_at",
        ])
    );
    assert_eq!(
        rows[1],
        cells(&[
            "rust-lang/mdBook",
            "9000000001",
            "11",
            "Invented: a heading, with a comma and \"quotes\"",
            "closed",
            "ruth",
            r#"["bug","help wanted"]"#,
            "2",
            "",
            "2025-12-30T08:00:00Z",
            "2026-01-02T09:30:00Z",
            "2026-01-02T09:30:00Z",
        ])
    );
    assert_eq!(rows[2][8], "https://github.com/rust-lang/mdBook/pull/12");
    assert_eq!(distinct(&rows[1..], 1), MANY + 2);
}
