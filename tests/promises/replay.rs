//! Record and replay: a recording holds no secret, and a run from it writes the same bytes, without
//! network, secrets or time.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::scene::{Project, Reply, Said, Server};
use super::secrets::{CANARY, clean, encoded};

/// Pages that lead on by a token, one of which is refused at first, and a table beside them. All that
/// was sent comes back, as careless servers have it.
fn server() -> Server {
    let refused = AtomicUsize::new(0);
    Server::start(move |request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let echo = serde_json::to_string(request).expect("text");
        if target.starts_with("/table") {
            return Reply::json(format!(r#"[{{"n":1.10}},{{"n":"{}"}}]"#, target.len()));
        }
        if target.contains("after=2") && refused.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply::new(503, format!("busy, {request}")).header("retry-after", "1");
        }
        let page = ["after=1", "after=2"]
            .iter()
            .position(|after| target.contains(after))
            .map_or(0, |at| at + 1);
        let next = if page < 2 {
            (page + 1).to_string()
        } else {
            "null".to_owned()
        };
        Reply::json(format!(
            r#"{{"echo":{echo},"data":[{{"id":1{page}0,"text":"ä\n"}},{{"id":1{page}1}}],"next":{next}}}"#
        ))
        .header("set-cookie", format!("session={CANARY}"))
        .header("x-echo", format!("{CANARY}?key={}", encoded()))
    })
}

