//! Tests: fleet.
