//! Tokens on real sockets: processes that share one that changes, deaths between two steps, disks that take
//! nothing; and the files and the way out that a source names: secrets, TLS, proxies.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::scene::{Project, Reply, Said, Server};
use super::secrets::{CANARY, clean, clean_files, runs_clean};

/// What a server of changing tokens knows.
#[derive(Debug, Default)]
struct Books {
    /// How often each refresh token came.
    used: HashMap<String, usize>,
    /// The refresh token that is good.
    refresh: String,
    /// The access token that is good.
    access: String,
    given: usize,
    pages: usize,
    /// Access tokens are taken back when so many pages were asked for.
    takes_back: Vec<usize>,
    /// Pages wait while it is set.
    holds: bool,
}

#[derive(Clone, Default)]
struct Api {
    books: Arc<(Mutex<Books>, Condvar)>,
}

impl Api {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.0.lock().expect("no panic")
    }

    /// `/token` changes tokens, all else asks for one.
    fn start(&self) -> Server {
        self.books().refresh = String::from("refresh-0");
        let api = self.clone();
        Server::start(move |request| api.answer(request))
    }

    fn answer(&self, request: &str) -> Reply {
        let mut books = self.books();
        if request.starts_with("POST /token ") {
            let form = request.rsplit("\r\n\r\n").next().unwrap_or_default();
            let mut form = url::form_urlencoded::parse(form.as_bytes());
            let sent = form.find(|(name, _)| name == "refresh_token");
            let sent = sent
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default();
            *books.used.entry(sent.clone()).or_default() += 1;
            if sent != books.refresh {
                return Reply::new(400, r#"{"error":"invalid_grant"}"#);
            }
            books.given += 1;
            let (access, refresh) = (
                format!("access-{}", books.given),
                format!("refresh-{}", books.given),
            );
            (books.access, books.refresh) = (access.clone(), refresh.clone());
            return Reply::json(format!(
                r#"{{"access_token":"{access}","token_type":"bearer","expires_in":3600,"refresh_token":"{refresh}"}}"#
            ));
        }
        let good = format!("authorization: Bearer {}\r\n", books.access);
        if books.access.is_empty() || !request.contains(&good) {
            return Reply::new(401, "{}");
        }
        books.pages += 1;
        if books.takes_back.contains(&books.pages) {
            books.access.clear();
        }
        self.books.1.notify_all();
        while books.holds {
            books = self.books.1.wait(books).expect("no panic");
        }
        Reply::json(r#"[{"id":1}]"#)
    }

    /// Every refresh token came once.
    #[track_caller]
    fn each_once(&self, at_least: usize) {
        let books = self.books();
        assert!(books.used.len() >= at_least, "{:?}", books.used);
        let more: Vec<_> = books.used.iter().filter(|(_, times)| **times > 1).collect();
        assert!(more.is_empty(), "used again: {more:?}");
    }
}

fn pipeline(server: &Server, pages: usize) -> String {
    format!(
        "source:
  url: {0}
  limits: none
  concurrency: 4
  auth: {{ oauth2: {{ refresh_token: {{ url: '{0}/token', id: me, token: '{{{{ secret.TOKEN }}}}' }} }} }}
streams:
  items:
    for: {{ n: {{ range: [1, {pages}] }} }}
    get: /items/{{{{ n }}}}
sink: {{ csv: data/items.csv }}
",
        server.url()
    )
}

fn start(project: &Project, state: &Path, token: &str) -> Child {
    project
        .command(&["run", "items"])
        .env("GLEANER_STATE_DIR", state)
        .env("TOKEN", token)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

#[track_caller]
fn ends_well(child: Child) {
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn run(project: &Project, state: &Path, token: &str) -> Said {
    let state = state.to_str().expect("a path");
    project.run_with(
        &["run", "items"],
        &[("GLEANER_STATE_DIR", state), ("TOKEN", token)],
    )
}

#[test]
fn processes_share_one_token_and_none_is_used_twice() {
    let api = Api::default();
    let server = api.start();
    api.books().takes_back = vec![1, 40, 80, 120, 160, 200];
    let state = tempfile::tempdir().expect("a folder");
    let projects: Vec<_> = (0..3)
        .map(|_| Project::new(&pipeline(&server, 80)))
        .collect();
    let children: Vec<_> = projects
        .iter()
        .map(|project| start(project, state.path(), "refresh-0"))
        .collect();
    for child in children {
        ends_well(child);
    }
    api.each_once(7);
    // A later process finds a token that is still good, and asks for none.
    let given = api.books().given;
    let later = Project::new(&pipeline(&server, 10));
    assert_eq!(run(&later, state.path(), "refresh-0").code, Some(0));
    assert_eq!(api.books().given, given);
    // The folder is the user's own, and so is all in it.
    let folder = state.path().join("tokens");
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&folder), 0o700);
    for entry in fs::read_dir(&folder).expect("a folder") {
        assert_eq!(mode(&entry.expect("an entry").path()), 0o600);
    }
}

#[test]
fn a_token_that_came_before_a_death_is_there_after_it() {
    let api = Api::default();
    let server = api.start();
    let state = tempfile::tempdir().expect("a folder");
    let project = Project::new(&pipeline(&server, 40));
    api.books().holds = true;
    let mut child = start(&project, state.path(), "refresh-0");
    let mut books = api.books();
    while books.pages == 0 {
        books = api.books.1.wait(books).expect("no panic");
    }
    drop(books);
    // Between the first use of the new token and all that would follow.
    child.kill().expect("it was alive");
    child.wait().expect("it is dead");
    {
        let mut books = api.books();
        books.holds = false;
        books.access.clear();
        api.books.1.notify_all();
    }
    let said = run(&project, state.path(), "refresh-0");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    api.each_once(2);
}

#[test]
fn a_first_token_that_is_set_anew_wins() {
    let api = Api::default();
    let server = api.start();
    let state = tempfile::tempdir().expect("a folder");
    let project = Project::new(&pipeline(&server, 4));
    assert_eq!(run(&project, state.path(), "refresh-0").code, Some(0));
    {
        // Somebody authorized anew: what was kept is worth nothing.
        let mut books = api.books();
        books.refresh = String::from("new-by-hand");
        books.access.clear();
    }
    let said = run(&project, state.path(), "refresh-0");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("authorize anew"), "{}", said.stderr);
    let said = run(&project, state.path(), "new-by-hand");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn a_token_that_cannot_be_kept_is_not_used() {
    let api = Api::default();
    let server = api.start();
    let project = Project::new(&pipeline(&server, 4));
    // No folder can be made where a file is.
    let state = tempfile::tempdir().expect("a folder");
    fs::write(state.path().join("tokens"), "").expect("written");
    let said = run(&project, state.path(), "refresh-0");
    assert_eq!(said.code, Some(73), "{}", said.stderr);
    assert_eq!(server.heard().len(), 0);
    fs::remove_file(state.path().join("tokens")).expect("removed");
    assert_eq!(run(&project, state.path(), "refresh-0").code, Some(0));
    // What makes no sense is not taken for nothing: the first token would look stolen.
    let kept = fs::read_dir(state.path().join("tokens")).expect("a folder");
    let mut kept = kept.map(|entry| entry.expect("an entry").path());
    let kept = kept.find(|path| path.extension().is_some_and(|e| e == "token"));
    fs::write(kept.expect("it is kept"), "{\"version\":").expect("written");
    let said = run(&project, state.path(), "refresh-0");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("is damaged"), "{}", said.stderr);
    api.each_once(1);
}

