//! Secrets: looked up when a run opens, scrubbed from everything written.
