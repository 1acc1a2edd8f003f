//! Tests: leases_contract.
