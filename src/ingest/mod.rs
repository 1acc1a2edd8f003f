//! Role: ingest.
