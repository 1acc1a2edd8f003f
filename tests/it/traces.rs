//! Traces: real programs, and a collector of the test's own that reads what they send.

mod broken;
mod chain;
mod collector;
mod exporter;
