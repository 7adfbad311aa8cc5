//! What was written: optional, spanned, unchecked.
