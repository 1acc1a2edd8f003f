//! `GET /metrics`: what Prometheus scrapes.
//!
//! # Decisions
//! Anybody who reaches the port may scrape, as Prometheus expects it, but the names of tenants are not
//! for anybody: where callers are authenticated, the families that name tenants are shown to a
//! credential with the permission `fleet` alone. A worker's port, which has no API, shows all.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::auth::Caller;
use super::docs::FleetProblems;
use super::problem::{Problem, ProblemType};
use crate::domain::Permission;
use crate::telemetry::Prometheus;

/// The exposition format that is written.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is scraped, and who may see all of it.
#[derive(Clone)]
pub(super) struct Scrape {
    pub(super) prometheus: Prometheus,
    /// Who knows callers; none in a process that has no API.
    pub(super) api: Option<Shared>,
}

impl Scrape {
    /// Whether the caller may see who the tenants are. A credential that can't be looked up just now
    /// shows nothing of them: what is wrong with the store is to be seen here all the same.
    async fn names_tenants(&self, request: Request) -> Result<bool, Problem> {
        let Some(api) = self.api.as_ref().filter(|api| !api.auth.is_open()) else { return Ok(true) };
        if !request.headers().contains_key(AUTHORIZATION) {
            return Ok(false);
        }
        let (mut parts, _) = request.into_parts();
        match Caller::from_request_parts(&mut parts, api).await {
            Ok(caller) => caller.require(Permission::Fleet).map(|()| true),
            Err(problem) if problem.what() == ProblemType::Unavailable => Ok(false),
            Err(problem) => Err(problem),
        }
    }
}

/// Metrics for Prometheus
///
/// The families that name tenants need a credential with the permission `fleet`, where callers are
/// authenticated; without one the others are shown.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "Exposition format 0.0.4"),
        FleetProblems,
    ),
    security((), ("bearer" = [])),
)]
pub(super) async fn get_metrics(State(scrape): State<Scrape>, request: Request) -> Result<Response, Problem> {
    let names_tenants = scrape.names_tenants(request).await?;
    Ok(([(CONTENT_TYPE, FORMAT)], scrape.prometheus.render(names_tenants)).into_response())
}
