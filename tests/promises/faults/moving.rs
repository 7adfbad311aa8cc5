//! Fault 23, its third part: the server moves to another address while a run asks it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::process::{HINT, is_passed_over};
use super::sockets::complete;
use crate::scene::Project;

/// A file of names that the program, alone in a view of its own, sees in place of the system's.
const VIEW: &str = r#"mount --bind hosts /etc/hosts && exec "$0" "$@""#;

/// A command in such a view; `None` where that is not allowed, and somebody has said that it may be passed over.
fn in_a_view(name: &str) -> Option<Command> {
    let view = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c"]);
        command
    };
    let mount = "mount --bind /etc/hosts /etc/hosts";
    let tried = view().arg(mount).stderr(Stdio::null()).status();
    if tried.is_ok_and(|status| status.success()) {
        return Some(view());
    }
    assert!(
        is_passed_over(name),
        "no file can be mounted over another: {HINT}"
    );
    None
}

/// Answers requests on one connection while `goes_on(page)`.
fn answer(stream: TcpStream, goes_on: impl Fn(u32) -> bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let target = head.split(' ').nth(1).unwrap_or_default();
        let Some((_, page)) = target.split_once("page=") else {
            return Ok(());
        };
        let page: u32 = page.parse().unwrap_or(0);
        let goes_on = goes_on(page);
        let body = match page {
            1..=4 => format!(r#"[{{"id":{page}}}]"#),
            _ => "[]".to_owned(),
        };
        write!(
            reader.get_mut(),
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        if !goes_on {
            return Ok(());
        }
    }
}

#[test]
fn f23_a_server_that_moves_to_another_address_is_followed() {
    let Some(mut command) = in_a_view("f23_a_server_that_moves_to_another_address_is_followed")
    else {
        return;
    };
    let here = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = here.local_addr().expect("an address").port();
    let there = TcpListener::bind(("127.0.0.2", port)).expect("the same port");
    let project = Project::new(&format!(
        "source: {{ url: \"http://moving.test:{port}\", limits: none, concurrency: 1, retry: {{ attempts: 3 }} }}
streams:
  items:
    get: /items
    pages: {{ page: {{ to: page }} }}
sink: {{ csv: data/items.csv }}
"
    ));
    project.write("hosts", "127.0.0.1 moving.test\n");
    let hosts = project.path().join("hosts");
    let asked = Arc::new(Mutex::new(Vec::new()));

    let log = Arc::clone(&asked);
    let first = std::thread::spawn(move || {
        let (stream, _) = here.accept()?;
        // Nobody listens here any more when the second page is given.
        let here = Mutex::new(Some(here));
        answer(stream, |page| {
            log.lock().expect("the log").push((1, page));
            if page == 2 {
                std::fs::write(&hosts, "127.0.0.2 moving.test\n").expect("written");
                drop(here.lock().expect("no panic").take());
            }
            page < 2
        })
    });
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in there.incoming() {
            let log = Arc::clone(&log);
            // A connection that breaks off is the client's to tell of.
            let _ = answer(stream?, |page| {
                log.lock().expect("the log").push((2, page));
                true
            });
        }
        std::io::Result::Ok(())
    });

    let args = ["run", "items"];
    let program = project.command(&args);
    command
        .args([VIEW.as_ref(), program.get_program()])
        .args(program.get_args())
        .current_dir(project.path())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    let output = command.output().expect("the program starts");
    let said = project.said(&args, &output);
    complete(&project, &said, 4);
    assert!(first.join().expect("no panic").is_ok());
    assert_eq!(
        *asked.lock().expect("the log"),
        [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5)],
        "each page once, from where the server was: {}",
        said.shown
    );
}
