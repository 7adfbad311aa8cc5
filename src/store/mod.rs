//! What a run keeps on disk: parts and their index.
