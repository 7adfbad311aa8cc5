//! The same small scenarios through both doors: bytes, faults, limits, credentials.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::fetch::transport::{Reach, Request, SendErrorKind, Transport as _};

use super::api::SimApi;
use super::audit::Outcome;
use super::data::{Dataset, Shape, records};
use super::fault::{Fault, FaultRule};
use super::limit::{ServerLimit, Tell};
use super::memory::MemoryTransport;
use super::paging::{End, Paging};
use super::rules::{Auth, Latency, Listing, Route, Rules};
use super::serve::Server;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn rules() -> Rules {
    let data = records(25, &Shape::default());
    Rules {
        routes: vec![
            Route::list(
                "/items",
                Listing::new(data, Paging::token(End::Null)).size(10),
            ),
            Route::fixed("/about", 200, &[("content-type", "text/plain")], "hello"),
        ],
        ..Rules::default()
    }
}

fn with_fault(fault: Fault) -> Arc<SimApi> {
    SimApi::new(Rules {
        faults: vec![FaultRule::nth_of("/items", 1, fault)],
        ..rules()
    })
}

/// Status, headers and as much of the body as came, with how it ended.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    end: Result<(), SendErrorKind>,
}

async fn memory(
    api: &Arc<SimApi>,
    url: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<Got, SendErrorKind> {
    let transport = MemoryTransport::new(Arc::clone(api));
    let mut request = Request {
        method: Method::GET,
        url: Url::parse(url).expect("a URL"),
        headers: HeaderMap::new(),
        body: None,
        reach: Reach::default(),
        private: false,
        fresh: false,
    };
    for (name, value) in headers {
        request
            .headers
            .insert(*name, HeaderValue::from_static(value));
    }
    let mut response = transport.send(request).await.map_err(|e| e.kind)?;
    let mut body = Vec::new();
    let end = loop {
        match response.body.chunk().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.kind),
        }
    };
    Ok(Got {
        status: response.status.as_u16(),
        headers: response.headers,
        body,
        end,
    })
}

