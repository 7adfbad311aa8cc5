//! Answers that are too large for memory: CSV and NDJSON go over the disk and come out the same; what is
//! cut off, damaged or swells leaves nothing, and nothing is half there.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Fault, FaultRule, Route, Rules, SimReply, SimRequest};

use super::fixture::{Ran, Scene};
use super::scene::Project;

/// More than is held in memory of an answer whose rows are read one by one.
const ROWS: usize = 135_000;

fn record(n: usize) -> String {
    format!(
        "{{\"id\":{n},\"text\":\"two\\nlines, \\\"quoted\\\" and é\",\"price\":{n}.10,\"more\":\"{:050}\"}}\n",
        n * 7
    )
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(record).collect()
}

fn csv(rows: usize) -> String {
    let mut text = String::from("id,text,more\r\n");
    for n in 0..rows {
        let _ = write!(
            text,
            "{n},\"two\nlines, \"\"quoted\"\" and é\",{:0100}\r\n",
            n * 7
        );
    }
    text
}

fn csv_records(rows: usize) -> String {
    let row = |n| {
        format!(
            "{{\"id\":\"{n}\",\"text\":\"two\\nlines, \\\"quoted\\\" and é\",\"more\":\"{:0100}\"}}\n",
            n * 7
        )
    };
    (0..rows).map(row).collect()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn pipeline(stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 4, retry: {{ attempts: 2 }} }}
streams:
  a:
    get: /a
    {}
sink: [{{ ndjson: out/a.ndjson }}]
",
        stream.replace('\n', "\n    ")
    )
}

fn serving(answer: impl Fn(&SimRequest) -> SimReply + Send + Sync + 'static) -> Rules {
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    }
}

fn always(headers: &[(&str, &str)], body: Vec<u8>) -> Rules {
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    serving(move |_| {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        SimReply::new(200, &headers, body.clone())
    })
}

/// Runs with an old file in place; it must fail, and it must stay as it was, alone.
fn refused(stream: &str, rules: Rules, exit: Exit, says: &str) -> Ran {
    let yaml = pipeline(stream);
    let ran = Scene::new(&yaml, rules).file("out/a.ndjson", "old\n").run();
    let failure = ran.failure();
    assert!(failure.message.contains(says), "{failure:#?}");
    assert_eq!(failure.exit, exit, "{failure:#?}");
    assert_eq!(ran.text("out/a.ndjson"), "old\n");
    assert_eq!(ran.facts(|fact| matches!(fact, Fact::Committed { .. })), 0);
    assert!(!ran.files().iter().any(|file| file.contains("body")));
    ran
}

#[test]
fn rows_come_out_of_a_large_answer_as_out_of_small_ones() {
    let plain = csv(ROWS);
    let wanted = csv_records(ROWS);
    let packed = gzip(plain.as_bytes());
    let archive = zip(&[("b.csv", plain.as_bytes()), ("a.csv", b"id,text,more\n")]);
    for (headers, body) in [
        (vec![("content-type", "text/csv")], plain.into_bytes()),
        (
            vec![("content-type", "text/csv"), ("content-encoding", "gzip")],
            packed.clone(),
        ),
        (vec![("content-type", "text/csv; charset=utf-8")], packed),
        (vec![("content-type", "text/csv")], archive),
    ] {
        let ran = Scene::new(
            &pipeline("key: id\ncolumns: { id: { type: integer }, text: , more: }"),
            always(&headers, body),
        )
        .run()
        .complete();
        let stream = ran.stream("a");
        assert_eq!(
            (stream.pages, stream.records),
            (1, ROWS as u64),
            "{headers:?}"
        );
        let found = ran.text("out/a.ndjson");
        let same = found.lines().zip(wanted.lines()).all(|(found, wanted)| {
            found
                .replacen("\"id\":", "\"id\":\"", 1)
                .replacen(',', "\",", 1)
                == wanted
        });
        assert!(same && found.lines().count() == ROWS, "{headers:?}");
    }
}

