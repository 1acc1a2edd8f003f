//! Owns the traces of a process: which requests are traced, the identity and time of their spans, and
//! the bounded queue in front of the exporter. Never waits, never fails, and never holds up whoever
//! records a span: where there is no room, the span is dropped and counted.
//!
//! # Decisions
//! Spans are made after the fact, with the times and parents that they are given. Events are decided in
//! batches: no future belongs to one event, so that spans that follow the execution (`tracing`) would
//! show the batch and not the event.
//!
//! The messages are OpenTelemetry's own (`opentelemetry-proto`), the exporter is ours (`export`). The one
//! of the SDK wants a thread and a blocking client, tells nobody how many spans it has dropped, and takes
//! settings out of variables (`OTEL_…`) that no check of ours has seen.
//!
//! Who asks for a trace (`traceparent` with the sampled flag) gets it, as the standard wishes, but out of
//! one budget a process, of which half is kept for what the process itself has chosen: a caller who marks
//! everything blinds nobody. Only requests of known callers are traced at all.

mod budget;
mod endpoint;
mod export;
pub mod keys;
mod span;

use metrics::{counter, gauge};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

use super::metrics::Role;
use super::names;
use crate::config::{Settings, SettingsError};
use crate::domain::{SpanId, TraceContext, TraceId};
use crate::ports::{Clock, Entropy};
use budget::Budget;
use endpoint::Endpoint;
pub use export::Exporting;
pub use span::{Kind, Span};

/// Spans that wait for the exporter; some 400 bytes each.
const QUEUE_MAX: usize = 4096;

/// What is traced.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Of 100 requests that nobody has decided about, so many.
    pub percent: u32,
    /// Events a second, and as many at once, 1 or more.
    pub events_per_s: u32,
    /// What spans say of the servers.
    pub systems: Systems,
}

/// The servers that a process works with, as OpenTelemetry names them.
#[derive(Debug, Clone, Copy)]
pub struct Systems {
    /// `messaging.system`.
    pub messaging: &'static str,
    /// `db.system.name`.
    pub database: &'static str,
}

impl Systems {
    /// A fleet's.
    pub const SERVERS: Self = Self { messaging: "rabbitmq", database: "postgresql" };
    /// Those of a fleet in one process.
    pub const IN_PROCESS: Self = Self { messaging: "riskfleet", database: "sqlite" };
}

/// The traces of this process. Cheap to clone; off, everything is one look at an empty pointer.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

struct Tracing {
    rules: Rules,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    budget: Budget,
    queue: mpsc::Sender<Span>,
    /// Nanoseconds from the zero of the clock's `elapsed` to the Unix epoch.
    epoch: AtomicI64,
}

/// Spans on their way to the exporter.
pub struct Recorded {
    queue: mpsc::Receiver<Span>,
    tracing: Arc<Tracing>,
}

/// The first span of this process in a trace.
#[derive(Debug, Clone, Copy)]
pub struct Root {
    /// The span.
    pub context: TraceContext,
    /// What it hangs on, in another process.
    pub parent: Option<SpanId>,
    /// Whether its caller has asked for the trace.
    asked: bool,
}

impl Traces {
    /// Nothing is traced.
    pub fn off() -> Self {
        Self(None)
    }

