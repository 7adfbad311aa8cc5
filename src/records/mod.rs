//! Bytes to rows: select and view — pure functions, no I/O.

pub mod select;
pub mod view;
