//! Secrets stay home.