#[test]
fn previews_and_probes_carry_tokens_and_keep_them() {
    let api = Api::default();
    let server = api.start();
    let state = tempfile::tempdir().expect("a folder");
    let project = Project::new(&pipeline(&server, 4));
    let state = state.path().to_str().expect("a path");
    let env = [("GLEANER_STATE_DIR", state), ("TOKEN", "refresh-0")];
    for args in [
        &["preview", "items"][..],
        &["plan", "items", "--probe"],
        &["run", "items"],
    ] {
        let said = project.run_with(args, &env);
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.shown);
        api.books().access.clear();
    }
    api.each_once(3);
    // Nothing is sent by a plan, so nothing need be set.
    let heard = server.heard().len();
    let said = project.run_with(&["plan", "items"], &[("GLEANER_STATE_DIR", state)]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert_eq!(server.heard().len(), heard);
    // A run says which one is missing.
    let said = project.run_with(&["run", "items"], &[("GLEANER_STATE_DIR", state)]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(said.stderr.contains("TOKEN is not set"), "{}", said.stderr);
}

#[test]
fn a_run_goes_on_with_another_token() {
    let broken = Arc::new(Mutex::new(true));
    let (is_broken, given) = (Arc::clone(&broken), Arc::new(Mutex::new(0)));
    let server = Server::start(move |request| {
        if request.starts_with("POST /token ") {
            let mut given = given.lock().expect("no panic");
            *given += 1;
            return Reply::json(format!(
                r#"{{"access_token":"run-token-{given}","token_type":"bearer"}}"#
            ));
        }
        if request.starts_with("GET /items/3 ") && *is_broken.lock().expect("no panic") {
            return Reply::new(500, "{}");
        }
        Reply::json(r#"[{"id":1}]"#)
    });
    let yaml = pipeline(&server, 3)
        .replace("refresh_token: {", "client_credentials: {")
        .replace(
            "token: '{{ secret.TOKEN }}'",
            "secret: '{{ secret.TOKEN }}'",
        )
        .replace("concurrency: 4", "concurrency: 1\n  retry: { attempts: 1 }");
    let project = Project::new(&yaml);
    let state = tempfile::tempdir().expect("a folder");
    let said = run(&project, state.path(), "s-e-c-r-e-t");
    assert_eq!(said.code, Some(75), "{}", said.stderr);
    *broken.lock().expect("no panic") = false;
    let said = run(&project, state.path(), "another-secret");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let heard = server.heard();
    let asked = |page: &str| heard.iter().filter(|r| r.starts_with(page)).count();
    assert_eq!((asked("GET /items/1 "), asked("GET /items/3 ")), (1, 2));
    for file in project.files() {
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned();
        assert!(!text.contains("run-token"), "{}", file.display());
    }
}

// ---- canaries --------------------------------------------------------------------------------

/// How the canary becomes a token; `URL` is the server.
const GRANTS: [&str; 4] = [
    "oauth2: { client_credentials: { url: 'URL/token', id: me, secret: another } }",
    "oauth2: { refresh_token: { url: 'URL/token', id: me, token: first-token } }",
    "login: { post: /token, token: access_token, as: { query: { session: '{{ token }}' } } }",
    "jwt: { url: 'URL/token', key: shared-secret, alg: HS256 }",
];

fn with(server: &Server, auth: &str) -> Project {
    let auth = auth.replace("URL", &server.url());
    Project::new(&format!(
        "source:\n  url: {}\n  limits: none\n  retry: {{ attempts: 1 }}\n  auth: {{ {auth} }}\nstreams:\n  items:\n    get: /items\n    records: items\n    pages: {{ next: next }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    ))
}

#[test]
fn no_failure_shows_a_token_that_was_given() {
    for auth in GRANTS {
        for status in [200, 400, 403, 500] {
            let server = Server::start(move |request| {
                if request.starts_with("POST /token ") {
                    return Reply::json(
                        serde_json::json!({
                            "access_token": CANARY, "token_type": "bearer",
                            "refresh_token": format!("{CANARY}{CANARY}"),
                        })
                        .to_string(),
                    );
                }
                let body = serde_json::json!({ "message": request, "error": CANARY });
                Reply::new(status, body.to_string())
            });
            let project = with(&server, auth);
            let said = runs_clean(&project, &["run", "items", "-v"]);
            assert_ne!(said.code, Some(0), "{}", said.shown);
            assert!(server.heard().len() >= 2, "{}", said.shown);
            // A next address with the token in it: the page is kept without it.
            runs_clean(&project, &["run", "items", "--json"]);
        }
    }
}

#[test]
fn no_failure_of_a_token_endpoint_shows_what_it_was_sent() {
    let auths = [
        "oauth2: { client_credentials: { url: 'URL/token', id: me, secret: '{{ secret.CANARY }}' } }",
        "oauth2: { client_credentials: { url: 'URL/token', id: me, secret: '{{ secret.CANARY }}', in: body } }",
        "oauth2: { refresh_token: { url: 'URL/token', id: me, token: '{{ secret.CANARY }}' } }",
        "login: { post: /token, body: { json: { password: '{{ secret.CANARY }}' } }, token: t }",
        "login: { post: /token, auth: { basic: { user: me, password: '{{ secret.CANARY }}' } }, token: t }",
        "jwt: { url: 'URL/token', key: '{{ secret.CANARY }}', alg: HS256 }",
    ];
    for auth in auths {
        for (status, error) in [
            (400, "error"),
            (200, "error"),
            (401, "message"),
            (500, "detail"),
        ] {
            let server = Server::start(move |request| {
                let body = serde_json::json!({ error: request, "error_description": request });
                Reply::new(status, body.to_string())
            });
            let project = with(&server, auth);
            let said = runs_clean(&project, &["run", "items", "-v"]);
            assert_ne!(said.code, Some(0), "{auth}: {}", said.shown);
            assert!(
                server.heard().iter().all(|r| r.starts_with("POST /token ")),
                "nothing is asked for without a token"
            );
            // What is sent in the place of the secret is hidden too: a coded pair, a statement.
            let sent = &server.heard()[0];
            let marks = sent.lines().filter_map(|line| {
                line.strip_prefix("authorization: Basic ")
                    .or_else(|| line.split("assertion=").nth(1))
            });
            for mark in marks {
                assert!(!said.shown.contains(mark), "{mark}: {}", said.shown);
            }
        }
    }
}

// ---- files and ways out ----------------------------------------------------------------------

#[test]
fn a_file_of_secrets_is_read_if_nobody_else_can() {
    let server = Server::says(Reply::json("[]"));
    let yaml = format!(
        "source: {{ url: {}, limits: none, secrets: keys/api.env, auth: {{ bearer: '{{{{ secret.CANARY }}}}' }} }}\nstreams: {{ items: {{ get: /items }} }}\nsink: {{ csv: data/items.csv }}\n",
        server.url()
    );
    let project = Project::new(&yaml);
    project.write(".env", "CANARY=from-dot-env\n");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.stderr.contains("cannot read the file of secrets"),
        "{}",
        said.shown
    );
    project.write("keys/api.env", &format!("CANARY='{CANARY}'\n"));
    let file = project.path().join("keys/api.env");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    assert!(
        said.stderr.contains("(mode 0640)") && said.stderr.contains("chmod 600"),
        "{}",
        said.shown
    );
    assert_eq!(server.heard().len(), 0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    let said = project.run(&["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    assert!(
        server.heard()[0].contains(CANARY),
        "the file is before .env"
    );
    let files: Vec<_> = project.files().into_iter().filter(|f| *f != file).collect();
    clean_files(project.path(), &files);
    // The environment is before both.
    project.run_with(&["run", "items"], &[("CANARY", "from-outside")]);
    assert!(server.heard()[1].contains("Bearer from-outside"));
}

#[test]
fn everything_goes_through_the_proxy_that_the_source_names() {
    let proxy = Server::says(Reply::json("[]"));
    let to = proxy
        .url()
        .replace("http://", "http://me:{{ secret.CANARY }}@");
    let yaml = format!(
        "source: {{ url: 'http://api.gleaner.invalid', limits: none, proxy: '{to}' }}\nstreams: {{ items: {{ get: /items }} }}\nsink: {{ csv: data/items.csv }}\n"
    );
    let project = Project::new(&yaml);
    let said = runs_clean(&project, &["run", "items"]);
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let heard = proxy.heard();
    assert!(
        heard[0].starts_with("GET http://api.gleaner.invalid/items "),
        "{}",
        heard[0]
    );
    assert!(
        heard[0].contains("proxy-authorization: Basic "),
        "{}",
        heard[0]
    );
    // One that is not there is a failure, and shows no password.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = closed.local_addr().expect("an address").port();
    drop(closed);
    let yaml = yaml.replace(&proxy.address.port().to_string(), &gone.to_string());
    let yaml = yaml.replace("limits: none", "limits: none, retry: { attempts: 1 }");
    let said = runs_clean(&Project::new(&yaml), &["run", "items", "-v"]);
    assert_eq!(said.code, Some(75), "{}", said.shown);
    // So is one that cannot be read.
    let yaml = yaml.replace(&format!("@127.0.0.1:{gone}"), "@127.0.0.1:port");
    let said = runs_clean(&Project::new(&yaml), &["run", "items", "-v"]);
    assert_eq!(said.code, Some(2), "{}", said.shown);
    clean("standard error", &said.stderr);
}
