//! A pretend API with stated limits, faults and an audit log: for tests, benches and the demo.
//!
//! ```text
//! Rules (data) ─▶ SimApi ─ answer(SimRequest) ─▶ Answer {wait, act, ticket}
//!                   │                               ├─ memory::MemoryTransport  (no sockets, virtual time)
//!                   └─ audit: every arrival         └─ serve::Server            (loopback, HTTP/1.1)
//! ```
//!
//! Both doors ask the same handler, so a scenario behaves the same in memory and on a socket.

pub mod act;
mod alarm;
pub mod api;
pub mod audit;
pub mod data;
pub mod demo;
pub mod disk;
pub mod fault;
pub mod limit;
pub mod memory;
pub mod page;
pub mod paging;
pub mod platter;
pub mod request;
pub mod rules;
pub mod serve;
#[cfg(test)]
mod tests;

pub use api::SimApi;
pub use audit::Audit;
pub use data::Dataset;
pub use disk::{Lie, SimDisk, Trouble};
pub use fault::{Fault, FaultRule};
pub use limit::ServerLimit;
pub use memory::MemoryTransport;
pub use paging::{End, Paging};
pub use platter::Loss;
pub use request::{SimReply, SimRequest};
pub use rules::{Auth, Latency, Listing, Route, Rules, Source};
pub use serve::Server;

/// Runs something in stopped time: it goes on at once wherever all wait for it.
///
/// # Panics
///
/// If there is no room for a runtime.
pub fn in_stopped_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(work)
}
