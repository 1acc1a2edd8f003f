//! `POST /v1/models`, `POST /v1/prompts`: a new version, which somebody else has to approve.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::docs::NewVersionProblems;
use super::super::observe::RequestContext;
use super::super::problem::Problem;
use super::super::{ApiState, Shared, json};
use super::keys_create::{field, tenant_of};
use super::versions::{VersionView, owner, refused};
use super::{reason, record};
use crate::domain::version::{Artifact, CONTENT_MAX, NewVersion, VersionName};
use crate::domain::{AuditBody, Invalid, Permission, TenantId, Violation, parse, time};
use crate::pipeline::Scorecard;

/// The longest body: content that needs no more escapes than text usually does, and the rest.
const BODY_BYTES_MAX: usize = 2 * CONTENT_MAX + (16 << 10);

/// A model to be registered. Unknown fields are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `Wanted::read` takes field by field, to name every wrong one")]
pub(super) struct NewModel {
    /// 1 to 64 characters of `a-z`, `0-9`, `_` and `-`; not `baseline`.
    #[schema(example = "fraud")]
    name: String,
    /// A scorecard: `{"kind": "scorecard", "base", "min", "max", "characteristics": […]}`; its bytes are kept
    /// as they are.
    #[schema(value_type = Object)]
    content: Value,
    /// What is new in it, 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "points for new accounts")]
    reason: String,
    /// Whose; the credential's, when absent.
    tenant_id: Option<String>,
}

/// A prompt to be registered. Unknown fields are refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of what `Wanted::read` takes field by field, to name every wrong one")]
pub(super) struct NewPrompt {
    /// 1 to 64 characters of `a-z`, `0-9`, `_` and `-`.
    #[schema(example = "explain-escalation")]
    name: String,
    /// Its text.
    #[schema(example = "Say in two sentences why the event was escalated.")]
    content: String,
    /// What is new in it, 1 to 1,000 characters; stands in the audit, so no personal data.
    #[schema(example = "shorter")]
    reason: String,
    /// Whose; the credential's, when absent.
    tenant_id: Option<String>,
}

/// Register a model
///
/// It gets the next number of its name and never changes. Somebody else than its author has to approve
/// it, and then it can be made active. A wrong scorecard is refused with every wrong place named.
#[utoipa::path(
    post,
    path = "/v1/models",
    tag = "models",
    request_body(content = NewModel),
    responses((status = 201, body = VersionView, description = "It is registered, and pending"), NewVersionProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("register_model"))),
)]
pub(super) async fn register_model(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    register(&api, (&caller, &context), Artifact::Model, request).await
}

/// Register a prompt
///
/// As for models.
#[utoipa::path(
    post,
    path = "/v1/prompts",
    tag = "prompts",
    request_body(content = NewPrompt),
    responses((status = 201, body = VersionView, description = "It is registered, and pending"), NewVersionProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("register_model"))),
)]
pub(super) async fn register_prompt(
    State(api): State<Shared>,
    caller: Caller,
    context: RequestContext,
    request: Request,
) -> Result<Response, Problem> {
    register(&api, (&caller, &context), Artifact::Prompt, request).await
}

async fn register(
    api: &ApiState,
    (caller, context): (&Caller, &RequestContext),
    artifact: Artifact,
    request: Request,
) -> Result<Response, Problem> {
    caller.require(Permission::RegisterModel)?;
    let (parts, body) = request.into_parts();
    let text = reason::whole(api, &parts.headers, body, BODY_BYTES_MAX).await?;
    let wanted = Wanted::read(&text, artifact)?;
    let tenant = owner(caller, wanted.tenant)?;
    let (action, kind) = (format!("{artifact}_registered"), artifact.as_str());
    let name = wanted.name.to_string();
    let audit = AuditBody {
        reason: Some(wanted.reason.clone()),
        ..record::act(api, (caller, context), &tenant, &action, (kind, name))
    };
    let new = NewVersion {
        tenant,
        artifact,
        name: wanted.name,
        content: wanted.content,
        author: caller.subject.clone(),
        reason: wanted.reason,
        at: time::whole_millis(audit.at),
    };
    let registered = api.registry.register_version(&new, &audit).await?.map_err(|why| refused(artifact, why))?;
    tracing::info!(tenant.id = %new.tenant, version = %registered.key.version, actor = %caller.subject,
        "a {artifact} was registered");
    Ok(json(StatusCode::CREATED, &registered.view()))
}

/// What a body asks for.
struct Wanted {
    name: VersionName,
    content: Vec<u8>,
    reason: String,
    tenant: Option<TenantId>,
}

/// The content as it was sent: read and written again, it would have another SHA-256.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl Wanted {
    fn read(text: &[u8], artifact: Artifact) -> Result<Self, Problem> {
        let mut given = if text.is_empty() { Map::new() } else { parse::object(text)? };
        let sent = if text.is_empty() {
            None
        } else {
            let sent: Sent<'_> = serde_json::from_slice(text).map_err(|e| Invalid::Broken(e.to_string()))?;
            sent.content
        };
        let mut wrong = Vec::new();
        let name = field(&mut given, &mut wrong, "name", |value| name_of(artifact, value));
        let tenant = field(&mut given, &mut wrong, "tenant_id", |value| value.map(tenant_of).transpose());
        let content = match (given.remove("content"), artifact) {
            (Some(Value::String(text)), Artifact::Prompt) => prompt(text),
            (_, Artifact::Prompt) => Err(vec![Violation::at("/content", "must be a text")]),
            (_, Artifact::Model) => model(sent),
        };
        let said = reason::of(&given).and_then(|said| said.ok_or(vec![Violation::at("/reason", "is required")]));
        match (name, tenant, content, said) {
            (Some(name), Some(tenant), Ok(content), Ok(reason)) => Ok(Self { name, content, reason, tenant }),
            (_, _, content, said) => {
                wrong.extend(content.err().into_iter().chain(said.err()).flatten());
                Err(reason::wrong(wrong))
            }
        }
    }
}

fn name_of(artifact: Artifact, value: Option<Value>) -> Result<VersionName, String> {
    let Some(value) = value else { return Err("is required".into()) };
    let read = VersionName::parse(value.as_str().unwrap_or_default()).map_err(|e| e.why.to_owned())?;
    if artifact.reserves(&read) {
        return Err(format!("must not be `{read}`: what the program itself decides by has this name"));
    }
    Ok(read)
}

/// A model, byte by byte as it was sent.
fn model(sent: Option<&RawValue>) -> Result<Vec<u8>, Vec<Violation>> {
    let Some(sent) = sent else { return Err(vec![Violation::at("/content", "is required")]) };
    let text = sent.get();
    match Scorecard::parse(text.as_bytes()) {
        Ok(_) => Ok(text.into()),
        Err(Invalid::Fields(wrong)) => {
            Err(wrong.into_iter().map(|v| Violation::at(format!("/content{}", v.pointer), v.detail)).collect())
        }
        Err(other) => Err(vec![Violation::at("/content", other.to_string())]),
    }
}

fn prompt(text: String) -> Result<Vec<u8>, Vec<Violation>> {
    let shown = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    if text.trim().is_empty() || text.len() > CONTENT_MAX || !text.chars().all(shown) {
        let must =
            format!("must be a text of 1 to {CONTENT_MAX} bytes without control characters but line ends and tabs");
        return Err(vec![Violation::at("/content", must)]);
    }
    Ok(text.into_bytes())
}
