//! Streams that run over records of others: every record leads to its request once, at any depth, in an
//! order that does not depend on when answers came; children begin while their parents still page,
//! and a parent that fails holds them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use gleaner::failure::Exit;
use gleaner::sim::{Fault, FaultRule, Latency, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene, run};
use super::paging::MS;

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
    let _ = (
        Duration::ZERO,
        Exit::Complete,
        FaultRule::nth(1, Fault::status(500)),
        Scene::new("", Rules::default()),
    );
}
