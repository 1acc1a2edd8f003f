//! riskfleet decides on risk and compliance events for many tenants, each event exactly once, with
//! proof of every decision.
//!
//! # Five sentences that must stay true
//! 1. **The store is the truth, the broker is speed.** What was accepted is in the store; a lost,
//!    doubled or reordered message changes nothing but latency.
//! 2. **One disposition per event** (decided or dead), under one primary key and the partition's
//!    epoch: every stored effect happens exactly once, whatever crashes or pauses; every outcome is
//!    published at least once, with the event's id in it to deduplicate by.
//! 3. **Nothing is dropped.** Every event ends decided, waiting for a person, or dead-lettered with
//!    a reason; the ledger shows accepted = decided + dead + pending.
//! 4. **A decision is a pure function** of event, context snapshot, policy, models and time, all of
//!    which are stored with it: [`pipeline::replay`] gives the same canonical bytes.
//! 5. **No tenant can see, slow down or spend for another.**
//!
//! # Layers
//! Dependencies point one way, and a test (`tests/it/tidy.rs`) holds it:
//!
//! `bin → wiring → {roles, adapters} → {pipeline, resilience, crypto} → ports → domain`
//!
//! Roles ([`ingest`], [`worker`], [`api`], [`governance`], [`autoscale`], [`cli`]) and [`adapters`] (Postgres, SQLite, RabbitMQ,
//! Redis, memory) never name each other; only [`wiring`] names both. [`config`], [`telemetry`] and
//! [`lifecycle`] are foundations, and [`mutants`] (deliberate defects, in test builds only). [`domain`] is types and rules without a clock or a runtime.
//!
//! # One event, seven hops, no way back
//! 1. [`api`]: a request becomes candidates, every wrong field named ([`domain::parse`]).
//! 2. [`ingest`]: the door admits what there is room for; an accept lane gathers what is waiting.
//! 3. [`ports::EventStore::accept_batch`]: sealed by then; key, event and ONE outbox row, in one transaction.
//! 4. [`ports::Broker::publish_packs`]: the batch travels as sealed packs; confirmed, the outbox row
//!    is deleted.
//! 5. [`worker`]: a delivery of an owned partition, through a fair buffer, into a lane.
//! 6. [`pipeline::run`]: the pure stages, with the context of the whole batch.
//! 7. [`ports::Lane::commit_batch`]: fence, dedupe, decision, audit, approval, in ONE transaction.
//!    Then the outcome is published, and then the pack is acknowledged.
//!
//! Which model scores is not on this way: a worker looks for what was made active ([`ports::ActiveVersions`])
//! and has it at hand.
//!
//! A traced event leaves a span at each of them, all under its producer's `traceparent`, which the pack
//! carries on ([`telemetry::traces`]); being traced changes nothing of its way.
//!
//! What a crash leaves between two hops is found again: outbox rows by whoever sees them stand,
//! unacknowledged packs by the broker, and everything else by refill, which publishes the pending
//! events above the mark W that no queue holds any more.
//!
//! # What is spent
//! A decision is priced where it is made ([`domain::cost`]), and summed by tenant, day and model in its own commit
//! ([`ports::costs`]). A budget that is used up stops a tenant's spending as a model does that can't be used: the
//! worker notes it in the context ([`domain::Snapshot`]), no scorer is asked, and a person decides.
//!
//! # What is sealed
//! Events and decisions are stored and sent sealed, under keys of their tenant and subject
//! ([`crypto::envelope`], [`crypto::keyring`]); whoever shows one goes by [`crypto::reveal`], and what
//! was erased is said to be so. The audit's hashes are over the sealed bytes: it verifies without a key.
//!
//! # To add
//! * **an endpoint**: a file in [`api`] (`api/control` for operators) with its handler, document and
//!   tests, and a line in its router; who may call it is a permission in [`domain::role`], which its
//!   document names (`x-permission`) and its handler requires (a test holds the two together);
//! * **a stage**: a function in [`pipeline`] and a name in [`pipeline::state::Stage`];
//! * **a verb of the store**: the trait, its three adapters, a line in its guard
//!   ([`resilience::guarded`]), and a clause in the one contract suite
//!   (`tests/it/store_contract.rs`), which runs on all of them;
//! * **a table whose rows hang on an event**: its name in `drop_day` (a migration that replaces the
//!   function) and in SQLite's list of what goes with a day (`adapters/sqlite/retention.rs`);
//! * **a table**: a migration for each database; on Postgres what each role may do with it, a row in
//!   `adapters/postgres/rights.rs` (a test lists them all); a verb that answers a tenant's caller takes
//!   a [`domain::Scope`], and goes by `adapters/postgres/scope.rs`;
//! * **a kind of model**: a variant of [`pipeline::Scorer`] and its reader, by the `kind` of the content;
//! * **a command**: arguments in [`cli::args`], a file beside it;
//! * **a span**: in `traced` of its role, out of what is known there anyway; never with what an event
//!   says, since spans leave the fleet ([`telemetry::traces::keys`]);
//! * **a setting**: a row in [`config::settings`], and its row in the README (a test compares).

pub mod adapters;
pub mod api;
pub mod autoscale;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod governance;
pub mod ingest;
pub mod lifecycle;
pub mod mutants;
pub mod pipeline;
pub mod ports;
pub mod resilience;
pub mod telemetry;
pub mod wiring;
pub mod worker;
