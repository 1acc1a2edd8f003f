//! Tests: the operator's commands and the NDJSON import, on stores and doors in memory.

mod approvals;
mod audit;
mod costs;
mod dlq;
mod doctor;
mod import;
mod reading;
mod sending;
mod shelf;
mod tenants;
mod versions;
mod waiting;
