//! `keys create --bootstrap`: the first operator's key of a fleet, straight in its store. Never makes a
//! second one: whoever has one makes the others through the API.

use serde_json::json;

use super::create::tell;
use crate::cli::args::KeyCreate;
use crate::cli::{CliError, Exit, Screen};
use crate::domain::audit::sha256;
use crate::domain::keys::{KEY_NAME_MAX, KeyView, key_text};
use crate::domain::{ApiKey, AuditBody, KeyId, Role, Stream, TenantId, time};
use crate::ports::{Clock, Entropy, Keys, Registry};

/// Who did it, in the audit.
const ACTOR: &str = "bootstrap";

pub(super) async fn run(
    args: &KeyCreate,
    registry: &dyn Registry,
    (clock, entropy): (&dyn Clock, &dyn Entropy),
    screen: &mut Screen<'_>,
) -> Result<Exit, CliError> {
    let name = args.name.trim();
    if !(1..=KEY_NAME_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(CliError::Misuse(format!("--name must be a text of 1 to {KEY_NAME_MAX} characters")));
    }
    let (now, text) = (time::whole_millis(clock.now()), key_text(entropy.secret()));
    let key = ApiKey {
        id: KeyId::mint(time::to_millis(now), entropy.ten_bytes()),
        hash: sha256(text.as_bytes()),
        tenant: None,
        roles: vec![Role::Operator],
        name: name.to_owned(),
        created_at: now,
        created_by: ACTOR.into(),
        expires_at: args.expires_at,
        revoked: None,
        last_used_at: None,
    };
    let chain = (TenantId::platform(), Stream::Control);
    let audit = AuditBody {
        new: Some(
            json!({"tenant_id": null, "roles": [Role::Operator.as_str()], "expires_at": key.expires_at.map(time::text)}),
        ),
        ..AuditBody::new(chain, now, ACTOR, "key_created", ("key", key.id.to_string()))
    };
    if !Keys::create_first_key(registry, &key, &audit).await? {
        return Err(CliError::Misuse(
            "a key of an operator is there already: make others with it, without --bootstrap; or revoke it first"
                .into(),
        ));
    }
    tell(&json!({"key": text, "api_key": KeyView::of(key, now)}), args.json, screen)
}
