//! Owns a span: what is said of it, and its form on the wire (OTLP 1.x). Never decides whether it is
//! recorded.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Wire;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans, Status};
use std::borrow::Cow;
use std::time::Duration;

use super::keys;
use crate::domain::{SpanId, TraceContext};
use crate::telemetry::Role;

/// The trace is kept, whether the parent is elsewhere is known, and it is (OTLP, `SpanFlags`).
const SAMPLED: u32 = 0x1;
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// What a span is to the one that it hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Work inside the process.
    Internal,
    /// The answer to a request.
    Server,
    /// A question to a server.
    Client,
    /// A message that is sent.
    Producer,
    /// A message that came.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// A piece of work that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    name: Cow<'static, str>,
    kind: Kind,
    context: TraceContext,
    parent: Option<SpanId>,
    remote: bool,
    began: Duration,
    ended: Duration,
    epoch: i64,
    attributes: Vec<(&'static str, Value)>,
    error: Option<&'static str>,
}

impl Span {
    /// A span from one [`super::Traces::moment`] to another.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        kind: Kind,
        context: TraceContext,
        (began, ended): (Duration, Duration),
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            context,
            parent: None,
            remote: false,
            began,
            ended: ended.max(began),
            epoch: 0,
            attributes: Vec::with_capacity(6),
            error: None,
        }
    }

    /// Hangs on a span of this process.
    pub fn under(mut self, parent: SpanId) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Hangs on a span of another process, if on any.
    pub fn after(mut self, parent: Option<SpanId>) -> Self {
        (self.parent, self.remote) = (parent, parent.is_some());
        self
    }

    /// Says something of it.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// It has failed, with this class of failure.
    pub fn failed(mut self, class: Option<&'static str>) -> Self {
        if let Some(class) = class {
            self.error = Some(class);
            self.attributes.push((keys::ERROR, class.into()));
        }
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The span as others name it.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// What it hangs on.
    pub fn parent(&self) -> Option<SpanId> {
        self.parent
    }

    pub(super) fn place(&mut self, epoch: i64) {
        self.epoch = epoch;
    }

    fn nanos(&self, moment: Duration) -> u64 {
        u64::try_from(i128::from(self.epoch) + moment.as_nanos() as i128).unwrap_or(0)
    }

    fn on_the_wire(self) -> otlp::Span {
        let known = if self.remote { KNOWN | REMOTE } else { KNOWN };
        otlp::Span {
            trace_id: self.context.trace.to_bytes().to_vec(),
            span_id: self.context.span.to_bytes().to_vec(),
            parent_span_id: self.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
            flags: SAMPLED | known,
            kind: self.kind.on_the_wire() as i32,
            start_time_unix_nano: self.nanos(self.began),
            end_time_unix_nano: self.nanos(self.ended),
            status: self
                .error
                .map(|class| Status { message: class.into(), code: otlp::status::StatusCode::Error as i32 }),
            name: self.name.into_owned(),
            attributes: self.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
            ..otlp::Span::default()
        }
    }
}

impl Kind {
    fn on_the_wire(self) -> otlp::span::SpanKind {
        match self {
            Self::Internal => otlp::span::SpanKind::Internal,
            Self::Server => otlp::span::SpanKind::Server,
            Self::Client => otlp::span::SpanKind::Client,
            Self::Producer => otlp::span::SpanKind::Producer,
            Self::Consumer => otlp::span::SpanKind::Consumer,
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => Wire::StringValue(text.into_owned()),
        Value::Number(number) => Wire::IntValue(number),
        Value::Flag(flag) => Wire::BoolValue(flag),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Who records: the program, of this version, of this fleet, as this process.
pub(super) fn resource(role: Role, namespace: &str, instance: uuid::Uuid) -> Resource {
    let program = match role {
        Role::Ingest => "riskfleet-ingest",
        Role::Worker => "riskfleet-worker",
        Role::Console => "riskfleet-console",
        Role::All => "riskfleet",
    };
    let attributes = vec![
        attribute("service.name", program.into()),
        attribute("service.namespace", namespace.to_owned().into()),
        attribute("service.version", env!("CARGO_PKG_VERSION").into()),
        attribute("service.instance.id", instance.to_string().into()),
    ];
    Resource { attributes, ..Resource::default() }
}

/// Spans of one process as a collector takes them.
pub(super) fn request(resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(Span::on_the_wire).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource = Some(resource.clone());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }],
    }
}
