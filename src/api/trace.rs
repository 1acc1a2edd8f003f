//! Owns the trace of a request: whose it goes on with, when it begins, and its one span. Begun once its
//! caller is known: a stranger's requests are not traced, whatever they ask for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::HeaderMap;

use super::headers;
use crate::domain::{CorrelationId, TenantId, TraceContext, TraceId};
use crate::telemetry::Traces;
use crate::telemetry::traces::{Kind, Root, Span, keys};

/// Events of one request that are traced.
const EVENTS_MAX: u32 = 16;

/// The trace of a request. Cheap to clone.
#[derive(Clone)]
pub(super) struct RequestTrace(Option<Arc<Asked>>);

struct Asked {
    traces: Traces,
    parent: Option<TraceContext>,
    since: Duration,
    root: OnceLock<Option<Root>>,
    events: AtomicU32,
}

/// What is told of a request at its end.
pub(super) struct Told<'a> {
    pub(super) method: &'static str,
    pub(super) route: &'a str,
    pub(super) status: u16,
    pub(super) tenant: Option<&'a TenantId>,
    pub(super) correlation: &'a CorrelationId,
}

impl RequestTrace {
    /// The trace of a request that has just come; nothing where nothing is traced.
    pub(super) fn of(traces: &Traces, headers: &HeaderMap) -> Self {
        Self(traces.on().then(|| {
            let (parent, since) = (headers::traceparent(headers), traces.moment());
            Arc::new(Asked { traces: traces.clone(), parent, since, root: OnceLock::new(), events: AtomicU32::new(0) })
        }))
    }

    /// Begins it, if it is to be traced. The first call decides.
    pub(super) fn begin(&self) {
        if let Some(asked) = &self.0 {
            asked.root.get_or_init(|| asked.traces.begin(asked.parent));
        }
    }

    fn begun(&self) -> Option<(&Asked, &Root)> {
        let asked = self.0.as_deref()?;
        Some((asked, asked.root.get()?.as_ref()?))
    }

    /// For the log line.
    pub(super) fn id(&self) -> Option<TraceId> {
        self.begun().map(|(_, root)| root.context.trace)
    }

    /// The span that the next event of the request hangs on; none where the request is not traced, or
    /// enough of its events are.
    pub(super) fn event(&self) -> Option<TraceContext> {
        let (asked, root) = self.begun()?;
        let before = asked.events.fetch_add(1, Ordering::Relaxed);
        // The first one is paid for by the request itself.
        let traced = before == 0 || (before < EVENTS_MAX && asked.traces.one_more(root));
        traced.then_some(root.context)
    }

    /// Records the request's span (semantic conventions for HTTP server spans).
    pub(super) fn end(&self, told: &Told<'_>) {
        let Some((asked, root)) = self.begun() else { return };
        let &Told { method, route, status, tenant, correlation } = told;
        let times = (asked.since, asked.traces.moment());
        let mut span = Span::new(format!("{method} {route}"), Kind::Server, root.context, times)
            .after(root.parent)
            .with(keys::HTTP_METHOD, method)
            .with(keys::HTTP_ROUTE, route.to_owned())
            .with(keys::HTTP_STATUS, u32::from(status))
            .with(keys::CORRELATION, correlation.as_str().to_owned());
        if let Some(tenant) = tenant {
            span = span.with(keys::TENANT, tenant.as_str().to_owned());
        }
        // What the caller did wrong is no failure of this side.
        asked.traces.record(span.failed((status >= 500).then_some("server_error")));
    }
}
