//! Answers that are too large for memory: one download of NDJSON, and one of packed CSV, small and ten
//! times that. See `benches/README.md` for the bar.
//!
//! ```sh
//! cargo bench --bench large                                # 200 MB and 2 GB
//! GLEANER_BENCH_BYTES=20000000 cargo bench --bench large   # a quick look
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
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use self::gauge::{Bars, project};

const BYTES: usize = 200_000_000;
/// Rows of a block; a body is many of them.
const ROWS: usize = 10_000;

/// A body of blocks that are all alike: a gzip file may have many members (RFC 1952, section 2.2).
struct Body {
    path: &'static str,
    kind: &'static str,
    first: Vec<u8>,
    block: Vec<u8>,
    /// Bytes of a block as text.
    plain: usize,
}

impl Body {
    fn ndjson() -> Self {
        let block = (0..ROWS).fold(String::new(), |mut text, n| {
            let _ = writeln!(
                text,
                r#"{{"id":{n},"name":"station {n}","at":"2026-05-01T10:00:00Z","value":{}.25,"flags":["a","b"],"note":null}}"#,
                n % 977
            );
            text
        });
        Self {
            path: "/lines",
            kind: "application/x-ndjson",
            first: Vec::new(),
            plain: block.len(),
            block: block.into_bytes(),
        }
    }

    fn csv() -> Self {
        let block = (0..ROWS).fold(String::new(), |mut text, n| {
            let _ = write!(
                text,
                "{n},\"station {n}\",2026-05-01T10:00:00Z,{}.25,\"a, b\"\r\n",
                n % 977
            );
            text
        });
        Self {
            path: "/table",
            kind: "text/csv",
            first: packed(b"id,name,at,value,flags\r\n"),
            plain: block.len(),
            block: packed(block.as_bytes()),
        }
    }
}

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).expect("to memory");
    encoder.finish().expect("to memory")
}

fn main() {
    let wanted = std::env::var("GLEANER_BENCH_BYTES").ok();
    let bytes: usize = wanted.map_or(BYTES, |n| n.parse().expect("a number of bytes"));
    let bodies = Arc::new([Body::ndjson(), Body::csv()]);
    let url = serve(Arc::clone(&bodies));
    let mut bars = Bars::default();
    for (body, what) in bodies.iter().zip(["NDJSON", "CSV in gzip"]) {
        for size in [bytes, bytes * 10] {
            let blocks = size / body.plain;
            let folder = project::folder("large");
            let text = format!(
                "about: The bench.\nsource: {{ url: \"{url}\", limits: none, timeouts: {{ attempt: 1h }} }}\n\
                 streams: {{ rows: {{ get: \"{}/{blocks}\", max_body: 100GB }} }}\nsink: {{ ndjson: out/rows.ndjson }}\n",
                body.path
            );
            project::pipeline(&folder, "large", &text);
            let cost = project::harvest(&folder, "large");
            let file = std::fs::File::open(folder.join("out/rows.ndjson")).expect("the output");
            let rows = BufReader::with_capacity(1 << 20, file).lines().count();
            assert_eq!(rows, blocks * ROWS, "every row is there");
            let megabytes = blocks * body.plain / 1_000_000;
            cost.print(&format!("{megabytes} MB of {what}"), None);
            let name = format!("peak memory in MB ({megabytes} MB of {what})");
            bars.judge(&name, cost.peak_mb, 100.0);
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    bars.print();
}

/// A server that holds no more than a block of each body.
fn serve(bodies: Arc<[Body; 2]>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let bodies = Arc::clone(&bodies);
            // Who asks may go away before the end.
            std::thread::spawn(move || answer(stream?, &bodies[..]));
        }
    });
    url
}

fn answer(mut stream: TcpStream, bodies: &[Body]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut asked) = (String::new(), String::new());
    reader.read_line(&mut asked)?;
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let target = asked.split(' ').nth(1).unwrap_or_default();
    let found = bodies.iter().find_map(|body| {
        let blocks: usize = target
            .strip_prefix(body.path)?
            .strip_prefix('/')?
            .parse()
            .ok()?;
        Some((body, blocks))
    });
    let (body, blocks) = found.expect("a body that is there");
    let length = body.first.len() + blocks * body.block.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {length}\r\n\r\n",
        body.kind
    )?;
    stream.write_all(&body.first)?;
    (0..blocks).try_for_each(|_| stream.write_all(&body.block))
}
