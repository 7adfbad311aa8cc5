//! Against programs that others wrote: Datasette, json-server and nginx, on loopback.
//!
//! `tests/run` installs them. Row for row, what `gleaner` leaves must equal what they were given.
#![expect(
    clippy::disallowed_methods,
    reason = "servers start in real time, and readiness is polled"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

// ---- the parts -------------------------------------------------------------------------------

/// A server on loopback, killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts what `command` makes for a free port and waits until it takes connections. The port
    /// may be lost to somebody else between looking and binding, so a start is tried thrice.
    fn start(folder: &Path, command: impl Fn(u16) -> Command) -> Self {
        let log = folder.join("server.log");
        for _ in 0..3 {
            let port = free_port();
            let out = fs::File::create(&log).expect("a log file");
            let child = command(port)
                .stdin(Stdio::null())
                .stdout(out.try_clone().expect("a second handle"))
                .stderr(out)
                .spawn()
                .expect("the server program starts; run tests/run");
            let mut server = Self { child, port };
            if server.is_ready() {
                return server;
            }
        }
        panic!(
            "the server did not start:\n{}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }

    fn is_ready(&mut self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return true;
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// A program that `tests/run` put below `target/real/`.
fn part(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/real")
        .join(path);
    assert!(
        path.exists(),
        "{} is missing: run tests/run, it installs what these tests need",
        path.display()
    );
    path
}

fn nginx() -> PathBuf {
    let found = std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("nginx"))
        .find(|path| path.exists());
    found.expect("nginx is missing: run tests/run, it installs what these tests need")
}

// ---- the project -----------------------------------------------------------------------------

/// A project folder with one pipeline `it`, and room for a server's files.
struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `pipeline`; a failure shows what was printed.
    fn run(&self, pipeline: &str) {
        let output = self.try_run(pipeline);
        assert!(
            output.status.success(),
            "{}\n{}{}\n{pipeline}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn try_run(&self, pipeline: &str) -> Output {
        let pipelines = self.path().join("pipelines");
        fs::create_dir_all(&pipelines).expect("a folder for pipelines");
        fs::write(pipelines.join("it.yaml"), pipeline).expect("a pipeline file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
        for name in [
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        command
            .args(["run", "it"])
            .current_dir(self.path())
            .env("XDG_STATE_HOME", self.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .expect("gleaner starts")
    }

    /// The rows of a CSV file, its header first.
    fn csv(&self, path: &str) -> Vec<Vec<String>> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(self.path().join(path))
            .expect("the CSV file is there")
            .records()
            .map(|row| {
                row.expect("well-formed CSV")
                    .iter()
                    .map(str::to_owned)
                    .collect()
            })
            .collect()
    }

    /// The records of an NDJSON file.
    fn ndjson(&self, path: &str) -> Vec<Value> {
        fs::read_to_string(self.path().join(path))
            .expect("the NDJSON file is there")
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON value a line"))
            .collect()
    }
}

/// Compares row by row, so that a failure shows one row and not a thousand.
fn assert_rows<T: PartialEq + std::fmt::Debug>(got: &[T], expected: &[T]) {
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got, expected, "row {n}");
    }
    assert_eq!(got.len(), expected.len(), "number of rows");
}

// ---- Datasette -------------------------------------------------------------------------------

/// A book as the database gets it: text that needs quoting, a null now and then, a code with zeros.
#[derive(Clone)]
struct Book {
    id: usize,
    shelf: &'static str,
    title: String,
    price: f64,
    code: Option<String>,
}

impl Book {
    fn all() -> Vec<Self> {
        let odd = [
            "plain",
            "a, \"b\"",
            "über % & + ~",
            "two\nlines",
            "日本",
            "",
            "'quoted'",
            "a/b?c=d#e",
        ];
        (1..=1_234_usize)
            .map(|id| Self {
                id,
                shelf: ["a", "b c", "d&e"][id % 3],
                // 7919 is prime to the count, so titles are in another order than ids.
                title: format!("{:04} {}", id * 7_919 % 1_234, odd[id % odd.len()]),
                price: id as f64 / 4.0,
                code: (id % 7 != 0).then(|| format!("{id:05}")),
            })
            .collect()
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id, "shelf": self.shelf, "title": self.title, "price": self.price,
            "code": self.code,
        })
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.shelf.to_owned(),
            self.title.clone(),
            format!("{:?}", self.price),
            self.code.clone().unwrap_or_default(),
        ]
    }

    fn header() -> Vec<String> {
        ["id", "shelf", "title", "price", "code"]
            .map(str::to_owned)
            .to_vec()
    }
}