fn pipeline(url: &str) -> String {
    format!(
        "source:
  url: {url}
  limits: [\"50/s\"]
  auth: {{ query: {{ api_key: \"{{{{ secret.CANARY }}}}\" }} }}
streams:
  items:
    post: /items
    headers: {{ X-Token: \"T {{{{ secret.CANARY }}}}\" }}
    query: {{ token: \"{{{{ secret.CANARY }}}}\", now: \"{{{{ run.started }}}}\" }}
    body: {{ json: {{ token: \"{{{{ secret.CANARY }}}}\", where: \"{{{{ env.PLACE }}}}\" }} }}
    records: data
    pages: {{ token: {{ from: next, to: after }} }}
  table:
    for: {{ of: [a, b, c] }}
    get: /table/{{{{ of }}}}
    columns: {{ of: \"{{{{ of }}}}\", n: , day: \"{{{{ run.started }}}}\" }}
sink: [ {{ csv: \"data/{{{{ stream }}}}.csv\" }}, {{ ndjson: \"data/{{{{ stream }}}}.ndjson\" }} ]
"
    )
}

fn outputs(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let folder = project.path().join("data");
    let entries = std::fs::read_dir(folder).expect("outputs");
    entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            (name.into_owned(), std::fs::read(&path).expect("readable"))
        })
        // It tells of runs and times.
        .filter(|(name, _)| name != "datapackage.json")
        .collect()
}

/// The lines of a recording, unpacked.
fn lines(project: &Project, name: &str) -> String {
    let bytes = std::fs::read(project.path().join(name)).expect("a recording");
    let mut text = String::new();
    if std::path::Path::new(name)
        .extension()
        .is_some_and(|end| end == "zst")
    {
        let mut decoder = zstd::stream::read::Decoder::new(&bytes[..]).expect("zstd");
        decoder.read_to_string(&mut text).expect("text");
    } else {
        text = String::from_utf8(bytes).expect("text");
    }
    text
}

fn record(server: &Server, file: &str) -> Project {
    let project = Project::new(&pipeline(&server.url()));
    project.write(".env", &format!("CANARY='{CANARY}'\nPLACE=here\n"));
    let said = project.run(&["run", "items", "--record", file]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    project
}

/// Another project, with the recording and without secrets.
fn replay(recorded: &Project, yaml: &str, file: &str) -> (Project, Said) {
    let project = Project::new(yaml);
    let bytes = std::fs::read(recorded.path().join(file)).expect("a recording");
    std::fs::write(project.path().join(file), bytes).expect("a copy");
    let said = project.run(&["run", "items", "--replay", file]);
    (project, said)
}

fn says(said: &Said, wanted: &str) {
    assert!(said.stderr.contains(wanted), "{wanted:?} in {}", said.shown);
}

#[test]
fn a_replay_writes_the_same_bytes_and_sends_nothing() {
    for file in ["tape.ndjson", "tape.ndjson.zst"] {
        let server = server();
        let recorded = record(&server, file);
        let sent = server.heard().len();
        assert_eq!(sent, 7, "three pages, one of them twice, and three tables");
        let (played, said) = replay(&recorded, &pipeline(&server.url()), file);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert_eq!(server.heard().len(), sent, "nothing is sent");
        let of_it = outputs(&played);
        assert_eq!(of_it.len(), 4);
        assert!(of_it == outputs(&recorded), "{}", said.shown);
        assert!(
            !played.path().join(".gleaner/state.db").exists(),
            "no trace"
        );
        // And once more, where the state and the outputs of a real run are.
        let before = recorded.run(&["runs"]).stdout;
        let said = recorded.run(&["run", "items", "--replay", file]);
        assert_eq!(said.code, Some(0), "{}", said.shown);
        assert!(of_it == outputs(&recorded));
        assert_eq!(recorded.run(&["runs"]).stdout, before);
    }
}

/// As one that goes over the disk: a recording has room for what the stream allows.
#[test]
fn an_answer_as_large_as_the_stream_allows_is_replayed_whole() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = "0".repeat(1_000_000);
    for n in 0..70 {
        writeln!(encoder, r#"{{"n":{n},"zeros":"{zeros}"}}"#).expect("memory");
    }
    let packed = encoder.finish().expect("memory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream?);
            let mut line = String::new();
            while reader.read_line(&mut line)? > 2 {
                line.clear();
            }
            count.fetch_add(1, Ordering::SeqCst);
            let stream = reader.get_mut();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\n\
                 content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                packed.len()
            )?;
            stream.write_all(&packed)?;
        }
        std::io::Result::Ok(())
    });
    let yaml = format!(
        "source: {{ url: \"http://{address}\", limits: none }}\nstreams: {{ items: {{ get: /items, max_body: 100MB }} }}\nsink: {{ ndjson: data/items.ndjson }}\n"
    );
    let recorded = Project::new(&yaml);
    let said = recorded.run(&["run", "items", "--record", "all.zst"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let (replayed, said) = replay(&recorded, &yaml, "all.zst");
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a replay sends nothing");
    let file = |of: &Project| std::fs::read(of.path().join("data/items.ndjson")).expect("rows");
    let wanted = file(&recorded);
    assert!(wanted.len() > 64 << 20, "{}", wanted.len());
    assert!(file(&replayed) == wanted, "the same rows");
}

#[test]
fn no_secret_is_in_a_recording() {
    for file in ["tape.ndjson", "tape.ndjson.zst"] {
        let server = server();
        let recorded = record(&server, file);
        assert!(
            server.heard().iter().any(|heard| heard.contains(CANARY)),
            "it was sent"
        );
        let text = lines(&recorded, file);
        clean("the recording", &text);
        assert!(text.contains("[CANARY]"), "{text}");
        for word in ["set-cookie", "api_key", "authorization", "session="] {
            // What a body repeats of a request is data; its headers and addresses are not there.
            let in_fields = text.lines().any(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let asked = format!("{} {}", line["request"], line["answer"]["headers"]);
                asked.contains(word)
            });
            assert!(!in_fields, "{word}: {text}");
        }
        assert_eq!(text.lines().count(), 1 + 7, "{text}");
        let meta = std::fs::metadata(recorded.path().join(file)).expect("a file");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_secret_too_short_to_be_found_is_not_recorded() {
    let server = server();
    let project = Project::new(&pipeline(&server.url()));
    project.write(".env", "CANARY=abc\nPLACE=here\n");
    let said = project.run(&["run", "items", "--record", "tape"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    says(&said, "cannot be kept out of a recording");
    assert!(server.heard().is_empty() && !project.path().join("tape").exists());
}

#[test]
fn what_was_never_asked_is_named_with_the_nearest() {
    let server = server();
    let recorded = record(&server, "tape");
    let yaml = pipeline(&server.url()).replace("/table/", "/tables/");
    let (project, said) = replay(&recorded, &yaml, "tape");
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(
        &said,
        "it is not in the recording; the nearest there is GET ",
    );
    says(&said, "/table/");
    assert!(!project.path().join("data/table.csv").exists());
    let yaml = pipeline(&server.url()).replace("where:", "there:");
    let (_, said) = replay(&recorded, &yaml, "tape");
    says(&said, ", with another body");
    // Asked more often than when it was recorded.
    let text = lines(&recorded, "tape");
    let fewer = text.lines().filter(|line| !line.contains("\"status\":503"));
    let again = fewer.map(|line| {
        if line.contains("after=2") {
            line.replace("\"status\":200", "\"status\":500")
        } else {
            line.to_owned()
        }
    });
    let again: Vec<String> = again.collect();
    recorded.write("again", &(again.join("\n") + "\n"));
    let (_, said) = replay(&recorded, &pipeline(&server.url()), "again");
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(
        &said,
        "it was asked 1 times when the recording was made, and now once more",
    );
}

#[test]
fn a_recording_that_was_cut_off_is_good_up_to_there() {
    let server = server();
    let recorded = record(&server, "tape");
    let text = lines(&recorded, "tape");
    recorded.write("cut", &text[..text.len() - 20]);
    let (_, said) = replay(&recorded, &pipeline(&server.url()), "cut");
    assert_eq!(said.code, Some(1), "{}", said.shown);
    says(&said, "there is no recorded answer");
    let recorded = record(&self::server(), "tape.zst");
    let bytes = std::fs::read(recorded.path().join("tape.zst")).expect("a recording");
    std::fs::write(recorded.path().join("cut.zst"), &bytes[..bytes.len() - 40]).expect("a file");
    let (_, said) = replay(&recorded, &pipeline(&server.url()), "cut.zst");
    assert_eq!(said.code, Some(1), "{}", said.shown);
    recorded.write("none", "{}\n");
    let (_, said) = replay(&recorded, &pipeline(&server.url()), "none");
    assert_eq!(said.code, Some(2), "{}", said.shown);
    says(&said, "is no recording: its first line");
}

#[test]
fn cursors_are_where_they_were_and_what_was_gathered_stays() {
    let server = Server::start(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        Reply::json(if target.contains("since=3") {
            r#"[{"id":4}]"#
        } else {
            r#"[{"id":2},{"id":3}]"#
        })
    });
    let yaml = format!(
        "source: {{ url: \"{}\", limits: none }}
streams:
  items: {{ get: /items, query: {{ since: \"{{{{ cursor.from }}}}\" }}, key: id, cursor: {{ field: id, format: integer, start: 0 }} }}
sink: {{ csv: data/items.csv, mode: merge }}
",
        server.url()
    );
    let project = Project::new(&yaml);
    project.run(&["run", "items", "-q"]);
    let said = project.run(&["run", "items", "--record", "tape"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let said = project.run(&["run", "items", "--replay", "tape"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    says(&said, "a replay leaves that alone");
    let merged = outputs(&project);
    let said = project.run(&["run", "items", "--replay", "tape", "--sink", "csv=new.csv"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let new = std::fs::read_to_string(project.path().join("new.csv")).expect("an output");
    assert_eq!(new, "id\r\n4\r\n", "the window of the recorded run");
    assert!(merged == outputs(&project));
    let state = project.run(&["state", "show", "items"]);
    assert!(state.stdout.contains('4'), "{}", state.stdout);
}

#[test]
fn a_recording_is_a_new_file_of_a_whole_run() {
    let server = server();
    let project = record(&server, "tape");
    let said = project.run(&["run", "items", "--record", "tape"]);
    assert_eq!(said.code, Some(73), "{}", said.shown);
    says(&said, "a recording is a new file");
    // One page of two is here.
    let server = Server::start(|request| {
        if request.contains("after=1") {
            return Reply::new(403, "no");
        }
        Reply::json(r#"{"data":[{"id":1}],"next":1}"#)
    });
    let project = Project::new(&format!(
        "source: {{ url: \"{}\", limits: none }}
streams: {{ items: {{ get: /items, records: data, pages: {{ token: {{ from: next, to: after }} }} }} }}
sink: {{ csv: data/items.csv }}
",
        server.url()
    ));
    project.run(&["run", "items", "-q"]);
    let said = project.run(&["run", "items", "--record", "tape"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    says(&said, "a recording cannot begin in the middle");
}

/// An API that moved, and whose tokens end: the second page is refused to the first of them.
fn moved() -> Server {
    let given = AtomicUsize::new(0);
    Server::start(move |request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        if target == "/token" {
            let n = given.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::json(format!(
                r#"{{"access_token":"{CANARY}-token-{n}","token_type":"bearer"}}"#
            ));
        }
        if let Some(rest) = target.strip_prefix("/old/") {
            let at = if rest.starts_with("items") { 302 } else { 308 };
            // What a redirect says in its body is read by nobody.
            return Reply::new(at, "x".repeat(70_000)).header("location", format!("/{rest}"));
        }
        let is_new = request.contains(&format!("{CANARY}-token-2"));
        if target.contains("after=1") && !is_new {
            return Reply::new(401, r#"{"error":"expired"}"#);
        }
        let next = if target.contains("after=1") {
            "null"
        } else {
            "1"
        };
        Reply::json(format!(
            r#"{{"data":[{{"id":"{}"}}],"next":{next}}}"#,
            target.len()
        ))
    })
}

#[test]
fn redirects_and_renewed_tokens_are_replayed() {
    let server = moved();
    let url = server.url();
    let yaml = format!(
        "source:
  url: {url}
  limits: none
  auth: {{ oauth2: {{ client_credentials: {{ url: {url}/token, id: me, secret: \"{{{{ secret.CANARY }}}}\" }} }} }}
defaults: {{ records: data, pages: {{ token: {{ from: next, to: after }} }} }}
streams:
  items: {{ get: /old/items }}
  posts: {{ post: /old/posts, body: {{ json: {{ a: 1 }} }} }}
sink: {{ csv: \"data/{{{{ stream }}}}.csv\" }}
"
    );
    let project = Project::new(&yaml);
    project.write(".env", &format!("CANARY='{CANARY}'\n"));
    let said = project.run(&["run", "items", "--record", "tape"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let heard = server.heard().join("");
    assert!(heard.contains("-token-1") && heard.contains("-token-2"));
    let text = lines(&project, "tape");
    clean("the recording", &text);
    assert!(
        !text.contains("unanswered") && !text.contains("/token"),
        "{text}"
    );
    assert!(!text.contains("xxx"), "the body of a redirect");
    let sent = server.heard().len();
    let (played, said) = replay(&project, &yaml, "tape");
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(outputs(&played) == outputs(&project), "{}", said.shown);
    assert_eq!(server.heard().len(), sent, "nothing is sent");
}

#[test]
fn a_cursor_that_holds_a_secret_is_scrubbed() {
    let server = Server::start(|_| Reply::json(format!(r#"[{{"id":"{CANARY}"}}]"#)));
    let yaml = format!(
        "source: {{ url: \"{}\", limits: none }}
streams:
  items: {{ get: /items, headers: {{ x-key: \"{{{{ secret.CANARY }}}}\" }}, query: {{ since: \"{{{{ cursor.from }}}}\" }}, key: id, cursor: {{ field: id, format: text, start: a }} }}
sink: {{ ndjson: data/items/, mode: append }}
",
        server.url()
    );
    let project = Project::new(&yaml);
    project.write(".env", &format!("CANARY='{CANARY}'\n"));
    // A value of the API that happens to be what nobody may see.
    let set = project.run(&["state", "set", "items", "items", CANARY]);
    assert_eq!(set.code, Some(0), "{}", set.shown);
    let said = project.run(&["run", "items", "--record", "tape"]);
    assert!(server.heard()[0].contains(CANARY), "{}", said.shown);
    let text = lines(&project, "tape");
    clean("the recording", &text);
    assert!(
        text.lines()
            .next()
            .is_some_and(|head| head.contains("[CANARY]")),
        "{text}"
    );
}
