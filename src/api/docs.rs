//! `GET /openapi.json`, `GET /docs`: the API's own description, made from the handlers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr, Response as Documented, ResponseBuilder};
use utoipa::{IntoResponses, Modify};

use super::json;
use super::problem::{PROBLEM_JSON, ProblemBody, ProblemType, ViolationBody};
use super::schemas::{
    Accepted, BatchEventInput, CloudEventInput, DecisionView, EvaluationView, EventInput, EventView, EventsInput,
    FailureView, KindName, OutcomeName, PolicyView, ReasonView, StatusName, TrailView,
};
use super::views::{AcceptedEvent, BatchAnswer, BatchItem};

/// What is said of the whole.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "riskfleet producer API",
        description = "Send risk and compliance events, read back what was decided. Errors are RFC 9457 problem \
            details with a stable `type`.",
    ),
    components(schemas(
        Accepted, AcceptedEvent, BatchAnswer, BatchItem, BatchEventInput, CloudEventInput, DecisionView, EvaluationView,
        EventInput, EventView, EventsInput, FailureView, KindName, OutcomeName, PolicyView, ProblemBody, ReasonView, StatusName,
        TrailView, ViolationBody,
    )),
    modifiers(&Bearer),
    tags(
        (name = "events", description = "Sending events and reading them back"),
        (name = "tenant", description = "Who the caller is taken for"),
        (name = "operations", description = "Health, metrics, this document"),
    ),
)]
pub(super) struct Whole;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Refusals of the routes that take events.
pub(super) struct SubmitProblems;

impl IntoResponses for SubmitProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let not_here = [ProblemType::NotFound, ProblemType::NotDecided, ProblemType::MethodNotAllowed];
        problems(|what| !not_here.contains(&what))
    }
}

/// Refusals of the routes that read an event.
pub(super) struct ReadProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || matches!(what, ProblemType::NotFound | ProblemType::NotDecided))
    }
}

/// Refusals of the route that shows the caller to itself.
pub(super) struct ContextProblems;

impl IntoResponses for ContextProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || what == ProblemType::TenantMissing)
    }
}

fn reading(what: ProblemType) -> bool {
    matches!(
        what,
        ProblemType::BadHeader
            | ProblemType::Unauthorized
            | ProblemType::TenantMismatch
            | ProblemType::Forbidden
            | ProblemType::Internal
            | ProblemType::Unavailable
            | ProblemType::Timeout
    )
}

fn problems(answered: impl Fn(ProblemType) -> bool) -> BTreeMap<String, RefOr<Documented>> {
    let types: Vec<ProblemType> = ProblemType::ALL.into_iter().filter(|what| answered(*what)).collect();
    let statuses: BTreeSet<u16> = types.iter().map(|what| what.status().as_u16()).collect();
    let one = |status: u16| {
        let said = types.iter().filter(|what| what.status().as_u16() == status);
        let text: Vec<String> = said.map(|what| format!("{} (`{}`)", what.title(), what.urn())).collect();
        let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(text.join("; ")).content(PROBLEM_JSON, content).build();
        (status.to_string(), RefOr::T(response))
    };
    statuses.into_iter().map(one).collect()
}

/// This document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    responses((status = 200, body = Object, description = "OpenAPI 3.1")),
)]
pub(super) async fn get_openapi(State(document): State<Arc<OpenApi>>) -> Response {
    json(StatusCode::OK, &*document)
}

/// The interactive page.
#[cfg(feature = "swagger-ui")]
pub(super) fn page() -> axum::Router {
    use utoipa_swagger_ui::{Config, SwaggerUi};
    SwaggerUi::new("/docs").config(Config::new(["/openapi.json"])).into()
}

/// The way to the document.
#[cfg(not(feature = "swagger-ui"))]
pub(super) fn page() -> axum::Router {
    const PAGE: &str = "<!doctype html><html lang=\"en\"><title>riskfleet API</title>\
        <p>The API is described in <a href=\"/openapi.json\">/openapi.json</a> (OpenAPI 3.1). \
        This build has no interactive page: the feature <code>swagger-ui</code> is off.</p></html>";
    axum::Router::new().route("/docs", axum::routing::get(|| async { axum::response::Html(PAGE) }))
}