#[test]
fn several_at_once_beside_small_ones_and_steps_count_on() {
    let stream = "for: { part: { range: [0, 3] } }
query: { part: \"{{ part }}\" }
transform:
  - where: record.id % 2 == 0
  - add: { at: \"{{ index }}\" }";
    let rules = serving(|request| {
        let part: usize = request.param("part").unwrap().parse().unwrap();
        let body = match part {
            1 => lines(7, 9),
            _ => lines(part * ROWS, (part + 1) * ROWS),
        };
        SimReply::new(200, &[("content-type", "application/jsonl")], body)
    });
    let ran = Scene::new(&pipeline(stream), rules).run().complete();
    let mut wanted = String::new();
    for part in 0..4 {
        let (from, to) = match part {
            1 => (7, 9),
            _ => (part * ROWS, (part + 1) * ROWS),
        };
        for n in (from..to).filter(|n| n % 2 == 0) {
            let record = record(n);
            let record = record.trim_end().trim_end_matches('}');
            let _ = writeln!(wanted, "{record},\"at\":{}}}", n - from);
        }
    }
    assert!(ran.text("out/a.ndjson") == wanted);
    assert_eq!((ran.stream("a").pages, ran.requests()), (4, 4));
}

#[test]
fn what_is_cut_off_or_bent_leaves_nothing() {
    let whole = lines(0, ROWS).into_bytes();
    let kind = ("content-type", "application/x-ndjson");
    let cut = Rules {
        faults: vec![FaultRule::always("/a", Fault::TruncatedBody)],
        ..always(&[kind], whole.clone())
    };
    let ran = refused("", cut, Exit::Resumable, "body");
    assert_eq!(ran.requests(), 2, "tried again like any broken connection");
    let packed = gzip(&whole);
    let cut = packed[..packed.len() - 4].to_vec();
    let encoded = [kind, ("content-encoding", "gzip")];
    refused("", always(&encoded, cut), Exit::Resumable, "ended early");
    let mut bent = packed.clone();
    let at = bent.len() - 6;
    bent[at] ^= 1;
    refused("", always(&[kind], bent), Exit::Failed, "not the gzip");
    // A line that is cut off in the middle, with the length that was said.
    let short = whole[..whole.len() - 9].to_vec();
    refused(
        "",
        always(&[kind], short),
        Exit::Resumable,
        "the last line is cut off",
    );
    let wrong = [&whole[..], b"{\"id\":}\n"].concat();
    let says = format!("line {}: expected value", ROWS + 1);
    refused("", always(&[kind], wrong), Exit::Failed, &says);
}

#[test]
fn an_answer_has_a_cap_that_can_be_raised() {
    let kind = ("content-type", "text/csv");
    let zeros = gzip(format!("a\n{}", format!("{:01000}\n", 0).repeat(70_000)).as_bytes());
    let ran = refused(
        "",
        always(&[kind], zeros.clone()),
        Exit::Failed,
        "larger than 64 MiB",
    );
    let hint = ran.failure().hint.clone().unwrap_or_default();
    assert!(hint.contains("max_body: 2GB"), "{hint}");
    let encoded = [kind, ("content-encoding", "gzip")];
    refused(
        "",
        always(&encoded, zeros),
        Exit::Failed,
        "larger than 64 MiB",
    );
    let two = lines(0, 20_000).into_bytes();
    let lines = ("content-type", "application/x-ndjson");
    refused(
        "max_body: 1MB",
        always(&[lines], two),
        Exit::Failed,
        "larger than 1000000 bytes",
    );
    let document = format!("[{}1]", "1,".repeat(600_000)).into_bytes();
    let json = ("content-type", "application/json");
    refused(
        "max_body: 1MB",
        always(&[json], document.clone()),
        Exit::Failed,
        "larger than 1000000 bytes",
    );
    let ran = Scene::new(&pipeline("max_body: 2MB"), always(&[json], document))
        .run()
        .complete();
    assert_eq!(ran.stream("a").records, 600_001);
}

#[test]
fn a_run_that_goes_on_has_the_pieces_that_it_kept() {
    let broken = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicUsize::new(0));
    let (is_broken, counter) = (Arc::clone(&broken), Arc::clone(&asked));
    let rules = serving(move |request| {
        let kind = ("content-type", "application/x-ndjson");
        if request.param("page").as_deref() == Some("2") {
            if is_broken.load(Ordering::SeqCst) {
                return SimReply::new(403, &[], "not now");
            }
            return SimReply::new(200, &[kind], lines(ROWS, ROWS + 3));
        }
        counter.fetch_add(1, Ordering::SeqCst);
        let next = ("link", "<https://api.test/a?page=2>; rel=\"next\"");
        SimReply::new(200, &[kind, next], lines(0, ROWS))
    });
    let yaml = pipeline("pages: link\nexpect: { min_records: 5, max_pages: 2 }");
    let first = Scene::new(&yaml, rules.clone()).run();
    assert_eq!(first.failure().exit, Exit::Failed);
    broken.store(false, Ordering::SeqCst);
    let ran = Scene::new(&yaml, rules).within(first.root).run().complete();
    assert!(ran.text("out/a.ndjson") == lines(0, ROWS + 3));
    assert_eq!(
        asked.load(Ordering::SeqCst),
        1,
        "the large page is not asked for again"
    );
    assert_eq!(ran.stream("a").records, ROWS as u64 + 3);
}

#[test]
fn a_total_that_is_not_in_a_large_first_page_is_told() {
    let rules = serving(|request| {
        let body = match request.param("page").as_deref() {
            Some("1") => lines(0, ROWS),
            _ => lines(ROWS, ROWS + 3),
        };
        SimReply::new(200, &[("content-type", "application/x-ndjson")], body)
    });
    let yaml = pipeline("pages: { page: { to: page, total: n } }\nstop: count < 10");
    let ran = Scene::new(&yaml, rules).run().complete();
    assert_eq!(
        (ran.requests(), ran.stream("a").records),
        (2, ROWS as u64 + 3)
    );
    let told = |fact: &Fact| matches!(fact, Fact::Noticed { message, .. } if message.contains("`pages.page.total: n` is not in the first page"));
    assert_eq!(ran.facts(told), 1);
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_half() {
    let body = lines(0, ROWS);
    let head = format!(
        "HTTP/1.1 200 X\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), body.as_bytes()].concat();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, in_the_middle) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            // The first one gets a part, and then nothing until it is gone.
            let part = if number == 0 {
                answer.len() * 3 / 4
            } else {
                answer.len()
            };
            let _ = stream.write_all(&answer[..part]);
            told.send(()).unwrap();
            let _ = stream.read(&mut request);
        }
    });
    let project = Project::new(&format!(
        "source: {{ url: \"http://{address}\", limits: none }}\nstreams: {{ items: {{ get: /a }} }}\nsink: {{ ndjson: data/items.ndjson }}\n"
    ));
    let mut command = project.command(&["run", "items"]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    in_the_middle.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let of_run = |file: &PathBuf| file.components().any(|part| part.as_os_str() == "runs");
    let left: Vec<PathBuf> = project.files().into_iter().filter(of_run).collect();
    assert!(!left.is_empty());
    for file in left {
        let size = std::fs::metadata(&file).unwrap().len();
        assert!(size < 64 << 10, "{}: {size}", file.display());
    }
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let found = std::fs::read_to_string(project.path().join("data/items.ndjson")).unwrap();
    assert!(found == body);
}
