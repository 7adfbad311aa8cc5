//! Tells systemd how the process is: ready, reading its files anew, at work, stopping.
//!
//! The protocol is one datagram of lines to the socket that `NOTIFY_SOCKET` names, `sd_notify(3)`; a name
//! that begins with `@` is one of Linux' abstract sockets, unix(7). `WATCHDOG_USEC` says within which time the
//! manager wants to hear of us, `sd_watchdog_enabled(3)`. Nothing here can fail the schedule: where there is no manager, or
//! it does not listen, nothing is said.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The manager that started this process, if it wants to hear of it.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    told: String,
}

/// The environment's words about a manager.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    /// `NOTIFY_SOCKET`.
    pub socket: Option<OsString>,
    /// `WATCHDOG_USEC`.
    pub watchdog: Option<String>,
    /// `WATCHDOG_PID`: whom that is meant for.
    pub watchdog_pid: Option<String>,
}

impl Asked {
    /// As this process was started.
    pub fn of_environment() -> Self {
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET"),
            watchdog: std::env::var("WATCHDOG_USEC").ok(),
            watchdog_pid: std::env::var("WATCHDOG_PID").ok(),
        }
    }
}

impl Manager {
    /// Finds the manager.
    pub fn find(asked: &Asked) -> Self {
        let socket = asked.socket.as_ref().and_then(connect);
        let micros = asked.watchdog.as_ref().and_then(|text| text.parse().ok());
        let is_for_us = match &asked.watchdog_pid {
            None => true,
            Some(pid) => *pid == std::process::id().to_string(),
        };
        Self {
            watchdog: micros
                .filter(|micros| *micros > 0 && is_for_us && socket.is_some())
                .map(Duration::from_micros),
            socket,
            told: String::new(),
        }
    }

    /// How often it wants to hear of us at least: twice as often as it would give us up.
    pub fn every(&self) -> Option<Duration> {
        self.watchdog.map(|within| within / 2)
    }

    /// All files are read, and times are kept.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// Files are read anew; [`Self::ready`] follows. `now` is the monotonic clock, which systemd wants to be
    /// told where a unit is of `Type=notify-reload`.
    pub fn reloading(&self, now: Duration) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// No more runs begin.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// We are alive; and, where it changed, what is going on.
    pub fn alive(&mut self, status: &str) {
        let mut text = String::new();
        if self.watchdog.is_some() {
            text.push_str("WATCHDOG=1\n");
        }
        if self.told != status {
            let line = status.replace(['\n', '\r'], " ");
            // A text takes whatever is written to it.
            let _ = writeln!(text, "STATUS={line}");
            status.clone_into(&mut self.told);
        }
        if !text.is_empty() {
            self.say(text.trim_end());
        }
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // A manager whose queue is full is not waited for; it hears the next word.
            let _ = socket.send(text.as_bytes());
        }
    }
}

fn connect(place: &OsString) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = place.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).ok()?;
        socket.connect_addr(&address).ok()?;
        return Some(socket);
    }
    socket.connect(place).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 512];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    fn asked(place: &str) -> Asked {
        Asked {
            socket: Some(place.into()),
            watchdog: Some("30000000".to_owned()),
            watchdog_pid: Some(std::process::id().to_string()),
        }
    }

    #[test]
    fn a_manager_hears_every_word() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("notify");
        let listens = UnixDatagram::bind(&place).unwrap();
        let mut manager = Manager::find(&asked(place.to_str().unwrap()));
        assert_eq!(manager.every(), Some(Duration::from_secs(15)));
        manager.ready();
        assert_eq!(heard(&listens), "READY=1");
        manager.alive("2 run");
        assert_eq!(heard(&listens), "WATCHDOG=1\nSTATUS=2 run");
        manager.alive("2 run");
        assert_eq!(heard(&listens), "WATCHDOG=1");
        manager.reloading(Duration::from_secs(7));
        assert_eq!(heard(&listens), "RELOADING=1\nMONOTONIC_USEC=7000000");
        manager.stopping();
        assert_eq!(heard(&listens), "STOPPING=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_with_an_at_sign_is_an_abstract_socket() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("gleaner-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listens = UnixDatagram::bind_addr(&address).unwrap();
        Manager::find(&asked(&format!("@{name}"))).ready();
        assert_eq!(heard(&listens), "READY=1");
    }

    #[test]
    fn where_nobody_listens_nothing_happens() {
        let mut manager = Manager::find(&asked("/nowhere/notify"));
        assert_eq!(manager.every(), None);
        manager.ready();
        manager.alive("");
        let other = Asked {
            watchdog_pid: Some("1".to_owned()),
            ..asked("/nowhere")
        };
        assert_eq!(Manager::find(&other).every(), None);
    }
}
