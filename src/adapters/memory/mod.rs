//! Adapter: memory.
