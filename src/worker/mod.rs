//! Role: worker.
