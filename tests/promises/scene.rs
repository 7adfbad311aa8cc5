//! A project folder, small servers that answer anything, and what the program said: the ground
//! for tests of the real binary.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// What stands at the target before every run: it must still stand there after a failed one.
pub(crate) const OLD: &str = "id\r\nold\r\n";

/// A project in a temporary folder.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    /// What to replace in output by what.
    redact: Vec<(String, String)>,
}

impl Project {
    /// A project with one pipeline, `items`, and the output of an earlier run.
    pub(crate) fn new(pipeline: &str) -> Self {
        let project = Self {
            folder: tempfile::tempdir().expect("a folder"),
            redact: Vec::new(),
        };
        project.write("pipelines/items.yaml", pipeline);
        project.write("data/items.csv", OLD);
        project
    }

    /// Hides a server's port in what is shown.
    pub(crate) fn knows(mut self, server: &Server) -> Self {
        let port = server.address.port();
        let n = self.redact.len();
        let name = ["[port]", "[other port]"][n.min(1)];
        self.redact.push((format!(":{port}"), format!(":{name}")));
        self
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// The program, about to start here.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gleaner"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            // No test needs the system's authorities, and reading them all takes its time.
            .env("SSL_CERT_FILE", authority())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, &[])
    }

    /// Runs the program with environment variables.
    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let output = self
            .command(args)
            .envs(env.iter().copied())
            .output()
            .expect("the program starts");
        self.said(args, &output)
    }

    /// What the program said, made the same for every run.
    pub(crate) fn said(&self, args: &[&str], output: &Output) -> Said {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked"), "{stderr}");
        let mut shown = format!("$ gleaner {}\n", args.join(" "));
        for (name, text) in [("stdout", &stdout), ("stderr", &stderr)] {
            if !text.is_empty() {
                let _ = writeln!(shown, "--- {name}");
                // How often progress is told depends on the time a run takes.
                let lines = text.split_inclusive('\n');
                shown.extend(lines.filter(|line| !line.starts_with("items  ")));
            }
        }
        let code = output.status.code();
        let _ = write!(shown, "--- exit code {}", code.unwrap_or(-1));
        let mut shown = shown.replace(&self.path().display().to_string(), "[project]");
        for (what, by) in &self.redact {
            shown = shown.replace(what, by);
        }
        // A run's folder is named by the time.
        if let Some((before, after)) = shown.split_once(".gleaner/runs/") {
            let id = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            shown = format!(
                "{before}.gleaner/runs/[run]{}",
                &after[id.unwrap_or(after.len())..]
            );
        }
        Said {
            code,
            stdout,
            stderr,
            shown: times_hidden(&shown),
        }
    }

    /// Every file of the project, hidden ones included.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The old output stands as it was, alone: nothing half-written beside it. What a next run would
    /// go on with may be kept.
    pub(crate) fn is_untouched(&self) {
        let data = std::fs::read_to_string(self.path().join("data/items.csv"));
        assert_eq!(data.expect("the old output"), OLD);
        let left: Vec<_> = self
            .files()
            .into_iter()
            .map(|file| file.strip_prefix(self.path()).expect("inside").to_owned())
            .filter(|file| file.starts_with("data"))
            .collect();
        assert_eq!(left, [Path::new("data/items.csv")]);
    }
}

/// An authority that vouches for no server here.
fn authority() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certs/other.pem")
}

/// What one start of the program came to.
pub(crate) struct Said {
    /// The exit code, if it was not killed.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// All of it, with ports, paths and times hidden: for snapshots.
    pub(crate) shown: String,
}

/// Measured times differ from run to run: seconds and parts of them are written `[time]`.
fn times_hidden(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[at..]
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .map_or(rest.len(), |end| at + end);
        let unit = rest[digits..]
            .find(|c: char| !c.is_alphabetic())
            .map_or(rest.len(), |end| digits + end);
        let whole_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '/');
        if whole_word && ["ms", "s", "us", "µs"].contains(&&rest[digits..unit]) {
            shown.push_str(&rest[..at]);
            shown.push_str("[time]");
        } else {
            shown.push_str(&rest[..unit]);
        }
        rest = &rest[unit..];
    }
    shown.push_str(rest);
    // Jitter may be next to nothing.
    shown.replace("again now", "again in [time]")
}

/// An answer: status line and headers in short, and a body.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    /// An answer with JSON in it.
    pub(crate) fn json(body: impl Into<String>) -> Self {
        Self::new(200, body).header("content-type", "application/json")
    }

    /// An answer.
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// With another token for the next page.
    pub(crate) fn with_next(mut self, token: usize) -> Self {
        let at = self.body.find("\"next\":").expect("a token");
        self.body = format!("{}\"next\":{token}}}", &self.body[..at]);
        self
    }

    /// With one header more.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", self.status);
        if !self
            .headers
            .iter()
            .any(|(name, _)| *name == "content-length")
        {
            let _ = write!(head, "content-length: {}\r\n", self.body.len());
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head.push_str(&self.body);
        head.into_bytes()
    }
}

/// A server on loopback that keeps every byte it is sent.
#[derive(Clone)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request, given whole as text with its target, by `answer`.
    pub(crate) fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self {
            address: listener.local_addr().expect("an address"),
            heard: Arc::default(),
        };
        let (heard, answer) = (server.heard.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (heard, answer) = (heard.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream?);
                    let mut request = String::new();
                    let mut length = 0;
                    while reader.read_line(&mut request)? > 2 {
                        let line = request.lines().last().unwrap_or_default();
                        if let Some(value) =
                            line.to_ascii_lowercase().strip_prefix("content-length:")
                        {
                            length = value.trim().parse().unwrap_or(0);
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body)?;
                    request.push_str(&String::from_utf8_lossy(&body));
                    if !request.is_empty() {
                        heard.lock().expect("the log").push(request.clone());
                        reader.get_mut().write_all(&answer(&request).bytes())?;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        server
    }

    /// Always the same answer.
    pub(crate) fn says(reply: Reply) -> Self {
        let reply = Mutex::new(reply);
        Self::start(move |_| {
            let reply = reply.lock().expect("the reply");
            Reply {
                status: reply.status,
                headers: reply.headers.clone(),
                body: reply.body.clone(),
            }
        })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, whole.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("the log").clone()
    }
}

/// What an output holds, but for the run that a Parquet file names in its footer: two runs that found the same
/// differ in that alone (docs/design.md, P4).
pub(crate) fn but_the_run(mut bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.starts_with(b"PAR1") {
        return bytes;
    }
    let key = b"gleaner.run";
    let found = bytes.windows(key.len()).rposition(|part| part == key);
    // After the key stand the kind of the value, its length and its text (Thrift's compact protocol).
    let at = found.expect("a Parquet file names its run") + key.len() + 2;
    let end = at + usize::from(bytes[at - 1]);
    bytes[at..end].fill(b'?');
    bytes
}
