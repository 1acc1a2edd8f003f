//! Role: api.
