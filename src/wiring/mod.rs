//! Role: wiring.
