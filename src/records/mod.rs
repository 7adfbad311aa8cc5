//! Bytes to rows: what a page holds, as lines and as template values — pure functions, no I/O.

mod charset;
mod csv;
mod fast;
mod filter;
pub mod format;
mod ndjson;
pub mod page;
pub mod problem;
pub mod rows;
pub mod select;
mod shape;
pub mod transform;
pub mod view;
mod wanted;
mod xml;
