//! Against an OAuth 2 server that others wrote: `oidc-provider` on loopback, with client credentials in both
//! places, refresh tokens that change with each use, and statements that it checks with its own library.

use std::process::Command;

use serde_json::{Value, json};

use super::parts::{Project, Server, assert_rows, part};

const RECORDS: usize = 200;

fn provider(project: &Project) -> Server {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/provider.mjs");
    let signer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certs/server.pub");
    Server::start(project.path(), |port| {
        let mut command = Command::new("node");
        command
            .args([script, &port.to_string(), signer])
            .arg(project.path())
            .current_dir(part("node"))
            .env("NODE_ENV", "test");
        assert!(part("node/node_modules/oidc-provider").exists());
        command
    })
}

fn pipeline(server: &Server, auth: &str) -> String {
    let auth = auth.replace("URL", &format!("http://127.0.0.1:{}/token", server.port));
    format!(
        "
about: Items behind a token.
source:
  url: http://127.0.0.1:{}
  limits: [{{ limit: 2000/s }}]
  concurrency: 4
  secrets: secrets.env
  auth: {{ {auth} }}
streams:
  items:
    get: /items
    pages: {{ page: {{ to: page, total: total }} }}
    records: items
    key: id
sink: {{ ndjson: out/items.ndjson }}
",
        server.port
    )
}

/// A file that nobody else may read.
fn private(project: &Project, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = project.path().join(name);
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
}

fn harvests(project: &Project, yaml: &str, by: &str) {
    project.run(yaml);
    let expected: Vec<Value> = (1..=RECORDS)
        .map(|id| json!({ "id": id, "by": by }))
        .collect();
    assert_rows(&project.ndjson("out/items.ndjson"), &expected);
}

#[test]
fn a_real_server_gives_tokens_for_id_and_secret() {
    for (id, place) in [("robot one", "basic"), ("poster", "body")] {
        let project = Project::new();
        let server = provider(&project);
        private(&project, "secrets.env", "SECRET='s e+c/r:e%t'\n");
        let auth = format!(
            "oauth2: {{ client_credentials: {{ url: 'URL', id: '{id}', secret: '{{{{ secret.SECRET }}}}', in: {place} }} }}"
        );
        harvests(&project, &pipeline(&server, &auth), id);
    }
    // The wrong secret: the server's own words, and none of ours.
    let project = Project::new();
    let server = provider(&project);
    private(&project, "secrets.env", "SECRET=not-the-secret\n");
    let auth =
        "oauth2: { client_credentials: { url: 'URL', id: poster, secret: '{{ secret.SECRET }}' } }";
    let output = project.try_run(&pipeline(&server, auth));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("refuses: invalid_client"), "{said}");
    assert!(said.contains("`in: body`"), "{said}");
    assert!(!said.contains("not-the-secret"), "{said}");
}

#[test]
fn a_real_server_changes_refresh_tokens_and_none_is_used_twice() {
    let project = Project::new();
    let server = provider(&project);
    let first = std::fs::read_to_string(project.path().join("first")).expect("the first token");
    let env = format!("SECRET='s e+c/r:e%t'\nTOKEN={first}\n");
    private(&project, "secrets.env", &env);
    let auth = "oauth2: { refresh_token: { url: 'URL', id: somebody, secret: '{{ secret.SECRET }}', token: '{{ secret.TOKEN }}' } }";
    // The server takes a token back after each twenty pages, and a grant whose refresh token
    // comes again: three runs end well, each with the tokens that the one before has left.
    for _ in 0..3 {
        harvests(&project, &pipeline(&server, auth), "somebody");
    }
    // Without what was kept, the first token comes again, and the server knows it.
    let state = project.path().join("state/gleaner/tokens");
    std::fs::remove_dir_all(&state).expect("tokens were kept there");
    let output = project.try_run(&pipeline(&server, auth));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("refuses: invalid_grant"), "{said}");
    assert!(said.contains("authorize anew"), "{said}");
    assert!(!said.contains(first.trim()), "{said}");
}

#[test]
fn a_real_library_accepts_our_signatures() {
    let project = Project::new();
    let server = provider(&project);
    let key = include_str!("../certs/server.key");
    let account = json!({
        "type": "service_account", "client_email": "robot@example.org", "private_key_id": "k",
        "private_key": key,
    });
    private(&project, "account.json", &account.to_string());
    private(&project, "secrets.env", "");
    let auth = "jwt: { url: 'URL', key_file: account.json, form: { client_id: signer } }";
    harvests(&project, &pipeline(&server, auth), "signer");
    // For somebody else.
    let auth = auth.replace(
        "account.json,",
        "account.json, aud: 'https://elsewhere.example',",
    );
    let output = project.try_run(&pipeline(&server, &auth));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("refuses: invalid_grant"), "{said}");
}
