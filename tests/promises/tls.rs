//! What a source says of TLS: an authority of its own, and a certificate to show. The server is rustls on
//! loopback, which checks what it is shown by the library's own rules (RFC 8446, section 4.4).

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::scene::{Project, Said};

fn certs(file: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certs");
    folder.join(file)
}

fn certificate(file: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(certs(file)).expect("a certificate")
}

/// A server of the tests' authority, and the certificate of each client that it answered.
struct Server {
    port: u16,
    shown: Arc<Mutex<Vec<Option<Vec<u8>>>>>,
}

impl Server {
    /// With `asks` it answers nobody who has no certificate of the clients' authority.
    fn start(asks: bool) -> Self {
        let key = PrivateKeyDer::from_pem_file(certs("server.key")).expect("a key");
        let config = ServerConfig::builder();
        let config = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(certificate("clients.pem")).expect("an authority");
            let judge = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            config.with_client_cert_verifier(judge.expect("a judge"))
        } else {
            config.with_no_client_auth()
        };
        let config = config
            .with_single_cert(vec![certificate("trusted.pem")], key)
            .expect("they belong together");
        let (config, shown) = (Arc::new(config), Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let log = Arc::clone(&shown);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who is refused breaks off; the next one is listened to.
                let _ = answer(stream, &config, &log);
            }
        });
        Self { port, shown }
    }

    fn shown(&self) -> Vec<Option<Vec<u8>>> {
        self.shown.lock().expect("no panic").clone()
    }

    /// Runs a pipeline whose source says this of TLS.
    fn run(&self, tls: &str) -> (Project, Said) {
        let project = Project::new(&format!(
            "source:\n  url: https://localhost:{}\n  limits: none\n  retry: {{ attempts: 1 }}\n{tls}\
             streams:\n  items:\n    get: /items\n    key: id\nsink: {{ csv: data/items.csv }}\n",
            self.port
        ));
        for file in ["authority.pem", "clients.pem", "client.pem", "trusted.pem"] {
            project.write(file, &fs::read_to_string(certs(file)).expect("text"));
        }
        for file in ["client.key", "server.key"] {
            let text = fs::read_to_string(certs(file)).expect("text");
            private(&project, file, &text);
        }
        let both =
            ["client.pem", "client.key"].map(|file| fs::read_to_string(certs(file)).expect("text"));
        private(&project, "both.pem", &both.concat());
        let said = project.run(&["run", "items"]);
        (project, said)
    }
}

fn private(project: &Project, file: &str, text: &str) {
    project.write(file, text);
    let mine = fs::Permissions::from_mode(0o600);
    fs::set_permissions(project.path().join(file), mine).expect("its own");
}

type Shown = Mutex<Vec<Option<Vec<u8>>>>;

fn answer(stream: TcpStream, config: &Arc<ServerConfig>, shown: &Shown) -> std::io::Result<()> {
    let tls = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let chain = stream.conn.peer_certificates();
    let first = chain
        .and_then(|chain| chain.first())
        .map(|one| one.to_vec());
    shown.lock().expect("no panic").push(first);
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n[{\"id\":1},{\"id\":2}]",
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn whole(project: &Project, said: &Said) {
    assert_eq!(said.code, Some(0), "{}", said.shown);
    let data = fs::read_to_string(project.path().join("data/items.csv"));
    assert_eq!(data.expect("it was published"), "id\r\n1\r\n2\r\n");
}

fn nothing(project: &Project, said: &Said, says: &str) {
    assert_ne!(said.code, Some(0), "{}", said.shown);
    assert!(said.stderr.contains(says), "{says}: {}", said.shown);
    project.is_untouched();
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let server = Server::start(false);
    let (project, said) = server.run("");
    nothing(&project, &said, "no secure connection to");
    // Another authority vouches for nothing here.
    let (project, said) = server.run("  tls: { ca: clients.pem }\n");
    nothing(&project, &said, "no secure connection to");
    assert_eq!(server.shown().len(), 0, "nobody was answered");
    let (project, said) = server.run("  tls: { ca: authority.pem }\n");
    whole(&project, &said);
    assert_eq!(
        server.shown(),
        [None],
        "nothing was asked for, and nothing shown"
    );
}

#[test]
fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let server = Server::start(true);
    let ours = Some(certificate("client.pem").to_vec());
    for (tls, times) in [
        ("ca: authority.pem, cert: client.pem, key: client.key", 1),
        // One file may hold both.
        ("ca: authority.pem, cert: both.pem, key: both.pem", 2),
    ] {
        let (project, said) = server.run(&format!("  tls: {{ {tls} }}\n"));
        whole(&project, &said);
        assert_eq!(server.shown(), vec![ours.clone(); times], "{tls}");
    }
    // None, and one that the server's judges do not take.
    for tls in [
        "ca: authority.pem",
        "ca: authority.pem, cert: trusted.pem, key: server.key",
    ] {
        let (project, said) = server.run(&format!("  tls: {{ {tls} }}\n"));
        nothing(&project, &said, "localhost");
    }
    assert_eq!(server.shown().len(), 2, "nobody else was answered");
}

#[test]
fn a_key_that_does_not_fit_or_that_others_may_read_stops_the_run() {
    let server = Server::start(true);
    let tls = "  tls: { ca: authority.pem, cert: client.pem, key: server.key }\n";
    let (project, said) = server.run(tls);
    nothing(&project, &said, "source.tls");
    let (project, said) =
        server.run("  tls: { ca: authority.pem, cert: client.pem, key: open.key }\n");
    nothing(&project, &said, "open.key");
    project.write(
        "open.key",
        &fs::read_to_string(certs("client.key")).expect("text"),
    );
    let all = fs::Permissions::from_mode(0o644);
    fs::set_permissions(project.path().join("open.key"), all).expect("changed");
    let said = project.run(&["run", "items"]);
    nothing(&project, &said, "(mode 0644)");
    assert_eq!(server.shown().len(), 0, "nothing was sent");
}
