//! Faults 6, 7, 9 to 11 and 37 with the real program: disks that are full, read-only or somewhere
//! else, two at one output, and signals.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::gate::{Gate, ask_to_stop, ends, signal, told_of};
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

/// Set in a namespace of its own.
const INSIDE: &str = "GLEANER_TEST_INSIDE";
/// `mount` where nothing can be mounted and that is known.
const PASS_OVER: &str = "GLEANER_PASS_OVER";

/// What to do where nothing can be mounted.
pub(super) const HINT: &str = "run it as root, or say GLEANER_PASS_OVER=mount to pass it over";

/// Whether somebody has said that a test that mounts something may be passed over, which is told then.
pub(super) fn is_passed_over(name: &str) -> bool {
    let said = std::env::var(PASS_OVER).is_ok_and(|what| what == "mount");
    if said {
        // Past the capture of output: nobody is to take this for shown.
        let word = format!("{name} is PASSED OVER: nothing can be mounted\n");
        let _ = std::io::stderr().write_all(word.as_bytes());
    }
    said
}

/// Runs a test that mounts small disks: here, or in a namespace of its own, in which anybody may. Where
/// neither is allowed it fails, unless somebody has said that it may be passed over.
fn where_disks_can_be_mounted(name: &str, test: fn()) {
    let folder = tempfile::tempdir().expect("a folder");
    if mount(folder.path(), "size=64k") {
        drop(Mounted(folder.path().to_owned()));
        return test();
    }
    if is_passed_over(name) {
        return;
    }
    assert!(
        std::env::var_os(INSIDE).is_none(),
        "no disk can be mounted in a namespace either: {HINT}"
    );
    let inside = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, of util-linux");
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}{}\n{HINT}",
        String::from_utf8_lossy(&inside.stderr)
    );
}

/// A small disk, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounts one at a folder.
    fn at(folder: &Path, options: &str) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        assert!(mount(folder, options), "a tmpfs");
        Self(folder.to_owned())
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
    where_disks_can_be_mounted(
        "faults::process::f06_a_small_disk_that_fills_up_while_pages_are_kept",
        fills_up_while_pages_are_kept,
    );
}

fn fills_up_while_pages_are_kept() {
    let server = Server::start(|request| page(number(request)));
    let project = Project::new(&pipeline(&server, "data/items.csv"));
    let small = Mounted::at(&project.path().join(".gleaner"), "size=512k");
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
    where_disks_can_be_mounted(
        "faults::process::f07_a_small_disk_that_fills_up_while_the_output_is_made",
        fills_up_while_the_output_is_made,
    );
}

fn fills_up_while_the_output_is_made() {
    let server = Server::start(|request| page(number(request)));
    let project = Project::new(&pipeline(&server, "data/items.csv"));
    let small = Mounted::at(&project.path().join("data"), "size=256k");
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
    where_disks_can_be_mounted(
        "faults::process::f10_folders_that_are_read_only_or_lead_nowhere_are_told_before_the_first_request",
        read_only_or_leading_nowhere,
    );
}

fn read_only_or_leading_nowhere() {
    let server = Server::start(|request| page(number(request)));
    for folder in ["data", ".gleaner"] {
        // A disk mounted read-only, which not even root may write to.
        let project = Project::new(&pipeline(&server, "data/items.csv"));
        let disk = Mounted::at(&project.path().join(folder), "size=256k");
        if folder == "data" {
            project.write("data/items.csv", crate::scene::OLD);
        }
        disk.remount("ro");
        let said = run(&project);
        assert_eq!(said.code, Some(73), "{folder}: {}", said.shown);
        assert!(said.stderr.contains(folder), "{folder}: {}", said.shown);
        assert!(said.stderr.contains("hint: "), "{folder}: {}", said.shown);
        drop(disk);
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

fn gate() -> Gate {
    Gate::new(|request| page(number(request)))
}

#[test]
fn f11_two_pipelines_with_one_output() {
    let gate = gate();
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

#[test]
fn f37_a_second_signal_ends_at_once_and_costs_nothing_that_was_kept() {
    for (first, second, code) in [
        ("INT", "TERM", 143),
        ("TERM", "INT", 130),
        ("HUP", "INT", 130),
    ] {
        let gate = gate();
        let project = Project::new(&pipeline(&gate.server, "data/items.csv"));
        let mut child = gate.start_told(&project);
        // The first page may be in a group that is not on the disk yet. What the run says of it is
        // what it counts by; its history knows a moment earlier.
        told_of(&mut child, "\"event\":\"committed\"");
        ask_to_stop(&mut child, first);
        // The second page never comes: only the second signal can end with its own code.
        signal(&child, second);
        let (ended, told) = ends(child);
        assert_eq!(ended, Some(code), "{first} {second}: {told}");
        project.is_untouched();
        let wanted = "stopped at once; kept 1 page; run again to continue";
        assert!(told.contains(wanted), "{first} {second}: {told}");
        let said = project.run(&["run", "items"]);
        complete(&project, &said);
        assert!(said.stderr.contains("continuing run"), "{}", said.shown);
        gate.let_go();
        assert_eq!(repeated(&gate.server), [2], "{first}");
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
