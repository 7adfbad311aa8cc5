//! Against programs that others wrote: Datasette and json-server, on loopback. Row for row, what
//! `gleaner` leaves must equal what they were given. Their limits: `real_limits`.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::parts::{Project, Server, assert_rows, part};

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
