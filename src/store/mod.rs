//! What outlives a process: the parts and the ledger of a run, and the state of all runs.
//!
//! ```text
//! .gleaner/runs/<id>/ledger    what was committed, a frame a group   (ledger)
//!                     0.part   records of the first stream           (part)
//! .gleaner/raw/<name>/<id>/    answers as they came, of a run       (came)
//! .gleaner/locks/<name>.lock   held while a pipeline runs            (locks)
//! .gleaner/locks/.schedule     held while the schedule is kept       (locks)
//! .gleaner/state.db            runs, cursors, bases, planned times   (state)
//! ```
//!
//! A [`run::RunFolder`] is one run on disk; each of its streams is a [`stream::StreamStore`], which
//! appends whole pages to the part, syncs, and only then says so in the ledger: the commit point.
//! [`index::Index`] says where each page lies, so that publish can read them in canonical order.
//! `docs/state.md` describes the files.

pub mod alerts;
pub mod base;
pub mod bodies;
pub mod came;
pub mod copies;
pub mod cursors;
pub mod error;
mod field;
pub mod firings;
pub mod hash;
pub mod history;
pub mod index;
pub mod ledger;
pub mod locks;
pub mod part;
pub mod recall;
pub mod row;
pub mod run;
pub mod scratch;
pub mod sorter;
pub mod space;
pub mod state;
pub mod stream;
pub mod sweep;
pub mod tokens;

pub use self::error::StoreError;
