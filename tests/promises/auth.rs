//! Credentials that do not last: had once for all, renewed in time, refused once, never shown, and never
//! used twice where once is all there is. The server keeps the books.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gleaner::clock::Instant;
use gleaner::event::Fact;
use gleaner::failure::Exit;
use gleaner::sim::{Auth, Dataset, Latency, Listing, Paging, Route, Rules, SimReply, SimRequest};
use http::Method;

use super::apis::claims;
use super::fixture::{Ran, Scene};

const SEC: Duration = Duration::from_secs(1);

/// What a server of tokens knows.
#[derive(Debug, Default)]
struct Books {
    /// Tokens that are good, and until when.
    good: Vec<(String, Option<Instant>)>,
    /// Refresh tokens that were used.
    used: Vec<String>,
    /// Refresh tokens that are good.
    refreshes: HashSet<String>,
    /// Calls for a token, as they came.
    calls: Vec<SimRequest>,
    /// When requests came with a token that was not good.
    stale: Vec<Instant>,
    given: usize,
}

/// A server of tokens, and the API that takes them.
#[derive(Clone)]
struct Server {
    books: Arc<Mutex<Books>>,
    /// How long a token is good.
    life: Option<Duration>,
    /// What `expires_in` says.
    says: Option<u64>,
    rotates: bool,
    header: &'static str,
}

impl Server {
    fn new(life: Option<u64>) -> Self {
        Self {
            books: Arc::default(),
            life: life.map(Duration::from_secs),
            says: life,
            rotates: false,
            header: "authorization",
        }
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.books.lock().expect("no panic")
    }

    /// A new token, good from now on.
    fn give(&self, at: Instant) -> String {
        let mut books = self.books();
        books.given += 1;
        let token = format!("access-{}", books.given);
        let until = self.life.map(|life| at + life);
        books.good.push((token.clone(), until));
        token
    }

    fn accepts(&self, request: &SimRequest) -> bool {
        let mut books = self.books();
        let carried = request
            .headers
            .get(self.header)
            .and_then(|v| v.to_str().ok());
        let token = carried.map(|text| text.strip_prefix("Bearer ").unwrap_or(text));
        let good = token.is_some_and(|token| {
            books
                .good
                .iter()
                .any(|(one, until)| one == token && until.is_none_or(|u| request.at < u))
        });
        if !good {
            books.stale.push(request.at);
        }
        good
    }

