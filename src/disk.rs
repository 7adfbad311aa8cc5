//! The seam to the file system: every file a run writes goes through here.
