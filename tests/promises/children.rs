//! Streams that run over records of others: every record leads to its request once, at any depth, in an
//! order that does not depend on when answers came; children begin while their parents still page,
//! and a parent that fails holds them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gleaner::failure::Exit;
use gleaner::sim::{
    Fault, FaultRule, Latency, Loss, Route, Rules, SimDisk, SimReply, SimRequest, Trouble,
};

use super::cuts::process_of;
use super::fixture::{Ran, Scene, run};
use super::paging::MS;
use crate::scene::{Project, Reply, Server};

// ---- an API of three levels --------------------------------------------------------------------

/// Issues of a repository, some twice: rows move between pages.
fn issues(repo: &str) -> Vec<u64> {
    match repo {
        "p" => (1..=11).chain([3]).collect(),
        "q" => vec![],
        _ => (20..=26).rev().collect(),
    }
}

/// Comments of an issue.
fn comments(issue: u64) -> Vec<u64> {
    (0..issue * 5 % 7).map(|n| issue * 100 + n).collect()
}

/// Likes of a comment.
fn likes(comment: u64) -> Vec<u64> {
    (0..comment % 4).map(|n| comment * 10 + n).collect()
}

fn page<T>(request: &SimRequest, all: &[T], size: usize, show: impl Fn(&T) -> String) -> SimReply {
    let page = request
        .param("page")
        .map_or(1, |text| text.parse().expect("a number"));
    let from = ((page - 1) * size).min(all.len());
    let rows: Vec<String> = all[from..(from + size).min(all.len())]
        .iter()
        .map(show)
        .collect();
    SimReply::json(
        200,
        format!(r#"{{"n":{},"data":[{}]}}"#, all.len(), rows.join(",")),
    )
}

fn number(request: &SimRequest, name: &str) -> u64 {
    let text = request.param(name).expect("a value");
    text.parse().expect("a number")
}

fn family() -> Rules {
    Rules {
        routes: vec![
            Route::custom(
                "/{repo}/issues",
                Arc::new(|request| {
                    let all = issues(&request.param("repo").expect("a repository"));
                    page(request, &all, 3, |n| {
                        format!(
                            r#"{{"number":{n},"title":"no {n}","comments":{},"by":"{}"}}"#,
                            comments(*n).len(),
                            n % 3
                        )
                    })
                }),
            ),
            Route::custom(
                "/{repo}/issues/{n}/comments",
                Arc::new(|request| {
                    let all = comments(number(request, "n"));
                    page(request, &all, 2, |id| format!(r#"{{"id":{id}}}"#))
                }),
            ),
            Route::custom(
                "/comments/{id}/likes",
                Arc::new(|request| {
                    let all = likes(number(request, "id"));
                    page(request, &all, 100, |id| format!(r#"{{"like":{id}}}"#))
                }),
            ),
        ],
        latency: Latency::Between(MS, 700 * MS, 3),
        ..Rules::default()
    }
}

const FAMILY: &str = r#"
source: { url: https://api.test, limits: none, concurrency: WIDTH }
defaults: { records: data }
streams:
  likes:
    for: { comment: { stream: comments } }
    get: /comments/{{ comment.id }}/likes
    columns: { repo: "{{ repo }}", issue: "{{ issue.title }}", comment: "{{ comment.id }}", like: }
  comments:
    for: { issue: { stream: issues, where: issue.comments > 0 } }
    get: /{{ repo }}/issues/{{ issue.number }}/comments
    query: { per_page: 2 }
    pages: { page: { to: page, size: per_page } }
    columns: { repo: "{{ repo }}", issue: "{{ issue.number }}", id: }
  issues:
    for: { repo: [p, q, r] }
    get: /{{ repo }}/issues
    query: { per_page: 3 }
    pages: { page: { to: page, size: per_page, total: n } }
    columns: { repo: "{{ repo }}", number: }
sink: { csv: "out/{{ stream }}.csv" }
"#;

/// What the three files are in the end.
fn truth() -> [(&'static str, String); 3] {
    let mut of_issues = "repo,number\r\n".to_owned();
    let mut of_comments = "repo,issue,id\r\n".to_owned();
    let mut of_likes = "repo,issue,comment,like\r\n".to_owned();
    for repo in ["p", "q", "r"] {
        let mut seen = BTreeSet::new();
        for issue in issues(repo) {
            write!(of_issues, "{repo},{issue}\r\n").expect("to a string");
            if !seen.insert(issue) {
                continue;
            }
            for comment in comments(issue) {
                write!(of_comments, "{repo},{issue},{comment}\r\n").expect("to a string");
                for like in likes(comment) {
                    write!(of_likes, "{repo},no {issue},{comment},{like}\r\n")
                        .expect("to a string");
                }
            }
        }
    }
    [
        ("issues", of_issues),
        ("comments", of_comments),
        ("likes", of_likes),
    ]
}

fn family_is_whole(ran: &Ran, what: &str) {
    for (stream, wanted) in truth() {
        assert_eq!(
            ran.text(&format!("out/{stream}.csv")),
            wanted,
            "{what}: {stream}"
        );
    }
}

#[test]
fn three_levels_have_the_same_bytes_at_any_concurrency() {
    for width in ["1", "2", "16"] {
        for seed in 0..4 {
            let rules = Rules {
                latency: Latency::Between(MS, 700 * MS, seed),
                ..family()
            };
            let ran = run(&FAMILY.replace("WIDTH", width), rules).complete();
            family_is_whole(&ran, width);
            let targets = ran.targets();
            let unique: BTreeSet<&String> = targets.iter().collect();
            assert_eq!(unique.len(), targets.len(), "a request was sent twice");
        }
    }
}

#[test]
fn children_begin_while_their_parent_pages() {
    let rules = Rules {
        latency: Latency::Fixed(400 * MS),
        ..family()
    };
    let ran = run(&FAMILY.replace("WIDTH", "2"), rules).complete();
    let entries = ran.api.audit().entries();
    let place = |what: &str, last: bool| {
        let mut found = (0..entries.len()).filter(|at| entries[*at].target.contains(what));
        if last {
            found.next_back()
        } else {
            found.next()
        }
        .expect("asked")
    };
    assert!(
        place("/comments?", false) < place("/issues?", true),
        "comments before the last page of issues"
    );
    assert!(
        place("/likes", false) < place("/comments?", true),
        "likes before the last of comments"
    );
}

#[test]
fn children_begin_with_the_first_page_of_their_parent() {
    // The list comes page by page, 50 ms each; there is nothing else to do.
    let list = |request: &SimRequest| {
        let page: u64 = request
            .param("page")
            .map_or(1, |it| it.parse().expect("a number"));
        let next = if page < 9 {
            format!(r#","next":{}"#, page + 1)
        } else {
            String::new()
        };
        SimReply::json(200, format!(r#"{{"data":[{{"id":{page}}}]{next}}}"#))
    };
    let child = |_: &SimRequest| SimReply::json(200, r#"{"data":[]}"#);
    let rules = Rules {
        routes: vec![
            Route::custom("/list", Arc::new(list)),
            Route::custom("/of/*", Arc::new(child)),
        ],
        latency: Latency::Fixed(50 * MS),
        ..Rules::default()
    };
    let yaml = r#"
source: { url: https://api.test, limits: none, concurrency: 4 }
streams:
  list: { get: /list, records: data, pages: { token: { from: next, to: page } }, sink: none }
  of: { for: { one: { stream: list } }, get: "/of/{{ one.id }}", records: { optional: data } }
sink: { csv: "out/{{ stream }}.csv" }
"#;
    let ran = run(yaml, rules).complete();
    let entries = ran.api.audit().entries();
    let at = |target: &str| {
        let found = entries.iter().find(|it| it.target == target);
        found.unwrap_or_else(|| panic!("{target} was not asked")).at
    };
    // A child is asked for as soon as its page is there, beside the next page of the list.
    for n in 1..9 {
        let next = at(&format!("/list?page={}", n + 1));
        assert!(at(&format!("/of/{n}")) < next + 50 * MS, "{n}");
    }
}

// ---- cut off and gone on with ------------------------------------------------------------------

#[test]
fn a_run_that_was_stopped_asks_only_for_what_is_missing() {
    let mut asked_before = 0;
    for after in (100..9000).step_by(700) {
        let yaml = FAMILY.replace("WIDTH", "4");
        let stopped = Scene::new(&yaml, family()).stop_after(after * MS).run();
        let first: Vec<String> = stopped.targets();
        let was_stopped = stopped.summary.exit == Exit::Interrupted;
        // Answers come in another order.
        let rules = Rules {
            latency: Latency::Between(MS, 700 * MS, u64::from(after)),
            ..family()
        };
        let ran = Scene::new(&yaml, rules)
            .within(stopped.root)
            .run()
            .complete();
        family_is_whole(&ran, &format!("stopped after {after} ms"));
        if was_stopped {
            let again = ran.targets();
            let twice: Vec<_> = again
                .iter()
                .filter(|target| first.contains(target))
                .collect();
            assert!(
                twice.is_empty(),
                "stopped after {after} ms: asked again for {twice:?}"
            );
            asked_before += first.len();
        }
    }
    assert!(
        asked_before > 100,
        "{asked_before} requests before the stops"
    );
}

/// One process on a pretend disk: how it ended, and what it asked.
fn process(yaml: &str, rules: Rules, disk: &SimDisk) -> (Exit, Vec<String>) {
    let did = process_of(disk, yaml, rules, "2026-11-22T02:30:00Z");
    (did.exit, did.asked)
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_same_bytes() {
    let yaml = FAMILY.replace("WIDTH", "4").replace("[p, q, r]", "[p]");
    let wanted = |stream: &str| {
        let all = truth();
        let (_, whole) = all
            .iter()
            .find(|(name, _)| *name == stream)
            .expect("a stream");
        let of_p = |line: &&str| !line.starts_with("q,") && !line.starts_with("r,");
        whole.split_inclusive('\n').filter(of_p).collect::<String>()
    };
    for at in (1..).step_by(5) {
        let mut was_cut = false;
        for loss in [None, Loss::all().next(), Loss::all().last()] {
            let disk = SimDisk::new(Path::new("/p"));
            disk.set_trouble(Trouble::Power(at));
            let (_, before) = process(&yaml, family(), &disk);
            was_cut |= disk.operations() >= at;
            match loss {
                Some(loss) => disk.crash(loss),
                None => disk.kill(),
            }
            disk.set_trouble(Trouble::None);
            let rules = Rules {
                latency: Latency::Between(MS, 700 * MS, at),
                ..family()
            };
            let (exit, asked) = process(&yaml, rules, &disk);
            let what = format!("operation {at}, {loss:?}, {} requests before", before.len());
            assert_eq!(exit, Exit::Complete, "{what}");
            for stream in ["issues", "comments", "likes"] {
                let found = disk.read(Path::new(&format!("/p/out/{stream}.csv")));
                let found = String::from_utf8(found.expect("the file")).expect("text");
                assert!(found == wanted(stream), "{what}: {stream}:\n{found}");
            }
            let unique: BTreeSet<&String> = asked.iter().collect();
            assert_eq!(unique.len(), asked.len(), "{what}: asked twice");
        }
        if !was_cut {
            assert!(at > 60, "only {at} operations");
            return;
        }
    }
}

/// The outputs that are there; what stands beside them tells of just these.
fn outputs(ran: &Ran) -> Vec<String> {
    let (beside, outputs): (Vec<String>, Vec<String>) = (ran.files().into_iter())
        .filter(|file| file.starts_with("out"))
        .partition(|file| file.ends_with("/datapackage.json"));
    assert_eq!(beside, ["out/datapackage.json"]);
    let package: serde_json::Value =
        serde_json::from_str(&ran.text(&beside[0])).expect("a package");
    let resources = package["resources"].as_array().expect("resources");
    let told = resources.iter().filter_map(|of| of["path"].as_str());
    let mut told: Vec<String> = told.map(|path| format!("out/{path}")).collect();
    told.sort();
    assert_eq!(told, outputs, "{package}");
    outputs
}

#[test]
fn a_parent_that_fails_holds_its_children_and_nobody_else() {
    let yaml = FAMILY.replace("WIDTH", "4").replace(
        "sink:",
        "  other: { get: /p/issues, columns: { number: } }\nsink:",
    );
    let broken = Rules {
        faults: vec![FaultRule::always("/r/issues", Fault::status(403))],
        ..family()
    };
    let failed = Scene::new(&yaml, broken).run();
    assert_eq!(failed.summary.exit, Exit::Failed);
    assert_eq!(outputs(&failed), ["out/other.csv"]);
    for child in ["comments", "likes"] {
        let failure = failed.stream(child).failure.as_ref().expect("held");
        assert!(
            failure.message.contains("not complete without"),
            "{failure:?}"
        );
    }
    let ran = Scene::new(&yaml, family())
        .within(failed.root)
        .run()
        .complete();
    family_is_whole(&ran, "after the failure");
}

#[test]
fn a_child_that_failed_goes_on_beside_its_published_parents() {
    let yaml = FAMILY.replace("WIDTH", "4");
    let broken = Rules {
        faults: vec![FaultRule::always(
            "/comments/2201/likes",
            Fault::status(403),
        )],
        ..family()
    };
    let failed = Scene::new(&yaml, broken).run();
    assert_eq!(failed.summary.exit, Exit::Failed);
    assert_eq!(outputs(&failed), ["out/comments.csv", "out/issues.csv"]);
    let before = failed.targets();
    let ran = Scene::new(&yaml, family())
        .within(failed.root)
        .run()
        .complete();
    family_is_whole(&ran, "after the failure");
    assert!(ran.stream("issues").published_before && ran.stream("comments").published_before);
    let asked = ran.targets();
    assert!(
        asked.iter().all(|target| target.contains("/likes")),
        "{asked:?}"
    );
    assert!(
        asked.len() < before.len(),
        "{} of {} again",
        asked.len(),
        before.len()
    );
}

#[test]
fn who_asks_for_a_child_gets_that_alone() {
    let yaml = FAMILY.replace("WIDTH", "4");
    let ran = Scene::new(&yaml, family())
        .only(&["comments"])
        .run()
        .complete();
    assert_eq!(outputs(&ran), ["out/comments.csv"]);
    assert_eq!(ran.text("out/comments.csv"), truth()[1].1);
    assert!(
        ran.targets()
            .iter()
            .all(|target| !target.contains("/likes"))
    );
}

// ---- what a child may run over -----------------------------------------------------------------

/// Answers by path and query; what is not there is 404.
fn serves(pairs: &'static [(&'static str, &'static str)]) -> Rules {
    let answer = move |request: &SimRequest| {
        let found = pairs.iter().find(|(target, _)| *target == request.target);
        match found {
            Some((_, body)) => SimReply::json(200, *body),
            None => SimReply::error(404, &request.target),
        }
    };
    Rules {
        routes: vec![Route::custom("/*", Arc::new(answer))],
        latency: Latency::Between(MS, 300 * MS, 5),
        ..Rules::default()
    }
}

#[test]
fn plain_values_batches_helpers_and_products() {
    let rules = serves(&[
        ("/top", "[3,1,2,5,4]"),
        ("/item/3", r#"{"id":3,"kids":["a","b"]}"#),
        ("/item/1", r#"{"id":1}"#),
        ("/item/2", r#"{"id":2,"kids":[]}"#),
        ("/item/5", r#"{"id":5,"kids":["c"]}"#),
        ("/item/4", r#"{"id":4,"kids":["b"]}"#),
        ("/item/a", r#"{"k":"a"}"#),
        ("/item/b", r#"{"k":"b"}"#),
        ("/item/c", r#"{"k":"c"}"#),
        ("/some?id=3&id=1", "[31]"),
        ("/some?id=2&id=5", "[25]"),
        ("/some?id=4", "[4]"),
        ("/large?id=3%2C5%2C4", "[354]"),
        ("/none", "[]"),
    ]);
    let yaml = r#"
source: { url: https://api.test, limits: none }
streams:
  top: { get: /top, sink: none }
  stories: { for: { n: { stream: top } }, get: "/item/{{ n }}", columns: { n: "{{ n }}", id: } }
  comments:
    for: { story: { stream: stories }, kid: "{{ story.kids | default([]) }}" }
    get: /item/{{ kid }}
    columns: { n: "{{ n }}", story: "{{ story.id }}", k: }
  some: { for: { ids: { stream: top, batch: 2 } }, get: /some, query: { id: "{{ ids }}" }, columns: { value: } }
  large: { for: { ids: { stream: top, batch: 9, where: ids > 2 } }, get: /large, query: { id: "{{ ids | join(',') }}" }, columns: { value: } }
  none: { get: /none, sink: none }
  never: { for: { none: { stream: none } }, get: "/never/{{ none }}" }
  pairs: { for: { side: [l, r], n: { stream: top, where: record < 3 } }, records: $ , columns: { side: "{{ side }}", value: } }
sink: { csv: "out/{{ stream }}.csv" }
"#;
    let ran = run(yaml, rules).complete();
    assert_eq!(
        ran.lines("out/stories.csv"),
        ["n,id", "3,3", "1,1", "2,2", "5,5", "4,4"]
    );
    // `b` is a comment of two stories, asked for once, and stands where it stands first.
    assert_eq!(
        ran.lines("out/comments.csv"),
        ["n,story,k", "3,3,a", "3,3,b", "5,5,c"]
    );
    assert_eq!(ran.lines("out/some.csv"), ["value", "31", "25", "4"]);
    assert_eq!(ran.lines("out/large.csv"), ["value", "354"]);
    assert_eq!(
        ran.lines("out/pairs.csv"),
        ["side,value", "l,1", "l,2", "r,1", "r,2"]
    );
    assert_eq!(ran.stream("never").pages, 0);
    assert!(!ran.files().contains(&"out/top.csv".to_owned()));
}

#[test]
fn a_field_of_the_record_wins_over_a_variable_of_its_name() {
    let rules = || {
        serves(&[
            ("/top", "[3,1,2]"),
            ("/item/3", r#"{"id":3,"kids":["a","b"]}"#),
            ("/item/1", r#"{"id":1,"kids":[],"by":"x"}"#),
            ("/item/2", r#"{"id":2,"kids":["a"]}"#),
            ("/item/a", r#"[{"id":10,"text":"x"},{"id":11}]"#),
            ("/item/b", r#"[{"id":10,"text":"y"},{"id":12}]"#),
            ("/by/3", r#"[{"n":1},{"n":1}]"#),
            ("/by/1", r#"[{"n":1}]"#),
            ("/by/2", "[]"),
        ])
    };
    let yaml = |sink: &str| {
        format!(
            r#"
source: {{ url: https://api.test, limits: none }}
streams:
  top: {{ get: /top, sink: none }}
  stories: {{ for: {{ id: {{ stream: top }} }}, get: "/item/{{{{ id }}}}", key: id }}
  comments:
    for: {{ story: {{ stream: stories }}, kid: "{{{{ story.kids | default([]) }}}}" }}
    get: /item/{{{{ kid }}}}
    key: id
  counts: {{ for: {{ story: {{ stream: stories }} }}, get: "/by/{{{{ story.id }}}}", key: [id, n] }}
sink: {sink}
"#
        )
    };
    for sink in [
        r#"{ csv: "out/{{ stream }}.csv" }"#,
        r#"{ csv: "out/{{ stream }}.csv", mode: merge }"#,
    ] {
        let ran = run(&yaml(sink), rules()).complete();
        let rows = |name: &str| {
            let mut lines = ran.lines(&format!("out/{name}.csv"));
            lines[1..].sort();
            lines
        };
        assert_eq!(
            rows("stories"),
            [
                "id,kids,by",
                "1,[],x",
                "2,\"[\"\"a\"\"]\",",
                "3,\"[\"\"a\"\",\"\"b\"\"]\","
            ],
            "{sink}"
        );
        // The inherited `id` is the story's, the key that of the comment: `b` brings 10 again.
        assert_eq!(
            rows("comments"),
            ["kid,id,text", "a,11,", "b,10,y", "b,12,"],
            "{sink}"
        );
        // These have no field of that name: the inherited variable is a column and a key.
        assert_eq!(rows("counts"), ["id,n", "1,1", "3,1"], "{sink}");
    }
}

#[test]
fn the_first_token_of_a_grandchild_may_be_of_its_grandparent() {
    let server = Server::start(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        Reply::json(match path {
            "/lands" => r#"[{"id":"no","first":"t0"}]"#,
            "/lands/no/towns" => r#"[{"name":"oslo"}]"#,
            "/towns/oslo?at=t0" => r#"{"rows":[{"n":1}],"next":"t1"}"#,
            "/towns/oslo?at=t1" => r#"{"rows":[{"n":2}]}"#,
            _ => "{}",
        })
    });
    let project = Project::new(&format!(
        r#"source: {{ url: "{}", limits: none }}
streams:
  lands: {{ get: /lands }}
  towns: {{ for: {{ land: {{ stream: lands }} }}, get: "/lands/{{{{ land.id }}}}/towns" }}
  people:
    for: {{ town: {{ stream: towns }} }}
    get: "/towns/{{{{ town.name }}}}"
    records: rows
    pages: {{ token: {{ from: next, to: at, start: "{{{{ land.first }}}}" }} }}
sink: {{ csv: "out/{{{{ stream }}}}.csv" }}
"#,
        server.url()
    ));
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let people = std::fs::read_to_string(project.path().join("out/people.csv")).expect("a file");
    assert_eq!(people, "n\r\n1\r\n2\r\n");
}

#[test]
fn a_stream_without_a_request_takes_records_apart() {
    let rules = serves(&[(
        "/companies",
        r#"[{"id":1,"labels":[{"n":"x","p":1.10},{"n":"y"},{"n":"x","p":1.10}]},{"id":2},{"id":3,"labels":[{"n":"x"}]}]"#,
    )]);
    let yaml = r#"
source: { url: https://api.test, limits: none }
streams:
  companies: { get: /companies, columns: { id: } }
  labels:
    for: { company: { stream: companies } }
    records: { optional: labels }
    columns: { company: "{{ company.id }}", n: , p: }
  deep: { for: { company: { stream: companies }, label: "{{ company.labels | default([]) }}" } }
sink: { csv: "out/{{ stream }}.csv" }
"#;
    let ran = run(yaml, rules).complete();
    assert_eq!(ran.requests(), 1);
    assert_eq!(
        ran.lines("out/labels.csv"),
        ["company,n,p", "1,x,1.10", "1,y,", "1,x,1.10", "3,x,"]
    );
    assert_eq!(
        ran.lines("out/deep.csv"),
        ["n,p", "x,1.10", "y,", "x,1.10", "x,"]
    );
}

// ---- night after night ---------------------------------------------------------------------------

#[test]
fn children_of_changed_parents_join_those_that_are_there() {
    let yaml = r#"
source: { url: https://api.test, limits: none }
streams:
  issues:
    get: /issues
    query: { since: "{{ cursor.from }}" }
    key: id
    cursor: { field: at, start: 2026-01-01 }
  comments: { for: { issue: { stream: issues } }, get: "/issues/{{ issue.id }}/comments", key: id, columns: { issue: "{{ issue.id }}", at: "{{ issue.at }}", id: , text: } }
sink: { csv: "out/{{ stream }}.csv", mode: merge }
"#;
    let first = serves(&[
        (
            "/issues?since=2026-01-01T00%3A00%3A00Z",
            r#"[{"id":1,"at":"2026-02-01T00:00:00Z"},{"id":2,"at":"2026-02-02T00:00:00Z"}]"#,
        ),
        ("/issues/1/comments", r#"[{"id":10,"text":"a"}]"#),
        ("/issues/2/comments", r#"[{"id":20,"text":"b"}]"#),
    ]);
    let night = run(yaml, first).complete();
    assert_eq!(
        night.lines("out/comments.csv"),
        [
            "issue,at,id,text",
            "1,2026-02-01T00:00:00Z,10,a",
            "2,2026-02-02T00:00:00Z,20,b"
        ]
    );
    let second = serves(&[
        (
            "/issues?since=2026-02-02T00%3A00%3A00Z",
            r#"[{"id":2,"at":"2026-02-03T00:00:00Z"}]"#,
        ),
        (
            "/issues/2/comments",
            r#"[{"id":20,"text":"new"},{"id":21,"text":"c"}]"#,
        ),
    ]);
    let night = Scene::new(yaml, second).within(night.root).run().complete();
    assert_eq!(
        night.lines("out/comments.csv"),
        [
            "issue,at,id,text",
            "1,2026-02-01T00:00:00Z,10,a",
            "2,2026-02-03T00:00:00Z,20,new",
            "2,2026-02-03T00:00:00Z,21,c"
        ]
    );
    assert_eq!(night.lines("out/issues.csv").len(), 3);
}

/// Issues since a day and the comments of one, as of two nights; by then the first is changed.
fn night(comments: bool) -> Rules {
    let answer = move |request: &SimRequest| match request.path.as_str() {
        "/issues" => {
            let since = request.param("since").expect("a bound");
            let known = [(1, "2026-02-01T00:00:00Z"), (2, "2026-02-02T00:00:00Z")];
            let rows = known.iter().filter(|(_, at)| *at >= since.as_str());
            let rows: Vec<String> = rows
                .map(|(id, at)| format!(r#"{{"id":{id},"at":"{at}"}}"#))
                .collect();
            SimReply::json(200, format!("[{}]", rows.join(",")))
        }
        path if comments => SimReply::json(200, format!(r#"[{{"of":"{path}"}}]"#)),
        _ => SimReply::error(403, "not tonight"),
    };
    Rules {
        routes: vec![Route::custom("/*", Arc::new(answer))],
        ..Rules::default()
    }
}

#[test]
fn a_cursor_moves_when_the_children_are_there_too() {
    for sink in ["none", "{ csv: out/issues.csv, mode: merge }"] {
        let yaml = format!(
            r#"
source: {{ url: https://api.test, limits: none }}
streams:
  issues: {{ get: /issues, query: {{ since: "{{{{ cursor.from }}}}" }}, key: id, cursor: {{ field: at, start: 2026-01-01 }}, sink: {sink} }}
  comments: {{ for: {{ issue: {{ stream: issues }} }}, get: "/comments/{{{{ issue.id }}}}", key: of, sink: {{ csv: out/comments.csv, mode: merge }} }}
"#
        );
        let failed = Scene::new(&yaml, night(false)).run();
        assert_eq!(failed.summary.exit, Exit::Failed);
        // The next night is another run.
        let fresh = Scene::new(&yaml, night(true)).within(failed.root);
        let ran = fresh.fresh().run().complete();
        assert_eq!(
            ran.lines("out/comments.csv"),
            ["of", "/comments/1", "/comments/2"],
            "{sink}"
        );
        let ran = Scene::new(&yaml, night(true))
            .within(ran.root)
            .run()
            .complete();
        assert_eq!(
            ran.targets().len(),
            2,
            "only what is new: {:?}",
            ran.targets()
        );
    }
}

#[test]
fn a_report_is_ordered_polled_and_fetched() {
    let polls = AtomicUsize::new(0);
    let rules = Rules {
        routes: vec![
            Route::custom(
                "/reports",
                Arc::new(|request| {
                    let body: serde_json::Value =
                        serde_json::from_slice(&request.body).expect("JSON");
                    SimReply::json(200, format!(r#"{{"report":{{"id":"r{}"}}}}"#, body["day"]))
                }),
            ),
            Route::custom(
                "/reports/{id}",
                Arc::new(move |request| {
                    let id = request.param("id").expect("an id");
                    match polls.fetch_add(1, Ordering::SeqCst) {
                        0..4 => SimReply::json(200, r#"{"status":"RUNNING"}"#),
                        _ => SimReply::json(
                            200,
                            format!(r#"{{"status":"DONE","url":"https://files.test/{id}"}}"#),
                        ),
                    }
                }),
            ),
            Route::custom(
                "/{file}",
                Arc::new(|request| {
                    let file = request.param("file").expect("a name");
                    SimReply::json(200, format!(r#"[{{"sku":"{file}"}}]"#))
                }),
            ),
        ],
        latency: Latency::Between(MS, 300 * MS, 5),
        ..Rules::default()
    };
    let yaml = r#"
source: { url: https://api.test, limits: none, allow_origins: ["https://files.test"] }
streams:
  orders: { for: { day: [1, 2, 3] }, post: /reports, once: true, body: { json: { day: "{{ day }}" } }, records: report, sink: none }
  ready:
    for: { order: { stream: orders } }
    get: /reports/{{ order.id }}
    responses: [ { if: body.status == "RUNNING", then: { wait: 10s } } ]
    sink: none
  sales: { for: { file: { stream: ready } }, get: "{{ file.url }}", columns: { day: "{{ day }}", order: "{{ order.id }}", sku: } }
sink: { csv: out/sales.csv }
"#;
    let ran = run(yaml, rules).complete();
    assert_eq!(
        ran.lines("out/sales.csv"),
        ["day,order,sku", "1,r1,r1", "2,r2,r2", "3,r3,r3"]
    );
    assert_eq!(
        ran.targets()
            .iter()
            .filter(|target| *target == "/reports")
            .count(),
        3
    );
}
