//! Faults 6, 7, 9 to 11 and 37 with the real program: disks that are full, read-only or somewhere
//! else, two at one output, and signals.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::scene::{Project, Reply, Said, Server};

/// Pages of the API, and bytes in the one cell of each.
const PAGES: usize = 12;
const CELL: usize = 64 << 10;

fn number(request: &str) -> usize {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let digits = target.rsplit("page=").next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

fn page(n: usize) -> Reply {
    match n {
        1..=PAGES => Reply::json(format!(r#"[{{"id":{n},"cell":"{}"}}]"#, "x".repeat(CELL))),
        _ => Reply::json("[]"),
    }
}

fn pipeline(server: &Server, sink: &str) -> String {
    format!(
        "source: {{ url: \"{}\", limits: none, concurrency: 1 }}
streams:
  items:
    get: /items
    pages: {{ page: {{ to: page }} }}
sink: {{ csv: {sink} }}
",
        server.url()
    )
}

fn whole() -> String {
    let rows: Vec<String> = (1..=PAGES)
        .map(|n| format!("{n},{}\r\n", "x".repeat(CELL)))
        .collect();
    format!("id,cell\r\n{}", rows.concat())
}

#[track_caller]
fn complete(project: &Project, said: &Said) {
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let data = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
    assert!(data == whole(), "{} bytes", data.len());
}

/// Pages that were asked for more than once.
fn repeated(server: &Server) -> Vec<usize> {
    let mut asked: Vec<usize> = server
        .heard()
        .iter()
        .map(|request| number(request))
        .collect();
    asked.sort_unstable();
    let twice = asked.windows(2).filter(|pair| pair[0] == pair[1]);
    twice.map(|pair| pair[0]).collect()
}

// ---- 6, 7, 10 --------------------------------------------------------------------------------

/// A small disk, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one at a folder; `None`, and a word about it, where that is not allowed.
    #[expect(
        clippy::print_stderr,
        reason = "a test that is passed over must say so"
    )]
    fn at(folder: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("a folder");
        if mount(folder, options) {
            return Some(Self(folder.to_owned()));
        }
        eprintln!("passed over: this needs the right to mount a tmpfs");
        None
    }

    fn remount(&self, options: &str) {
        assert!(mount(&self.0, &format!("remount,{options}")));
    }
}

