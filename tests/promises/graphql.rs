//! GraphQL: what goes out, the connections of its pages, and errors in answers that are successes.

use std::sync::Arc;

use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};
use http::Method;
use serde_json::json;

use super::fixture::{Scene, run};

const QUERY: &str = "query($name: String!, $first: Int!, $labels: [String!], $after: String) {
          repository(name: $name) { issues(first: $first, labels: $labels, after: $after) {
            pageInfo { endCursor hasNextPage } nodes { id title(say: \"{{ no template }}\") } } } }";

fn pipeline(more: &str) -> String {
    format!(
        r#"vars: {{ labels: [bug, "7"] }}
source: {{ url: https://api.test, limits: none }}
streams:
  a:
    for: {{ repo: [{{ name: x/y, old: "" }}] }}
    post: /graphql
    body:
      graphql:
        query: |
          {QUERY}
        variables: {{ name: "{{{{ repo.name }}}}", first: 10, labels: "{{{{ vars.labels }}}}", after: "{{{{ repo.old }}}}" }}
    pages: {{ token: {{ from: data.repository.issues.pageInfo.endCursor, to: body.variables.after }} }}
    stop: not body.data.repository.issues.pageInfo.hasNextPage
    records: data.repository.issues.nodes
{more}
sink: {{ ndjson: out/a.ndjson }}
"#
    )
}

fn serve(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    Rules {
        routes: vec![Route::custom("/graphql", Arc::new(answer)).method(Method::POST)],
        ..Rules::default()
    }
}

fn page(request: &SimRequest) -> SimReply {
    let from = request.param("body.variables.after").map_or(0, |after| {
        let after = after.strip_prefix("c").expect("a cursor of ours");
        after.parse::<usize>().expect("a number")
    });
    let nodes: Vec<_> = (from..(from + 10).min(35))
        .map(|id| json!({ "id": id }))
        .collect();
    let to = from + nodes.len();
    let info = json!({ "endCursor": format!("c{to}"), "hasNextPage": to < 35 });
    let issues = json!({ "issues": { "pageInfo": info, "nodes": nodes } });
    SimReply::json(200, json!({ "data": { "repository": issues } }).to_string())
}

#[test]
fn a_connection_is_walked_and_the_query_goes_out_as_it_is_written() {
    let rules = serve(|request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let after = &body["variables"]["after"];
        let mut wanted = json!({ "name": "x/y", "first": 10, "labels": ["bug", "7"] });
        if !after.is_null() {
            wanted["after"] = after.clone();
        }
        assert_eq!(
            body["variables"], wanted,
            "types stay, what is empty is not sent"
        );
        let query = body["query"].as_str().expect("text");
        assert_eq!(query.trim_end(), QUERY.replace("\n          ", "\n"));
        assert_eq!(request.headers["content-type"], "application/json");
        page(request)
    });
    let ran = run(&pipeline(""), rules).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 35);
    assert_eq!(ran.requests(), 4);
}

#[test]
fn errors_in_a_success_fail_the_stream_unless_a_rule_says_otherwise() {
    let errors = r#"{"data":{"repository":{"issues":{"nodes":[{"id":1}],"pageInfo":{}}}},"errors":[{"type":"FORBIDDEN","message":"no access to \u001b[31mlabels"}]}"#;
    let failing = || serve(move |_| SimReply::json(200, errors));
    let ran = Scene::new(&pipeline(""), failing())
        .file("out/a.ndjson", "old")
        .run();
    assert_eq!(ran.summary.exit, Exit::Failed);
    assert_eq!(ran.text("out/a.ndjson"), "old");
    assert_eq!(
        ran.failure().message,
        "a, page 1 of repo={'name': 'x/y', 'old': ''}: the API answers with `errors`: \"no access to [31mlabels\""
    );
    let rule = |then| {
        format!("    responses: [{{ if: body.errors.0.type == 'FORBIDDEN', then: {then} }}]")
    };
    let ran = run(&pipeline(&rule("accept")), failing()).complete();
    assert_eq!(ran.lines("out/a.ndjson"), [r#"{"id":1}"#]);
    let ran = run(&pipeline(&rule("skip")), failing()).complete();
    assert_eq!(ran.text("out/a.ndjson"), "");

    // A throttle in a success is waited for.
    let limited = std::sync::atomic::AtomicUsize::new(0);
    let rules = serve(move |request| {
        if limited.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1 {
            return SimReply::json(200, r#"{"errors":[{"type":"FORBIDDEN"}]}"#);
        }
        page(request)
    });
    let ran = run(&pipeline(&rule("wait")), rules).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 35);
    let times: Vec<_> = ran
        .api
        .audit()
        .entries()
        .iter()
        .map(|entry| entry.at)
        .collect();
    assert!(times[2] - times[1] >= std::time::Duration::from_mins(1));
    // An empty list is none.
    let rules = serve(|_| {
        SimReply::json(
            200,
            r#"{"data":{"repository":{"issues":{"nodes":[],"pageInfo":{}}}},"errors":[]}"#,
        )
    });
    run(&pipeline(""), rules).complete();
}
