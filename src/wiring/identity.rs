//! How callers and senders are told apart: tokens, API keys and users of the broker, by the settings,
//! and the tasks that keep them fresh.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use metrics::counter;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::WiringError;
use crate::api::auth::{KeyRing, KeySet, SET_BYTES_MAX, TokenRules, Tokens};
use crate::api::problem::ProblemType;
use crate::api::{Authenticator, Refusals};
use crate::config::{Auth, InboxUsers, Settings};
use crate::domain::TenantId;
use crate::ingest::{InboxAuth, InboxRefusal, InboxSender, anybody};
use crate::lifecycle::{Bounded, Tls, Watch};
use crate::ports::{Clock, Registry};
use crate::telemetry::names::{self, reload};

/// How callers are checked; its tasks end with `stop`.
///
/// # Errors
/// When authentication is off where it must not be, or the key set can't be used.
pub(super) fn authenticator(
    settings: &Settings,
    registry: &Arc<dyn Registry>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<Authenticator, WiringError> {
    if settings.auth == Auth::Off {
        return Authenticator::open(settings.http_addr).map_err(|e| WiringError::Address(format!("start: {e}")));
    }
    let tokens = Arc::new(Tokens::new(TokenRules {
        secret: settings.jwt_secret.clone(),
        audience: settings.jwt_audience.clone(),
        issuer: settings.jwt_issuer.clone(),
        leeway_s: settings.jwt_leeway_s,
    }));
    if let Some(path) = &settings.jwks_file {
        follow_key_set(path, &tokens, stop)?;
    }
    let keys = Arc::new(KeyRing::new(registry.clone(), Arc::clone(clock)));
    let (ring, ending) = (Arc::clone(&keys), stop.clone());
    tokio::spawn(async move { ring.write_uses(ending).await });
    tracing::info!(
        jwt.secret = settings.jwt_secret.is_some(),
        jwt.keys = settings.jwks_file.is_some(),
        api.keys = true,
        "callers show a token signed in one of these ways, or an API key (the first: `riskfleet keys create --bootstrap`)"
    );
    Ok(Authenticator::closed(tokens, keys))
}

/// Reads the key set, and reads it again whenever it changes. One that can't be used leaves the keys
/// before it in use.
fn follow_key_set(path: &Path, tokens: &Arc<Tokens>, stop: &CancellationToken) -> Result<(), WiringError> {
    let watch = Watch::new(vec![path.to_owned()]);
    tokens.set_keys(key_set(path).map_err(WiringError::Address)?);
    let (path, tokens, stop) = (path.to_owned(), Arc::clone(tokens), stop.clone());
    tokio::spawn(watch.run(stop, move || {
        let result = match key_set(&path) {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the keys that sign tokens were exchanged");
                tokens.set_keys(keys);
                reload::OK
            }
            Err(e) => {
                tracing::error!(error = %e, "the keys that sign tokens stay as they were");
                reload::FAILED
            }
        };
        counter!(names::FILE_RELOADS, "file" => reload::KEY_SET, "result" => result).increment(1);
    }));
    Ok(())
}

