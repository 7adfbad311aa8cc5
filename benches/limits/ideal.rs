//! One list and a request for each of its hundred children, sixteen workers, ten requests a second,
//! against a server that enforces just that.
//!
//! The ideal is the earliest end that any client could reach: with N a window W, the request
//! number n goes at floor((n - 1) / N) x W.

use std::sync::Arc;
use std::time::Duration;

use gleaner::sim::rules::{Route, Rules};
use gleaner::sim::serve::Server;
use gleaner::sim::{ServerLimit, SimApi, SimReply, SimRequest};

use super::gauge::{Bars, project};

const CHILDREN: usize = 100;
const CALLS: usize = 10;
const WINDOW: Duration = Duration::from_secs(1);

pub(crate) fn measure(bars: &mut Bars) {
    let child = |request: &SimRequest| {
        let n = request.param("n").unwrap_or_default();
        SimReply::json(200, format!(r#"{{"data":[{{"n":{n}}}]}}"#))
    };
    let parents: Vec<String> = (1..=CHILDREN).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let list = format!(r#"{{"data":[{}]}}"#, parents.join(","));
    let json = [("content-type", "application/json")];
    let api = SimApi::new(Rules {
        routes: vec![
            Route::fixed("/parents", 200, &json, list),
            Route::custom("/children/{n}", Arc::new(child)),
        ],
        limits: vec![ServerLimit::sliding(CALLS, WINDOW)],
        ..Rules::default()
    });
    let server = Server::start_on_own_thread(api).expect("a server");
    let folder = project::folder("limits");
    let file = format!(
        "about: A list and its children.\nsource:\n  url: {}\n  limits: [{CALLS}/s]\n  concurrency: 16\n\
         streams:\n  parents:\n    get: /parents\n    records: data\n  children:\n    \
         for: {{ n: {{ range: [1, {CHILDREN}] }} }}\n    get: /children/{{{{ n }}}}\n    records: data\n\
         sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}\n",
        server.url()
    );
    project::pipeline(&folder, "it", &file);
    let wall = project::harvest(&folder, "it").wall;
    for stream in ["parents", "children"] {
        let out = std::fs::read_to_string(folder.join(format!("out/{stream}.ndjson")));
        assert_eq!(out.expect("the output"), parents.join("\n") + "\n");
    }
    let audit = server.api().audit();
    let requests = audit.requests();
    assert_eq!(requests, CHILDREN + 1, "one request each");
    let ideal = ((requests - 1) / CALLS) as f64 * WINDOW.as_secs_f64();
    println!(
        "{requests} requests at {CALLS}/s, 16 workers: {wall:.2} s with start and end of the program, ideal {ideal:.2} s"
    );
    bars.judge("refusals at a declared limit", audit.refusals() as f64, 0.0);
    bars.judge("time at the limit / ideal", wall / ideal, 1.03);
}
