//! Bytes to rows: decode, select, project — pure functions, no I/O.

pub mod flatten;
pub mod scan;
pub mod select;
pub mod view;
