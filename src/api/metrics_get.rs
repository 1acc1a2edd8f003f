//! `GET /metrics`: what Prometheus scrapes.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::telemetry::Prometheus;

/// The exposition format that is written.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics for Prometheus
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain", description = "Exposition format 0.0.4")),
)]
pub(super) async fn get_metrics(State(prometheus): State<Prometheus>) -> Response {
    ([(CONTENT_TYPE, FORMAT)], prometheus.render()).into_response()
}
