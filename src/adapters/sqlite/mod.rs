//! Adapter: sqlite.
