//! The words of the system: events, ids, statuses, decisions, audit records.
//!
//! Owns every type that is stored, sent or hashed. Never reads a clock, a random source, a file
//! or a socket, and never depends on tokio: time, ids and randomness come in as arguments.

pub mod approval;
pub mod assign;
pub mod audit;
pub mod budget;
pub mod chains;
pub mod checkpoint;
pub mod cloudevents;
pub mod context;
pub mod cost;
pub mod decision;
pub mod event;
pub mod export;
pub mod failure;
pub mod ids;
pub mod invalid;
pub mod keys;
pub mod lines;
pub mod load;
pub mod pacer;
pub mod pack;
pub mod parse;
pub mod partition;
pub mod retention;
pub mod role;
pub mod scaling;
pub mod scope;
pub mod status;
pub mod time;
pub mod trace;
pub mod version;

pub use approval::{ApprovalRules, Verdict};
pub use audit::{AuditBody, AuditRecord, ChainHead, Stream};
pub use budget::{Budget, BudgetState, BudgetTerms, Month};
pub use context::{Snapshot, Subject24h};
pub use cost::{Charge, Micros, PriceList, Prices, Usage};
pub use decision::{Decision, Evaluation, Outcome, PolicyRef, Reason, StageTiming, TrailEntry};
pub use event::{Event, EventBody, Kind};
pub use failure::{Failure, FailureClass};
pub use ids::{CorrelationId, Epoch, EventId, IdempotencyKey, PartitionId, TenantId, WorkerId};
pub use invalid::{Invalid, Violation};
pub use keys::{ApiKey, KeyId};
pub use load::WorkerLoad;
pub use role::{Permission, Role};
pub use scope::Scope;
pub use status::Status;
pub use trace::{SpanId, TraceContext, TraceId};