    fn form(request: &SimRequest) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect()
    }

    fn token(&self, request: &SimRequest) -> SimReply {
        self.books().calls.push(request.clone());
        let form = Self::form(request);
        let get = |name: &str| {
            form.iter()
                .find(|(key, _)| key == name)
                .map(|(_, v)| v.clone())
        };
        let mut refresh = None;
        if get("grant_type").as_deref() == Some("refresh_token") {
            let sent = get("refresh_token").unwrap_or_default();
            let mut books = self.books();
            if !books.refreshes.contains(&sent) || (self.rotates && books.used.contains(&sent)) {
                return SimReply::new(
                    400,
                    &[],
                    format!(r#"{{"error":"invalid_grant","error_description":"not {sent}"}}"#),
                );
            }
            books.used.push(sent);
            if self.rotates {
                let next = format!("refresh-{}", books.refreshes.len() + 1);
                books.refreshes.insert(next.clone());
                refresh = Some(next);
            }
        }
        let mut body = serde_json::json!({
            "access_token": self.give(request.at), "token_type": "Bearer",
        });
        if let Some(says) = self.says {
            body["expires_in"] = says.into();
        }
        if let Some(refresh) = refresh {
            body["refresh_token"] = refresh.into();
        }
        SimReply::new(200, &[], body.to_string())
    }

    /// The API: `/items` for tokens, `/token` for everybody.
    fn rules(&self, records: usize) -> Rules {
        let (asks, gives) = (self.clone(), self.clone());
        let data = Dataset::from_texts((1..=records).map(|id| format!(r#"{{"id":{id}}}"#)));
        let paging = Paging::page_total("total");
        Rules {
            routes: vec![
                Route::list("/items", Listing::new(data, paging).size(10)),
                Route::custom("/token", Arc::new(move |request| gives.token(request)))
                    .method(Method::POST)
                    .open(),
            ],
            auth: Some(Auth::Check(Arc::new(move |request| asks.accepts(request)))),
            latency: Latency::Fixed(Duration::from_millis(100)),
            ..Rules::default()
        }
    }
}

/// A pipeline with one stream `a`; `auth` and `source` are lines of the source.
fn pipeline(auth: &str, source: &str) -> String {
    format!(
        "source:
  url: https://api.test
  limits: none
  concurrency: 16
  auth:
    {auth}
{source}
streams:
  a:
    get: /items
    records: data
    pages: {{ page: {{ to: page, total: total }} }}
sink: {{ ndjson: out/a.ndjson }}
"
    )
}

const CLIENT: &str = "oauth2: { client_credentials: { url: 'https://api.test/token', id: me, secret: '{{ secret.S }}' } }";
const REFRESH: &str = "oauth2: { refresh_token: { url: 'https://api.test/token', id: me, secret: '{{ secret.S }}', token: '{{ secret.T }}' } }";
const ENV: (&str, &str) = (".env", "S=client-secret\nT=refresh-1\n");

fn scene(yaml: &str, rules: Rules) -> Scene<'_> {
    Scene::new(yaml, rules).file(ENV.0, ENV.1)
}

fn whole(ran: &Ran, records: usize) {
    assert_eq!(ran.lines("out/a.ndjson").len(), records);
}

fn troubles(ran: &Ran) -> usize {
    ran.facts(|fact| matches!(fact, Fact::AttemptFailed { .. }))
}

fn said(ran: &Ran) -> String {
    let failure = ran.failure();
    format!(
        "{} {:?} {:?}",
        failure.message, failure.causes, failure.hint
    )
}

#[test]
fn sixteen_tasks_have_one_token() {
    let server = Server::new(Some(3600));
    let yaml = pipeline(CLIENT, "");
    let ran = scene(&yaml, server.rules(1_000)).run().complete();
    whole(&ran, 1_000);
    let books = server.books();
    assert_eq!((books.calls.len(), books.stale.len()), (1, 0));
    let call = &books.calls[0];
    // RFC 6749, section 2.3.1.
    assert_eq!(
        call.headers["authorization"],
        "Basic bWU6Y2xpZW50LXNlY3JldA=="
    );
    assert_eq!(call.body, "grant_type=client_credentials");
}

#[test]
fn what_the_server_wants_of_a_client_is_sent() {
    let server = Server::new(None);
    let yaml = pipeline(
        "oauth2: { client_credentials: { url: 'https://api.test/token', id: 'm e', secret: '{{ secret.S }}', scope: 'a b', audience: 'https://api', in: body, form: { tenant: 7 } } }",
        "",
    );
    scene(&yaml, server.rules(10)).run().complete();
    let books = server.books();
    assert!(!books.calls[0].headers.contains_key("authorization"));
    assert_eq!(
        books.calls[0].body,
        "grant_type=client_credentials&client_id=m+e&client_secret=client-secret&scope=a+b&audience=https%3A%2F%2Fapi&tenant=7"
    );
    drop(books);
    // Basic: both are coded as in a form before.
    let server = Server::new(None);
    let yaml = pipeline(&CLIENT.replace("id: me", "id: 'm e'"), "");
    let odd = Scene::new(&yaml, server.rules(10)).file(".env", "S='a+b:c'\n");
    odd.run().complete();
    let sent = server.books().calls[0].headers["authorization"].clone();
    assert_eq!(sent, "Basic bStlOmElMkJiJTNBYw==");
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let server = Server::new(Some(30));
    let yaml = pipeline(CLIENT, "").replace("limits: none", "limits: [1/s]");
    let ran = scene(&yaml, server.rules(1_200)).run().complete();
    whole(&ran, 1_200);
    let books = server.books();
    assert_eq!(
        books.stale.len(),
        0,
        "nothing was sent with a token that had ended"
    );
    // 27 of the 30 seconds are used, and each call takes a permit too.
    assert!(
        (4..=6).contains(&books.calls.len()),
        "{}",
        books.calls.len()
    );
    let gaps = books.calls.windows(2).map(|two| two[1].at - two[0].at);
    assert!(gaps.min().expect("some") >= 26 * SEC);
}

#[test]
fn a_token_that_is_taken_back_is_renewed_once_for_all() {
    let server = Server::new(Some(3600));
    let mut rules = server.rules(2_000);
    let revokes = server.clone();
    let count = Arc::new(Mutex::new(0));
    let asks = server.clone();
    rules.auth = Some(Auth::Check(Arc::new(move |request| {
        let mut count = count.lock().expect("no panic");
        *count += 1;
        if *count == 50 {
            revokes.books().good.clear();
        }
        asks.accepts(request)
    })));
    let yaml = pipeline(CLIENT, "");
    let ran = scene(&yaml, rules).run().complete();
    whole(&ran, 2_000);
    let books = server.books();
    assert_eq!(books.calls.len(), 2);
    assert!(books.stale.len() <= 16, "{}", books.stale.len());
    // The page was never at fault: nothing of its attempts or of the retry budget is spent.
    assert_eq!(troubles(&ran), 0);
}

#[test]
fn a_rule_says_that_a_token_has_ended() {
    let server = Server::new(None);
    let mut rules = server.rules(400);
    rules.auth = None;
    let api = server.clone();
    let count = Arc::new(Mutex::new(0));
    rules.routes[0] = Route::custom(
        "/items",
        Arc::new(move |request| {
            let mut count = count.lock().expect("no panic");
            *count += 1;
            if *count == 3 {
                api.books().good.clear();
            }
            if api.accepts(request) {
                SimReply::json(200, r#"{"data":[{"id":1}],"total":1}"#)
            } else {
                SimReply::json(403, r#"{"code":"SESSION_OVER"}"#)
            }
        }),
    );
    let yaml = pipeline(
        CLIENT,
        "  responses: [{ if: status == 403 and body.code == 'SESSION_OVER', then: refresh_auth }]",
    )
    .replace(
        "    get: /items",
        "    for: { n: { range: [1, 20] } }\n    get: /items",
    );
    let ran = scene(&yaml, rules).run().complete();
    whole(&ran, 20);
    assert_eq!(server.books().calls.len(), 2);
}

#[test]
fn the_turn_of_a_request_with_a_token_that_has_ended_is_not_its_pages_time() {
    let server = Server::new(None);
    let mut rules = server.rules(10);
    rules.auth = None;
    rules.latency = Latency::Fixed(5 * SEC);
    let api = server.clone();
    let count = Arc::new(Mutex::new(0));
    rules.routes[0] = Route::custom(
        "/items",
        Arc::new(move |request| {
            let mut count = count.lock().expect("no panic");
            *count += 1;
            if *count == 1 {
                return SimReply::error(503, "down");
            }
            if *count == 2 {
                api.books().good.clear();
            }
            if api.accepts(request) {
                return SimReply::json(200, r#"{"data":[{"id":1}],"total":1}"#);
            }
            SimReply::error(401, "who are you?")
        }),
    );
    let yaml = pipeline(CLIENT, "  retry: { page_deadline: 40s }").replace(
        "limits: none",
        "limits: [{ limit: 1/min, routes: /items }, 9 in flight]",
    );
    let ran = scene(&yaml, rules).run().complete();
    whole(&ran, 1);
    assert_eq!((troubles(&ran), server.books().calls.len()), (1, 2));
}

#[test]
fn a_second_refusal_fails_and_says_so() {
    let server = Server::new(Some(3600));
    let mut rules = server.rules(1_000);
    rules.auth = Some(Auth::Check(Arc::new(|_| false)));
    let yaml = pipeline(CLIENT, "");
    let ran = scene(&yaml, rules).run();
    assert_eq!(ran.summary.exit, Exit::Failed);
    assert_eq!(server.books().calls.len(), 2);
    let said = said(&ran);
    assert!(said.contains("401 Unauthorized"), "{said}");
    assert!(said.contains("a new token was refused too"), "{said}");
}

#[test]
fn token_endpoints_say_what_is_wrong_and_are_not_asked_again() {
    for (error, hint) in [
        ("invalid_client", "`in: body`"),
        ("unauthorized_client", "its registration allows"),
        ("unsupported_grant_type", "which of client_credentials"),
        ("invalid_scope", "check `scope`"),
        ("invalid_request", "`audience`"),
    ] {
        for status in [400, 401, 200] {
            let server = Server::new(None);
            let mut rules = server.rules(10);
            let body = format!(
                r#"{{"error":"{error}","error_description":"so it is\nwith client-secret"}}"#
            );
            let counts = server.clone();
            rules.routes[1] = Route::custom(
                "/token",
                Arc::new(move |request| {
                    counts.books().calls.push(request.clone());
                    SimReply::json(status, body.clone())
                }),
            )
            .open();
            let yaml = pipeline(CLIENT, "").replace(
                "sink:",
                "  b: { get: /items, pages: none }\n  c: { get: /items, pages: none }\nsink:",
            );
            let yaml = yaml.replace("out/a.ndjson", "\"out/{{ stream }}.ndjson\"");
            let ran = scene(&yaml, rules).run();
            assert_eq!(ran.summary.exit, Exit::Failed);
            assert_eq!(server.books().calls.len(), 1, "three streams, one question");
            let said = said(&ran);
            assert!(
                said.contains(&format!("https://api.test/token refuses: {error}")),
                "{said}"
            );
            assert!(said.contains("so it is with [S]"), "{said}");
            assert!(said.contains(hint), "{error}: {said}");
            assert_eq!(ran.targets().len(), 1);
        }
    }
}

#[test]
fn what_passes_at_a_token_endpoint_is_waited_for() {
    let server = Server::new(Some(3600));
    let mut rules = server.rules(100);
    let gives = server.clone();
    let count = Arc::new(Mutex::new(0));
    let at = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&at);
    rules.routes[1] = Route::custom(
        "/token",
        Arc::new(move |request| {
            log.lock().expect("no panic").push(request.at);
            let mut count = count.lock().expect("no panic");
            *count += 1;
            match *count {
                1 => SimReply::new(200, &[], "<html>log in</html>"),
                2 => SimReply::error(503, "later"),
                3 => SimReply::error(429, "slowly").header("retry-after", "77"),
                4 => SimReply::json(400, r#"{"error":"temporarily_unavailable"}"#),
                _ => gives.token(request),
            }
        }),
    )
    .open();
    let yaml = pipeline(CLIENT, "");
    let ran = scene(&yaml, rules).run().complete();
    whole(&ran, 100);
    assert_eq!(troubles(&ran), 4);
    let at = at.lock().expect("no panic");
    assert_eq!(at.len(), 5);
    assert!(at[3] - at[2] >= 77 * SEC);
}

/// The server gives one token that ends midway, and no other: its token endpoint is down for good.
/// One task asks for all, a few times; the run ends, keeps what came, and goes on when all is well.
#[test]
fn a_token_endpoint_that_is_down_for_good_ends_the_run_and_loses_nothing() {
    let server = Server {
        says: None,
        ..Server::new(Some(3))
    };
    let down = |server: &Server, from: usize| {
        let mut rules = server.rules(1000);
        let (gives, calls) = (server.clone(), Arc::new(Mutex::new(0)));
        let log = Arc::clone(&calls);
        rules.routes[1] = Route::custom(
            "/token",
            Arc::new(move |request| {
                let mut calls = log.lock().expect("no panic");
                *calls += 1;
                if *calls > from {
                    return SimReply::error(500, "out of order");
                }
                gives.token(request)
            }),
        )
        .method(Method::POST)
        .open();
        rules.latency = Latency::Fixed(Duration::from_secs(1));
        (rules, calls)
    };
    let yaml = pipeline(CLIENT, "");
    let (rules, calls) = down(&server, 1);
    let ran = scene(&yaml, rules).file("out/a.ndjson", "old\n").run();
    assert_eq!(ran.summary.exit, Exit::Resumable, "{}", said(&ran));
    assert_eq!(ran.text("out/a.ndjson"), "old\n");
    let said = said(&ran);
    for wanted in ["https://api.test/token", "500"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // One that was given, and the attempts of one request: sixteen tasks make no storm.
    assert_eq!(*calls.lock().expect("no panic"), 1 + 6);
    let kept = ran.summary.streams[0].pages;
    assert!((1..100).contains(&kept), "{kept} pages");
    // Each task was refused once at most, and none of them asked again without a token.
    assert!(
        server.books().stale.len() <= 16,
        "{:?}",
        server.books().stale
    );
    // It is up again: only what is missing is asked for.
    let server = Server::new(None);
    let again = scene(&yaml, server.rules(1000))
        .within(ran.root)
        .run()
        .complete();
    whole(&again, 1000);
    assert_eq!(server.books().calls.len(), 1);
    assert_eq!(again.requests() as u64, 100 - kept + 1);
}

#[test]
fn calls_for_tokens_take_permits_and_waits_for_tokens_hold_none() {
    // Three tokens an hour: what a token waits for is told as any wait.
    let server = Server::new(Some(600));
    let yaml = pipeline(CLIENT, "").replace(
        "limits: none",
        "limits: [{ limit: 1/h, routes: POST /token }, { limit: 1/10s, routes: /items }, 1 in flight]",
    );
    let ran = scene(&yaml, server.rules(1_200)).run().complete();
    whole(&ran, 1_200);
    let books = server.books();
    // 1,200 seconds of pages need two tokens at least; the second one comes an hour after the first.
    assert!(books.calls.len() >= 2);
    let gaps: Vec<_> = books
        .calls
        .windows(2)
        .map(|two| two[1].at - two[0].at)
        .collect();
    assert!(gaps.iter().all(|gap| *gap >= 3_600 * SEC), "{gaps:?}");
    assert_eq!(books.stale.len(), 0);
    drop(books);
    let waits = ran.facts(|fact| match fact {
        Fact::WaitBegan {
            why: gleaner::event::Wait::Limit { scope, .. },
            ..
        } => scope
            .as_deref()
            .is_some_and(|scope| scope.contains("POST /token")),
        _ => false,
    });
    assert!(waits >= 1);
    // A limit that covers all but the token endpoint leaves it out, and that is a mistake of the file.
    let yaml =
        pipeline(CLIENT, "").replace("limits: none", "limits: [{ limit: 1/s, routes: /items }]");
    let ran = scene(&yaml, server.rules(10)).run();
    assert!(
        said(&ran).contains("no limit of the source covers POST /token"),
        "{}",
        said(&ran)
    );
}

#[test]
fn only_the_token_endpoint_hears_what_tokens_are_had_with() {
    let server = Server::new(Some(3600));
    let mut rules = server.rules(100);
    rules.routes[1].origin = Some("https://login.test".to_owned());
    let heard: Arc<Mutex<Vec<SimRequest>>> = Arc::default();
    let log = Arc::clone(&heard);
    let asks = server.clone();
    rules.auth = Some(Auth::Check(Arc::new(move |request| {
        log.lock().expect("no panic").push(request.clone());
        asks.accepts(request)
    })));
    let yaml = pipeline(&CLIENT.replace("api.test/token", "login.test/token"), "");
    scene(&yaml, rules).run().complete();
    let books = server.books();
    assert_eq!(books.calls[0].origin, "https://login.test");
    assert!(!format!("{:?}", books.calls[0].headers).contains("access-"));
    for request in heard.lock().expect("no panic").iter() {
        let shown = format!(
            "{:?} {:?} {}",
            request.headers, request.body, request.target
        );
        assert!(
            !shown.contains("client-secret") && !shown.contains("Basic"),
            "{shown}"
        );
    }
    drop(books);
    // A redirect of the endpoint is not followed, wherever it leads.
    for to in ["https://login.test/other", "https://evil.test/token"] {
        let mut rules = server.rules(10);
        rules.routes[1] = Route::fixed("/token", 307, &[("location", to)], "")
            .open()
            .at("https://login.test");
        let ran = scene(&yaml, rules).run();
        assert_eq!(ran.summary.exit, Exit::Failed);
        assert_eq!(ran.requests(), 1);
        assert!(said(&ran).contains("follows no redirect"), "{}", said(&ran));
    }
}

#[test]
fn tokens_stay_with_their_origin() {
    let server = Server::new(Some(3600));
    let rules = |location: &str| {
        let mut rules = server.rules(10);
        rules.routes[0] = Route::fixed("/items", 302, &[("location", location)], "");
        rules
            .routes
            .push(Route::fixed("/there", 200, &[], r#"{"data":[],"total":0}"#).open());
        rules
    };
    let yaml = pipeline(CLIENT, "  allow_origins: ['https://cdn.test']");
    let ran = scene(&yaml, rules("https://cdn.test/there"))
        .run()
        .complete();
    let entries = ran.api.audit().entries();
    let there = entries
        .iter()
        .find(|entry| entry.target == "/there")
        .expect("asked");
    assert!(!there.credentials);
    let here = entries
        .iter()
        .find(|entry| entry.target.starts_with("/items"))
        .expect("asked");
    assert!(here.credentials);
    let ran = scene(&yaml, rules("https://evil.test/there")).run();
    assert_eq!(ran.summary.exit, Exit::Failed);
    assert!(ran.targets().iter().all(|target| target != "/there"));
}

#[test]
fn a_rotating_token_is_used_once_and_the_last_one_is_kept() {
    let mut server = Server::new(Some(30));
    server.rotates = true;
    server.books().refreshes.insert("refresh-1".to_owned());
    let yaml = pipeline(REFRESH, "").replace("limits: none", "limits: [1/s]");
    let ran = scene(&yaml, server.rules(1_200)).run().complete();
    whole(&ran, 1_200);
    let books = server.books();
    let mut used = books.used.clone();
    assert!(used.len() >= 4, "{used:?}");
    used.dedup();
    assert_eq!(used.len(), books.used.len(), "in turn, each once");
    let kept = ran
        .files()
        .into_iter()
        .find(|file| file.strip_suffix(".token").is_some())
        .expect("it is kept");
    let last = format!("refresh-{}", books.used.len() + 1);
    assert!(ran.text(&kept).contains(&last));
}

#[test]
fn a_refresh_token_that_ended_says_what_to_do() {
    let server = Server::new(Some(30));
    let yaml = pipeline(REFRESH, "");
    let ran = scene(&yaml, server.rules(10)).run();
    assert_eq!(ran.summary.exit, Exit::Failed);
    let said = said(&ran);
    assert!(
        said.contains("refuses: invalid_grant (\\\"not [T]\\\")") || said.contains("not [T]"),
        "{said}"
    );
    assert!(said.contains("authorize anew"), "{said}");
}

#[test]
fn a_login_has_its_own_shape_and_lifetime() {
    let expires = [
        ("expires: 30s", ""),
        ("expires: data.expires_in", r#","expires_in":30"#),
        ("expires: data.until", r#","until":"UNTIL""#),
    ];
    for (expires, member) in expires {
        let mut server = Server::new(Some(30));
        server.header = "x-session";
        let mut rules = server.rules(600);
        let gives = server.clone();
        let member = member.to_owned();
        let begins: jiff::Timestamp = "2026-11-22T02:30:00Z".parse().expect("an instant");
        let first: Arc<Mutex<Option<Instant>>> = Arc::default();
        rules.routes[1] = Route::custom(
            "/auth/login",
            Arc::new(move |request| {
                gives.books().calls.push(request.clone());
                let began = *first.lock().expect("no panic").get_or_insert(request.at);
                // The pretend clock began with the run, some moments before its first request.
                let passed = jiff::SignedDuration::try_from(request.at - began).expect("short");
                let until = begins + passed + jiff::SignedDuration::from_secs(30);
                let member = member.replace("UNTIL", &until.to_string());
                let token = gives.give(request.at);
                SimReply::json(
                    201,
                    format!(r#"{{"data":{{"session":"{token}"{member}}}}}"#),
                )
            }),
        )
        .open();
        let yaml = pipeline(
            &format!(
                "login: {{ post: /auth/login, body: {{ json: {{ user: me, password: '{{{{ secret.S }}}}' }} }}, token: data.session, {expires}, as: {{ header: {{ X-Session: '{{{{ token }}}}' }} }} }}"
            ),
            "",
        )
        .replace("limits: none", "limits: [1/s]");
        let ran = scene(&yaml, rules).run().complete();
        whole(&ran, 600);
        let books = server.books();
        assert_eq!(books.stale.len(), 0, "{expires}");
        assert!(
            (2..=4).contains(&books.calls.len()),
            "{expires}: {}",
            books.calls.len()
        );
        assert_eq!(
            books.calls[0].body,
            r#"{"user":"me","password":"client-secret"}"#
        );
        assert!(!books.calls[1].headers.contains_key("x-session"));
    }
}

#[test]
fn a_login_that_brings_no_token_says_where_it_was_looked_for() {
    for (status, body, wanted) in [
        (
            200,
            r#"{"ok":false,"error":"bad password client-secret"}"#,
            "the answer has no `data.session`: \\\"bad password [S]\\\"",
        ),
        (
            200,
            r#"{"data":{"session":""}}"#,
            "there is no token at `data.session`",
        ),
        (
            401,
            r#"{"message":"who are you"}"#,
            "answers 401 Unauthorized",
        ),
    ] {
        let server = Server::new(None);
        let mut rules = server.rules(10);
        rules.routes[1] = Route::fixed("/login", status, &[], body).open();
        let yaml = pipeline(
            "login: { get: /login, query: { p: '{{ secret.S }}' }, token: data.session }",
            "",
        );
        let ran = scene(&yaml, rules).run();
        let said = said(&ran).replace("\\\"", "\"");
        let wanted = wanted.replace("\\\"", "\"");
        assert!(said.contains(&wanted), "{said}");
        assert!(!said.contains("client-secret"), "{said}");
    }
}

#[test]
fn a_statement_is_sent_itself_and_signed_anew_before_it_ends() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&seen);
    let server = Server::new(None);
    let mut rules = server.rules(1_200);
    rules.auth = Some(Auth::Check(Arc::new(move |request| {
        let carried = request.headers["authorization"].to_str().expect("text");
        log.lock()
            .expect("no panic")
            .push(carried["Bearer ".len()..].to_owned());
        true
    })));
    let yaml = pipeline(
        "jwt: { key: '{{ secret.S }}', alg: HS256, kid: k1, iss: app-7, lifetime: 60s, claims: { bid: com.example } }",
        "",
    )
    .replace("limits: none", "limits: [1/s]");
    let ran = scene(&yaml, rules).run().complete();
    whole(&ran, 1_200);
    assert_eq!(server.books().calls.len(), 0);
    let mut seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.len(), 120);
    seen.dedup();
    // 45 seconds ahead, of which a tenth is kept back.
    assert!((3..=4).contains(&seen.len()), "{}", seen.len());
    let first = claims(&seen[0]);
    assert_eq!(
        (&first["iss"], &first["bid"]),
        (&"app-7".into(), &"com.example".into())
    );
    let number = |name: &str| first[name].as_i64().expect("a number");
    assert_eq!(number("exp") - number("iat"), 60);
    let begins: jiff::Timestamp = "2026-11-22T02:30:00Z".parse().expect("an instant");
    assert_eq!(number("iat"), begins.as_second() - 15);
    assert!(first.get("jti").is_none());
}

#[test]
fn a_statement_is_exchanged_for_a_token() {
    let server = Server::new(Some(3600));
    let yaml = pipeline(
        "jwt: { url: 'https://api.test/token', key_file: key.json, sub: user@example.org, scope: 'read it' }",
        "",
    );
    let key = include_str!("../certs/server.key");
    let account = serde_json::json!({
        "type": "service_account", "client_email": "robot@example.org", "private_key_id": "k9",
        "private_key": key, "token_uri": "https://evil.test/token",
    });
    let account = account.to_string();
    let open = scene(&yaml, server.rules(100)).file("key.json", &account);
    // Others may read it as it was written.
    let ran = open.chmod("key.json", 0o600).run().complete();
    whole(&ran, 100);
    let books = server.books();
    assert_eq!(books.calls.len(), 1);
    let form = Server::form(&books.calls[0]);
    let get = |name: &str| &form.iter().find(|(key, _)| key == name).expect("sent").1;
    assert_eq!(
        get("grant_type"),
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    let claims = claims(get("assertion"));
    assert_eq!(claims["iss"], "robot@example.org");
    assert_eq!(claims["sub"], "user@example.org");
    assert_eq!(claims["aud"], "https://api.test/token");
    assert_eq!(claims["scope"], "read it");
    assert!(claims["jti"].is_string());
}

#[test]
fn a_credential_that_renders_empty_is_none() {
    for auth in [
        CLIENT.replace("id: me", "id: \"{{ secret.NOT_SET_HERE | default('') }}\""),
        REFRESH.replace("secret.T", "secret.NOT_SET_HERE | default(\"\")"),
        "jwt: { key: \"{{ secret.NOT_SET_HERE | default('') }}\" }".to_owned(),
    ] {
        let server = Server::new(None);
        let mut rules = server.rules(10);
        rules.auth = None;
        let yaml = pipeline(&auth, "");
        let ran = scene(&yaml, rules).run().complete();
        assert_eq!(server.books().calls.len(), 0);
        assert!(
            ran.api
                .audit()
                .entries()
                .iter()
                .all(|entry| !entry.credentials)
        );
    }
}
