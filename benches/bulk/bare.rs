//! (a): a bare hyper client that fetches pages and writes their bytes to a file.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// `bare URL_PREFIX PAGES IN_FLIGHT OUT`
pub(crate) fn main(arguments: &[String]) {
    let url: http::Uri = arguments[0].parse().expect("a URL");
    let pages: usize = arguments[1].parse().expect("a count");
    let in_flight: usize = arguments[2].parse().expect("a count");
    let out = Arc::new(Mutex::new(File::create(&arguments[3]).expect("a file")));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let next = Arc::new(AtomicUsize::new(1));
        let tasks: Vec<_> = (0..in_flight)
            .map(|_| tokio::spawn(work(url.clone(), next.clone(), pages, out.clone())))
            .collect();
        for task in tasks {
            task.await.expect("a worker");
        }
    });
    // Gleaner's file is on the disk when it says so; the floor is for the same job.
    out.lock()
        .expect("the file")
        .sync_data()
        .expect("brought to the disk");
}

async fn work(url: http::Uri, next: Arc<AtomicUsize>, pages: usize, out: Arc<Mutex<File>>) {
    let authority = url.authority().expect("a host").to_string();
    let path = url.path_and_query().expect("a path").to_string();
    let stream = TcpStream::connect(&authority).await.expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    tokio::spawn(connection);
    loop {
        let page = next.fetch_add(1, Ordering::Relaxed);
        if page > pages {
            return;
        }
        let request = http::Request::get(format!("{path}{page}"))
            .header("host", &authority)
            .body(Empty::<Bytes>::new())
            .expect("a request");
        let answer = sender.send_request(request).await.expect("an answer");
        assert!(answer.status().is_success());
        let body = answer.into_body().collect().await.expect("a body");
        let mut pieces = body.aggregate();
        let mut out = out.lock().expect("the file");
        while bytes::Buf::has_remaining(&pieces) {
            let piece = bytes::Buf::chunk(&pieces);
            out.write_all(piece).expect("written");
            let length = piece.len();
            bytes::Buf::advance(&mut pieces, length);
        }
    }
}
