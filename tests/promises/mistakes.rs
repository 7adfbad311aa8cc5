//! A mistake of the program in one stream ends the run whole: nobody of it is at work when it is over, and the next
//! one goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gleaner::clock::Clock;
use gleaner::failure::Exit;
use gleaner::fetch::transport::{Boxed, Request, Response, SendError, SharedTransport, Transport};
use gleaner::harvest::events::Events;
use gleaner::harvest::{Harvest, Options, World};
use gleaner::sim::{MemoryTransport, Route, Rules, SimApi, SimDisk, SimReply};
use tokio::sync::Notify;

use super::fixture::plan;
use gleaner::sim::in_stopped_time;

const PIPELINE: &str = "source: { url: https://api.test, limits: none }
streams: { stumbles: { get: /stumbles }, waits: { get: /waits } }
sink: { ndjson: \"data/{{ stream }}.ndjson\" }
";

/// Panics at one request while another one waits for ever.
#[derive(Debug, Default)]
struct Stumbling {
    waits: Notify,
    /// Whether nobody waits for that any more.
    is_over: AtomicBool,
}

struct Waiting<'s>(&'s Stumbling);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

impl Transport for Stumbling {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, SendError>> {
        Box::pin(async move {
            if request.url.path() == "/waits" {
                let _waiting = Waiting(self);
                self.waits.notify_one();
                std::future::pending::<()>().await;
            }
            self.waits.notified().await;
            panic!("a mistake");
        })
    }
}

fn open(disk: &SimDisk, clock: Clock, transport: SharedTransport) -> Harvest {
    let (_asks, stop) = tokio::sync::watch::channel(false);
    let world = World {
        clock,
        transport,
        disk: disk.door(),
        root: "/p".into(),
        events: Events::new(clock, |_| {}),
        stop,
    };
    Harvest::open(plan(PIPELINE), world, Options::default()).expect("it opens")
}

#[test]
fn a_panic_in_one_stream_leaves_nobody_at_work() {
    in_stopped_time(async {
        let disk = SimDisk::new(Path::new("/p"));
        let clock = Clock::simulated("2026-11-22T02:30:00Z".parse().expect("an instant"));
        let stumbling = Arc::new(Stumbling::default());
        let harvest = open(&disk, clock, stumbling.clone());
        let ended = tokio::spawn(harvest.run()).await;
        assert!(ended.expect_err("it stumbles").is_panic());
        assert!(
            stumbling.is_over.load(Ordering::SeqCst),
            "a stream of the run is still at work"
        );
        let answer = |path| Route::custom(path, Arc::new(|_| SimReply::json(200, "[{\"id\":1}]")));
        let rules = Rules {
            routes: vec![answer("/stumbles"), answer("/waits")],
            ..Rules::default()
        };
        let api = MemoryTransport::shared(SimApi::with_clock(rules, clock));
        let summary = open(&disk, clock, api).run().await;
        assert_eq!(summary.exit, Exit::Complete, "{summary:#?}");
    });
}
