//! Threats and what holds against them, by number. This file has those of the network and of
//! secrets, `security_data` those of names and data, `security_shown` those of what is shown,
//! `security_gates` the rest. What another suite shows already is not shown again:
//!
//! | threat | shown by |
//! |---|---|
//! | S1 credentials follow a redirect | `s01_…`; `secrets`: other origins, allowed origins; `fetch/redirect.rs` |
//! | S2 credentials follow a next link | `s02_…`; `secrets`: the same; `fetch/origin.rs` |
//! | S3 a server names an inner address | `s03_…`; `fetch/reach.rs`; `fetch/client.rs`: names that rebind, proxies |
//! | S4 secrets in messages and files | `s04_…`; `secrets`: every echo of a hostile server; `harvest/secrets.rs` |
//! | S5 secrets in fixtures and drafts | `s05_…`; `cli/draft.rs` |
//! | S6 file names made of values | `s06_…`; `plan/language.rs`, `harvest/ground/targets.rs` |
//! | S7 decompression bombs | `s07_…`; `fetch/body.rs`, `fetch/encoding.rs` |
//! | S8 endless headers | `s08_…`; `fetch/client.rs` |
//! | S9 deep and huge JSON | `s09_…`; `json/valid.rs` |
//! | S10 YAML bombs and surprises | `s10_…`; `diagnostics`: `alias_bomb`, `deep`, `many_values`, `duplicate_key`, `tab` |
//! | S11 endless paging | `guards`: circles; `errors`: `paging_that_goes_in_circles` |
//! | S12 injection into headers and URLs | `s12_…`; `plan/request.rs`, `plan/language.rs` |
//! | S13 formulas in CSV | `s13_…`; `sink/csv.rs` |
//! | S14 escapes for the terminal | `s14_…`; `report/clean.rs`, `cli/table.rs` |
//! | S15 TLS switched off | `s15_…`; `errors`: `a_certificate_that_nobody_vouches_for` |
//! | S16 permissions | `s16_…` |
//! | S17 templates that escape or cost | `s17_…`; `plan/language.rs` |
//! | S19 crates that should not be there | `s19_…`; `.ci/run`, step `deny_denies` |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gleaner::fetch::origin::{Judgement, Policy};

use crate::fixture;
use crate::scene::{Project, Reply, Server};
use crate::secrets::{CANARY, clean, clean_files, encoded, leak, runs_clean};
use crate::security_gates::Tls;

