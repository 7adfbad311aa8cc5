//! The rim: one file per command.
