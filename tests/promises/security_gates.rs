//! Threats S15 to S19 that come with what surrounds a run: TLS, permissions, templates, crates;
//! `security` has the table.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use gleaner::plan::language::Template;
use minijinja::context;

use crate::scene::{Project, Reply, Server};
use crate::secrets::CANARY;
use crate::security::everywhere;
use crate::security_data::{limited, pipeline};

// ---- S15: TLS --------------------------------------------------------------------------------

/// A server that speaks TLS with the certificate of `tests/certs`; gone when dropped.
pub(crate) struct Tls {
    python: Child,
    port: String,
}

impl Tls {
    pub(crate) fn on(address: &str) -> Self {
        let house = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut python = Command::new(house.join("target/real/py/bin/python"))
            .arg(house.join("tests/certs/serve.py"))
            .arg(address)
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/run installs it");
        let mut port = String::new();
        let out = python.stdout.take().expect("piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut port)
            .expect("it says its port");
        let port = port.trim().to_owned();
        Self { python, port }
    }

    pub(crate) fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

#[test]
fn s15_certificates_are_verified_whatever_is_trusted() {
    let certificate = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certs/localhost.pem");
    let trusted = [
        ("SSL_CERT_FILE", certificate.to_str().expect("text")),
        ("CANARY", CANARY),
    ];
    // The control: for its own name and vouched for, the handshake is done and no answer comes.
    let tls = Tls::on("127.0.0.1");
    let at_home = Project::new(&everywhere(&tls.url("127.0.0.1"), ""));
    let said = at_home.run_with(&["run", "items"], &trusted);
    assert_eq!(said.code, Some(75), "{}", said.shown);
    assert!(!said.stderr.contains("certificate"), "{}", said.shown);
    // Not vouched for.
    let said = at_home.run_with(&["run", "items"], &[("CANARY", CANARY)]);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    // For another name.
    let tls = Tls::on("127.0.0.2");
    let elsewhere = Project::new(&everywhere(&tls.url("127.0.0.2"), ""));
    let said = elsewhere.run_with(&["run", "items"], &trusted);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(
        said.stderr.contains("no secure connection"),
        "{}",
        said.shown
    );
}

#[test]
fn s15_nothing_switches_verification_off() {
    let schema = include_str!("../../docs/pipeline.schema.json").to_lowercase();
    let cli = include_str!("../../docs/cli.md").to_lowercase();
    let client = include_str!("../../src/fetch/client.rs");
    for word in ["insecure", "verify", "danger", "skip_tls", "no-check"] {
        assert!(!schema.contains(word), "{word} in the language");
        assert!(
            !cli.contains(&format!("--{word}")),
            "{word} on the command line"
        );
    }
    assert!(
        !client.contains("danger_"),
        "the HTTP client's own switches"
    );
}

// ---- S16: permissions ------------------------------------------------------------------------

#[cfg(unix)]
mod permissions {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// Modes of everything below a folder, itself included.
    fn modes(folder: &Path, into: &mut BTreeMap<PathBuf, (bool, u32)>) {
        let Ok(about) = std::fs::symlink_metadata(folder) else {
            return;
        };
        into.insert(
            folder.to_owned(),
            (about.is_dir(), about.permissions().mode() & 0o777),
        );
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            modes(&entry.path(), into);
        }
    }

    #[test]
    fn s16_what_a_run_keeps_is_its_users_alone() {
        for (umask, output, folder) in [
            ("000", 0o666, 0o777),
            ("022", 0o644, 0o755),
            ("077", 0o600, 0o700),
        ] {
            let seen: Arc<Mutex<BTreeMap<PathBuf, (bool, u32)>>> = Arc::default();
            let place: Arc<Mutex<Option<PathBuf>>> = Arc::default();
            let (log, root) = (Arc::clone(&seen), Arc::clone(&place));
            let server = Server::start(move |request| {
                let root = root.lock().expect("the place").clone().expect("set");
                for private in [".gleaner", "state"] {
                    modes(&root.join(private), &mut log.lock().expect("the log"));
                }
                Reply::json(if request.contains("page=1") {
                    "[{\"id\":1}]"
                } else {
                    "[]"
                })
            });
            let text = pipeline(&server.url())
                .replace("limits: none", "limits: [1000/s]")
                .replace(
                    "    get: /items",
                    "    get: /items\n    pages: { page: { to: page } }",
                )
                .replace("data/items.csv", "data/new/items.csv");
            let project = Project::new(&text);
            *place.lock().expect("the place") = Some(project.path().to_owned());
            let said = limited(&project, &format!("umask {umask}"), &["run", "items"]);
            assert_eq!(said.code, Some(0), "{}", said.shown);
            for private in [".gleaner", "state"] {
                modes(
                    &project.path().join(private),
                    &mut seen.lock().expect("the log"),
                );
            }
            let seen = seen.lock().expect("the log");
            let of = |name: &str| {
                seen.keys()
                    .any(|path| path.to_string_lossy().contains(name))
            };
            assert!(of(".part") && of("/state/"), "during the run: {seen:?}");
            for (path, (is_folder, mode)) in seen.iter() {
                let wanted = if *is_folder { 0o700 } else { 0o600 };
                assert_eq!(*mode, wanted, "{:o}: {}", mode, path.display());
            }
            let mut made = BTreeMap::new();
            modes(&project.path().join("data/new"), &mut made);
            for (path, (is_folder, mode)) in made {
                let wanted = if is_folder { folder } else { output };
                assert_eq!(
                    mode,
                    wanted,
                    "umask {umask}, {:o}: {}",
                    mode,
                    path.display()
                );
            }
        }
    }
}

// ---- S17: templates --------------------------------------------------------------------------

#[test]
fn s17_templates_neither_escape_nor_run_away() {
    let names = context! { v => "00123", text => "x".repeat(1000), list => vec!["a"; 1000] };
    let refused = |written: &str| match Template::parse(written) {
        Err(_) => true,
        Ok(template) => template.value(&names).is_err() && template.text(&names).is_err(),
    };
    for written in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
        "{{ text * 1000000000 }}",
        "{{ list * 1000000000 }}",
        "{{ range(1000000000) }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends '/etc/passwd' %}",
        "{{ debug() }}",
        "{{ open('/etc/passwd') }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ v.__init__.__globals__ }}",
        "{{ v | attr('__class__') | upper }}",
        "{{ lipsum.__globals__ }}",
        "{{ gone }}",
        "{{ v.gone.more }}",
    ] {
        assert!(refused(written), "{written}");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(Template::parse(&deep).is_err(), "deep");
    // What looks like a number is none until somebody says so.
    let value = Template::parse("{{ v }}").expect("parses").value(&names);
    assert_eq!(value.expect("a value").as_str(), Some("00123"));
}
// ---- S19: crates -----------------------------------------------------------------------------

#[test]
fn s19_the_gate_for_crates_stands() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: &str| std::fs::read_to_string(house.join(path)).expect(path);
    assert!(text("Cargo.lock").contains("name = \"gleaner\""));
    let ci = text(".ci/run");
    for step in ["step deny\n", "step deny_denies\n", "cargo fetch --locked"] {
        assert!(ci.contains(step), "{step}");
    }
    let rules = text("deny.toml");
    for rule in [
        "unknown-registry = \"deny\"",
        "unknown-git = \"deny\"",
        "yanked = \"deny\"",
        "wildcards = \"deny\"",
    ] {
        assert!(rules.contains(rule), "{rule}");
    }
    // A second look at what the rules ban, without the tool.
    let lock = text("Cargo.lock");
    for banned in ["openssl-sys", "native-tls", "serde_yaml", "serde_yml"] {
        assert!(rules.contains(&format!("crate = \"{banned}\"")), "{banned}");
        assert!(
            !lock.contains(&format!("name = \"{banned}\"\n")),
            "{banned}"
        );
    }
    // Floors of crates with holes that were closed: h2 (RUSTSEC-2026-0258), fixed in 0.4.16.
    let (_, h2) = lock
        .split_once("name = \"h2\"\nversion = \"0.4.")
        .expect("h2 0.4");
    let patch: u32 = h2
        .split('"')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(patch >= 16, "h2 0.4.{patch}");
}
