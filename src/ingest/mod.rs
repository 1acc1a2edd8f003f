//! Role: ingest.

pub mod file;
