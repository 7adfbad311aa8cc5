//! Faults 22 and 24: certificates that do not hold, handshakes that break, and HTTP/2 streams
//! that end before their time. The server writes HTTP/2 frames by hand (RFC 9113 section 4), since
//! a library would not misbehave.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::sockets::{complete, project, serve};
use crate::scene::Said;

fn certs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/certs")
        .join(file)
}

/// What a server proves itself with: a certificate of the tests' own authority.
fn config(certificate: &str, protocol: &str) -> Arc<ServerConfig> {
    let chain = CertificateDer::from_pem_file(certs(certificate)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(certs("server.key")).expect("a key");
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("they belong together");
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

/// Runs a pipeline against a port of localhost, trusting the tests' authority.
fn run(address: SocketAddr, stream: &str) -> (crate::scene::Project, Said) {
    let project = project(&format!("https://localhost:{}", address.port()), stream);
    let authority = certs("authority.pem");
    let said = project.run_with(
        &["run", "items"],
        &[("SSL_CERT_FILE", authority.to_str().expect("a path"))],
    );
    (project, said)
}

/// HTTP/1.1 over TLS: two records to each who asks.
fn plain(certificate: &str, breaks: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let config = config(certificate, "http/1.1");
    let came = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&came);
    let address = serve(move |n, mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        if n < breaks {
            // In the middle of the client's hello.
            return stream.read_exact(&mut [0; 20]);
        }
        let tls = ServerConnection::new(Arc::clone(&config)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(tls, stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 19\r\n\r\n[{\"id\":1},{\"id\":2}]",
        )?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    (address, came)
}

#[test]
fn f24_certificates_that_do_not_hold_are_fatal_and_say_why() {
    let (address, _) = plain("trusted.pem", 0);
    let (project, said) = run(address, "get: /items");
    complete(&project, &said, 2);

    for (certificate, cause) in [
        ("expired.pem", "the server's certificate has expired"),
        ("elsewhere.pem", "elsewhere.test"),
    ] {
        let (address, came) = plain(certificate, 0);
        let (project, said) = run(address, "get: /items");
        assert_eq!(said.code, Some(1), "{certificate}: {}", said.shown);
        project.is_untouched();
        assert!(
            said.stderr.contains("no secure connection to"),
            "{}",
            said.shown
        );
        assert!(said.stderr.contains(cause), "{}", said.shown);
        assert_eq!(came.load(Ordering::SeqCst), 1, "{certificate}: tried again");
    }
}

#[test]
fn f24_a_handshake_that_breaks_is_tried_again() {
    let (address, came) = plain("trusted.pem", 1);
    let (project, said) = run(address, "get: /items");
    complete(&project, &said, 2);
    assert_eq!(came.load(Ordering::SeqCst), 2);

    let (address, came) = plain("trusted.pem", usize::MAX);
    let (project, said) = run(address, "get: /items");
    assert_eq!(said.code, Some(75), "{}", said.shown);
    project.is_untouched();
    assert_eq!(came.load(Ordering::SeqCst), 3, "as often as allowed");
}

// ---- 22 --------------------------------------------------------------------------------------

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame: length, type, flags, stream and payload (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `:status: 200`, which is entry 8 of HPACK's static table (RFC 7541 appendix A).
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &[0x88])
}

/// What becomes of the second request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Refused,
    GoAway,
    Midway,
}

/// HTTP/2 over TLS: three pages by token, in the order of asking; the second request of all ends
/// as told. Gives the number of requests.
fn second_ends(end: End) -> (SocketAddr, Arc<AtomicUsize>) {
    let config = config("trusted.pem", "h2");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let answered = AtomicUsize::new(0);
    let address = serve(move |_, stream| {
        let tls = ServerConnection::new(Arc::clone(&config)).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(tls, stream);
        stream.read_exact(&mut [0; 24])?; // The preface (RFC 9113 section 3.4).
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            let [high, middle, low, kind, flags, stream_id @ ..] = head;
            let length = u32::from_be_bytes([0, high, middle, low]);
            stream.read_exact(&mut vec![0; length as usize])?;
            let id = u32::from_be_bytes(stream_id);
            if kind == SETTINGS && flags & ACK == 0 {
                stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
            }
            if kind != HEADERS {
                continue;
            }
            if counted.fetch_add(1, Ordering::SeqCst) == 1 {
                match end {
                    End::Refused => {
                        stream.write_all(&frame(RST_STREAM, 0, id, &7_u32.to_be_bytes()))?;
                    }
                    End::GoAway => {
                        // The last one that was looked at is the one before.
                        let mut last = id.saturating_sub(2).to_be_bytes().to_vec();
                        last.extend(0_u32.to_be_bytes());
                        stream.write_all(&frame(GOAWAY, 0, 0, &last))?;
                        stream.conn.send_close_notify();
                        return stream.flush();
                    }
                    End::Midway => {
                        stream.write_all(&ok(id))?;
                        stream.write_all(&frame(DATA, 0, id, b"{\"data\":[{\"id\":3},"))?;
                        stream.write_all(&frame(RST_STREAM, 0, id, &2_u32.to_be_bytes()))?;
                    }
                }
                continue;
            }
            let n = answered.fetch_add(1, Ordering::SeqCst) + 1;
            let next = if n < 3 {
                "\"t\"".replace('t', &n.to_string())
            } else {
                "null".to_owned()
            };
            let body = format!(
                r#"{{"data":[{{"id":{}}},{{"id":{}}}],"next":{next}}}"#,
                2 * n - 1,
                2 * n
            );
            stream.write_all(&ok(id))?;
            stream.write_all(&frame(DATA, END_STREAM, id, body.as_bytes()))?;
        }
    });
    (address, requests)
}

const BY_TOKEN: &str = "get: /items\nrecords: data\npages: { token: { from: next, to: cursor } }";

#[test]
fn f22_a_stream_that_ends_before_its_time_is_asked_for_again() {
    for end in [End::Refused, End::GoAway, End::Midway] {
        let (address, requests) = second_ends(end);
        let (project, said) = run(address, BY_TOKEN);
        complete(&project, &said, 6);
        assert_eq!(requests.load(Ordering::SeqCst), 4, "{end:?}");
    }
}

#[test]
fn f22_what_the_server_never_looked_at_may_be_repeated_always() {
    let stream = format!("{BY_TOKEN}\nonce: true");
    for end in [End::Refused, End::GoAway] {
        let (address, requests) = second_ends(end);
        let (project, said) = run(address, &stream);
        complete(&project, &said, 6);
        assert_eq!(requests.load(Ordering::SeqCst), 4, "{end:?}");
    }
    let (address, requests) = second_ends(End::Midway);
    let (project, said) = run(address, &stream);
    assert_eq!(said.code, Some(1), "{}", said.shown);
    assert!(said.stderr.contains("`once: true`"), "{}", said.shown);
    project.is_untouched();
    assert_eq!(requests.load(Ordering::SeqCst), 2);
}
