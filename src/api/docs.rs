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
    Accepted, BatchEventInput, ChargeView, CloudEventInput, DecisionView, EvaluationView, EventInput, EventView,
    EventsInput, FailureView, KindName, OutcomeName, PolicyView, ReasonView, StatusName, TrailView,
};
use super::views::{AcceptedEvent, BatchAnswer, BatchItem};

/// What is said of the whole.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "riskfleet API",
        description = "Send risk and compliance events, read back what was decided, and look after what failed. \
            Errors are RFC 9457 problem details with a stable `type`.",
    ),
    components(schemas(
        Accepted, AcceptedEvent, BatchAnswer, BatchItem, BatchEventInput, ChargeView, CloudEventInput, DecisionView, EvaluationView,
        EventInput, EventView, EventsInput, FailureView, KindName, OutcomeName, PolicyView, ProblemBody, ReasonView, StatusName,
        TrailView, ViolationBody,
    )),
    modifiers(&Bearer),
    tags(
        (name = "events", description = "Sending events and reading them back"),
        (name = "dead-letters", description = "Events that failed for good: reading, replaying, discarding them"),
        (name = "approvals", description = "What the workflow escalates: people claim, comment and decide it"),
        (name = "audit", description = "The chains of the audit, and what is signed over them"),
        (name = "fleet", description = "The fleet as a whole"),
        (name = "tenants", description = "How long things are kept, and what must not go"),
        (name = "costs", description = "What decisions have cost, and what a tenant's month may cost"),
        (name = "keys", description = "API keys: making, listing and revoking them"),
        (name = "models", description = "What gives the risk score: versions under four eyes, and the active one"),
        (name = "prompts", description = "What a language model is asked with: versions under four eyes"),
        (name = "tenant", description = "Who the caller is taken for"),
        (name = "operations", description = "Health, metrics, this document"),
    ),
)]
pub(super) struct Whole;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT, or an API key").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Refusals of the routes that take events.
pub(super) struct SubmitProblems;

impl IntoResponses for SubmitProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let not_here = [
            ProblemType::NotFound,
            ProblemType::Expired,
            ProblemType::Erased,
            ProblemType::LegalHold,
            ProblemType::NotDecided,
            ProblemType::NotDead,
            ProblemType::Discarded,
            ProblemType::NotEscalated,
            ProblemType::AlreadyDecided,
            ProblemType::Claimed,
            ProblemType::NotClaimed,
            ProblemType::SecondLevel,
            ProblemType::RequestFull,
            ProblemType::FourEyes,
            ProblemType::VersionDecided,
            ProblemType::NotApproved,
            ProblemType::VersionsFull,
            ProblemType::BudgetsFull,
            ProblemType::BadQuery,
            ProblemType::MethodNotAllowed,
        ];
        problems(|what| !not_here.contains(&what))
    }
}

/// Refusals of the routes that read an event.
pub(super) struct ReadProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| {
            let those = [ProblemType::NotFound, ProblemType::NotDecided, ProblemType::Expired, ProblemType::Erased];
            reading(what) || those.contains(&what)
        })
    }
}

/// Refusals of the route that shows the caller to itself.
pub(super) struct ContextProblems;

impl IntoResponses for ContextProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || what == ProblemType::TenantMissing)
    }
}

/// Refusals of the route that lists dead letters.
pub(super) struct ListProblems;

impl IntoResponses for ListProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || what == ProblemType::BadQuery)
    }
}

/// Refusals of the route that shows one dead letter.
pub(super) struct ShowProblems;

impl IntoResponses for ShowProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let gone = [ProblemType::NotFound, ProblemType::Expired, ProblemType::Erased];
        problems(|what| reading(what) || gone.contains(&what))
    }
}

/// Refusals of the routes that change a dead letter.
pub(super) struct ChangeProblems;

impl IntoResponses for ChangeProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let those = [ProblemType::NotFound, ProblemType::NotDead, ProblemType::Discarded, ProblemType::Expired];
        problems(|what| reading(what) || giving_a_reason(what) || those.contains(&what))
    }
}

/// Refusals of the routes that change an approval request.
pub(super) struct ActProblems;

