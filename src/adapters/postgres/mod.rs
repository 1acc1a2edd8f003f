//! Adapter: postgres.