fn datasette(project: &Project, books: &[Book]) -> Server {
    const LOAD: &str = "
import json, sqlite3, sys
books = json.load(open(sys.argv[1]))
db = sqlite3.connect(sys.argv[2])
db.execute('create table books (id integer primary key, shelf text, title text, price real, code text)')
db.executemany('insert into books values (:id, :shelf, :title, :price, :code)', books)
db.commit()
";
    let given = project.path().join("books.json");
    let database = project.path().join("library.db");
    let rows: Vec<Value> = books.iter().map(Book::json).collect();
    fs::write(&given, Value::from(rows).to_string()).expect("the source data");
    let loaded = Command::new(part("py/bin/python"))
        .args(["-c", LOAD])
        .args([&given, &database])
        .status()
        .expect("python starts");
    assert!(loaded.success());
    Server::start(project.path(), |port| {
        let mut command = Command::new(part("py/bin/datasette"));
        command.arg("serve").arg(&database).args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ]);
        command
    })
}

#[test]
fn datasette_by_the_next_url_in_the_body() {
    let (project, books) = (Project::new(), Book::all());
    let server = datasette(&project, &books);
    project.run(&format!(
        "
about: All books, by the address of the next page.
source: {{ url: 'http://127.0.0.1:{}', limits: none }}
streams:
  books:
    get: /library/books.json
    query: {{ _shape: objects, _size: 100 }}
    pages: {{ next: next_url }}
    records: rows
    key: id
    expect: {{ total: filtered_table_rows_count }}
sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}
",
        server.port
    ));
    let expected: Vec<Value> = books.iter().map(Book::json).collect();
    assert_rows(&project.ndjson("out/books.ndjson"), &expected);
}

#[test]
fn datasette_by_tokens_full_of_odd_characters() {
    let (project, books) = (Project::new(), Book::all());
    let server = datasette(&project, &books);
    // Sorted by title, the token holds the last title of a page, encoded in Datasette's own way.
    project.run(&format!(
        "
about: Books of three shelves by title, side by side, by tokens.
source: {{ url: 'http://127.0.0.1:{}/library', limits: none }}
streams:
  books:
    for: {{ shelf: [a, b c, d&e] }}
    get: /books.json
    query: {{ _shape: objects, _size: 50, _sort: title, shelf__exact: '{{{{ shelf }}}}' }}
    pages: {{ token: {{ from: next, to: _next }} }}
    records: rows
    columns: {{ id: , shelf: , title: , price: , code: }}
sink: {{ csv: 'out/{{{{ stream }}}}.csv' }}
",
        server.port
    ));
    let mut sorted = books;
    sorted.sort_by_key(|book| (book.shelf, book.title.clone()));
    let expected: Vec<_> = std::iter::once(Book::header())
        .chain(sorted.iter().map(Book::cells))
        .collect();
    assert_rows(&project.csv("out/books.csv"), &expected);
}

#[test]
fn datasette_by_its_link_header() {
    let (project, books) = (Project::new(), Book::all());
    let server = datasette(&project, &books);
    project.run(&format!(
        "
about: All books, by the Link header, as a plain array.
source: {{ url: 'http://127.0.0.1:{}/library', limits: none }}
streams:
  books:
    get: /books.json
    query: {{ _shape: array, _size: 500 }}
    pages: link
sink: {{ csv: 'out/{{{{ stream }}}}.csv' }}
",
        server.port
    ));
    let expected: Vec<_> = std::iter::once(Book::header())
        .chain(books.iter().map(Book::cells))
        .collect();
    assert_rows(&project.csv("out/books.csv"), &expected);
}

// ---- json-server -----------------------------------------------------------------------------