fn key_set(path: &Path) -> Result<KeySet, String> {
    let shown = path.display();
    let bytes = fs::metadata(path).map_err(|e| format!("read jwks_file {shown}: {e}"))?.len();
    if bytes > SET_BYTES_MAX as u64 {
        return Err(format!("read jwks_file {shown}: it has more than {SET_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|e| format!("read jwks_file {shown}: {e}"))?;
    KeySet::parse(&text).map_err(|e| format!("read jwks_file {shown}: {e}"))
}

/// The listener with the certificate of the settings, where they name one; read again whenever its files
/// change.
///
/// # Errors
/// When the certificate can't be used.
pub(super) fn secured(
    listener: TcpListener,
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<Bounded, WiringError> {
    let listener = Bounded::new(listener);
    let (Some(cert), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) else { return Ok(listener) };
    let watch = Watch::new(vec![cert.clone(), key.clone()]);
    let tls = Tls::read(cert, key).map_err(WiringError::Address)?;
    let renewed = tls.clone();
    tokio::spawn(watch.run(stop.clone(), move || {
        let result = match renewed.renew() {
            Ok(()) => {
                tracing::info!("the listener's certificate was exchanged");
                reload::OK
            }
            Err(e) => {
                tracing::error!(error = %e, "the listener's certificate stays as it was");
                reload::FAILED
            }
        };
        counter!(names::FILE_RELOADS, "file" => reload::CERTIFICATE, "result" => result).increment(1);
    }));
    Ok(listener.with_tls(tls))
}

/// Where refusals of known callers go; its task ends with `stop`.
pub(super) fn refusals(registry: &Arc<dyn Registry>, clock: &Arc<dyn Clock>, stop: &CancellationToken) -> Refusals {
    let (refusals, writer) = Refusals::new(Arc::clone(clock));
    tokio::spawn(writer.run(registry.clone(), stop.clone()));
    refusals
}

/// Whose an inbox message is: its bearer header says it, or the user that the broker has validated.
/// Without authentication the event says it.
pub(super) fn inbox_auth(settings: &Settings, auth: &Authenticator, clock: &Arc<dyn Clock>) -> InboxAuth {
    if auth.is_open() {
        return anybody();
    }
    let (auth, clock) = (auth.clone(), Arc::clone(clock));
    let users = Arc::new(settings.inbox_users.clone());
    Arc::new(move |sender| {
        let (auth, clock, users) = (auth.clone(), Arc::clone(&clock), Arc::clone(&users));
        Box::pin(async move { sender_tenant(&auth, &*clock, users.as_ref().as_ref(), sender).await.map(Some) })
    })
}

async fn sender_tenant(
    auth: &Authenticator,
    clock: &dyn Clock,
    users: Option<&InboxUsers>,
    sender: InboxSender,
) -> Result<TenantId, InboxRefusal> {
    let never = |why: &str| InboxRefusal::Never(why.to_owned());
    let user = sender.user_id.as_deref().and_then(|user| users?.tenant(user)).cloned();
    let Some(header) = sender.authorization else {
        let why = "the header `authorization` is missing, and the property `user_id` names no user with a tenant";
        return user.ok_or_else(|| never(why));
    };
    let shown = auth.producer(&header, clock.now()).await.map_err(|problem| match problem.what() {
        ProblemType::Unauthorized | ProblemType::Forbidden => InboxRefusal::Never(problem.detail().to_owned()),
        _ => InboxRefusal::NotNow(problem.detail().to_owned()),
    })?;
    // Nobody but an operator has no tenant, and an operator may not create events.
    let shown = shown.ok_or_else(|| never("the credential is no tenant's"))?;
    match user {
        Some(user) if user != shown => Err(never("the broker's user and the credential are of two tenants")),
        _ => Ok(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::SystemClock;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use secrecy::SecretString;
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    async fn tenant(user: Option<&str>, authorization: Option<&str>) -> Result<String, String> {
        let auth = Authenticator::tokens(&SecretString::from(SECRET));
        let users = InboxUsers::parse("shop=acme").expect("users");
        let sender = InboxSender { user_id: user.map(str::to_owned), authorization: authorization.map(str::to_owned) };
        match sender_tenant(&auth, &SystemClock::new(), Some(&users), sender).await {
            Ok(tenant) => Ok(tenant.to_string()),
            Err(InboxRefusal::Never(why)) => Err(why),
            Err(InboxRefusal::NotNow(why)) => panic!("nothing is away: {why}"),
        }
    }

    fn bearer(tenant: &str, roles: &[&str]) -> String {
        let claims = json!({"sub": "shop", "tenant_id": tenant, "roles": roles, "exp": 4_000_000_000_u64});
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        format!("Bearer {}", token.expect("a token"))
    }

    #[tokio::test]
    async fn a_sender_is_its_user_or_its_credential_and_never_two() {
        let (acme, globex) = (bearer("acme", &["ANALYST"]), bearer("globex", &["ANALYST"]));
        assert_eq!(tenant(Some("shop"), None).await.as_deref(), Ok("acme"));
        assert_eq!(tenant(None, Some(&globex)).await.as_deref(), Ok("globex"));
        assert_eq!(tenant(Some("guest"), Some(&globex)).await.as_deref(), Ok("globex"));
        assert_eq!(tenant(Some("shop"), Some(&acme)).await.as_deref(), Ok("acme"));
        let viewer = bearer("acme", &["VIEWER"]);
        for (user, authorization, why) in [
            (None, None, "`authorization` is missing"),
            (Some("guest"), None, "`user_id` names no user"),
            (Some("shop"), Some(globex.as_str()), "of two tenants"),
            (Some("shop"), Some("Bearer x"), "does not hold"),
            (Some("shop"), Some(&viewer), "`create` is missing"),
            (None, Some(&bearer("_platform", &["ADMIN"])), "does not hold"),
        ] {
            let refused = tenant(user, authorization).await.expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
