//! Bytes to rows: what a page holds, as lines and as template values — pure functions, no I/O.

mod fast;
pub mod page;
pub mod problem;
pub mod select;
pub mod view;
mod wanted;
