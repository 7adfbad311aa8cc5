//! Paging that others wrote, each in a process of its own on loopback: the three paginators of
//! Django REST framework, a Relay connection served by Strawberry, the page tokens of `MLflow`'s
//! tracking server, and the Link headers of Debian's docker-registry. Row for row.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::parts::{Project, Server, assert_rows, part};

/// More than ten pages of twenty, and not a whole number of them.
const BOOKS: usize = 217;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/real/paging")
        .join(name)
}

/// Starts a script with its port and these arguments.
fn python(project: &Project, name: &str, arguments: &[String]) -> Server {
    Server::start(project.path(), |port| {
        let mut command = Command::new(part("py/bin/python"));
        command
            .arg(script(name))
            .arg(port.to_string())
            .args(arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(project.path());
        command
    })
}

fn by<'a>(rows: &'a [Value], field: &str) -> Vec<&'a Value> {
    let mut rows: Vec<&Value> = rows.iter().collect();
    rows.sort_by_key(|row| row[field].to_string());
    rows
}

// ---- Django REST framework --------------------------------------------------------------------

fn django(project: &Project) -> Server {
    let database = project.path().join("books.db").display().to_string();
    python(project, "django_pages.py", &[database, BOOKS.to_string()])
}

fn book(id: usize) -> Value {
    json!({ "id": id, "title": format!("book {id}, \"bound\""), "year": 1990 + id % 3 })
}

fn django_by(path: &str, query: &str, pages: &str, expect: &str) -> Vec<Value> {
    let project = Project::new();
    let server = django(&project);
    project.run(&format!(
        "
about: All books.
source: {{ url: 'http://127.0.0.1:{}', limits: none, concurrency: 4 }}
streams:
  books:
    get: {path}
    query: {query}
    pages: {pages}
    records: results
    key: id
    expect: {expect}
sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}
",
        server.port
    ));
    project.ndjson("out/books.ndjson")
}

#[test]
fn django_by_page_number_side_by_side() {
    let got = django_by(
        "/numbers",
        "{ page_size: 30 }",
        "{ page: { to: page, size: page_size, total: count } }",
        "{ total: count }",
    );
    assert_rows(&got, &(1..=BOOKS).map(book).collect::<Vec<_>>());
}

#[test]
fn django_by_offset_side_by_side() {
    let got = django_by(
        "/offsets",
        "{ limit: 25 }",
        "{ offset: { to: offset, size: limit, total: count } }",
        "{ total: count }",
    );
    assert_rows(&got, &(1..=BOOKS).map(book).collect::<Vec<_>>());
}

#[test]
fn django_by_cursor_where_many_are_equal() {
    let got = django_by(
        "/cursors",
        "{}",
        "{ next: next }",
        &format!("{{ min_records: {BOOKS} }}"),
    );
    let mut expected: Vec<usize> = (1..=BOOKS).collect();
    expected.sort_by_key(|id| (id % 3, *id));
    assert_rows(&got, &expected.into_iter().map(book).collect::<Vec<_>>());
}

// ---- Strawberry -------------------------------------------------------------------------------

#[test]
fn strawberry_by_the_cursors_of_a_connection() {
    let project = Project::new();
    let server = python(&project, "graphql_connection.py", &[BOOKS.to_string()]);
    project.run(&format!(
        "
about: Books from the eleventh on.
source: {{ url: 'http://127.0.0.1:{}', limits: none }}
streams:
  books:
    post: /graphql
    body:
      graphql:
        query: |
          query($since: Int!, $after: String) {{
            books(since: $since, first: 20, after: $after) {{
              pageInfo {{ endCursor hasNextPage }}
              edges {{ node {{ id title year }} }} }} }}
        variables: {{ since: 11 }}
    pages: {{ token: {{ from: data.books.pageInfo.endCursor, to: body.variables.after }} }}
    stop: not body.data.books.pageInfo.hasNextPage
    records: data.books.edges.*.node
    key: id
sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}
",
        server.port
    ));
    let got = project.ndjson("out/books.ndjson");
    let got: Vec<_> = got
        .iter()
        .map(|row| (&row["title"], &row["year"]))
        .collect();
    let expected: Vec<(Value, Value)> = (11..=BOOKS)
        .map(|id| (json!(format!("book {id}")), json!(1990 + id % 3)))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(title, year)| (title, year)).collect();
    assert_rows(&got, &expected);
}

