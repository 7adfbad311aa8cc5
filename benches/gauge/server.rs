//! The server of a bench in a process of its own, so that its work is not counted as a client's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use gleaner::sim::SimApi;
use gleaner::sim::rules::Rules;
use gleaner::sim::serve::Server;

/// This program, started again to serve; it ends when this is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) url: String,
}

impl ServerProcess {
    /// Starts this program with `serve` and these arguments; it must then call [`serve`].
    pub(crate) fn start(arguments: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg("serve")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut url)
            .expect("its address");
        Self {
            child,
            url: url.trim().to_owned(),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Serves by these rules, until the standard input closes.
pub(crate) fn serve(rules: Rules) {
    let server = Server::start_on_own_thread(SimApi::new(rules)).expect("a server");
    println!("{}", server.url());
    let _ = std::io::stdin().lock().lines().count();
}
