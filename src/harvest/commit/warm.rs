//! Writes while the bytes are warm: on the thread that has just understood them.
//!
//! What is handed to another thread has to come out of this processor's cache, and the copy into the
//! file cache then costs four times as much: a tenth of all the work of a fast run (`benches/bulk`).
//! But who waits for a disk cannot serve the network. So everything else that the thread had to do,
//! sockets and timers too, is given to another one for so long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does work on the disk, here if the runtime has other threads.
pub(super) async fn written<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => super::blocking(work).await,
    }
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
        reason = "it is about the runtime's own timers; a minute passes only where the promise is broken"
    )]
    fn a_disk_that_hangs_holds_up_nothing_else() {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (served, is_served) = mpsc::channel();
        let (let_go, hangs) = mpsc::channel::<()>();
        runtime.spawn(async move {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                served.send(())
            });
            // It ends when it is let go.
            written(move || hangs.recv()).await
        });
        let is_served = is_served.recv_timeout(Duration::from_mins(1));
        drop(let_go);
        is_served.expect("the others go on");
    }

    #[test]
    fn the_only_thread_never_waits_for_the_disk() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let writer = runtime.block_on(written(|| thread::current().id()));
        assert_ne!(writer, thread::current().id());
    }
}
