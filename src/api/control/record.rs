//! Owns the circumstances of an audit record of a person's action: who, when, from where, under which
//! correlation id. What was done is the caller's to add.

use super::super::ApiState;
use super::super::auth::Caller;
use super::super::observe::RequestContext;
use crate::domain::{AuditBody, Stream, TenantId};

/// A record for the control chain of `tenant`, without a reason and without states.
pub(super) fn act(
    api: &ApiState,
    (caller, context): (&Caller, &RequestContext),
    tenant: &TenantId,
    action: &str,
    resource: (&str, String),
) -> AuditBody {
    let chain = (tenant.clone(), Stream::Control);
    AuditBody {
        correlation_id: Some(context.correlation_id.clone()),
        address: context.address.map(|address| address.to_string()),
        ..AuditBody::new(chain, api.clock.now(), caller.subject.clone(), action, resource)
    }
}
