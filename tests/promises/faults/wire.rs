//! Faults 17, 19, 23, 26, 27 and 31: servers that are away, silent, elsewhere or hostile, in
//! stopped time.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gleaner::clock::Instant;
use gleaner::event::{Fact, FailureClass};
use gleaner::failure::Exit;
use gleaner::sim::{Auth, Fault, FaultRule, Latency, Route, Rules, SimReply, SimRequest};

use super::{pipeline, refused, says};
use crate::fixture::{Ran, Scene, forty};

const SEC: Duration = Duration::from_secs(1);
const PAGED: &str = "pages: { page: { to: page, total: n } }";

/// The messages of all failed attempts, with their class.
fn troubles(ran: &Ran) -> Vec<(FailureClass, String)> {
    ran.events
        .iter()
        .filter_map(|event| match &event.fact {
            Fact::AttemptFailed { class, message, .. } => Some((*class, message.clone())),
            _ => None,
        })
        .collect()
}

// ---- 17 --------------------------------------------------------------------------------------

#[test]
fn f17_a_server_that_is_away_for_a_minute() {
    let first: OnceLock<Instant> = OnceLock::new();
    let answer = move |request: &SimRequest| {
        let passed = request.at - *first.get_or_init(|| request.at);
        if (2 * SEC..62 * SEC).contains(&passed) {
            return SimReply::error(503, "away");
        }
        let id = request.param("n").expect("a number");
        SimReply::json(200, format!(r#"{{"data":[{{"id":{id}}}]}}"#))
    };
    let rules = Rules {
        routes: vec![Route::custom("/a/{n}", Arc::new(answer))],
        latency: Latency::Fixed(SEC / 10),
        ..Rules::default()
    };
    let yaml =
        pipeline("", "for: { n: { range: [1, 400] } }").replace("get: /a", "get: /a/{{ n }}");
    let ran = Scene::new(&yaml, rules).run().complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 400);
    let failed = troubles(&ran).len();
    // Four at once, then one that asks how it stands, ever later.
    assert!((1..=4 + 10).contains(&failed), "{failed} for a minute away");
    assert_eq!(ran.requests(), 400 + failed);
    assert!(ran.summary.took < 150 * SEC, "{:?}", ran.summary.took);
}

// ---- 19 --------------------------------------------------------------------------------------

#[test]
fn f19_silence_of_every_kind_meets_the_time_out_that_fits() {
    let drip = |every| Fault::SlowDrip { piece: 1, every };
    for (fault, least, message) in [
        (Fault::Stall, 60 * SEC, "no answer within 1min"),
        (drip(3600 * SEC), 30 * SEC, "nothing more of the body came"),
        (
            drip(10 * SEC),
            300 * SEC,
            "the time for one attempt was over",
        ),
    ] {
        let shown = format!("{fault:?}");
        // Once: tried again, and nobody notices but the clock.
        let ran = Scene::new(
            &pipeline("", PAGED),
            forty("/a", vec![FaultRule::nth(2, fault.clone())]),
        )
        .run()
        .complete();
        assert_eq!(ran.lines("out/a.ndjson").len(), 40, "{shown}");
        let took = ran.summary.took;
        assert!(
            (least..least + 5 * SEC).contains(&took),
            "{shown}: {took:?}"
        );
        let [(FailureClass::Transient, said)] = &troubles(&ran)[..] else {
            panic!("{shown}: {:?}", troubles(&ran));
        };
        assert!(said.contains(message), "{said}");
        // For ever: the run ends, to be run again.
        let ran = refused(
            &pipeline(", retry: { attempts: 2 }", PAGED),
            forty("/a", vec![FaultRule::always("/a", fault)]),
            Exit::Resumable,
        );
        says(&ran, &["a, page 1", message, "tried 2 times"]);
        let took = ran.summary.took;
        assert!(took < 2 * least + 10 * SEC, "{shown}: {took:?}");
    }
}

// ---- 23 --------------------------------------------------------------------------------------

#[test]
fn f23_a_name_that_is_not_found_is_fatal_at_first_and_a_bad_day_later() {
    let ran = refused(
        &pipeline("", PAGED),
        forty("/a", vec![FaultRule::nth(1, Fault::UnknownHost)]),
        Exit::Failed,
    );
    assert_eq!(ran.requests(), 1);
    says(
        &ran,
        &["there is no host behind https://api.test", "source.url"],
    );

    let ran = Scene::new(
        &pipeline("", PAGED),
        forty(
            "/a",
            vec![
                FaultRule::nth(2, Fault::UnknownHost),
                FaultRule::nth(4, Fault::UnknownHost),
            ],
        ),
    )
    .run()
    .complete();
    assert_eq!(ran.lines("out/a.ndjson").len(), 40);
    assert_eq!(ran.requests(), 6);
    assert!(
        troubles(&ran)
            .iter()
            .all(|(class, _)| *class == FailureClass::Transient)
    );
}

// ---- 26 --------------------------------------------------------------------------------------

#[test]
fn f26_fifty_hops_are_not_followed() {
    let answer = |request: &SimRequest| {
        let hop: u32 = request
            .param("hop")
            .map_or(0, |n| n.parse().expect("a number"));
        match hop {
            0..50 => SimReply::new(302, &[("location", &format!("/a?hop={}", hop + 1))], ""),
            _ => SimReply::json(200, r#"{"data":[]}"#),
        }
    };
    let rules = Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    };
    let ran = refused(&pipeline("", "pages: none"), rules, Exit::Failed);
    assert_eq!(ran.requests(), 1 + 5, "five hops, and no repeat");
    says(&ran, &["a, page 1", "redirect"]);
}

#[test]
fn f26_redirects_out_of_the_origin_are_refused_unasked() {
    for to in [
        "file:///etc/passwd",
        "ftp://api.test/a",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1/a",
        "http://api.test/a",
        "//evil.test/a",
        "\\\\evil.test\\a",
        "https://api.test@evil.test/a",
        "https://api.test:8443/a",
        "https://",
    ] {
        for link in [false, true] {
            let answer = move |_: &SimRequest| {
                if link {
                    SimReply::json(200, r#"{"data":[{"id":1}]}"#)
                        .header("link", &format!("<{to}>; rel=\"next\""))
                } else {
                    SimReply::new(302, &[("location", to)], "")
                }
            };
            let rules = Rules {
                routes: vec![Route::custom("/*", Arc::new(answer))],
                ..Rules::default()
            };
            let pages = if link { "pages: link" } else { "pages: none" };
            let ran = refused(&pipeline("", pages), rules, Exit::Failed);
            assert_eq!(ran.requests(), 1, "{to}: {:?}", ran.targets());
            says(&ran, &["a, page "]);
        }
    }
}

// ---- 27 --------------------------------------------------------------------------------------

/// More zeros than a page may have, packed.
fn bomb(encoding: &str) -> Vec<u8> {
    let zeros = vec![b'0'; (64 << 20) + (1 << 20)];
    let mut packed = Vec::new();
    match encoding {
        "gzip" => {
            let mut gzip = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
            gzip.write_all(&zeros).expect("to memory");
            gzip.finish().expect("to memory");
        }
        "zstd" => packed = zstd::bulk::compress(&zeros, 1).expect("to memory"),
        "br" => {
            let mut brotli = brotli::CompressorWriter::new(&mut packed, 1 << 16, 1, 22);
            brotli.write_all(&zeros).expect("to memory");
        }
        other => panic!("{other}"),
    }
    packed
}

/// A second page with this encoding and body.
fn packed_page(encoding: &'static str, body: Vec<u8>) -> Rules {
    let body = bytes::Bytes::from(body);
    let answer = move |request: &SimRequest| match request.param("page").as_deref() {
        Some("2") => SimReply::json(200, body.clone()).header("content-encoding", encoding),
        Some(page @ ("1" | "3")) => SimReply::json(200, format!(r#"{{"data":[{{"id":{page}}}]}}"#)),
        _ => SimReply::json(200, r#"{"data":[]}"#),
    };
    Rules {
        routes: vec![Route::custom("/a", Arc::new(answer))],
        ..Rules::default()
    }
}

#[test]
fn f27_a_bomb_stops_at_the_cap_and_its_page_is_named() {
    for encoding in ["gzip", "zstd", "br"] {
        let body = bomb(encoding);
        assert!(body.len() < 1 << 20, "{encoding}: {} bytes", body.len());
        let ran = refused(
            &pipeline("", "pages: { page: { to: page } }"),
            packed_page(encoding, body),
            Exit::Failed,
        );
        says(&ran, &["a, page 2", "larger than 64 MiB"]);
        assert_eq!(ran.requests(), 2, "{encoding}: not asked for again");
    }
}

#[test]
fn f27_encodings_that_are_stacked_or_lies() {
    let gzip = |text: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("to memory");
        gzip.finish().expect("to memory")
    };
    let good = br#"{"data":[{"id":2}]}"#;
    for (encoding, body, message) in [
        ("gzip, gzip", gzip(&gzip(good)), "encoded more than once"),
        ("gzip", good.to_vec(), "not the gzip"),
        ("br", gzip(good), "not the br"),
        ("zstd", good.to_vec(), "not the zstd"),
        ("compress", good.to_vec(), "`compress`"),
    ] {
        let ran = refused(
            &pipeline("", "pages: { page: { to: page } }"),
            packed_page(encoding, body),
            Exit::Failed,
        );
        says(&ran, &["a, page 2", message]);
    }
    // Packed, and the header does not say so: gzip is known by its first bytes, as files are served.
    let yaml = pipeline("", "pages: { page: { to: page } }");
    let ran = Scene::new(&yaml, packed_page("identity", gzip(good))).run();
    assert_eq!(ran.summary.exit, Exit::Complete, "{:#?}", ran.summary);
    assert_eq!(
        ran.text("out/a.ndjson"),
        "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n"
    );
    // All else is no text.
    let zstd = zstd::encode_all(&good[..], 3).expect("to memory");
    let ran = refused(&yaml, packed_page("identity", zstd), Exit::Failed);
    says(&ran, &["a, page 2", "UTF-8"]);
}

// ---- 31 --------------------------------------------------------------------------------------

#[test]
fn f31_a_credential_that_ends_midway_is_fatal_at_once() {
    let asked = AtomicU64::new(0);
    let rules = Rules {
        auth: Some(Auth::Check(Arc::new(move |_| {
            asked.fetch_add(1, Ordering::Relaxed) < 2
        }))),
        latency: Latency::Fixed(SEC),
        ..forty("/a", Vec::new())
    };
    let ran = refused(&pipeline("", PAGED), rules, Exit::Failed);
    // One page, then three side by side of which the first was still let in.
    assert_eq!(ran.requests(), 4);
    says(&ran, &["401 Unauthorized", "source.auth"]);
}