impl IntoResponses for ActProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let those = [
            ProblemType::NotFound,
            ProblemType::NotEscalated,
            ProblemType::AlreadyDecided,
            ProblemType::Claimed,
            ProblemType::NotClaimed,
            ProblemType::SecondLevel,
            ProblemType::RequestFull,
        ];
        problems(|what| reading(what) || giving_a_reason(what) || those.contains(&what))
    }
}

/// Refusals of the routes that show the fleet.
pub(super) struct FleetProblems;

impl IntoResponses for FleetProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(reading)
    }
}

/// Refusals of the route that asks for a repair.
pub(super) struct RepairProblems;

impl IntoResponses for RepairProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || giving_a_reason(what))
    }
}

/// Refusals of the route that shows a tenant.
pub(super) struct TenantShowProblems;

impl IntoResponses for TenantShowProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || what == ProblemType::NotFound)
    }
}

/// Refusals of the routes that change a tenant.
pub(super) struct TenantChangeProblems;

impl IntoResponses for TenantChangeProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || giving_a_reason(what) || what == ProblemType::NotFound)
    }
}

/// Refusals of the routes that show costs and budgets.
pub(super) struct CostProblems;

impl IntoResponses for CostProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || asking_a_tenants(what))
    }
}

/// Refusals of the route that sets a budget.
pub(super) struct BudgetSetProblems;

impl IntoResponses for BudgetSetProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let those = [ProblemType::NotFound, ProblemType::BudgetsFull];
        problems(|what| reading(what) || giving_a_reason(what) || those.contains(&what))
    }
}

/// Refusals of the route that erases.
pub(super) struct EraseProblems;

impl IntoResponses for EraseProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let those = [ProblemType::NotFound, ProblemType::LegalHold];
        problems(|what| reading(what) || giving_a_reason(what) || those.contains(&what))
    }
}

/// Refusals of the route that makes a key.
pub(super) struct NewKeyProblems;

impl IntoResponses for NewKeyProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || giving_a_reason(what))
    }
}

/// Refusals of the route that revokes a key.
pub(super) struct RevokeProblems;

impl IntoResponses for RevokeProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || giving_a_reason(what) || what == ProblemType::NotFound)
    }
}

/// Refusals of the routes that list versions, or show which one is active.
pub(super) struct VersionsListProblems;

impl IntoResponses for VersionsListProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || asking_a_tenants(what))
    }
}

/// Refusals of the routes that show a version.
pub(super) struct VersionShowProblems;

impl IntoResponses for VersionShowProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        problems(|what| reading(what) || asking_a_tenants(what) || what == ProblemType::NotFound)
    }
}

/// Refusals of the routes that register a version.
pub(super) struct NewVersionProblems;

impl IntoResponses for NewVersionProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let those = [ProblemType::TenantMissing, ProblemType::VersionsFull];
        problems(|what| reading(what) || giving_a_reason(what) || those.contains(&what))
    }
}

/// Refusals of the routes that do something with a version.
pub(super) struct VersionActProblems;

impl IntoResponses for VersionActProblems {
    fn responses() -> BTreeMap<String, RefOr<Documented>> {
        let those = [
            ProblemType::NotFound,
            ProblemType::FourEyes,
            ProblemType::VersionDecided,
            ProblemType::NotApproved,
            ProblemType::VersionsFull,
        ];
        problems(|what| reading(what) || asking_a_tenants(what) || giving_a_reason(what) || those.contains(&what))
    }
}

fn asking_a_tenants(what: ProblemType) -> bool {
    matches!(what, ProblemType::BadQuery | ProblemType::TenantMissing)
}

fn giving_a_reason(what: ProblemType) -> bool {
    matches!(
        what,
        ProblemType::BrokenJson
            | ProblemType::BadBody
            | ProblemType::BodySlow
            | ProblemType::TooLarge
            | ProblemType::UnsupportedMediaType
            | ProblemType::Validation
    )
}

fn reading(what: ProblemType) -> bool {
    matches!(
        what,
        ProblemType::BadHeader
            | ProblemType::UriTooLong
            | ProblemType::TooManyRequests
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
