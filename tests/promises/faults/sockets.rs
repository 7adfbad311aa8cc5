//! Faults 20 and 21: answers that break off and connections that end at the wrong moment, on real
//! sockets, by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::scene::{Project, Said};

/// A server on loopback that does with each connection, counted from 0, what it is told.
pub(super) fn serve(
    converse: impl Fn(usize, TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let converse = Arc::new(converse);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (converse, stream) = (Arc::clone(&converse), stream?);
            std::thread::spawn(move || converse(n, stream));
        }
        std::io::Result::Ok(())
    });
    address
}

/// Three pages of two records each, to `data/items.csv`.
pub(super) fn project(url: &str, stream: &str) -> Project {
    Project::new(&format!(
        "source:
  url: {url}
  limits: none
  concurrency: 1
  retry: {{ attempts: 3 }}
streams:
  items:
    {}
sink:
  csv: data/items.csv
",
        stream.replace('\n', "\n    ")
    ))
}

/// The run is complete and the file holds 1 to `count`.
#[track_caller]
pub(super) fn complete(project: &Project, said: &Said, count: u32) {
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let data = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    let ids: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
    assert_eq!(data.replace('\r', ""), format!("id\n{}\n", ids.join("\n")));
}

fn page(n: u32) -> String {
    match n {
        1..=3 => format!(r#"[{{"id":{}}},{{"id":{}}}]"#, 2 * n - 1, 2 * n),
        _ => "[]".to_owned(),
    }
}

fn answer(body: &str, connection: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: {connection}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The head of a request, left unread: a connection that is closed over it sends a reset.
fn peek(stream: &TcpStream) -> std::io::Result<String> {
    let mut seen = [0; 4096];
    loop {
        let length = stream.peek(&mut seen)?;
        let head = String::from_utf8_lossy(&seen[..length]).into_owned();
        if head.contains("\r\n\r\n") || length == 0 {
            return Ok(head);
        }
    }
}

/// The number behind `page=`, or the last segment of the path.
fn asked(head: &str) -> u32 {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let digits = target.rsplit(['=', '/']).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[test]
fn f20_a_body_that_breaks_off_leaves_nothing_of_its_page() {
    // What came of the first two is a page by itself, with one record less.
    for (how, broken, reset) in [
        (
            "a length that is not kept",
            "content-length: 18\r\n\r\n[{\"id\":3}]",
            false,
        ),
        (
            "no last chunk",
            "transfer-encoding: chunked\r\n\r\na\r\n[{\"id\":3}]\r\n",
            false,
        ),
        (
            "a chunk that is not whole",
            "transfer-encoding: chunked\r\n\r\n12\r\n[{\"id\":3},",
            false,
        ),
        ("a reset", "content-length: 19\r\n\r\n[{\"id\":3}]", true),
    ] {
        let broke = Arc::new(AtomicBool::new(false));
        let once = Arc::clone(&broke);
        let address = serve(move |_, mut stream| {
            let head = peek(&stream)?;
            let number = asked(&head);
            if number == 2 && !once.swap(true, Ordering::SeqCst) {
                if !reset {
                    stream.read_exact(&mut vec![0; head.len()])?;
                }
                return write!(stream, "HTTP/1.1 200 OK\r\n{broken}");
            }
            stream.read_exact(&mut vec![0; head.len()])?;
            stream.write_all(answer(&page(number), "close").as_bytes())
        });
        let stream = "get: /items\npages: { page: { to: page } }";
        let project = project(&format!("http://{address}"), stream);
        let said = project.run(&["run", "items"]);
        assert!(broke.load(Ordering::SeqCst), "{how}");
        complete(&project, &said, 6);
        assert!(
            said.stderr.contains("items, page 2: "),
            "{how}: {}",
            said.shown
        );
        assert!(
            said.stderr.contains("attempt 1 of 3 failed"),
            "{how}: {}",
            said.shown
        );
    }
}

// ---- 21 --------------------------------------------------------------------------------------

/// Answers on kept connections, until `leaves(connection, request)` says that a request is met by
/// a closed door; both are counted from 0. Requests have bodies of so many bytes. Gives the address and
/// the log of what was asked.
fn keeping(
    body: usize,
    leaves: impl Fn(usize, usize) -> bool + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let asks = Arc::clone(&log);
    let address = serve(move |connection, stream| {
        let mut reader = BufReader::new(stream);
        for request in 0.. {
            let mut head = String::new();
            while reader.read_line(&mut head)? > 2 {}
            if head.is_empty() {
                break;
            }
            reader.read_exact(&mut vec![0; body])?;
            let number = asked(&head);
            asks.lock().expect("the log").push(number);
            if leaves(connection, request) {
                break;
            }
            let whole = answer(&page(number), "keep-alive");
            reader.get_mut().write_all(whole.as_bytes())?;
        }
        Ok(())
    });
    (address, log)
}

#[test]
fn f21_a_connection_that_is_closed_at_reuse() {
    let stream = "get: /items\npages: { page: { to: page } }";
    let (address, log) = keeping(0, |connection, request| connection == 0 && request == 1);
    let get = project(&format!("http://{address}"), stream);
    let said = get.run(&["run", "items"]);
    complete(&get, &said, 6);
    // Which one met the closed door is a matter of which connection took it.
    let mut pages = log.lock().unwrap().clone();
    assert_eq!(pages.len(), 5, "one was lost: {pages:?}");
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages, [1, 2, 3, 4]);

    // A server that closes after each answer, though it said that it would not.
    let address = serve(|_, stream| {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let whole = answer(&page(asked(&head)), "keep-alive");
        reader.get_mut().write_all(whole.as_bytes())
    });
    let get = project(&format!("http://{address}"), stream);
    let said = get.run(&["run", "items"]);
    complete(&get, &said, 6);
}

#[test]
fn f21_a_request_that_may_have_been_acted_on_is_not_repeated_where_it_counts() {
    let stream = "for: { n: [1, 2, 3] }\npost: /items/{{ n }}\nbody: { json: {} }\nonce: true";
    let (address, log) = keeping("{}".len(), |connection, _| connection == 1);
    let post = project(&format!("http://{address}"), stream);
    let said = post.run(&["run", "items"]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    post.is_untouched();
    assert_eq!(*log.lock().unwrap(), [1, 2, 3], "asked once each");
    assert!(said.stderr.contains("`once: true`"), "{}", said.shown);
}
