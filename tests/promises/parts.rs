//! Programs that others wrote, on loopback, and a project that fetches from them. `tests/run`
//! installs what is started here.
#![expect(
    clippy::disallowed_methods,
    reason = "servers start in real time, and readiness is polled"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A server on loopback, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts what `command` makes for a free port and waits until it takes connections. The port
    /// may be lost to somebody else between looking and binding, so a start is tried thrice.
    pub(crate) fn start(folder: &Path, command: impl Fn(u16) -> Command) -> Self {
        let log = folder.join("server.log");
        for _ in 0..3 {
            let port = free_port();
            let out = fs::File::create(&log).expect("a log file");
            let child = command(port)
                .stdin(Stdio::null())
                .stdout(out.try_clone().expect("a second handle"))
                .stderr(out)
                .spawn()
                .expect("the server program starts; run tests/run");
            let mut server = Self { child, port };
            if server.is_ready() {
                return server;
            }
        }
        panic!(
            "the server did not start:\n{}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }

    fn is_ready(&mut self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let until = Instant::now() + Duration::from_secs(90);
        while Instant::now() < until {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return true;
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// A program that `tests/run` put below `target/real/`.
pub(crate) fn part(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/real")
        .join(path);
    assert!(
        path.exists(),
        "{} is missing: run tests/run, it installs what these tests need",
        path.display()
    );
    path
}

// ---- the project -----------------------------------------------------------------------------

/// A project folder with one pipeline `it`, and room for a server's files.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `pipeline`; a failure shows what was printed.
    pub(crate) fn run(&self, pipeline: &str) {
        let output = self.try_run(pipeline);
        assert!(
            output.status.success(),
            "{}\n{}{}\n{pipeline}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs `pipeline`, however it ends.
    pub(crate) fn try_run(&self, pipeline: &str) -> Output {
        let pipelines = self.path().join("pipelines");
        fs::create_dir_all(&pipelines).expect("a folder for pipelines");
        fs::write(pipelines.join("it.yaml"), pipeline).expect("a pipeline file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
        for name in [
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        command
            .args(["run", "it"])
            .current_dir(self.path())
            .env("XDG_STATE_HOME", self.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .expect("gleaner starts")
    }

    /// The rows of a CSV file, its header first.
    pub(crate) fn csv(&self, path: &str) -> Vec<Vec<String>> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(self.path().join(path))
            .expect("the CSV file is there")
            .records()
            .map(|row| {
                row.expect("well-formed CSV")
                    .iter()
                    .map(str::to_owned)
                    .collect()
            })
            .collect()
    }

    /// The records of an NDJSON file.
    pub(crate) fn ndjson(&self, path: &str) -> Vec<Value> {
        fs::read_to_string(self.path().join(path))
            .expect("the NDJSON file is there")
            .lines()
            .map(|line| serde_json::from_str(line).expect("one JSON value a line"))
            .collect()
    }
}

/// Compares row by row, so that a failure shows one row and not a thousand.
pub(crate) fn assert_rows<T: PartialEq + std::fmt::Debug>(got: &[T], expected: &[T]) {
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got, expected, "row {n}");
    }
    assert_eq!(got.len(), expected.len(), "number of rows");
}
