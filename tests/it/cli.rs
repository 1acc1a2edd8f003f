//! Tests: the operator's commands and the NDJSON import, on stores and doors in memory.

mod audit;
mod import;
mod reading;
mod sending;
mod shelf;
