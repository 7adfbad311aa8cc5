//! Answers that are not an array of JSON objects: CSV, lines of JSON, XML, archives, parallel arrays,
//! rows and entries become records, exactly; what is broken, cut off or hostile never passes for data.

use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gleaner::failure::Exit;
use gleaner::sim::{Route, Rules, SimReply, SimRequest};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::fixture::{Ran, Scene};

/// A pipeline with one stream `a` at `/a`.
fn pipeline(stream: &str) -> String {
    format!(
        "source: {{ url: https://api.test, limits: none, concurrency: 4 }}
streams:
  a:
    get: /a
    {}
sink: [{{ ndjson: out/a.ndjson }}, {{ csv: out/a.csv }}]
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

/// Always the same answer.
fn always(content_type: &str, body: impl AsRef<[u8]>) -> Rules {
    let (content_type, body) = (content_type.to_owned(), body.as_ref().to_vec());
    serving(move |_| SimReply::new(200, &[("content-type", &content_type)], body.clone()))
}

/// What a complete run writes.
fn written(stream: &str, rules: Rules) -> String {
    Scene::new(&pipeline(stream), rules)
        .run()
        .complete()
        .text("out/a.ndjson")
}

/// Runs with old files in place; it must fail, and they must stay as they were.
fn refused(stream: &str, rules: Rules, exit: Exit, says: &str) -> Ran {
    let yaml = pipeline(stream);
    let ran = Scene::new(&yaml, rules)
        .file("out/a.ndjson", "old\n")
        .file("out/a.csv", "old\n")
        .run();
    let failure = ran.failure();
    assert!(failure.message.contains(says), "{failure:#?}");
    assert_eq!(failure.exit, exit, "{failure:#?}");
    assert_eq!(ran.text("out/a.ndjson"), "old\n");
    assert_eq!(ran.text("out/a.csv"), "old\n");
    ran
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn utf16(text: &str) -> Vec<u8> {
    let units = std::iter::once(0xfeff).chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

// ---- CSV -------------------------------------------------------------------------------------

const SKUS: &str =
    "{\"sku\":\"00123\",\"amount\":\"1.10\"}\n{\"sku\":\"b;\\\"c\\nd\",\"amount\":\"\"}\n";

#[test]
fn csv_values_stay_the_text_that_they_are() {
    let body = "\u{feff}sku;amount\r\n00123;1.10\r\n\"b;\"\"c\nd\";\r\n";
    let stream = "format: { csv: { delimiter: \";\" } }\nkey: sku";
    let ran = Scene::new(&pipeline(stream), always("application/octet-stream", body))
        .run()
        .complete();
    assert_eq!(ran.text("out/a.ndjson"), SKUS);
    assert_eq!(
        ran.text("out/a.csv"),
        "sku,amount\r\n00123,1.10\r\n\"b;\"\"c\nd\",\"\"\r\n"
    );
    assert_eq!(ran.requests(), 1);
}

#[test]
fn the_content_type_says_it_where_the_file_does_not() {
    let lines = "{\"a\":\"1\"}\n{\"a\":\"2\"}\n";
    assert_eq!(
        written("", always("text/csv; header=present", "a\n1\n2\n")),
        lines
    );
    assert_eq!(
        written("", always("text/tab-separated-values", "a\tb\n1,2\t\n")),
        "{\"a\":\"1,2\",\"b\":\"\"}\n"
    );
    assert_eq!(written("", always("application/x-ndjson", lines)), lines);
    assert_eq!(
        written(
            "records: r.i",
            always("application/atom+xml", "<r><i a='1'/><i/></r>")
        ),
        "{\"@a\":\"1\"}\n"
    );
    // As one record, any XML would do.
    let rules = always("text/xml", "<error>no</error>");
    refused("", rules, Exit::Failed, "instead of JSON");
    // What is declared counts for more.
    assert_eq!(
        written("format: json", always("text/csv", "[{\"a\":1}]")),
        "{\"a\":1}\n"
    );
    assert_eq!(
        written("format: ndjson", always("application/json", lines)),
        lines
    );
}

#[test]
fn encodings_are_those_of_mark_file_and_answer() {
    let text = "name\r\nGrüße €\r\n";
    let expected = "{\"name\":\"Grüße €\"}\n";
    let windows = b"name\r\nGr\xfc\xdfe \x80\r\n";
    for (stream, content_type, body) in [
        ("format: csv", "text/csv", text.as_bytes().to_vec()),
        ("format: csv", "text/csv; charset=latin1", utf16(text)),
        (
            "format: csv",
            "text/csv; charset=windows-1252",
            windows.to_vec(),
        ),
        (
            "format: { csv: { encoding: latin1 } }",
            "text/csv; charset=utf-8",
            windows.to_vec(),
        ),
        (
            "format: { xml: {} }\nrecords: r\ncolumns: { name: }",
            "text/xml",
            b"<?xml version='1.0' encoding='windows-1252'?><r><name>Gr\xfc\xdfe \x80</name></r>"
                .to_vec(),
        ),
        (
            "format: json",
            "application/json; charset=latin1",
            utf16("[{\"name\":\"Grüße €\"}]"),
        ),
    ] {
        assert_eq!(
            written(stream, always(content_type, body)),
            expected,
            "{stream}"
        );
    }
    let says = "the body is not UTF-8 at byte 8";
    refused(
        "format: csv",
        always("text/csv", windows),
        Exit::Failed,
        says,
    );
    let odd = &utf16(text)[..11];
    refused(
        "format: csv",
        always("text/csv", odd),
        Exit::Failed,
        "not the UTF-16LE",
    );
}

#[test]
fn a_csv_that_is_not_whole_is_no_data() {
    let ragged = "id,name\n1,a\n2\n3,c\n";
    let ran = refused(
        "format: csv",
        always("text/csv", ragged),
        Exit::Failed,
        "a, page 1: line 3: it has 1 value where 2 are expected; it begins \"2\"",
    );
    assert!(ran.failure().hint.as_ref().unwrap().contains("`format`"));
    let cut = "id,name\n1,\"a\n2,b\n";
    let says = "a quote is opened and not closed";
    let ran = refused(
        "format: csv",
        always("text/csv", cut),
        Exit::Resumable,
        says,
    );
    assert_eq!(ran.requests(), 6, "tried as often as a broken connection");
    refused(
        "format: csv",
        always("text/csv", ""),
        Exit::Failed,
        "where a header line was expected",
    );
    assert_eq!(
        written("format: csv", always("text/csv", "id,name\r\n")),
        ""
    );
}

#[test]
fn a_message_in_place_of_the_file_is_no_data() {
    let login = "<!DOCTYPE html>\n<html><body><p>Please log in<br></body></html>";
    let error = "{\n\"error\": \"quota, exceeded\"}";
    for format in ["csv", "ndjson", "xml", "json"] {
        let stream = format!("format: {format}\nrecords: {{ optional: x }}");
        let rules = always("text/html", login);
        refused(&stream, rules, Exit::Failed, "an HTML page instead of");
    }
    for format in ["csv", "xml"] {
        let stream = format!("format: {format}");
        let rules = always("application/json", error);
        refused(&stream, rules, Exit::Failed, "the body is JSON instead of");
    }
    let stream =
        "format: csv\nresponses: [{ if: body.error, then: { fail: \"{{ body.error }}\" } }]";
    for status in [200, 400] {
        let rules = serving(move |_| SimReply::json(status, error));
        refused(stream, rules, Exit::Failed, "a, page 1: quota, exceeded");
    }
}

#[test]
fn conditions_see_the_rows_and_the_text() {
    let stream = "format: csv
responses:
  - { if: \"'MAINTENANCE' in text\", then: retry }
  - { if: count == 1 and body.0.state == 'none', then: skip }";
    let turn = AtomicU64::new(0);
    let rules = serving(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => SimReply::new(200, &[], "MAINTENANCE\n"),
        _ => SimReply::new(200, &[], "state\nnone\n"),
    });
    let ran = Scene::new(&pipeline(stream), rules).run().complete();
    assert_eq!((ran.requests(), ran.text("out/a.ndjson").as_str()), (2, ""));
}

// ---- lines of JSON ---------------------------------------------------------------------------

#[test]
fn lines_are_sliced_as_they_are() {
    let body = "{\"id\": 12345678901234567890123, \"p\":1.10}\r\n\r\n{\"id\":2}\n  \n\"x\"";
    assert_eq!(
        written("format: ndjson", always("text/plain", body)),
        "{\"id\": 12345678901234567890123, \"p\":1.10}\n{\"id\":2}\n{\"value\":\"x\"}\n"
    );
    assert_eq!(written("format: ndjson", always("text/plain", "")), "");
    let inside = "{\"d\":[{\"a\":1}]}\n{\"d\":[{\"a\":2},{\"a\":3}]}\n";
    let stream = "format: ndjson\nrecords: \"*.d\"";
    assert_eq!(
        written(stream, always("text/plain", inside)),
        "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n"
    );
    let rows = "[\"t\",\"v\"]\n[1,\"x\"]\n";
    let stream = "format: ndjson\nrecords: { rows: $, names: first }";
    assert_eq!(
        written(stream, always("text/plain", rows)),
        "{\"t\":1,\"v\":\"x\"}\n"
    );
    let says = "JSON instead of lines of objects";
    refused(
        "format: ndjson",
        always("text/plain", rows),
        Exit::Failed,
        says,
    );
}

#[test]
fn a_last_line_that_is_cut_off_is_asked_for_again() {
    let whole = "{\"id\":1}\n{\"id\":2}\n";
    let turn = AtomicU64::new(0);
    let rules = serving(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        // The length is right: a proxy that broke off has counted again.
        0 => SimReply::new(200, &[], &whole[..15]),
        _ => SimReply::new(200, &[], whole),
    });
    let ran = Scene::new(&pipeline("format: ndjson"), rules)
        .run()
        .complete();
    assert_eq!(
        (ran.requests(), ran.text("out/a.ndjson").as_str()),
        (2, whole)
    );
    let rules = always("text/plain", &whole[..15]);
    refused(
        "format: ndjson",
        rules,
        Exit::Resumable,
        "line 2: the last line is cut off",
    );
    let rules = always("text/plain", "{\"id\":1}\n{\"id\":}\n");
    refused(
        "format: ndjson",
        rules,
        Exit::Failed,
        "line 2: expected value",
    );
}

// ---- XML -------------------------------------------------------------------------------------

fn feed(entries: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<feed xmlns=\"http://www.w3.org/2005/Atom\">
  <title type=\"html\">ArXiv Query</title>
  <opensearch:totalResults xmlns:opensearch=\"http://a9.com/-/spec/opensearch/1.1/\">3</opensearch:totalResults>
  {entries}
</feed>"
    )
}

const PAPERS: &str = "format: xml
query: { max_results: 2 }
pages: { offset: { to: start, size: max_results, total: \"feed.opensearch:totalResults\" } }
records: { optional: feed.entry }
responses:
  - { if: '\"arxiv.org/api/errors\" in text', then: fail }
key: id
columns: { id: , title: , authors: author.*.name, category: \"arxiv:primary_category.@term\", pdf: { jq: '.link[] | select(.[\"@title\"] == \"pdf\") | .[\"@href\"]' } }";

fn paper(id: usize, authors: &[&str]) -> String {
    let authors: Vec<String> = authors
        .iter()
        .map(|name| format!("<author><name>{name}</name></author>"))
        .collect();
    format!(
        "<entry><id>http://arxiv.org/abs/{id}</id><title>On &lt;{id}&gt;\n  &amp; more</title>{}
  <link title=\"pdf\" href=\"http://arxiv.org/pdf/{id}\"/>
  <arxiv:primary_category xmlns:arxiv=\"http://arxiv.org/schemas/atom\" term=\"cs.LG\" scheme=\"s\"/></entry>",
        authors.concat()
    )
}

#[test]
fn an_atom_feed_is_paged_and_flattened() {
    let rules = serving(|request| {
        let start: usize = request.param("start").map_or(0, |s| s.parse().unwrap());
        let body = match start {
            0 => feed(&(paper(1, &["Ann", "Bob"]) + &paper(2, &["Cy"]))),
            // One element is a list too, where a path opens it.
            2 => feed(&paper(3, &["Dee"])),
            _ => feed(""),
        };
        SimReply::new(200, &[("content-type", "application/atom+xml")], body)
    });
    let ran = Scene::new(&pipeline(PAPERS), rules).run().complete();
    let row = |id: usize, authors: &str| {
        format!(
            "http://arxiv.org/abs/{id},\"On <{id}>\n  & more\",\"[{authors}]\",cs.LG,http://arxiv.org/pdf/{id}\r\n"
        )
    };
    let expected = "id,title,authors,category,pdf\r\n".to_owned()
        + &row(1, "\"\"Ann\"\",\"\"Bob\"\"")
        + &row(2, "\"\"Cy\"\"")
        + &row(3, "\"\"Dee\"\"");
    assert_eq!(ran.text("out/a.csv"), expected);
    assert_eq!(ran.requests(), 2);
}

#[test]
fn a_feed_that_is_empty_an_error_or_cut_off() {
    let none = feed("").replace(">3<", ">0<");
    assert_eq!(written(PAPERS, always("text/xml", none)), "");
    let error = feed("<entry><id>http://arxiv.org/api/errors#x</id></entry>");
    refused(
        PAPERS,
        always("text/xml", error),
        Exit::Failed,
        "arxiv.org/api/errors",
    );
    let cut = feed(&paper(1, &["Ann"]));
    let rules = always("text/xml", &cut[..cut.len() - 8]);
    refused(
        PAPERS,
        rules,
        Exit::Resumable,
        "`feed` is not closed before the end",
    );
}

#[test]
fn hostile_xml_ends_at_once() {
    let entities: String = (1..10).fold("<!ENTITY l0 \"lol\">".to_owned(), |all, n| {
        let ten = format!("&l{};", n - 1).repeat(10);
        all + &format!("<!ENTITY l{n} \"{ten}\">")
    });
    let laughs = format!("<!DOCTYPE l [{entities}]><l>&l9;</l>");
    let outside = "<!DOCTYPE l [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><l>&x;</l>";
    for body in [laughs.as_str(), outside] {
        let rules = always("text/xml", body);
        refused("format: xml", rules, Exit::Failed, "DTD with declarations");
    }
    let deep = format!("{}{}", "<a>".repeat(1_000_000), "</a>".repeat(1_000_000));
    refused(
        "format: xml",
        always("text/xml", deep),
        Exit::Failed,
        "nests deeper",
    );
}

// ---- archives --------------------------------------------------------------------------------

#[test]
fn packed_files_are_opened_whatever_the_headers_say() {
    let csv = b"sku;amount\r\n00123;1.10\r\n\"b;\"\"c\nd\";\r\n";
    let stream = "format: { csv: { delimiter: \";\" } }";
    for body in [
        gzip(csv),
        zip(&[("x.csv", csv)]),
        gzip(&zip(&[("x.csv", csv)])),
    ] {
        assert_eq!(written(stream, always("application/gzip", body)), SKUS);
    }
    let parts: [(&str, &[u8]); 3] = [
        ("b.csv", b"n\n2\n"),
        ("a.csv", b"n\n1\n"),
        ("readme", b"hi"),
    ];
    let some = "format: { csv: { member: \"*.csv\" } }";
    assert_eq!(
        written(some, always("application/zip", zip(&parts))),
        "{\"n\":\"1\"}\n{\"n\":\"2\"}\n"
    );
    // Amplitude's export: gzip inside of zip.
    let inner = gzip(b"{\"e\":1}\n");
    let export = zip(&[("1/a.json.gz", &inner), ("1/b.json.gz", &inner)]);
    assert_eq!(
        written("format: ndjson", always("application/zip", export)),
        "{\"e\":1}\n{\"e\":1}\n"
    );
    let documents = zip(&[
        ("a.json", b"{\"d\":[{\"n\":1}]}"),
        ("b.json", b"{\"d\":[{\"n\":2}]}"),
    ]);
    let all = "format: { json: { member: \"*\" } }\nrecords: \"*.d\"";
    assert_eq!(
        written(all, always("application/zip", &documents)),
        "{\"n\":1}\n{\"n\":2}\n"
    );
    let one = "format: { json: { member: b.json } }\nrecords: d";
    assert_eq!(
        written(one, always("application/zip", &documents)),
        "{\"n\":2}\n"
    );
    let says = "2 files (a.json, b.json) where one document was expected";
    refused(
        "records: d",
        always("application/zip", &documents),
        Exit::Failed,
        says,
    );
    let says = "in \"b.csv\" of the archive: line 2";
    let bad = zip(&[("a.csv", b"n\n1\n"), ("b.csv", b"n\n1,2\n")]);
    refused(some, always("application/zip", bad), Exit::Failed, says);
    let says = "no file of the zip archive is `x`; there are";
    let missing = "format: { csv: { member: x } }";
    refused(
        missing,
        always("application/zip", zip(&parts)),
        Exit::Failed,
        says,
    );
}

#[test]
fn bombs_end_at_the_cap() {
    let zeros = vec![b' '; 40 << 20];
    let says = "larger than 64 MiB";
    let two = zip(&[("a", &zeros), ("b", &zeros)]);
    assert!(two.len() < 200 << 10);
    refused(
        "format: ndjson",
        always("application/zip", two),
        Exit::Failed,
        says,
    );
    let mut long = zeros.clone();
    long.extend_from_slice(&zeros);
    refused(
        "format: ndjson",
        always("application/gzip", gzip(&long)),
        Exit::Failed,
        says,
    );
    // Names that are repeated in each row grow more than any archive.
    let name = "n".repeat(1 << 20);
    let wide = format!("{name}\n{}", "1\n".repeat(1000));
    refused(
        "format: csv",
        always("text/csv", wide),
        Exit::Failed,
        "larger than 256 MiB",
    );
}

#[test]
fn an_archive_that_is_cut_off_is_asked_for_again() {
    let whole = zip(&[("a.csv", b"n\n1\n")]);
    let (cut, turn) = (whole[..whole.len() - 10].to_vec(), AtomicU64::new(0));
    let rules = serving(move |_| match turn.fetch_add(1, Ordering::Relaxed) {
        0 => SimReply::new(200, &[], cut.clone()),
        _ => SimReply::new(200, &[], whole.clone()),
    });
    let ran = Scene::new(&pipeline("format: csv"), rules).run().complete();
    assert_eq!(
        (ran.requests(), ran.text("out/a.ndjson").as_str()),
        (2, "{\"n\":\"1\"}\n")
    );
}

// ---- shapes ----------------------------------------------------------------------------------

#[test]
fn parallel_arrays_become_records() {
    let body = r#"{"daily_units":{"time":"iso8601"},"daily":{"time":["2024-01-01","2024-01-02"],"temperature_2m_max":[1.10,null]}}"#;
    let stream =
        "records: { zip: daily }\ncolumns: { day: time, tmax: temperature_2m_max }\nkey: [day]";
    assert_eq!(
        written(stream, always("application/json", body)),
        "{\"day\":\"2024-01-01\",\"tmax\":1.10}\n{\"day\":\"2024-01-02\",\"tmax\":null}\n"
    );
    let root = r#"{"accessionNumber":["a","b"],"form":["10-K","8-K"]}"#;
    assert_eq!(
        written("records: { zip: $ }", always("", root))
            .lines()
            .count(),
        2
    );
    let torn = r#"{"daily":{"time":["2024-01-01","2024-01-02"],"tmax":[1]}}"#;
    let ran = refused(
        "records: { zip: daily }",
        always("", torn),
        Exit::Failed,
        "a, page 1: `records.zip: daily`: the arrays are not equally long: `time` has 2 elements and `tmax` has 1 element; it begins \"{\\\"time\\\"",
    );
    assert!(
        ran.failure()
            .hint
            .as_ref()
            .unwrap()
            .contains("`records.zip`")
    );
    let absent = r#"{"found":0}"#;
    refused(
        "records: { zip: daily }",
        always("", absent),
        Exit::Failed,
        "nothing at the records path `daily`",
    );
    let optional = "records: { optional: { zip: daily } }";
    assert_eq!(written(optional, always("", absent)), "");
}

#[test]
fn a_keyset_leads_on_by_a_field_that_rows_do_not_name() {
    let stream = "query: { limit: 2, startTime: 0 }
pages: { keyset: { field: close_time, add: 1, to: startTime, size: limit } }
records: { rows: $, names: [open_time, open, close_time] }
key: open_time";
    let rules = serving(|request| {
        let start: u64 = request.param("startTime").unwrap().parse().unwrap();
        let rows: Vec<String> = (0..5)
            .map(|n| n * 3600)
            .filter(|open| *open >= start)
            .take(2)
            .map(|open| format!("[{open},\"1.10\",{}]", open + 3599))
            .collect();
        SimReply::json(200, format!("[{}]", rows.join(",")))
    });
    let ran = Scene::new(&pipeline(stream), rules).run().complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 5);
    assert_eq!(
        ran.lines("out/a.ndjson")[4],
        "{\"open_time\":14400,\"open\":\"1.10\",\"close_time\":17999}"
    );
    assert_eq!(ran.targets()[1], "/a?limit=2&startTime=7200");
    let says =
        "`records.rows: $`, no. 2: it has 3 values where there are 2 names; it begins \"[3,4,5]\"";
    let stream = "records: { rows: $, names: [a, b] }";
    refused(stream, always("", "[[1,2],[3,4,5]]"), Exit::Failed, says);
}

#[test]
fn entries_by_date_keep_their_date() {
    let body = r#"{"element_count":3,"near_earth_objects":{"2024-01-01":[{"id":"1"},{"id":"2"}],"2024-01-02":[{"id":"3"}]}}"#;
    let stream = "records: { entries: near_earth_objects, key: date }\nexpect: { total: element_count }\nkey: [id, date]";
    assert_eq!(
        written(stream, always("application/json", body)),
        "{\"date\":\"2024-01-01\",\"id\":\"1\"}\n{\"date\":\"2024-01-01\",\"id\":\"2\"}\n{\"date\":\"2024-01-02\",\"id\":\"3\"}\n"
    );
    let says = "has a field `id` itself; choose another `key`";
    let stream = "records: { entries: near_earth_objects, key: id }";
    refused(stream, always("", body), Exit::Failed, says);
}

#[test]
fn text_is_one_record() {
    assert_eq!(
        written("format: text", always("text/plain", "a\n\"b\"\n")),
        "{\"value\":\"a\\n\\\"b\\\"\\n\"}\n"
    );
}
