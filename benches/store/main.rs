//! What it costs that nothing is lost: commits beside plain writing, memory of a run of 10,000,000
//! records in 100,000 partitions, and how soon such a run goes on. See `benches/README.md`.
//!
//! ```sh
//! cargo bench --bench store                          # 100,000 partitions of 100 records
//! GLEANER_BENCH_PARTITIONS=2000 cargo bench --bench store
//! ```
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a bench measures real time, prints, and stops at the first surprise"
)]
#![allow(missing_docs)]

mod commit;
#[path = "../gauge/mod.rs"]
mod gauge;
mod long;

use gleaner::sim::data::{Shape, records};
use gleaner::sim::paging::Paging;
use gleaner::sim::rules::{Listing, Route, Rules};

use self::gauge::server::{self, ServerProcess};
use self::gauge::{Bars, project};

/// Records of a page.
const PER_PAGE: usize = 100;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    let folder = project::folder("store");
    let server = ServerProcess::start(&[]);
    let mut bars = Bars::default();
    commit::measure(&mut bars, &folder, &server.url);
    long::measure(&mut bars, &folder, &server.url);
    drop(server);
    bars.print();
}

/// The same hundred records for every partition, until the standard input closes.
fn serve() {
    let data = std::sync::Arc::new(records(PER_PAGE, &Shape::default()));
    let listing = Listing::new(data, Paging::page_total("meta.total"))
        .size(PER_PAGE)
        .records_at("data");
    let rules = Rules {
        routes: vec![Route::list("/items", listing)],
        counters_only: true,
        ..Rules::default()
    };
    server::serve(rules);
}

/// A pipeline of so many partitions of one page each.
fn pipeline(folder: &std::path::Path, url: &str, name: &str, partitions: usize, more: &str) {
    let text = format!(
        "about: The bench.\nsource:\n  url: {url}\n  limits: none\n  concurrency: 16\nstreams:\n  records:\n    for: {{ part: {{ range: [1, {partitions}] }} }}\n    \
         get: /items\n    query: {{ part: \"{{{{ part }}}}\" }}\n    pages: none\n    records: data\n{more}sink: {{ ndjson: out/{name}.ndjson }}\n"
    );
    project::pipeline(folder, name, &text);
}