    /// Traces by these rules; what is recorded is to be taken from the second.
    pub fn by(rules: Rules, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> (Self, Recorded) {
        let (queue, recorded) = mpsc::channel(QUEUE_MAX);
        let epoch = AtomicI64::new(epoch(&*clock));
        let tracing =
            Arc::new(Tracing { rules, clock, entropy, budget: Budget::a_second(rules.events_per_s), queue, epoch });
        (Self(Some(Arc::clone(&tracing))), Recorded { queue: recorded, tracing })
    }

    /// Traces as the settings have it, and what sends the spans: nothing, without an endpoint. To be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// When the endpoint or its headers can't be read.
    pub fn start(
        settings: &Settings,
        role: Role,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Exporting), SettingsError> {
        let Some(endpoint) = Endpoint::of(settings)? else { return Ok((Self::off(), Exporting::nothing())) };
        let systems = if role == Role::All { Systems::IN_PROCESS } else { Systems::SERVERS };
        let rules = Rules { percent: settings.trace_sample_percent, events_per_s: settings.traces_per_s, systems };
        let resource = span::resource(role, settings.namespace.as_str(), entropy.uuid());
        let (traces, recorded) = Self::by(rules, clock, entropy);
        Ok((traces, Exporting::start(endpoint, resource, recorded)?))
    }

    /// Whether anything is traced.
    pub fn on(&self) -> bool {
        self.0.is_some()
    }

    /// What spans say of the servers.
    pub fn systems(&self) -> Systems {
        self.0.as_ref().map_or(Systems::SERVERS, |on| on.rules.systems)
    }

    /// This moment, for the beginning or the end of a span.
    pub fn moment(&self) -> Duration {
        self.0.as_ref().map_or(Duration::ZERO, |on| on.clock.elapsed())
    }

    /// Begins a trace, or goes on with the one that a request came with; none where it is not to be
    /// traced. Counts as one event.
    pub fn begin(&self, parent: Option<TraceContext>) -> Option<Root> {
        let on = self.0.as_ref()?;
        let (trace, asked) = match parent {
            Some(parent) if !parent.sampled => return None,
            Some(parent) => (parent.trace, true),
            None => (on.chosen()?, false),
        };
        let root = Root {
            context: TraceContext { trace, span: on.span_id(), sampled: true },
            parent: parent.map(|parent| parent.span),
            asked,
        };
        self.one_more(&root).then_some(root)
    }

    /// Whether one more event of a request may be traced.
    pub fn one_more(&self, root: &Root) -> bool {
        let Some(on) = &self.0 else { return false };
        let taken = on.budget.take(on.clock.elapsed(), root.asked);
        if !taken {
            counter!(names::TRACES_LIMITED).increment(1);
        }
        taken
    }

    /// A new span below one.
    pub fn below(&self, parent: TraceContext) -> TraceContext {
        self.0.as_ref().map_or(parent, |on| parent.with_span(on.span_id()))
    }

    /// Sends a span on its way.
    pub fn record(&self, mut span: Span) {
        let Some(on) = &self.0 else { return };
        span.place(on.epoch.load(Ordering::Relaxed));
        if on.queue.try_send(span).is_err() {
            counter!(names::TRACE_SPANS_DROPPED, "reason" => names::trace_drop::FULL).increment(1);
        }
        gauge!(names::TRACE_QUEUE_SPANS).set((QUEUE_MAX - on.queue.capacity()) as f64);
    }
}

impl Tracing {
    /// The trace of a request that nobody has decided about.
    fn chosen(&self) -> Option<TraceId> {
        let bits = self.entropy.bits();
        let drawn = bits % 100 < u128::from(self.rules.percent);
        if drawn { TraceId::from_bits(self.entropy.bits()) } else { None }
    }

    fn span_id(&self) -> SpanId {
        // Zero comes once in 2^64 times, and 1 is as good as any.
        let bits = self.entropy.bits() as u64;
        SpanId::from_bits(bits.max(1)).expect("1 or more")
    }

    /// Follows the wall clock, which may be set: all spans until the next call are placed alike.
    fn follow_wall_clock(&self) {
        self.epoch.store(epoch(&*self.clock), Ordering::Relaxed);
    }
}

impl Recorded {
    /// Everything recorded until now.
    pub fn taken(&mut self) -> Vec<Span> {
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }
}

/// Nanoseconds from a clock's zero to the Unix epoch. Of a few readings the tightest counts: between
/// the two clocks of one this thread may have stood still.
fn epoch(clock: &dyn Clock) -> i64 {
    let reading = || {
        let before = clock.elapsed();
        let now = clock.now();
        let took = clock.elapsed().saturating_sub(before);
        (took, now.timestamp_nanos_opt().unwrap_or(0) - (before + took / 2).as_nanos() as i64)
    };
    (0..3).map(|_| reading()).min().map_or(0, |(_, epoch)| epoch)
}

#[cfg(test)]
mod tests;