fn mount(folder: &Path, options: &str) -> bool {
    Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(folder)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn run(project: &Project) -> Said {
    project.run_with(&["run", "items"], &[("GLEANER_KEEP_FREE", "0")])
}

#[test]
fn f06_a_small_disk_that_fills_up_while_pages_are_kept() {
    let server = Server::start(|request| page(number(request)));
    let project = Project::new(&pipeline(&server, "data/items.csv"));
    let Some(small) = Mounted::at(&project.path().join(".gleaner"), "size=512k") else {
        return;
    };
    let said = run(&project);
    assert_eq!(said.code, Some(73), "{}", said.shown);
    assert!(said.stderr.contains("the disk is full"), "{}", said.shown);
    project.is_untouched();
    small.remount("size=64m");
    let said = run(&project);
    complete(&project, &said);
    drop(small);
}

#[test]
fn f07_a_small_disk_that_fills_up_while_the_output_is_made() {
    let server = Server::start(|request| page(number(request)));
    let project = Project::new(&pipeline(&server, "data/items.csv"));
    let Some(small) = Mounted::at(&project.path().join("data"), "size=256k") else {
        return;
    };
    project.write("data/items.csv", crate::scene::OLD);
    let said = run(&project);
    assert_eq!(said.code, Some(73), "{}", said.shown);
    assert!(said.stderr.contains("the disk is full"), "{}", said.shown);
    project.is_untouched();
    let asked = server.heard().len();

    small.remount("size=64m");
    let said = run(&project);
    complete(&project, &said);
    assert_eq!(server.heard().len(), asked, "all pages were kept");
    drop(small);
}

#[test]
fn f10_folders_that_are_read_only_or_lead_nowhere_are_told_before_the_first_request() {
    let server = Server::start(|request| page(number(request)));
    for folder in ["data", ".gleaner"] {
        // A disk mounted read-only, which not even root may write to.
        let project = Project::new(&pipeline(&server, "data/items.csv"));
        if let Some(disk) = Mounted::at(&project.path().join(folder), "size=256k") {
            if folder == "data" {
                project.write("data/items.csv", crate::scene::OLD);
            }
            disk.remount("ro");
            let said = run(&project);
            assert_eq!(said.code, Some(73), "{folder}: {}", said.shown);
            assert!(said.stderr.contains(folder), "{folder}: {}", said.shown);
            assert!(said.stderr.contains("hint: "), "{folder}: {}", said.shown);
            drop(disk);
        }
        // A link to nowhere.
        let project = Project::new(&pipeline(&server, "data/items.csv"));
        let place = project.path().join(folder);
        if place.exists() {
            std::fs::remove_dir_all(&place).expect("removed");
        }
        std::os::unix::fs::symlink("/nowhere/at/all", &place).expect("a link");
        let said = run(&project);
        assert_eq!(said.code, Some(73), "{folder}: {}", said.shown);
        assert!(said.stderr.contains(folder), "{folder}: {}", said.shown);
        assert!(said.stderr.contains("hint: "), "{folder}: {}", said.shown);
    }
    assert_eq!(server.heard(), [""; 0], "told before the first request");
    // A folder that is missing is made.
    let project = Project::new(&pipeline(&server, "data/items.csv"));
    std::fs::remove_dir_all(project.path().join("data")).expect("removed");
    complete(&project, &run(&project));
}

// ---- 9 ---------------------------------------------------------------------------------------

#[test]
fn f09_a_file_that_may_not_grow_further_is_an_error_and_no_death() {
    let server = Server::start(|request| page(number(request)));
    let project = Project::new(&pipeline(&server, "data/items.csv"));
    let program = project.command(&[]).get_program().to_owned();
    // In blocks of 512 bytes: half of the pages.
    let script = format!(
        "ulimit -f {}; exec \"$0\" run items",
        PAGES * CELL / 512 / 2
    );
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(&program)
        .current_dir(project.path())
        .env_clear()
        .env("GLEANER_KEEP_FREE", "0")
        .output()
        .expect("sh runs");
    let said = project.said(&["run", "items"], &output);
    assert_eq!(said.code, Some(73), "{:?} {}", output.status, said.shown);
    assert!(said.stderr.contains("hint: "), "{}", said.shown);
    project.is_untouched();
    complete(&project, &run(&project));
}

// ---- 11, 37 ----------------------------------------------------------------------------------

/// A server that answers the second page when it is told to, and not before.
struct Gate {
    server: Server,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn new() -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&open);
        let was_there = AtomicBool::new(false);
        let server = Server::start(move |request| {
            if number(request) == 2 && !was_there.swap(true, Ordering::SeqCst) {
                let (is_open, changed) = &*gate;
                let closed = is_open.lock().expect("no panic");
                drop(changed.wait_while(closed, |open| !*open).expect("no panic"));
            }
            page(number(request))
        });
        Self { server, open }
    }

    fn let_go(&self) {
        *self.open.0.lock().expect("no panic") = true;
        self.open.1.notify_all();
    }

    /// Starts a run and waits until it has asked for the second page.
    fn start(&self, project: &Project) -> Child {
        let mut command = project.command(&["run", "items"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        while self.server.heard().len() < 2 {
            std::thread::yield_now();
        }
        child
    }
}

fn ends(mut child: Child) -> (Option<i32>, String) {
    let mut told = String::new();
    let stderr = child.stderr.as_mut().expect("piped");
    stderr.read_to_string(&mut told).expect("text");
    (child.wait().expect("an end").code(), told)
}

#[test]
fn f11_two_pipelines_with_one_output() {
    let gate = Gate::new();
    let project = Project::new(&pipeline(&gate.server, "data/items.csv"));
    let other = Server::start(|request| page(number(request)));
    // The same file by another way.
    project.write(
        "pipelines/other.yaml",
        &pipeline(&other, "./data//items.csv"),
    );
    let first = gate.start(&project);
    let said = project.run(&["run", "other"]);
    assert_eq!(said.code, Some(77), "{}", said.shown);
    let holder = format!("locked by PID {}", first.id());
    assert!(said.stderr.contains(&holder), "{}", said.shown);
    assert_eq!(other.heard(), [""; 0], "without a request");
    gate.let_go();
    let (code, told) = ends(first);
    assert_eq!(code, Some(0), "{told}");
    let said = project.run(&["run", "other"]);
    complete(&project, &said);
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn f37_a_second_signal_ends_at_once_and_costs_nothing_that_was_kept() {
    for (first, second, code) in [
        ("-INT", "-TERM", 143),
        ("-TERM", "-INT", 130),
        ("-HUP", "-INT", 130),
    ] {
        let gate = Gate::new();
        let project = Project::new(&pipeline(&gate.server, "data/items.csv"));
        let mut child = gate.start(&project);
        signal(&child, first);
        let stderr = child.stderr.as_mut().expect("piped");
        let mut told = Vec::new();
        while !String::from_utf8_lossy(&told).contains("stopping") {
            let mut byte = [0];
            stderr.read_exact(&mut byte).expect("it says that it stops");
            told.push(byte[0]);
        }
        // The second page never comes: only the second signal can end with its own code.
        signal(&child, second);
        let (ended, told) = ends(child);
        assert_eq!(ended, Some(code), "{first} {second}: {told}");
        project.is_untouched();
        let said = project.run(&["run", "items"]);
        complete(&project, &said);
        assert!(said.stderr.contains("continuing run"), "{}", said.shown);
        gate.let_go();
        // The first page may have stood in a group that was not on the disk yet.
        let twice = repeated(&gate.server);
        assert!(twice == [2] || twice == [1, 2], "{first}: {twice:?}");
    }
}

#[test]
fn f37_a_screen_that_is_gone_stops_nothing() {
    let server = Server::start(|request| page(number(request)));
    for json in [false, true] {
        let project = Project::new(&pipeline(&server, "data/items.csv"));
        let args: &[&str] = if json {
            &["run", "items", "--json"]
        } else {
            &["run", "items"]
        };
        let (reader, stdout) = std::io::pipe().expect("a pipe");
        let stderr = stdout.try_clone().expect("a second end");
        drop(reader);
        let status = project
            .command(args)
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .expect("the program starts");
        assert_eq!(status.code(), Some(0), "json: {json}");
        let data = std::fs::read_to_string(project.path().join("data/items.csv")).expect("a file");
        assert!(data == whole(), "json: {json}");
    }
}
