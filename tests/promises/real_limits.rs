//! Limits that others wrote and enforce: nginx, express-rate-limit, Django REST framework,
//! Flask-Limiter, each in a process of its own on loopback.
//!
//! A declared limit: whole data and not one refusal. A limit declared too high: whole data all the
//! same, and one burst of refusals a pause, no more than were in flight.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::parts::{Project, Server, assert_rows, part};

// ---- what all serve, and what they saw ---------------------------------------------------------

const PAGES: usize = 35;
const PER_PAGE: usize = 10;
const IN_FLIGHT: usize = 16;
/// So few that hardly any is on its way when a refusal comes from a server that answers at once.
const FEW: usize = 2;
/// The server's log, in the project's folder.
const LOG: &str = "seen.log";

fn items() -> Vec<Value> {
    (0..PAGES * PER_PAGE)
        .map(|n| json!({ "id": n, "name": format!("item {n}") }))
        .collect()
}

fn items_at(server: &Server, limits: &str) -> String {
    items_by(server, limits, IN_FLIGHT)
}

/// The same with so many in flight at most.
fn items_by(server: &Server, limits: &str, in_flight: usize) -> String {
    format!(
        "
about: A listing behind a rate limit.
source:
  url: http://127.0.0.1:{}
  limits: {limits}
  concurrency: {in_flight}
streams:
  items:
    get: /items
    query: {{ per_page: {PER_PAGE} }}
    pages: {{ page: {{ to: page, size: per_page, total: total }} }}
    records: items
    key: id
sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}
",
        server.port
    )
}

/// A request as the server's log has it.
#[derive(Debug)]
struct Seen {
    /// Seconds since 1970 at its arrival.
    at: f64,
    status: u16,
    /// Until when its answer asked to wait, in seconds since 1970.
    until: f64,
}

/// What is waited after a refusal that does not say how long (docs/design.md, "Retries"), in seconds.
const NOT_SAID: f64 = 1.0;
/// Arrivals are written down to the millisecond.
const TO_THE: f64 = 0.001;

/// The time that a `Retry-After` gives: as seconds, as a date whose spaces are written `_`, or "-".
fn until(at: f64, told: &str) -> f64 {
    if let Ok(seconds) = told.parse::<f64>() {
        return at + seconds;
    }
    match told {
        "-" => at + NOT_SAID,
        date => {
            let date = jiff::fmt::rfc2822::parse(&date.replace('_', " ")).expect("a date");
            date.timestamp().as_duration().as_secs_f64()
        }
    }
}

/// All requests by arrival: lines of seconds, status, Retry-After or "-".
fn seen(project: &Project) -> Vec<Seen> {
    let text = fs::read_to_string(project.path().join(LOG)).expect("the server's log");
    let mut seen: Vec<Seen> = text
        .lines()
        .map(|line| {
            let mut fields = line.split(' ');
            let mut field = || fields.next().unwrap_or_default();
            let at = field().parse().expect("a time");
            Seen {
                at,
                status: field().parse().expect("a status"),
                until: until(at, field()),
            }
        })
        .collect();
    seen.sort_by(|a, b| a.at.total_cmp(&b.at));
    seen
}

fn refusals(seen: &[Seen]) -> usize {
    seen.iter().filter(|seen| seen.status != 200).count()
}

/// Whole data, one request a page, no refusal.
fn assert_nothing_refused(project: &Project) {
    let seen = seen(project);
    assert_rows(&project.ndjson("out/items.ndjson"), &items());
    assert_eq!(refusals(&seen), 0, "{seen:?}");
    assert_eq!(seen.len(), PAGES, "one request a page");
}

