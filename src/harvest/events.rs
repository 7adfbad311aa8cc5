//! Where events go: stamped with the calendar and handed to one listener.

use std::sync::Arc;

use crate::clock::Clock;
use crate::event::{Event, Fact, Name};
use crate::failure::Failure;

/// Takes what happened; cheap to clone.
#[derive(Clone)]
pub struct Events {
    clock: Clock,
    listener: Arc<dyn Fn(&Event) + Send + Sync>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Hands every event to `listener`, which must be quick.
    pub fn new(clock: Clock, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self {
            clock,
            listener: Arc::new(listener),
        }
    }

    /// Says that something happened now.
    pub fn emit(&self, fact: Fact) {
        (self.listener)(&Event {
            at: self.clock.calendar(),
            fact,
        });
    }

    /// Says that a stream failed so.
    pub(super) fn stream_failed(&self, stream: Name, failure: &Failure) {
        self.emit(Fact::StreamFailed {
            stream,
            exit: failure.exit.code(),
            message: failure.message.clone(),
        });
    }

    /// Hands on an event that was stamped before.
    pub fn forward(&self, event: &Event) {
        (self.listener)(event);
    }
}
