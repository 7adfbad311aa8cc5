//! Holds answers back to a tenth of a millisecond. The runtime's timers end up to a millisecond
//! late, which is a twentieth of 20 ms: a server that is slower than it says would pass for a
//! client that is. It serves sockets, where time is never stopped.
#![expect(
    clippy::disallowed_methods,
    reason = "the runtime's timers are what it does without"
)]

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use tokio::sync::oneshot;

use crate::clock::{Clock, Instant};

/// When to wake, and whom.
type Wait = (Instant, oneshot::Sender<()>);

/// A thread that wakes those who wait; it ends when this is dropped, and its waits with it.
#[derive(Debug)]
pub(super) struct Alarm(Sender<Wait>);

impl Alarm {
    /// Starts the thread.
    pub(super) fn start(clock: Clock) -> io::Result<Self> {
        let (ask, asked) = channel();
        thread::Builder::new()
            .name("sim alarm".to_owned())
            .spawn(move || ring(&asked, clock))?;
        Ok(Self(ask))
    }

    /// Waits until `at`; an instant in the past returns at once.
    pub(super) async fn sleep_until(&self, at: Instant) {
        let (wake, woken) = oneshot::channel();
        // Without the thread nobody would wake us: then it is not waited.
        if self.0.send((at, wake)).is_ok() {
            let _ = woken.await;
        }
    }
}

fn ring(asked: &Receiver<Wait>, clock: Clock) {
    // Many may wait for the same instant.
    let mut waits: BTreeMap<Instant, Vec<oneshot::Sender<()>>> = BTreeMap::new();
    loop {
        let next = match waits.first_key_value() {
            Some((at, _)) => asked.recv_timeout(at.saturating_duration_since(clock.now())),
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok((at, wake)) => waits.entry(at).or_default().push(wake),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(due) = waits.first_entry()
            && *due.key() <= clock.now()
        {
            for wake in due.remove() {
                // Who has gone away meanwhile needs no waking.
                let _ = wake.send(());
            }
        }
    }
}
