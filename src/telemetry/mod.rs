//! What a process tells about itself: logs on stderr, metrics for Prometheus.

pub mod names;
