//! Fault 35: a secret in every place of a request, and every fault of the pretend API in turn:
//! not a byte of it in an event, a message or a file.

use std::time::Duration;

use gleaner::sim::{Auth, Dataset, Fault, FaultRule, Listing, Paging, Route, Rules};

use super::pipeline;
use crate::fixture::{Ran, Scene};

/// Told apart by any eight characters in a row, as it is and percent-encoded.
const CANARY: &str = "kan4rie+V0gel/bauer=42";

fn leaks(what: &str, text: &str) {
    let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
    for form in [CANARY, &encoded] {
        for trace in form.as_bytes().windows(8) {
            let trace = std::str::from_utf8(trace).expect("ASCII");
            assert!(!text.contains(trace), "{what} holds {trace:?}: {text}");
        }
    }
}

fn is_clean(what: &str, ran: &Ran) {
    leaks(what, &format!("{:?}", ran.summary));
    for event in &ran.events {
        leaks(what, &format!("{event:?}"));
    }
    for file in ran.files().iter().filter(|file| *file != ".env") {
        let bytes = std::fs::read(ran.path(file)).expect("a file");
        leaks(&format!("{what}: {file}"), &String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn f35_no_fault_shows_a_secret() {
    let elsewhere = format!("https://evil.test/?key={CANARY}");
    let echo = format!("{{\"error\":\"bad key {CANARY}\",\"asked\":\"/a?key={CANARY}\"}}");
    let faults = [
        Fault::Status(
            401,
            vec![("x-key".to_owned(), CANARY.to_owned())],
            echo.clone(),
        ),
        Fault::Status(400, Vec::new(), echo.clone()),
        Fault::Status(503, Vec::new(), echo.clone()),
        Fault::Status(
            429,
            vec![("retry-after".to_owned(), CANARY.to_owned())],
            echo.clone(),
        ),
        Fault::Status(200, Vec::new(), echo),
        Fault::Status(200, Vec::new(), format!("<html>{CANARY}</html>")),
        Fault::Status(200, Vec::new(), format!("{{\"data\":[{CANARY}")),
        Fault::Status(
            200,
            vec![("content-encoding".to_owned(), CANARY.to_owned())],
            "x".to_owned(),
        ),
        Fault::status_retry_after(429, "7200"),
        Fault::Redirect(elsewhere),
        Fault::Redirect(format!("/a?key={CANARY}")),
        Fault::Redirect(format!("file:///{CANARY}")),
        Fault::EmptyBody,
        Fault::TruncatedBody,
        Fault::Reset,
        Fault::UnknownHost,
        Fault::Stall,
        Fault::SlowDrip {
            piece: 1,
            every: Duration::from_secs(10),
        },
        Fault::BadJson,
        Fault::Garbage,
    ];
    let secret = "{{ secret.CANARY }}";
    for (auth, of_api) in [
        (
            format!("query: {{ key: \"{secret}\" }}"),
            Auth::Query("key".to_owned(), CANARY.to_owned()),
        ),
        (
            format!("bearer: \"{secret}\""),
            Auth::Bearer(CANARY.to_owned()),
        ),
        (
            format!("header: {{ X-Key: \"{secret}\" }}"),
            Auth::Header("x-key".to_owned(), CANARY.to_owned()),
        ),
    ] {
        let source = format!(", retry: {{ attempts: 2 }}, auth: {{ {auth} }}");
        let stream = format!(
            "headers: {{ X-Also: \"{secret}\" }}\nquery: {{ also: \"{secret}\" }}\nkey: id\npages: {{ page: {{ to: page, total: n }} }}"
        );
        let yaml = pipeline(&source, &stream);
        for fault in &faults {
            for rule in [
                FaultRule::nth(2, fault.clone()),
                FaultRule::always("/a", fault.clone()),
            ] {
                let what = format!("{auth}: {:?} {:?}", rule.turn, rule.fault).replace(CANARY, "…");
                let data = Dataset::from_texts((1..=40).map(|id| format!(r#"{{"id":{id}}}"#)));
                let rules = Rules {
                    routes: vec![Route::list(
                        "/a",
                        Listing::new(data, Paging::page_total("n")).size(10),
                    )],
                    faults: vec![rule],
                    auth: Some(of_api.clone()),
                    ..Rules::default()
                };
                let ran = Scene::new(&yaml, rules)
                    .file(".env", &format!("CANARY='{CANARY}'\n"))
                    .run();
                assert!(
                    ran.api.audit().faults() >= 1,
                    "{what}: the credential was let in, and met the fault"
                );
                is_clean(&what, &ran);
            }
        }
    }
}
