//! Gleaner pulls records out of web APIs, politely and completely.
//!
//! A pipeline file describes an API once; a run fetches every page as fast as the API's own
//! limits allow and never faster, and leaves clean CSV or NDJSON.
//!
//! ```text
//! pipelines/x.yaml ─ spec::load ─▶ PipelineSpec ─ plan::compile ─▶ Plan ─ Harvest::open ─▶ Harvest ─ run ─▶ Summary
//!                                    (list, check and schema stop here)
//!
//! run:  walk ─▶ permit ─▶ send ─▶ verdict ─▶ decode ─▶ select ─▶ part + index (commit) ─▶ … ─▶ publish
//!        ▲        ▲                  │                                    │
//!        │        └──── wait/retry ◀─┘                                    │
//!        └─────────────────────── next page ◀─────────────────────────────┘
//! ```
//!
//! One room per step of the work, each with its front door in `mod.rs`:
//!
//! - [`spec`]: what was written — optional, spanned, unchecked
//! - [`plan`]: what will be done — checked values, compiled templates and paths, no I/O
//! - [`limits`]: whose turn — permits, windows, pauses
//! - [`fetch`]: one request — transport, redirects, bodies with caps
//! - [`json`]: JSON as text, scanned, never built into trees
//! - [`records`]: bytes to rows — pure functions
//! - [`store`]: what outlives a process — parts and ledger of a run, locks, the state of all runs
//! - [`sink`]: rows to files — projection, csv, ndjson
//! - [`harvest`]: the run — walk, attempt, commit, publish, summary
//! - [`schedule`]: when — cron times, catch-up, the process that keeps them
//! - [`report`]: events to people and machines
//! - [`cli`]: the rim, one file per command
//! - [`sim`]: a pretend API, for tests, benches and the demo
//!
//! Arrows go one way: `spec ◀ plan ◀ {limits, fetch, records, store, sink} ◀ harvest ◀ schedule ◀ cli`.
//! [`clock`], [`count`], [`crc`], [`event`] and [`disk`] import nothing of ours, [`json`] only `plan::path`. `tests/arrows.rs` proves it.

pub mod cli;
pub mod clock;
pub mod count;
pub mod crc;
pub mod disk;
pub mod event;
pub mod failure;
pub mod fetch;
pub mod harvest;
pub mod json;
pub mod limits;
pub mod plan;
pub mod records;
pub mod report;
pub mod schedule;
pub mod sim;
pub mod sink;
pub mod spec;
pub mod store;
