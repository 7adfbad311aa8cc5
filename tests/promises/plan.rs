//! What is told ahead of a run and learned in one: `gleaner plan`, `limits: auto`, waits by name.

use std::sync::Arc;
use std::time::Duration;

use gleaner::event::{Fact, Wait};
use gleaner::plan::limit::LimitPlan;
use gleaner::sim::api::SimApi;
use gleaner::sim::data::{Shape, records};
use gleaner::sim::paging::Paging;
use gleaner::sim::rules::{Listing, Route, Rules};
use gleaner::sim::serve::Server;
use gleaner::sim::{Latency, ServerLimit, SimReply, SimRequest};

use super::fixture::{Ran, Scene, run};
use super::scene::Project;

/// Nobody listens there: whatever is sent fails.
const NOWHERE: &str = "http://127.0.0.1:9";

fn offline(limits: &str) -> Project {
    Project::new(&format!(
        "source:
  url: {NOWHERE}
  auth: {{ bearer: \"{{{{ secret.SHOP_TOKEN }}}}\" }}
  limits: {limits}
streams:
  shops:
    get: /shops
    records: data
  orders:
    for:
      shop: {{ range: [1, 40] }}
      day: {{ range: [1, 30] }}
    get: /shops/{{{{ shop }}}}/orders/{{{{ day }}}}
    records: data
    pages: link
    cost: {{ weight: \"5\" }}
sink: {{ csv: \"data/{{{{ stream }}}}.csv\" }}
"
    ))
}

const LIMITS: &str =
    "[5000/h, 80/min, 6000 weight/h, { limit: 10/min, routes: \"/shops/*/orders/*\", per: shop }]";

#[test]
fn a_plan_needs_no_network_and_no_secret() {
    let project = offline(LIMITS);
    let before = project.files();
    let said = project.run(&["plan", "items"]);
    insta::assert_snapshot!(said.stdout, @r"
    items: at least 1,201 requests

    STREAM  PARTITIONS  PAGES OF EACH  REQUESTS
    shops   1           1              1
    orders  1,200       at least 1     at least 1,200

    LIMIT          NEEDS                          TIME AT THE LIMIT  LEFT OF ITS WINDOW
    5000/h         at least 1,201 calls           no wait            at most 3,799 (25% used)
    80/min         at least 1,201 calls           15min              -
    6000 weight/h  at least 6,001 weight          1h                 none: it needs 2 windows
    10/min         at least 30 calls, 40 budgets  2min 48s           -

    takes at least 1h at its limits: 6000 weight/h binds
    pages unknown where it says at least: --probe asks one page a stream
    without a value, reckoned as if it had one and had used nothing: SHOP_TOKEN
    ");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert_eq!(project.files(), before);
}

#[test]
fn a_plan_is_data_too() {
    let project = offline(LIMITS);
    let said = project.run(&["plan", "items", "--json", "--stream", "orders"]);
    let told: serde_json::Value = serde_json::from_str(&said.stdout).expect("one object");
    assert_eq!(told["requests"]["number"], 1200);
    assert_eq!(told["requests"]["known"], "at_least");
    assert_eq!(told["streams"][0]["partitions"]["known"], "exactly");
    assert_eq!(told["limits"][1]["limit"], "80/min");
    assert_eq!(told["limits"][1]["binds"], true);
    assert_eq!(told["limits"][2]["needs"], 6000.0);
    assert_eq!(told["limits"][2]["left"], 0.0);
    assert_eq!(told["limits"][3]["budgets"], 40);
    assert_eq!(told["limits"][3]["most"], 30.0);
    assert_eq!(told["unset"][0], "SHOP_TOKEN");
    // 1,200 at 80 a minute, the first tenth of a window at once.
    assert_eq!(told["seconds"], 894.0);
}

#[test]
fn a_plan_says_what_there_is_no_saying() {
    let text = offline("none").run(&["plan", "items"]).stdout;
    assert!(text.is_empty(), "`cost` without a limit is a mistake");
    let cheap = |limits: &str| {
        let project = offline("none");
        let text = std::fs::read_to_string(project.path().join("pipelines/items.yaml"));
        let text = text
            .expect("written")
            .replace("    cost: { weight: \"5\" }\n", "");
        project.write(
            "pipelines/items.yaml",
            &text.replace("limits: none", &format!("limits: {limits}")),
        );
        project.run(&["plan", "items"])
    };
    let none = cheap("none").stdout;
    assert!(
        none.contains("no limits: nothing but `concurrency: 8` holds"),
        "{none}"
    );
    let auto = cheap("auto").stdout;
    assert!(
        auto.contains("limits: auto: they are found while it runs"),
        "{auto}"
    );
    let wrong = cheap("[80/minute]");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(4), ""));
    assert!(
        wrong.stderr.contains("did you mean `min`"),
        "{}",
        wrong.stderr
    );
    let unknown = offline(LIMITS).run(&["plan", "items", "--stream", "order"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
}

fn shop() -> (Project, Arc<SimApi>, Server) {
    let shape = Shape {
        seed: 1,
        first_id: 1,
        label: "Item".to_owned(),
    };
    let paging = Paging::Page {
        param: "page".to_owned(),
        start: 1,
        total: Some("total".to_owned()),
        last: None,
    };
    let listing = Listing::new(records(95, &shape), paging);
    let rules = Rules {
        routes: vec![Route::list("/items", listing)],
        ..Rules::default()
    };
    let api = SimApi::new(rules);
    let server = Server::start_on_own_thread(Arc::clone(&api)).expect("a server");
    let project = Project::new(&format!(
        "source: {{ url: {}, limits: [100/h] }}
streams:
  one:
    get: /items
    query: {{ per_page: 10 }}
    records: data
    pages: {{ page: {{ to: page, size: per_page, total: total }} }}
  many:
    for: {{ kind: [a, b, c] }}
    get: /items
    query: {{ per_page: 10, kind: \"{{{{ kind }}}}\" }}
    records: data
    pages: {{ page: {{ to: page, size: per_page, total: total }} }}
  gone:
    get: /gone
    records: data
    pages: link
sink: {{ csv: \"data/{{{{ stream }}}}.csv\" }}
",
        server.url()
    ));
    (project, api, server)
}

#[test]
fn a_probe_asks_one_page_a_stream() {
    let (project, api, _server) = shop();
    let args = [
        "plan", "items", "--probe", "--json", "--stream", "one", "--stream", "many",
    ];
    let said = project.run(&args);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(api.audit().requests(), 2);
    let told: serde_json::Value = serde_json::from_str(&said.stdout).expect("one object");
    let requests = |at: usize| told["streams"][at]["requests"].clone();
    let count = |number: u64, known: &str| serde_json::json!({ "number": number, "known": known });
    assert_eq!(requests(0), count(10, "exactly"));
    assert_eq!(requests(1), count(30, "about"));
    assert_eq!(told["requests"], count(40, "about"));
    assert_eq!(told["limits"][0]["left"], 60.0);
}

#[test]
fn a_probe_that_fails_says_why_and_the_rest_is_told() {
    let (project, _api, _server) = shop();
    let said = project.run(&["plan", "items", "--probe"]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("404"), "{}", said.stderr);
    assert!(
        said.stdout.contains("items: at least 41 requests"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout
            .contains("reckoned as if all partitions were like the first"),
        "{}",
        said.stdout
    );
}

// ---- what a run learns and tells -------------------------------------------------------------

fn numbers(limits: &str, count: usize) -> String {
    format!(
        "source:
  url: https://api.test
  limits: {limits}
  concurrency: 8
  retry: {{ attempts: 40 }}
streams:
  a:
    for: {{ n: {{ range: [1, {count}] }} }}
    get: /a/{{{{ n }}}}
    records: data
sink: {{ ndjson: out/a.ndjson }}
"
    )
}

fn answering() -> Rules {
    let answer = |request: &SimRequest| {
        let n = request.param("n").expect("a number");
        SimReply::json(200, format!(r#"{{"data":[{{"n":{n}}}]}}"#))
    };
    Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        latency: Latency::Fixed(Duration::from_millis(80)),
        ..Rules::default()
    }
}

#[test]
fn a_limit_that_nobody_told_is_found_and_can_be_declared() {
    let mut rules = answering();
    rules.limits = vec![ServerLimit::sliding(6, Duration::from_secs(1))];
    let ran = run(&numbers("auto", 3000), rules).complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 3000);
    let refusals = ran.api.audit().refusals();
    assert!((1..60).contains(&refusals), "{refusals}");
    let learned = ran.summary.learned.as_ref().expect("3,000 answers teach");
    let plan = LimitPlan::parse(&learned.limit).expect("a limit");
    let pace = f64::from(plan.calls.get()) / plan.window.as_secs_f64();
    assert!((0.65 * 6.0..=6.0).contains(&pace), "{}", learned.limit);

    // What was learned is what the API goes along with.
    let mut rules = answering();
    rules.limits = vec![ServerLimit::sliding(6, Duration::from_secs(1))];
    let declared = run(&numbers(&format!("[{}]", learned.limit), 300), rules).complete();
    assert_eq!(declared.api.audit().refusals(), 0);
    assert_eq!(declared.summary.learned, None);
}

#[test]
fn an_api_that_refuses_nothing_is_asked_more_and_more() {
    let ran = run(&numbers("auto", 400), answering()).complete();
    let learned = ran.summary.learned.as_ref().expect("400 answers teach");
    assert_eq!(learned.refusals, 0);
    let audit = ran.api.audit();
    assert!(audit.max_in_window(Duration::from_secs(10)) <= 100);
    assert!(
        ran.summary.took < Duration::from_secs(200),
        "{:?}",
        ran.summary.took
    );
    let told = |fact: &Fact| matches!(fact, Fact::LimitsLearned { .. });
    assert_eq!(ran.facts(told), 1);
}

#[test]
fn waits_name_limit_and_scope() {
    let limits = "[{ limit: 2/min, routes: \"/a/*\", per: n }, 30/min]";
    let yaml = numbers(limits, 60).replace("get: /a/", "pages: none\n    get: /a/");
    let ran: Ran = Scene::new(&yaml, answering()).run().complete();
    assert!(
        ran.summary.waited.contains_key("30/min"),
        "{:?}",
        ran.summary.waited
    );

    let limits = "[{ limit: 20/min, routes: \"/a/*\" }]";
    let ran = run(&numbers(limits, 60), answering()).complete();
    let waited: Vec<&str> = ran.summary.waited.keys().map(|name| &**name).collect();
    assert_eq!(waited, ["20/min (/a/*)"]);
    let scoped = |fact: &Fact| {
        let Fact::WaitBegan {
            why: Wait::Limit { limit, scope },
            ..
        } = fact
        else {
            return false;
        };
        &**limit == "20/min" && scope.as_deref() == Some("/a/*")
    };
    assert!(ran.facts(scoped) > 0);
}

#[test]
fn the_margin_is_told_where_a_limit_held_requests_up() {
    for (limits, is_bound) in [("[20/min]", true), ("[1000/min]", false), ("none", false)] {
        let ran = run(&numbers(limits, 60), answering()).complete();
        let margin = ran.summary.margin;
        assert_eq!(margin.is_some(), is_bound, "{limits}: {margin:?}");
        let told = |fact: &Fact| matches!(fact, Fact::MarginUsed { margin: used } if Some(*used) == margin);
        assert_eq!(ran.facts(told), usize::from(is_bound), "{limits}");
    }
}

#[test]
fn a_plan_takes_off_what_is_used_by_now_and_enters_nothing() {
    let server = super::scene::Server::start(|_| super::scene::Reply::json(r#"[{"id":1}]"#));
    let pipeline = |requests: u32| {
        format!(
            "source: {{ url: {}, limits: [100/h, 5/s] }}\nstreams:\n  items:\n    for: {{ n: {{ range: [1, {requests}] }} }}\n    get: /items/{{{{ n }}}}\nsink: {{ csv: data/items.csv }}\n",
            server.url()
        )
    };
    let project = Project::new(&pipeline(3));
    let state = tempfile::tempdir().expect("a folder");
    let env = [("GLEANER_STATE_DIR", state.path().to_str().expect("a path"))];
    let left = |project: &Project| {
        let said = project.run_with(&["plan", "items"], &env).stdout;
        let row = said.lines().find(|line| line.starts_with("100/h"));
        row.expect("a row")
            .rsplit("  ")
            .next()
            .expect("a cell")
            .to_owned()
    };
    // Nothing is known yet, and a plan makes nothing known.
    assert_eq!(left(&project), "97 (3% used)");
    assert_eq!(
        std::fs::read_dir(state.path()).expect("a folder").count(),
        0
    );
    assert_eq!(project.run_with(&["run", "items"], &env).code, Some(0));
    for _ in 0..2 {
        assert_eq!(left(&project), "97 now, then 94 (6% used)");
    }
    project.write("pipelines/items.yaml", &pipeline(98));
    assert_eq!(left(&project), "97 now, then none: it needs 2 windows");
    let told = project.run_with(&["plan", "items", "--json"], &env).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("one object");
    let limit = &told["limits"][0];
    assert_eq!(
        (&limit["used"], &limit["left_now"], &limit["left"]),
        (&3.0.into(), &97.0.into(), &0.0.into())
    );
    // The 98th waits for the first of the three to come back, an hour after it.
    let seconds = limit["seconds"].as_f64().expect("a number");
    assert!((3500.0..=3601.0).contains(&seconds), "{seconds}");
}
