//! Tests: broker_contract.
