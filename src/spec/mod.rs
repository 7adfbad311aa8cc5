//! What was written: optional, spanned, unchecked.

pub mod diagnostic;