/// A pipeline that shows a bearer token and follows what the server says.
fn following(url: &str, pages: &str, allow: &str) -> String {
    format!(
        "source:
  url: {url}
  limits: none
  retry: {{ attempts: 1 }}
  auth: {{ bearer: \"{{{{ secret.CANARY }}}}\" }}
  allow_origins: [{allow}]
streams:
  items:
    get: /items
    headers: {{ X-Api-Key: \"{{{{ secret.CANARY }}}}\" }}
    records: items
    pages: {pages}
sink:
  csv: data/items.csv
"
    )
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text")
}

/// One page that names `to` as the next one.
fn names(to: &str) -> Reply {
    Reply::json(format!(
        "{{\"items\":[{{\"id\":1}}],\"next\":{}}}",
        quoted(to)
    ))
}

// ---- S1: redirects ---------------------------------------------------------------------------

#[test]
fn s01_a_redirect_takes_no_credential_along() {
    for status in [301, 302, 303, 307, 308] {
        let other = Server::says(Reply::json("{\"items\":[]}"));
        let port = other.address.port();
        for to in [
            format!("http://127.0.0.1:{port}/items"),
            format!("http://localhost:{port}/items"),
            format!("//127.0.0.1:{port}/items"),
            format!("https://127.0.0.1:{port}/items"),
            format!("http://{CANARY_IN_USERINFO}@127.0.0.1:{port}/items"),
            "file:///etc/passwd".to_owned(),
            "gopher://127.0.0.1/".to_owned(),
        ] {
            let location = to.clone();
            let server =
                Server::start(move |_| Reply::new(status, "").header("location", location.clone()));
            let project = Project::new(&following(&server.url(), "link", ""));
            let said = runs_clean(&project, &["run", "items", "-v"]);
            assert_eq!(said.code, Some(1), "{status} to {to}: {}", said.shown);
            assert!(leak(&server.heard()[0]).is_some(), "it was sent at home");
            project.is_untouched();
        }
        assert_eq!(other.heard(), [""; 0], "{status}");
    }
}

const CANARY_IN_USERINFO: &str = "user:word";

// ---- S2: next links --------------------------------------------------------------------------

#[test]
fn s02_a_next_link_leads_nowhere_else_in_any_disguise() {
    let other = Server::says(Reply::json("{\"items\":[]}"));
    let port = other.address.port();
    for to in [
        format!("//127.0.0.1:{port}/items"),
        format!("\\\\127.0.0.1:{port}\\items"),
        format!("/\\127.0.0.1:{port}/items"),
        format!("http://127.0.0.1@127.0.0.1:{port}/items"),
        format!("http://2130706433:{port}/items"),
        format!("http://127.0.0.1.localhost:{port}/items"),
        format!("https://127.0.0.1:{port}/items"),
        format!("ht\ttp://127.0.0.1:{port}/items"),
        "javascript:alert(1)".to_owned(),
    ] {
        let next = to.clone();
        let server = Server::start(move |_| names(&next));
        let project = Project::new(&following(&server.url(), "{ next: next }", ""));
        let said = runs_clean(&project, &["run", "items", "-v"]);
        assert_eq!(said.code, Some(1), "{to}: {}", said.shown);
        assert_eq!(server.heard().len(), 1, "{to}");
        project.is_untouched();
    }
    assert_eq!(other.heard(), [""; 0]);
}

// ---- S3: addresses of the inside -------------------------------------------------------------

#[test]
fn s03_a_pattern_does_not_open_the_inside() {
    let inner = Server::says(Reply::json("{\"items\":[{\"id\":2}]}"));
    let port = inner.address.port();
    for to in [
        format!("http://127.1:{port}/items"),
        format!("http://0x7f000001:{port}/items"),
        format!("http://[::ffff:127.0.0.1]:{port}/items"),
        format!("http://[::1]:{port}/items"),
        format!("http://localhost:{port}/items"),
        format!("http://0.0.0.0:{port}/items"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://[fe80::1]/".to_owned(),
        "http://[fd00::1]/".to_owned(),
    ] {
        for how in ["next", "redirect"] {
            let target = to.clone();
            let server = Server::start(move |_| match how {
                "next" => names(&target),
                _ => Reply::new(302, "").header("location", target.clone()),
            });
            let text = following(&server.url(), "{ next: next }", "\"http://*\"");
            let said = runs_clean(&Project::new(&text), &["run", "items", "-v"]);
            assert_eq!(said.code, Some(1), "{how} {to}: {}", said.shown);
            let why = "is not on the public internet";
            assert!(said.stderr.contains(why), "{how} {to}: {}", said.shown);
            assert!(said.stderr.contains("without a wildcard"), "{}", said.shown);
        }
    }
    assert_eq!(inner.heard(), [""; 0], "not even asked");

    // What the file names to the letter may be anywhere; so may the base, where it runs.
    let to = format!("http://localhost:{port}/items");
    let server = Server::start(move |_| names(&to));
    let allow = format!("\"http://*\", \"http://LOCALHOST:{port}\"");
    let project = Project::new(&following(&server.url(), "{ next: next }", &allow));
    let said = runs_clean(&project, &["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(inner.heard().len(), 1);
}

#[test]
fn s03_an_address_of_ipv6_can_be_named() {
    let yaml = following("https://api.test", "link", "\"https://[fd00::7]:8443\"");
    let plan = fixture::plan(&yaml);
    let base = "https://api.test".parse().expect("a URL");
    let policy = Policy::new(&base, &plan.source.allow_origins);
    let judged = |url: &str| policy.judge(&url.parse().expect("a URL"));
    let named = Judgement::Allowed {
        credentials: false,
        named: true,
    };
    assert_eq!(judged("https://[fd00::7]:8443/x"), named);
    for other in [
        "https://[fd00::8]:8443/",
        "https://d:8443/",
        "https://[fd00::7]/",
    ] {
        assert!(matches!(judged(other), Judgement::Refused(_)), "{other}");
    }
}

// ---- S4: what is written ---------------------------------------------------------------------

/// All places of a request at once, each of which may come back in an error.
pub(crate) fn everywhere(url: &str, more: &str) -> String {
    format!(
        "source:
  url: {url}
  limits: none
  retry: {{ attempts: 2 }}
  auth: {{ basic: {{ user: me, password: \"{{{{ secret.CANARY }}}}\" }} }}
{more}streams:
  items:
    post: \"/items/{{{{ secret.CANARY }}}}\"
    headers: {{ X-Token: \"{{{{ secret.CANARY }}}}\" }}
    query: {{ token: \"{{{{ secret.CANARY }}}}\" }}
    body: {{ json: {{ token: \"{{{{ secret.CANARY }}}}\" }} }}
sink:
  csv: data/items.csv
"
    )
}

#[test]
fn s04_a_time_out_shows_nothing() {
    let server = Server::start(|_| {
        std::thread::park();
        Reply::new(500, "")
    });
    let text = everywhere(&server.url(), "  timeouts: { headers: 200ms }\n");
    for args in [
        ["run", "items", "-v"].as_slice(),
        &["run", "items", "--json"],
    ] {
        let said = runs_clean(&Project::new(&text), args);
        assert_eq!(said.code, Some(75), "{}", said.shown);
    }
    assert!(leak(&server.heard()[0]).is_some(), "it was sent");
}

#[test]
fn s04_a_refused_certificate_shows_nothing() {
    let tls = Tls::on("127.0.0.1");
    let text = everywhere(&tls.url("127.0.0.1"), "");
    let said = runs_clean(&Project::new(&text), &["run", "items", "-v"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("no secure connection"),
        "{}",
        said.shown
    );
}

#[test]
fn s04_a_secret_in_the_wrong_place_shows_nothing() {
    for (line, by) in [
        // A user and a password belong in `auth`; the message must not quote them.
        ("http://", "\"http://me:{{ env.CANARY }}@"),
        ("http://", "\"ftp://me:{{ env.CANARY }}@"),
    ] {
        // No secret is declared here, so nothing is scrubbed by value.
        let text = everywhere("http://127.0.0.1:1\"", "")
            .replacen(line, by, 1)
            .replace("secret.CANARY", "vars.none")
            .replace("source:", "vars: { none: x }\nsource:");
        let said = runs_clean(&Project::new(&text), &["run", "items", "-v"]);
        assert_eq!(said.code, Some(2), "{by}: {}", said.shown);
        assert!(said.stderr.contains("source.url"), "{}", said.shown);
    }
    // A credential that no header can carry, a contact with a secret, a path that climbs.
    for (line, by) in [
        (
            "  limits: none",
            "  contact: \"({{ secret.CANARY }})\"\n  limits: none",
        ),
        ("/items/{{ secret.CANARY }}", "{{ secret.CANARY }}"),
        ("X-Token: \"", "X-Token: \"\\u0001"),
    ] {
        let text = everywhere("http://127.0.0.1:1", "").replacen(line, by, 1);
        let said = runs_clean(&Project::new(&text), &["run", "items", "-v"]);
        assert!(matches!(said.code, Some(1 | 2 | 4)), "{by}: {}", said.shown);
    }
}

#[test]
fn s04_a_short_secret_is_told_of_and_still_stays_home() {
    let server = Server::says(Reply::json("[{\"id\":1}]"));
    let text = everywhere(&server.url(), "");
    let project = Project::new(&text);
    let said = project.run_with(&["run", "items"], &[("CANARY", "xyz")]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let note = "CANARY has fewer than four characters";
    assert_eq!(said.stderr.matches(note).count(), 1, "{}", said.shown);
    let said = project.run_with(&["run", "items"], &[("CANARY", "wxyz")]);
    assert!(!said.stderr.contains(note), "{}", said.shown);
}

#[test]
fn s04_the_state_of_limits_holds_none() {
    let server = Server::says(Reply::json("[{\"id\":1}]"));
    let text = everywhere(&server.url(), "").replace("limits: none", "limits: [1000/s, 50000/d]");
    let project = Project::new(&text);
    let state = project.path().join("state");
    let env = [
        ("GLEANER_STATE_DIR", state.to_str().expect("text")),
        ("CANARY", CANARY),
    ];
    let said = project.run_with(&["run", "items", "-v"], &env);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let files = project.files();
    let kept = files.iter().filter(|file| file.starts_with(&state));
    assert!(kept.count() >= 2, "{files:?}");
    clean_files(project.path(), &files);
}

#[test]
fn s04_a_run_that_is_kept_holds_none() {
    // The secret is a parameter of the stream's own, and the server echoes it in its next links.
    let recovered = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&recovered);
    let server = Server::start(move |request| {
        let (_, query) = request.split_once('?').expect("a query");
        let query = query.split(' ').next().expect("its end");
        let (before, page) = query.split_once("&page=").unwrap_or((query, "1"));
        let page: u32 = page.parse().expect("a page");
        if page > 2 && !well.load(Ordering::Relaxed) {
            return Reply::new(500, "later");
        }
        let next = match page {
            3 => "null".to_owned(),
            _ => quoted(&format!("/items?{before}&page={}", page + 1)),
        };
        Reply::json(format!("{{\"items\":[{{\"id\":{page}}}],\"next\":{next}}}"))
    });
    let text = following(&server.url(), "{ next: next }", "").replace(
        "    records",
        "    query: { token: \"{{ secret.CANARY }}\" }\n    records",
    );
    let project = Project::new(&text);
    let said = runs_clean(&project, &["run", "items"]);
    assert_eq!(said.code, Some(75), "{}", said.shown);
    assert!(said.stderr.contains("kept      2 pages"), "{}", said.shown);
    // An address without its secret cannot be asked again, so the partition begins anew: what was
    // kept of it must not come twice.
    recovered.store(true, Ordering::Relaxed);
    let said = runs_clean(&project, &["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let rows = std::fs::read_to_string(project.path().join("data/items.csv"));
    assert_eq!(rows.expect("rows").replace('\r', ""), "id\n1\n2\n3\n");
}

#[test]
fn s04_a_panic_could_not_show_it_either() {
    let project = Project::new("");
    project.write(".env", &format!("CANARY='{CANARY}'\n"));
    let yaml = everywhere("https://api.test", "");
    let clock = gleaner::clock::Clock::system();
    let (_asks, stop) = tokio::sync::watch::channel(false);
    let api = gleaner::sim::SimApi::with_clock(gleaner::sim::Rules::default(), clock);
    let world = gleaner::harvest::World {
        clock,
        transport: gleaner::sim::MemoryTransport::shared(api),
        disk: gleaner::disk::Disk::system(),
        root: project.path().to_owned(),
        events: gleaner::harvest::events::Events::new(clock, |_| {}),
        stop,
    };
    let options = gleaner::harvest::Options::default();
    let harvest =
        gleaner::harvest::Harvest::open(fixture::plan(&yaml), world, options).expect("it opens");
    // All that `{:?}` in any message could print of a run.
    clean("the run", &format!("{harvest:?} {harvest:#?}"));
}

// ---- S5: fixtures and drafts -----------------------------------------------------------------

#[test]
fn s05_no_fixture_holds_what_looks_like_a_real_key() {
    // Beginnings that issuers gave their tokens so that they can be found.
    let marks = [
        "ghp_",
        "gho_",
        "ghs_",
        "github_pat_",
        "glpat-",
        "AKIA",
        "ASIA",
        "xoxb-",
        "xoxp-",
        "sk_live_",
        "rk_live_",
        "AIza",
        "hf_",
        "npm_",
        "ya29.",
        "SG.",
        "eyJhbGciOi",
    ];
    let looks_real = |text: &str| {
        marks.iter().find(|mark| {
            text.match_indices(**mark).any(|(at, _)| {
                let rest = &text[at + mark.len()..];
                let long = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)));
                let run = &rest[..long.unwrap_or(rest.len())];
                run.len() >= 16 && run.bytes().any(|b| b.is_ascii_digit())
            })
        })
    };
    // Put together here, so that this file holds none.
    let sample = format!(
        "token: {}{}",
        "ghp_", "0123456789abcdefABCDEF0123456789abcd"
    );
    assert!(looks_real(&sample).is_some(), "the search finds one");
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = ["src", "tests", "docs", "pipelines", "benches", ".ci"]
        .map(|name| house.join(name))
        .to_vec();
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                read += 1;
                assert_eq!(looks_real(&text), None, "{}", path.display());
                let key = text.contains(&format!("-----BEGIN{}PRIVATE KEY", " "));
                // Keys of loopback servers, made for the tests.
                let ours = path.starts_with(house.join("tests/certs"));
                assert!(!key || ours, "{}", path.display());
            }
        }
    }
    assert!(read > 200, "{read}");
}

#[test]
fn s05_a_draft_does_not_keep_the_key_of_its_url() {
    let project = Project::new("");
    let url = format!("https://api.test/items?api_key={}&page=1", encoded());
    let said = project.run(&["init", "mine", "--url", &url, "--limit", "1/s"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    clean("standard output", &said.stdout);
    clean("standard error", &said.stderr);
    let draft = std::fs::read_to_string(project.path().join("pipelines/mine.yaml"));
    clean("the draft", &draft.expect("a draft"));
}

// ---- S8: headers -----------------------------------------------------------------------------

#[test]
fn s08_headers_without_an_end_fail_at_once() {
    let server = Server::start(|_| {
        let mut reply = Reply::json("[]");
        for _ in 0..20_000 {
            reply = reply.header("x-more", "y".repeat(64));
        }
        reply
    });
    let text = following(&server.url(), "link", "");
    let said = runs_clean(&Project::new(&text), &["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("has more headers than anybody reads"),
        "{}",
        said.shown
    );
    assert_eq!(server.heard().len(), 1, "no repeat brings it through");
}
