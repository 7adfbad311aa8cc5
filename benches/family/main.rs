//! Streams over the records of another one, where the wait is the API's: `gleaner run` for a list of
//! parents and the pages of each, beside the ideal. See `benches/README.md` for the bar.
//!
//! ```sh
//! cargo bench --bench family
//! ```
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench prints, and stops at the first surprise"
)]
#![allow(missing_docs)]

#[path = "../gauge/mod.rs"]
mod gauge;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use gleaner::sim::rules::{Latency, Route, Rules};
use gleaner::sim::serve::Server;
use gleaner::sim::{SimApi, SimReply, SimRequest};

use self::gauge::{Bars, project};

const PARENTS: usize = 1_000;
/// Pages of each parent.
const PAGES: usize = 10;
/// Records of a child's page, and parents of the list's: it pages too.
const SIZE: usize = 10;
const LIST_SIZE: usize = 100;
const LATENCY: Duration = Duration::from_millis(20);
const IN_FLIGHT: usize = 32;

fn main() {
    let api = SimApi::new(Rules {
        routes: vec![
            Route::custom(
                "/parents",
                Arc::new(|request| page(request, PARENTS, LIST_SIZE, |at| parent(at + 1))),
            ),
            Route::custom(
                "/parents/{n}/children",
                Arc::new(|request| {
                    let n = number(request, "n");
                    page(request, PAGES * SIZE, SIZE, |at| child(n, at))
                }),
            ),
        ],
        latency: Latency::Fixed(LATENCY),
        counters_only: true,
        ..Rules::default()
    });
    let server = Server::start_on_own_thread(api).expect("a server");
    let folder = project::folder("family");
    let file = format!(
        "about: A list and the pages of each.\nsource:\n  url: {}\n  limits: none\n  concurrency: {IN_FLIGHT}\n\
         streams:\n  parents:\n    get: /parents\n    query: {{ per_page: {LIST_SIZE} }}\n    \
         pages: {{ page: {{ to: page, size: per_page, total: total }} }}\n    records: data\n  \
         children:\n    for: {{ parent: {{ stream: parents }} }}\n    \
         get: /parents/{{{{ parent.n }}}}/children\n    query: {{ per_page: {SIZE} }}\n    \
         pages: {{ page: {{ to: page, size: per_page, total: total }} }}\n    records: data\n\
         sink: {{ ndjson: 'out/{{{{ stream }}}}.ndjson' }}\n",
        server.url()
    );
    project::pipeline(&folder, "family", &file);
    let cost = project::harvest(&folder, "family");
    judge_output(&folder);
    let requests = PARENTS * PAGES + PARENTS / LIST_SIZE;
    assert_eq!(
        server.api().audit().requests(),
        requests,
        "one request a page"
    );
    let ideal = LATENCY.as_secs_f64() * requests as f64 / IN_FLIGHT as f64;
    println!(
        "family: {PARENTS} parents, {PAGES} pages of {} ms each, {IN_FLIGHT} in flight; ideal {ideal:.2} s",
        LATENCY.as_millis()
    );
    cost.print("gleaner", None);
    let mut bars = Bars::default();
    bars.judge("family / ideal", cost.wall / ideal, 1.05);
    bars.print();
}

/// Every record once, parents in the order of their list, children in the order of their parents.
fn judge_output(folder: &std::path::Path) {
    let (mut parents, mut children) = (String::new(), String::new());
    for n in 1..=PARENTS {
        writeln!(parents, "{}", parent(n)).expect("to a string");
        for at in 0..PAGES * SIZE {
            writeln!(children, "{}", child(n, at)).expect("to a string");
        }
    }
    for (stream, wanted) in [("parents", parents), ("children", children)] {
        let out = std::fs::read_to_string(folder.join(format!("out/{stream}.ndjson")));
        assert!(out.expect("the output") == wanted, "{stream} is not whole");
    }
}

fn parent(n: usize) -> String {
    format!(r#"{{"n":{n}}}"#)
}

fn child(n: usize, at: usize) -> String {
    format!(r#"{{"parent":{n},"at":{at}}}"#)
}

fn number(request: &SimRequest, name: &str) -> usize {
    let text = request.param(name).expect("a value");
    text.parse().expect("a number")
}

fn page(
    request: &SimRequest,
    total: usize,
    size: usize,
    show: impl Fn(usize) -> String,
) -> SimReply {
    let from = (number(request, "page") - 1) * size;
    let rows: Vec<String> = (from..(from + size).min(total)).map(show).collect();
    SimReply::json(
        200,
        format!(r#"{{"total":{total},"data":[{}]}}"#, rows.join(",")),
    )
}