/// Whole data, and after a refusal nothing but what was on its way until the pause is over, which is no more than
/// may be in flight, however long it takes. Gives the number of bursts.
fn assert_one_burst_a_pause(project: &Project, in_flight: usize) -> usize {
    assert_rows(&project.ndjson("out/items.ndjson"), &items());
    let seen = &seen(project)[..];
    assert_eq!(seen.len(), PAGES + refusals(seen), "{seen:?}");
    for (place, refused) in seen.iter().enumerate() {
        let mut later = seen[place..].iter().skip(in_flight);
        assert!(
            refused.status == 200 || later.all(|seen| seen.at + TO_THE >= refused.until),
            "more than was on its way came before {}: {seen:?}",
            refused.until
        );
    }
    let mut bursts = 0;
    let mut rest = seen;
    while let Some(first) = rest.iter().position(|seen| seen.status != 200) {
        bursts += 1;
        let until = rest[first].until;
        rest = &rest[first..];
        let over = rest.iter().position(|seen| seen.at + TO_THE >= until);
        rest = over.map_or(&[], |over| &rest[over.max(1)..]);
    }
    bursts
}

/// A server of `tests/real/limits`, told its port, its log and `arguments`.
fn limited(project: &Project, program: &Path, script: &str, arguments: &[&str]) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/real/limits")
        .join(script);
    Server::start(project.path(), |port| {
        let mut command = Command::new(program);
        command
            .env("NODE_PATH", part("node/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg(&script)
            .arg(port.to_string())
            .arg(project.path().join(LOG))
            .args(arguments);
        command
    })
}

/// Runs `test` for all cases at once: they wait for limits, not for the machine.
fn for_each<const N: usize>(cases: [&str; N], test: impl Fn(&str) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

/// Counts bursts with many in flight, of which there must be one, and with few.
fn at_each_width(bursts: impl Fn(usize) -> usize + Sync) {
    for_each(["many", "few"], |width| {
        let in_flight = if width == "many" { IN_FLIGHT } else { FEW };
        let bursts = bursts(in_flight);
        assert!(bursts > 0 || width == "few", "the tests can fail");
    });
}

// ---- nginx -----------------------------------------------------------------------------------

fn nginx() -> PathBuf {
    let found = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("nginx"))
        .find(|path| path.exists());
    found.expect("nginx is missing: run tests/run, it installs what these tests need")
}

/// Static pages behind `limit_req` with ten requests a second. A client that keeps to ten in any
/// second is never more than nine ahead of an even pace, so `burst=9` is all it may need.
fn nginx_at_ten_a_second(project: &Project, queueing: &str) -> Server {
    let pages = project.path().join("pages");
    fs::create_dir_all(&pages).expect("a folder for pages");
    for (n, page) in items().chunks(PER_PAGE).enumerate() {
        let body = json!({ "total": PAGES * PER_PAGE, "items": page });
        fs::write(pages.join(format!("{}.json", n + 1)), body.to_string()).expect("a page");
    }
    let binary = nginx();
    Server::start(project.path(), |port| {
        let mut config = String::from(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events { worker_connections 64; }\n\
             http {\n  types { application/json json; }\n  log_format audit '$msec $status -';\n",
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            let _ = writeln!(config, "  {kind}_temp_path temp_{kind};");
        }
        let _ = write!(
            config,
            "  access_log seen.log audit;\n  limit_req_status 429;\n  \
               limit_req_zone $binary_remote_addr zone=calls:1m rate=10r/s;\n  \
               server {{\n    listen 127.0.0.1:{port};\n    root pages;\n    \
               location = /items {{ limit_req zone=calls burst=9 {queueing}; try_files /$arg_page.json =404; }}\n  }}\n}}\n"
        );
        fs::write(project.path().join("nginx.conf"), config).expect("a configuration");
        let mut command = Command::new(&binary);
        command
            .arg("-p")
            .arg(project.path())
            .args(["-c", "nginx.conf", "-e", "error.log"]);
        command
    })
}

#[test]
fn nginx_refuses_nothing_when_the_limit_is_declared() {
    for_each(["nodelay", ""], |queueing| {
        let project = Project::new();
        let server = nginx_at_ten_a_second(&project, queueing);
        project.run(&items_at(&server, "[10/s]"));
        assert_nothing_refused(&project);
    });
}

/// It says 429 and not until when.
#[test]
fn nginx_refuses_one_burst_a_pause_when_the_limit_is_declared_too_high() {
    at_each_width(|in_flight| {
        let project = Project::new();
        let server = nginx_at_ten_a_second(&project, "nodelay");
        project.run(&items_by(&server, "[50/s]", in_flight));
        assert_one_burst_a_pause(&project, in_flight)
    });
}

// ---- express-rate-limit ------------------------------------------------------------------------

const DRAFTS: [&str; 3] = ["draft-6", "draft-7", "draft-8"];

/// Twenty requests in two seconds, in fixed windows.
fn express(project: &Project, headers: &str) -> Server {
    let arguments = ["20", "2000", headers];
    limited(project, Path::new("node"), "express.js", &arguments)
}

#[test]
fn express_rate_limit_refuses_nothing_when_the_limit_is_declared() {
    for_each(DRAFTS, |draft| {
        let project = Project::new();
        let server = express(&project, draft);
        project.run(&items_at(&server, "[20/2s]"));
        assert_nothing_refused(&project);
    });
}

#[test]
fn express_rate_limit_refuses_one_burst_a_pause_when_the_limit_is_declared_too_high() {
    let [six, seven, eight] = DRAFTS;
    for_each([six, seven, eight, "none"], |headers| {
        let project = Project::new();
        let server = express(&project, headers);
        project.run(&items_at(&server, "[100/s]"));
        let bursts = assert_one_burst_a_pause(&project, IN_FLIGHT);
        // Where it says nothing beforehand it must refuse, so the tests can fail.
        assert!(bursts > 0 || headers != "none");
    });
}

// ---- Django REST framework -----------------------------------------------------------------------

/// Ten requests a second, and `long` too.
fn django(project: &Project, long: &str) -> Server {
    let python = part("py/bin/python");
    limited(project, &python, "django_rest.py", &["10/s", long])
}

#[test]
fn django_rest_framework_refuses_nothing_when_its_two_limits_are_declared() {
    let project = Project::new();
    let server = django(&project, "100/min");
    project.run(&items_at(
        &server,
        "[10/s, { limit: 100/min, spread: false }]",
    ));
    assert_nothing_refused(&project);
}

#[test]
fn django_rest_framework_refuses_one_burst_a_pause_when_the_limit_is_declared_too_high() {
    at_each_width(|in_flight| {
        let project = Project::new();
        // Its longer throttle counts what the shorter one refuses.
        let server = django(&project, "1000/min");
        project.run(&items_by(&server, "[50/s, 1000/min]", in_flight));
        assert_one_burst_a_pause(&project, in_flight)
    });
}

// ---- Flask-Limiter -------------------------------------------------------------------------------

/// Twenty requests in any so many seconds. It sends Retry-After with every answer, good ones too, and what is left if
/// `tells` is `told`.
fn flask(project: &Project, seconds: u32, retry_after: &str, tells: &str) -> Server {
    let python = part("py/bin/python");
    let rate = format!("20 per {seconds} second");
    let arguments = [&rate, retry_after, tells];
    limited(project, &python, "flask_window.py", &arguments)
}

#[test]
fn flask_limiter_refuses_nothing_when_the_limit_is_declared() {
    let project = Project::new();
    let server = flask(&project, 2, "delta-seconds", "told");
    project.run(&items_at(&server, "[20/2s]"));
    assert_nothing_refused(&project);
}

#[test]
fn flask_limiter_refuses_one_burst_a_pause_when_the_limit_is_declared_too_high() {
    let cases = [
        "delta-seconds told",
        "http-date told",
        "delta-seconds untold",
        "http-date untold",
    ];
    for_each(cases, |case| {
        let (retry_after, tells) = case.split_once(' ').expect("two words");
        let project = Project::new();
        // A window in which any machine asks for more.
        let server = flask(
            &project,
            if tells == "told" { 2 } else { 10 },
            retry_after,
            tells,
        );
        project.run(&items_at(&server, "[100/s]"));
        let bursts = assert_one_burst_a_pause(&project, IN_FLIGHT);
        // Where it says nothing beforehand it must refuse, so the tests can fail.
        assert!(bursts > 0 || tells == "told", "{case}");
    });
}
