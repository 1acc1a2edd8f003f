//! Tests: context_contract.