/// So many posts that the last page of ten is full: only an empty page after it shows the end.
fn posts() -> Vec<Value> {
    (1..=230)
        .map(|id| {
            json!({
                "id": id,
                "title": format!("post \"{id}\", {}", if id % 5 == 0 { "with\na break" } else { "flat" }),
                "author": { "name": format!("writer {}", id % 9), "staff": id % 2 == 0 },
                "tags": (0..id % 4).map(|n| format!("t{n}")).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn json_server(project: &Project, posts: &[Value]) -> Server {
    let database = project.path().join("db.json");
    fs::write(&database, json!({ "posts": posts }).to_string()).expect("the source data");
    Server::start(project.path(), |port| {
        let mut command = Command::new(part("node/node_modules/.bin/json-server"));
        command
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--quiet",
            ])
            .arg(&database)
            .current_dir(project.path());
        command
    })
}

/// Fetches all posts with these `query` and `pages`, as NDJSON and as CSV.
fn posts_by(query: &str, pages: &str) {
    let (project, posts) = (Project::new(), posts());
    let server = json_server(&project, &posts);
    project.run(&format!(
        "
about: All posts.
source: {{ url: 'http://127.0.0.1:{}', limits: none }}
streams:
  posts:
    get: /posts
    query: {query}
    pages: {pages}
    key: id
sink:
  - ndjson: 'out/{{{{ stream }}}}.ndjson'
  - csv: 'out/{{{{ stream }}}}.csv'
",
        server.port
    ));
    // json-server breaks its JSON into many lines; a record is one line all the same.
    assert_rows(&project.ndjson("out/posts.ndjson"), &posts);

    let mut expected = vec![
        ["id", "title", "author.name", "author.staff", "tags"]
            .map(str::to_owned)
            .to_vec(),
    ];
    expected.extend(posts.iter().map(|post| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        vec![
            post["id"].to_string(),
            text(&post["title"]),
            text(&post["author"]["name"]),
            post["author"]["staff"].to_string(),
            post["tags"].to_string(),
        ]
    }));
    let mut got = project.csv("out/posts.csv");
    for row in got.iter_mut().skip(1) {
        // The spaces inside an array are the server's; its values are what must agree.
        let tags: Value = serde_json::from_str(&row[4]).expect("an array as JSON text");
        row[4] = tags.to_string();
    }
    assert_rows(&got, &expected);
}

#[test]
fn json_server_by_its_link_header() {
    posts_by("{ _page: 1, _limit: 7 }", "link");
}

#[test]
fn json_server_by_page_number() {
    posts_by("{ _limit: 10 }", "{ page: { to: _page, size: _limit } }");
}

#[test]
fn json_server_by_offset() {
    posts_by("{ _limit: 10 }", "{ offset: { to: _start, size: _limit } }");
}

#[test]
fn json_server_without_the_resource() {
    let project = Project::new();
    let server = json_server(&project, &posts());
    let output = project.try_run(&format!(
        "
about: Nothing of that name.
source: {{ url: 'http://127.0.0.1:{}', limits: none }}
streams: {{ nothing: {{ get: /nothing }} }}
sink: {{ csv: 'out/{{{{ stream }}}}.csv' }}
",
        server.port
    ));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("404"));
    assert!(!project.path().join("out/nothing.csv").exists());
}

// ---- nginx -----------------------------------------------------------------------------------

const PAGES: usize = 35;
const PER_PAGE: usize = 20;

fn items() -> Vec<Value> {
    (0..PAGES * PER_PAGE)
        .map(|n| json!({ "id": n, "name": format!("item {n}") }))
        .collect()
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
             http {\n  types { application/json json; }\n  log_format audit '$status $limit_req_status $msec $request_uri';\n",
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            let _ = writeln!(config, "  {kind}_temp_path temp_{kind};");
        }
        let _ = write!(
            config,
            "  access_log access.log audit;\n  \
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

fn items_at(server: &Server, limits: &str) -> String {
    format!(
        "
about: Static pages behind a rate limit.
source:
  url: http://127.0.0.1:{}
  limits: {limits}
  concurrency: 16
  retry: {{ attempts: 2 }}
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

/// Statuses and verdicts of all requests, from nginx's own log.
fn audit(project: &Project) -> Vec<(String, String)> {
    fs::read_to_string(project.path().join("access.log"))
        .expect("an access log")
        .lines()
        .map(|line| {
            let mut fields = line.split(' ').map(str::to_owned);
            (
                fields.next().unwrap_or_default(),
                fields.next().unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn nginx_refuses_nothing_when_the_limit_is_declared() {
    let project = Project::new();
    let server = nginx_at_ten_a_second(&project, "nodelay");
    project.run(&items_at(&server, "[10/s]"));
    assert_rows(&project.ndjson("out/items.ndjson"), &items());
    let seen = audit(&project);
    assert_eq!(seen.len(), PAGES, "one request a page");
    assert!(seen.iter().all(|(status, _)| status == "200"), "{seen:?}");
}

#[test]
fn nginx_refuses_nothing_when_it_queues_the_burst() {
    let project = Project::new();
    let server = nginx_at_ten_a_second(&project, "");
    project.run(&items_at(&server, "[10/s]"));
    assert_rows(&project.ndjson("out/items.ndjson"), &items());
    let seen = audit(&project);
    assert_eq!(seen.len(), PAGES, "one request a page");
    assert!(seen.iter().all(|(status, _)| status == "200"), "{seen:?}");
}

/// The control: without a declared limit the same server does refuse, so the two tests above can
/// fail.
#[test]
fn nginx_refuses_those_who_do_not_declare_the_limit() {
    let project = Project::new();
    let server = nginx_at_ten_a_second(&project, "nodelay");
    let _ = project.try_run(&items_at(&server, "none"));
    let seen = audit(&project);
    assert!(
        seen.iter().any(|(_, verdict)| verdict == "REJECTED"),
        "{seen:?}"
    );
}