#[test]
fn strawberry_with_a_query_that_it_refuses() {
    let project = Project::new();
    let server = python(&project, "graphql_connection.py", &["3".to_owned()]);
    let output = project.try_run(&format!(
        "
about: A field that is not there.
source: {{ url: 'http://127.0.0.1:{}', limits: none }}
streams:
  books:
    post: /graphql
    body: {{ graphql: {{ query: 'query {{ books(since: 1) {{ edges {{ node {{ isbn }} }} }} }}' }} }}
    records: data.books.edges.*.node
sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}
",
        server.port
    ));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("isbn"), "in the server's own words: {said}");
    assert!(!project.path().join("out/books.ndjson").exists());
}

// ---- MLflow -----------------------------------------------------------------------------------

#[test]
fn mlflow_by_tokens_in_the_body_of_a_post() {
    const EXPERIMENTS: usize = 95;
    let project = Project::new();
    let folder = project.path().display().to_string();
    let server = python(
        &project,
        "mlflow_tracking.py",
        &[folder, EXPERIMENTS.to_string()],
    );
    project.run(&format!(
        "
about: All experiments.
source: {{ url: 'http://127.0.0.1:{}/api/2.0/mlflow', limits: none }}
streams:
  experiments:
    post: /experiments/search
    body: {{ json: {{ max_results: 20, filter: \"name LIKE 'experiment%'\" }} }}
    pages: {{ token: {{ from: next_page_token, to: body.page_token }} }}
    records: {{ optional: experiments }}
    key: experiment_id
sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}
",
        server.port
    ));
    let got = project.ndjson("out/experiments.ndjson");
    let got: Vec<&Value> = by(&got, "name")
        .into_iter()
        .map(|row| &row["name"])
        .collect();
    let expected: Vec<Value> = (0..EXPERIMENTS)
        .map(|at| json!(format!("experiment {at:03}")))
        .collect();
    assert_rows(&got, &expected.iter().collect::<Vec<_>>());
}

// ---- docker-registry --------------------------------------------------------------------------

/// Repositories and their tags as the registry keeps them on disk, without images.
fn registry(project: &Project, repositories: &[(String, Vec<String>)]) -> Server {
    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let root = project.path().join("registry");
    for (name, tags) in repositories {
        let repository = root.join("docker/registry/v2/repositories").join(name);
        fs::create_dir_all(repository.join("_layers")).expect("a folder");
        for tag in tags {
            let current = repository.join("_manifests/tags").join(tag).join("current");
            fs::create_dir_all(&current).expect("a folder");
            fs::write(current.join("link"), format!("sha256:{DIGEST}")).expect("a link");
        }
    }
    Server::start(project.path(), |port| {
        let config = project.path().join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n",
            root.display()
        );
        fs::write(&config, text).expect("its configuration");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        command
    })
}

#[test]
fn docker_registry_by_its_link_header_and_a_request_for_each_repository() {
    let project = Project::new();
    let repositories: Vec<(String, Vec<String>)> = (0..53)
        .map(|at| {
            let tags = (0..=at % 4).map(|tag| format!("v1.{tag}")).collect();
            (format!("team{}/image-{at:02}", at % 5), tags)
        })
        .collect();
    let server = registry(&project, &repositories);
    project.run(&format!(
        "
about: All tags of all repositories.
source: {{ url: 'http://127.0.0.1:{}/v2', limits: none }}
streams:
  repositories:
    get: /_catalog
    query: {{ n: 10 }}
    pages: link
    records: repositories
    sink: none
  tags:
    for: {{ repository: {{ stream: repositories }} }}
    get: /{{{{ repository | path }}}}/tags/list
    records: tags
    columns: {{ repository: '{{{{ repository }}}}', tag: value }}
    key: [repository, tag]
sink: {{ csv: 'out/{{{{ stream }}}}.csv' }}
",
        server.port
    ));
    let mut got = project.csv("out/tags.csv").split_off(1);
    let mut expected: Vec<Vec<String>> = repositories
        .iter()
        .flat_map(|(name, tags)| tags.iter().map(|tag| vec![name.clone(), tag.clone()]))
        .collect();
    got.sort_unstable();
    expected.sort_unstable();
    assert_rows(&got, &expected);
}
