//! Night after night only what is new is asked for, and the file is always what the server holds.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use crate::scene::{Project, Reply, Server};

/// Records of one page.
const SIZE: usize = 5;
/// How many seconds a record may come late.
const LOOKBACK: u64 = 3 * 3600;

/// What the server holds: by repository and id, when it was changed and what it says.
#[derive(Default)]
struct World {
    items: BTreeMap<(String, u64), Item>,
    /// How many records were sent.
    sent: usize,
    /// Answers that are refused.
    broken: bool,
}

#[derive(Clone)]
struct Item {
    /// Seconds since the first night.
    changed: u64,
    version: u32,
}

fn stamp(seconds: u64) -> String {
    let at = jiff::Timestamp::from_second(1_735_689_600) // 2025-01-01
        .and_then(|first| {
            first.checked_add(jiff::SignedDuration::from_secs(seconds.cast_signed()))
        });
    at.expect("an instant").to_string()
}

impl World {
    fn put(&mut self, repo: &str, id: u64, changed: u64) {
        let item = self.items.entry((repo.to_owned(), id)).or_insert(Item {
            changed,
            version: 0,
        });
        item.version += 1;
        item.changed = changed;
    }

    fn json(id: u64, item: &Item) -> String {
        // A member that only changed records have, an exact number, and null.
        let late = if item.version > 1 {
            format!(r#","edited":{{"by":"é\"{}"}}"#, item.version)
        } else {
            String::new()
        };
        format!(
            r#"{{"id":{id},"updated_at":"{}","price":{}.10,"gone":null{late}}}"#,
            stamp(item.changed),
            item.version
        )
    }

    /// `GET /repos/{repo}/items?since=…&page=…`, the oldest change first.
    fn answer(&mut self, request: &str) -> Reply {
        if self.broken {
            return Reply::new(404, r#"{"message":"not today"}"#);
        }
        let target = request.split(' ').nth(1).expect("a target");
        let url = url::Url::parse(&format!("http://x{target}")).expect("a URL");
        let param = |name: &str| {
            let mut all = url.query_pairs();
            all.find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let repo = url
            .path()
            .split('/')
            .nth(2)
            .expect("a repository")
            .to_owned();
        let since = param("since").expect("since");
        let page: usize = param("page").expect("a page").parse().expect("a number");
        let mut found: Vec<_> = self
            .items
            .iter()
            .filter(|((of, _), item)| *of == repo && stamp(item.changed) >= since)
            .collect();
        found.sort_by_key(|((_, id), item)| (item.changed, *id));
        let page: Vec<String> = found
            .iter()
            .skip((page - 1) * SIZE)
            .take(SIZE)
            .map(|((_, id), item)| Self::json(*id, item))
            .collect();
        self.sent += page.len();
        Reply::json(format!("[{}]", page.join(",")))
    }

    /// The whole file, as it must be.
    fn truth(&self) -> String {
        let mut text = "repo,id,updated_at,price,by\r\n".to_owned();
        for ((repo, id), item) in &self.items {
            let by = if item.version > 1 {
                format!("\"é\"\"{}\"", item.version)
            } else {
                String::new()
            };
            let changed = stamp(item.changed);
            let _ = write!(text, "{repo},{id},{changed},{}.10,{by}\r\n", item.version);
        }
        text
    }
}

fn pipeline(server: &Server, repos: &str) -> String {
    format!(
        r#"
source: {{ url: "{}", limits: none, concurrency: 3 }}
defaults:
  for: {{ repo: [{repos}] }}
  get: /repos/{{{{ repo }}}}/items
  query: {{ since: "{{{{ cursor.from }}}}", per_page: {SIZE} }}
  pages: {{ page: {{ to: page, size: per_page }} }}
  key: [repo, id]
  cursor: {{ field: updated_at, start: 2024-01-01, lookback: {LOOKBACK}s }}
streams:
  items:
    columns: {{ repo: "{{{{ repo }}}}", id: , updated_at: , price: , by: edited.by }}
    sink: {{ csv: data/items.csv, mode: merge }}
  raw:
    sink: [{{ csv: data/raw.csv, mode: merge }}, {{ ndjson: data/raw.ndjson.gz, mode: merge }}]
"#,
        server.url()
    )
}

fn start(world: &Arc<Mutex<World>>) -> Server {
    let world = Arc::clone(world);
    Server::start(move |request| world.lock().expect("the world").answer(request))
}

fn read(project: &Project, file: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(project.path().join(file)).expect("a file")).into_owned()
}

#[test]
fn after_every_night_the_file_is_what_the_server_holds() {
    let world = Arc::new(Mutex::new(World::default()));
    let server = start(&world);
    let mut dice = fastrand::Rng::with_seed(20);
    let project = Project::new(&pipeline(&server, "a, b"));
    {
        let mut world = world.lock().expect("the world");
        for id in 0..60 {
            // Several of one second stand on both sides of a page's border.
            world.put(["a", "b", "c"][dice.usize(..3)], id, (id / 7) * 10_000);
        }
    }
    let mut repos = vec!["a", "b"];
    let mut next = 60;
    let mut asked = 0;
    for night in 0..20_u64 {
        let evening = night * 86_400 + 100_000;
        let changed = if night % 6 == 5 { 0 } else { dice.usize(1..9) };
        {
            let mut world = world.lock().expect("the world");
            let latest = world.items.values().map(|item| item.changed).max();
            let latest = latest.expect("a record");
            for _ in 0..changed {
                // Half of them new, half changed; some in the same second, and half of them late:
                // older than what the night before has seen.
                let at = if dice.bool() {
                    evening + dice.u64(..3) * 100
                } else {
                    latest - dice.u64(..LOOKBACK)
                };
                let known: Vec<_> = world.items.keys().cloned().collect();
                if dice.bool() {
                    world.put(repos[dice.usize(..repos.len())], next, at);
                    next += 1;
                } else {
                    // A record's own time never goes back.
                    let key = &known[dice.usize(..known.len())];
                    let at = at.max(world.items[key].changed + 1);
                    world.put(&key.0, key.1, at);
                }
            }
            world.sent = 0;
        }
        if night == 10 {
            // Its history is older than all that was asked for of the others for days.
            repos.push("c");
            project.write("pipelines/items.yaml", &pipeline(&server, "a, b, c"));
        }
        let said = project.run(&["run", "items"]);
        assert_eq!(said.code, Some(0), "night {night}: {}", said.shown);

        let world = world.lock().expect("the world");
        let visible = World {
            items: world
                .items
                .iter()
                .filter(|((repo, _), _)| repos.contains(&repo.as_str()))
                .map(|(key, item)| (key.clone(), item.clone()))
                .collect(),
            ..World::default()
        };
        assert_eq!(
            read(&project, "data/items.csv"),
            visible.truth(),
            "night {night}"
        );
        let heard = server.heard().len();
        let (requests, sent) = (heard - asked, world.sent);
        asked = heard;
        if night > 0 && night != 10 {
            // Both streams ask: what changed, what the lookback and the inclusive bound bring
            // again, and a page at the end of each repository.
            let most = 2 * (changed + 9 + repos.len() * 7);
            assert!(sent <= most, "night {night}: {sent} of {changed}");
            let most = 2 * repos.len() * 2 + sent / SIZE;
            assert!(requests <= most, "night {night}: {requests} for {sent}");
        }
    }

    // All in one night gives the same bytes: neither order nor columns tell how nights were cut.
    let once = Project::new(&pipeline(&server, "a, b, c"));
    assert_eq!(once.run(&["run", "items"]).code, Some(0));
    for file in ["data/items.csv", "data/raw.csv", "data/raw.ndjson.gz"] {
        let (nights, once) = (project.path().join(file), once.path().join(file));
        let same = std::fs::read(nights).expect("a file") == std::fs::read(once).expect("a file");
        assert!(same, "{file}");
    }
    assert!(
        read(&project, "data/raw.csv").starts_with("repo,id,updated_at,price,gone,edited.by\r\n")
    );
}

#[test]
fn a_failed_night_leaves_file_and_cursor_and_the_next_one_asks_again() {
    let world = Arc::new(Mutex::new(World::default()));
    let server = start(&world);
    let put = |id, at| world.lock().expect("the world").put("a", id, at);
    let broken = |is| world.lock().expect("the world").broken = is;
    (0..12).for_each(|id| put(id, id * 60));
    let project = Project::new(&pipeline(&server, "a"));
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    let before = read(&project, "data/items.csv");
    let cursors = project.run(&["state", "show", "items", "--json"]).stdout;
    assert!(cursors.contains(&stamp(11 * 60)), "{cursors}");

    put(3, 90_000);
    broken(true);
    assert_eq!(project.run(&["run", "items"]).code, Some(1));
    assert_eq!(read(&project, "data/items.csv"), before);
    assert_eq!(
        project.run(&["state", "show", "items", "--json"]).stdout,
        cursors
    );

    broken(false);
    put(4, 180_000);
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let truth = world.lock().expect("the world").truth();
    assert_eq!(read(&project, "data/items.csv"), truth);
}

#[test]
fn what_is_no_longer_sent_stays_and_a_backfill_leaves_the_cursor() {
    let world = Arc::new(Mutex::new(World::default()));
    let server = start(&world);
    let put = |id, at| world.lock().expect("the world").put("a", id, at);
    (0..12).for_each(|id| put(id, id * 60));
    let project = Project::new(&pipeline(&server, "a"));
    assert_eq!(project.run(&["run", "items"]).code, Some(0));
    let cursors = project.run(&["state", "show", "items", "--json"]).stdout;

    // What the backfill finds is kept, though the cursor does not see it.
    put(20, 200_000);
    let all = world.lock().expect("the world").truth();
    world
        .lock()
        .expect("the world")
        .items
        .remove(&("a".to_owned(), 5));
    for flags in [&["--full"][..], &["--from", "2025-01-01", "--to", "today"]] {
        let asked = server.heard().len();
        let said = project.run(&[&["run", "items"], flags].concat());
        assert_eq!(said.code, Some(0), "{}", said.shown);
        let since = if flags.len() == 1 {
            "since=2024-01-01T"
        } else {
            "since=2025-01-01T"
        };
        let heard = server.heard().split_off(asked);
        assert!(
            heard.iter().all(|request| request.contains(since)),
            "{heard:?}"
        );
        assert_eq!(
            read(&project, "data/items.csv"),
            all,
            "deletions are not guessed"
        );
        assert_eq!(
            project.run(&["state", "show", "items", "--json"]).stdout,
            cursors
        );
    }
}
