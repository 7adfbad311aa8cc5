//! Writes while the bytes are warm: on the thread that has just understood them, if that may be.
//!
//! What is handed to another thread has to come out of this processor's cache, and the copy into the
//! file cache then costs four times as much: a tenth of all the work of a fast run (`benches/bulk`).
//! But who waits for a disk cannot serve the network. So one worker of the runtime at a time writes by
//! itself, and never the only one there is: a disk that hangs holds up no more than that one. All
//! others hand their work to the threads that are there for waiting.

use std::sync::Mutex;

use tokio::runtime::Handle;

/// Held by the worker that writes.
static WRITES: Mutex<()> = Mutex::new(());

/// Does work on the disk that is expected to take less time than handing it on.
pub(super) async fn written<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if Handle::current().metrics().num_workers() > 1
        && let Ok(_alone) = WRITES.try_lock()
    {
        return work();
    }
    super::blocking(work).await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a minute passes only where the promise is broken"
    )]
    fn a_disk_that_hangs_holds_up_one_worker_alone() {
        let runtime = Builder::new_multi_thread().worker_threads(2).build();
        let runtime = runtime.expect("a runtime");
        let mut hung = Vec::new();
        for _ in 0..3 {
            let (begun, begins) = mpsc::channel();
            let (end, ended) = mpsc::channel::<()>();
            let task = runtime.spawn(written(move || {
                begun.send(()).expect("somebody waits");
                // It ends when it is let go.
                let _ = ended.recv();
            }));
            begins
                .recv_timeout(Duration::from_mins(1))
                .expect("it writes");
            hung.push((end, task));
        }
        let (serves, is_served) = mpsc::channel();
        runtime.spawn(async move { serves.send(()) });
        let is_served = is_served.recv_timeout(Duration::from_mins(1));
        hung.clear();
        is_served.expect("the other worker goes on");
    }

    #[test]
    fn the_only_worker_never_waits_for_the_disk() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let writer = runtime.block_on(written(|| thread::current().id()));
        assert_ne!(writer, thread::current().id());
    }
}
