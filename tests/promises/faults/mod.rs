//! The numbered faults: what may go wrong between an API and a file, each with what must come of it.
//!
//! A fault that another suite shows is not shown twice; the table says where. Schedules and
//! dashboards are not part of this version.
//!
//! | # | fault | comes to | shown by |
//! |---|---|---|---|
//! | 1 | kill -9 at any moment | the next run goes on; nothing lost or doubled | `kill`, `powerloss` |
//! | 2 | power loss before each operation | the same; outputs whole | `powerloss` |
//! | 3 | the ledger's tail cut at any byte | what is whole counts, the rest is asked for again | [`disk`]; every byte and noise: `store::ledger` |
//! | 4 | a bit turned in the ledger | stop, file and offset named, nothing touched | [`disk`], `store::ledger` |
//! | 5 | a part shorter than the ledger says, or a bit of it turned | stop, part and page named | [`disk`], `store::run` |
//! | 6, 7 | the disk full while pages are kept, while rows are written, while outputs are made | exit 73, old outputs whole; with room again it goes on | [`disk`] at any byte, [`process`] on small tmpfs |
//! | 8 | the nth call fails, once and for ever | never wrong data, exit 73, and the next run is complete | [`disk`]; of the store alone: `powerloss` |
//! | 9 | `ulimit -f` | an error, no death by signal | [`process`] |
//! | 10 | folders read-only, missing, links to nowhere | told before the first request | [`process`], `errors` |
//! | 11 | two processes: one pipeline; one output | the second ends with 77 and asks nothing | `resume`; [`process`] |
//! | 12 | paging that goes round in circles, by each way of paging | stopped within three pages, page named | `guards`, [`pages`] |
//! | 13 | rows inserted or deleted while pages are counted | repeats removed by key, change of the total told, shortfall never silent | [`drift`] |
//! | 14 | many rows with one cursor value over a page boundary | none lost, none doubled over two runs | [`cursor`]; night after night: `nights` |
//! | 15 | 429 with every form of Retry-After | never earlier than told; garbage is backoff; over the cap a resumable stop | `feedback` |
//! | 16 | 429 to one of sixteen | all pause | `feedback`; the windows: `manners` |
//! | 17 | 503 for a minute | recovers, few requests | [`wire`] |
//! | 18 | down for good | circuit, exit 75, no storm; what came is kept | `feedback`, `resume` |
//! | 19 | no answer; headers then silence; a byte in ten seconds | the time-out that fits, tried again | [`wire`], `errors` |
//! | 20 | body cut, reset inside a body | tried again, no part of a page is kept | [`sockets`] |
//! | 21 | an idle connection closed at reuse | a repeat nobody notices; not for `once` | [`sockets`] |
//! | 22 | HTTP/2 GOAWAY, `REFUSED_STREAM`, a stream reset midway | the first two never count as sent | [`tls`] |
//! | 23 | unknown host at the start; the name server fails midway; another address | fatal; tried again; followed | `errors`, [`wire`]; [`moving`] |
//! | 24 | certificates: self-signed, expired, another host; a handshake cut off | three fatal with a plain cause; tried again | `errors`, [`tls`] |
//! | 25 | redirect and next link to another origin | refused, no byte of a secret leaves | `secrets` |
//! | 26 | redirects: in a circle, fifty hops, to a file, to link-local | stopped at five, refused | `errors`, [`wire`] |
//! | 27 | bombs, stacked and lying encodings | capped, page named | [`wire`] |
//! | 28 | success without data | tried twice, failed with a sample, never an empty file | [`pages`] |
//! | 29 | records missing on page 5 of 9 | failed, not an early end | [`pages`] |
//! | 30 | JSON at its edges | the page's error, or the text exactly | [`pages`] |
//! | 31 | 401 midway; tokens that end or are taken back; a token endpoint with a bad day, or down for good | fatal at once, with what to do; renewed once for all, refused again is fatal; waited for, or a resumable stop that keeps what came | [`wire`]; `auth` |
//! | 32 | new columns, changed types, 5000 columns | in the file, in the same order whatever the concurrency | [`files`] |
//! | 33 | cells with everything in them | read back the same | [`files`] |
//! | 34 | names that climb, hide or are too long | refused or encoded, nothing outside | [`files`] |
//! | 35 | secrets in every place, every failure | nowhere but in requests | `secrets`, [`canary`] |
//! | 36 | YAML: bomb, duplicate key, typo, missing variable, tab | one error with its place, no request | `diagnostics`, `errors`, [`files`] |
//! | 37 | signals: the first, the second, a screen that is gone | graceful, at once, not noticed | `errors`, `resume`, [`process`] |
//! | 38 | clocks that jump | the limits hold | [`time`] |
//! | 39 | large pages side by side; many rows and a slow disk | bytes in flight stay bounded | [`time`]; [`slow`] |
//! | 40 | the pipeline changed before a run goes on; a ledger of a later version | refused by name; left alone | `resume`; [`disk`] |
//!
//! And what a reader sees who opens the outputs during a hundred publishes: [`readers`].

mod canary;
mod cursor;
mod disk;
mod drift;
mod files;
mod ground;
mod moving;
mod pages;
mod process;
mod readers;
mod slow;
mod sockets;
mod time;
mod tls;
mod wire;

use gleaner::failure::Exit;
use gleaner::sim::Rules;

use crate::fixture::{Ran, Scene};

/// What stands at the target before a run that must fail, and after it.
const OLD: &str = "old\n";

/// A pipeline with one stream `a` at `/a`, written to `out/a.ndjson`.
fn pipeline(source: &str, stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 4{source} }}
streams:
  a:
    get: /a
    records: data
    {}
sink: {{ ndjson: out/a.ndjson }}
",
        stream.replace('\n', "\n    ")
    )
}

/// Runs over an old file: the run must end so, and leave the old file and nothing beside it.
fn refused(yaml: &str, rules: Rules, exit: Exit) -> Ran {
    let ran = Scene::new(yaml, rules).file("out/a.ndjson", OLD).run();
    assert_eq!(ran.summary.exit, exit, "{:#?}", ran.summary);
    assert_eq!(ran.failure().exit, exit);
    assert_eq!(ran.text("out/a.ndjson"), OLD);
    let beside: Vec<String> = ran
        .files()
        .into_iter()
        .filter(|file| file.starts_with("out"))
        .collect();
    assert_eq!(beside, ["out/a.ndjson"], "nothing half-written");
    ran
}

/// The failure says all of these, somewhere.
#[track_caller]
fn says(ran: &Ran, wanted: &[&str]) {
    let failure = ran.failure();
    let all = format!(
        "{} {:?} {:?}",
        failure.message, failure.causes, failure.hint
    );
    for wanted in wanted {
        assert!(all.contains(wanted), "`{wanted}` in {all}");
    }
}