/// One request over a plain socket, to the end of the connection.
async fn raw(server: &Server, target: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(server.address()).await?;
    let request = format!("GET {target} HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn announced(answer: &str) -> usize {
    answer
        .to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
        .expect("a length")
}

#[tokio::test]
async fn both_doors_give_the_same_bytes() {
    let api = SimApi::new(rules());
    let server = Server::start(Arc::clone(&api)).expect("starts");
    let mut target = "/items".to_owned();
    let mut seen = Vec::new();
    loop {
        let got = memory(&api, &format!("http://api.test{target}"), &[])
            .await
            .expect("answers");
        let answer = raw(&server, &target).await.expect("answers");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"));
        assert_eq!(body_of(&answer).as_bytes(), got.body);
        assert_eq!(announced(&answer), got.body.len());
        let page: serde_json::Value = serde_json::from_slice(&got.body).expect("json");
        seen.extend(page["data"].as_array().expect("list").clone());
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        target = format!("/items?cursor={query}");
    }
    let truth: Vec<serde_json::Value> = api
        .truth("/items")
        .iter()
        .map(|text| serde_json::from_str(text).expect("json"))
        .collect();
    assert_eq!((seen.len(), seen), (25, truth));
    assert_eq!(api.audit().requests(), 6);
    assert_eq!(body_of(&raw(&server, "/about").await.expect("ok")), "hello");
    assert!(
        raw(&server, "/none")
            .await
            .expect("ok")
            .starts_with("HTTP/1.1 404")
    );
    let address = server.address();
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn each_fault_shows_in_memory() {
    let good = memory(&SimApi::new(rules()), "http://a.test/items", &[])
        .await
        .expect("good");
    let get = async |fault| memory(&with_fault(fault), "http://a.test/items", &[]).await;

    let retry = get(Fault::status_retry_after(503, "7")).await.expect("503");
    assert_eq!(
        (retry.status, &retry.headers["retry-after"]),
        (503, &HeaderValue::from(7))
    );
    let login = get(Fault::HtmlLogin200).await.expect("html");
    assert_eq!(login.status, 200);
    assert!(
        login.headers["content-type"]
            .to_str()
            .expect("text")
            .starts_with("text/html")
    );
    let empty = get(Fault::EmptyBody).await.expect("empty");
    assert_eq!(
        (empty.status, empty.body.len(), empty.end),
        (200, 0, Ok(()))
    );
    let cut = get(Fault::TruncatedBody).await.expect("headers");
    assert_eq!(cut.end, Err(SendErrorKind::Truncated));
    assert_eq!(cut.body, good.body[..good.body.len() / 2]);
    assert_eq!(get(Fault::Reset).await.err(), Some(SendErrorKind::Broken));
    let unknown = get(Fault::UnknownHost).await.err();
    assert_eq!(unknown, Some(SendErrorKind::UnknownHost));
    let moved = get(Fault::Redirect("/new".into())).await.expect("302");
    assert_eq!(
        (moved.status, &moved.headers["location"]),
        (302, &HeaderValue::from_static("/new"))
    );
    let garbage = get(Fault::Garbage).await.expect("noise");
    assert!(std::str::from_utf8(&garbage.body).is_err());
    let bad = get(Fault::BadJson).await.expect("bad");
    assert_eq!(bad.end, Ok(()));
    assert!(serde_json::from_slice::<serde_json::Value>(&bad.body).is_err());

    let api = with_fault(Fault::SlowDrip {
        piece: good.body.len() / 4 + 1,
        every: ms(5000),
    });
    let before = api.clock().now();
    let slow = memory(&api, "http://a.test/items", &[])
        .await
        .expect("drips");
    assert_eq!(slow.body, good.body);
    assert_eq!(api.clock().now() - before, ms(20_000));

    let api = with_fault(Fault::Stall);
    let waited = api
        .clock()
        .timeout(ms(3_600_000), memory(&api, "http://a.test/items", &[]))
        .await;
    assert!(waited.is_err(), "nothing came in an hour");
    assert_eq!(
        (api.audit().in_flight(), api.audit().in_flight_max()),
        (0, 1)
    );
    assert_eq!(api.audit().faults(), 1);
    assert_eq!(
        memory(&api, "http://a.test/items", &[])
            .await
            .expect("good")
            .body,
        good.body
    );
}

#[tokio::test]
async fn each_fault_shows_on_a_socket() {
    let first = async |fault| {
        let api = with_fault(fault);
        let server = Server::start(api).expect("starts");
        let answer = raw(&server, "/items").await;
        let again = raw(&server, "/items").await.expect("good again");
        (answer, again)
    };
    let (cut, good) = first(Fault::TruncatedBody).await;
    let cut = cut.expect("the headers and half of the body");
    assert_eq!(announced(&cut), body_of(&good).len());
    assert!(body_of(&cut).len() < body_of(&good).len() && !body_of(&cut).is_empty());

    let (reset, _) = first(Fault::Reset).await;
    assert_eq!(
        reset.expect_err("a reset").kind(),
        io::ErrorKind::ConnectionReset
    );

    let (drip, good) = first(Fault::SlowDrip {
        piece: 1500,
        every: ms(1),
    })
    .await;
    assert_eq!(body_of(&drip.expect("all of it")), body_of(&good));

    let (empty, _) = first(Fault::EmptyBody).await;
    assert_eq!(announced(&empty.expect("empty")), 0);

    let api = with_fault(Fault::Stall);
    let server = Server::start(Arc::clone(&api)).expect("starts");
    let stalled = api.clock().timeout(ms(20), raw(&server, "/items")).await;
    assert!(stalled.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_limit_refuses_and_the_log_tells() {
    let api = SimApi::new(Rules {
        limits: vec![ServerLimit {
            tell: Tell::RateLimit,
            ..ServerLimit::sliding(2, ms(1500))
        }],
        latency: Latency::Fixed(ms(100)),
        ..rules()
    });
    let ask = async || {
        memory(&api, "http://a.test/about", &[])
            .await
            .expect("answers")
    };
    let first = ask().await;
    assert_eq!(
        (first.status, &first.headers["ratelimit-remaining"]),
        (200, &HeaderValue::from(1))
    );
    assert_eq!(ask().await.status, 200);
    let refused = ask().await;
    assert_eq!(
        (refused.status, &refused.headers["retry-after"]),
        (429, &HeaderValue::from(2))
    );
    assert_eq!(refused.headers["ratelimit-reset"], HeaderValue::from(2));
    let audit = api.audit();
    // Arrivals at 0, 100 and 200 ms.
    assert_eq!(audit.max_in_window(ms(1500)), 3);
    assert_eq!(
        (audit.max_in_window(ms(200)), audit.max_in_window(ms(201))),
        (2, 3)
    );
    assert_eq!(audit.refusals(), 1);
    assert_eq!(audit.in_flight_max(), 1);
    let start = api.clock().now();
    api.clock().sleep_until(start + ms(1200)).await;
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn credentials_are_asked_for_and_never_kept() {
    let asking = |auth| {
        SimApi::new(Rules {
            auth: Some(auth),
            ..rules()
        })
    };
    let api = asking(Auth::Bearer("s3cret".into()));
    let status = async |url: &'static str, headers: &[(&'static str, &'static str)]| {
        memory(&api, url, headers).await.expect("answers").status
    };
    let url = "http://a.test/about";
    assert_eq!(status(url, &[]).await, 401);
    assert_eq!(status(url, &[("authorization", "Bearer other")]).await, 401);
    assert_eq!(
        status(
            url,
            &[("authorization", "Bearer s3cret"), ("user-agent", "x/1")]
        )
        .await,
        200
    );
    let entries = api.audit().entries();
    let carried: Vec<bool> = entries.iter().map(|entry| entry.credentials).collect();
    assert_eq!(carried, [false, true, true]);
    assert_eq!(entries[0].outcome, Outcome::Answered(401));
    assert_eq!(entries[2].user_agent.as_deref(), Some("x/1"));
    assert!(entries[2].has_header("authorization"));

    let keyed = asking(Auth::Query("key".into(), "s3cret".into()));
    let got = memory(&keyed, "http://a.test/about?key=s3cret&q=1", &[]).await;
    assert_eq!(got.expect("answers").status, 200);
    assert_eq!(keyed.audit().entries()[0].target, "/about?key=***&q=1");
    assert!(
        !format!("{:?} {:?} {:?}", api.audit(), keyed.audit(), keyed.rules()).contains("s3cret")
    );
}

#[tokio::test]
async fn routes_may_be_bound_to_hosts() {
    let echo = Arc::new(|request: &super::SimRequest| {
        let name = request.param("name").unwrap_or_default();
        super::SimReply::json(200, format!("\"{name}\""))
    });
    let api = SimApi::new(Rules {
        routes: vec![
            Route::fixed("/x", 200, &[], "one").at("https://one.test"),
            Route::custom("/users/{name}", echo).at("https://two.test/"),
            Route::list(
                "/all",
                Listing::new(Dataset::from_texts(["1"]), Paging::Whole).bare(),
            )
            .at("https://two.test"),
        ],
        ..Rules::default()
    });
    let text = async |url: &str| -> Result<(u16, Bytes), SendErrorKind> {
        let got = memory(&api, url, &[]).await?;
        Ok((got.status, got.body.into()))
    };
    assert_eq!(text("https://one.test/x").await, Ok((200, "one".into())));
    assert_eq!(
        text("https://two.test/users/ada").await,
        Ok((200, "\"ada\"".into()))
    );
    assert_eq!(text("https://two.test/all").await, Ok((200, "[1]".into())));
    assert_eq!(
        text("https://two.test/x").await.map(|(status, _)| status),
        Ok(404)
    );
    assert_eq!(
        text("https://three.test/x").await,
        Err(SendErrorKind::Connect)
    );
}

#[test]
fn a_server_without_a_runtime_has_its_own() {
    let server = Server::start_on_own_thread(SimApi::new(rules())).expect("starts");
    let mut socket = std::net::TcpStream::connect(server.address()).expect("connects");
    io::Write::write_all(&mut socket, b"GET /about HTTP/1.0\r\n\r\n").expect("writes");
    let mut answer = String::new();
    io::Read::read_to_string(&mut socket, &mut answer).expect("reads");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn bodies_are_packed_for_who_accepts_it() {
    let api = SimApi::new(Rules {
        gzip: true,
        ..rules()
    });
    let plain = memory(&api, "http://a.test/items", &[])
        .await
        .expect("plain");
    for _ in 0..2 {
        let got = memory(
            &api,
            "http://a.test/items",
            &[("accept-encoding", "gzip, br")],
        )
        .await
        .expect("packed");
        assert_eq!(got.headers["content-encoding"], "gzip");
        let mut body = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(got.body.as_slice());
        io::Read::read_to_end(&mut reader, &mut body).expect("gzip");
        assert_eq!(body, plain.body);
    }
    assert!(!plain.headers.contains_key("content-encoding"));
}
