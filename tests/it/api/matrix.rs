//! Who may do what, all of it: every operation of the document × every role × the own tenant, another's,
//! and no credential, on the real router over SQLite. What is expected is the table of roles; an
//! operation that names no permission fails.

use super::fakes::{FakeClock, NOW_MS};
use super::graveyard::{Graveyard, PARTITIONS};
use super::{Answer, Api, SECRET};
use crate::office::Office;
use jsonwebtoken::{EncodingKey, Header, encode};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::api::{Plane, openapi};
use riskfleet::domain::audit::sha256;
use riskfleet::domain::version::{Artifact, NewVersion, VersionName};
use riskfleet::domain::{ApiKey, AuditBody, KeyId, Permission, Role, Stream, TenantId, time};
use riskfleet::ports::{Keys, Versions};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// What anybody may ask.
const PUBLIC: [&str; 5] = ["/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"];

const OWN: &str = "acme";
const OTHER: &str = "globex";

/// An operation of the document.
struct Operation {
    method: String,
    path: String,
    permission: Permission,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(openapi(Plane::Whole)).expect("a document");
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if PUBLIC.contains(&path.as_str()) {
                continue;
            }
            let said = operation["x-permission"].as_str();
            let permission = said.and_then(Permission::parse).unwrap_or_else(|| {
                panic!("{method} {path} names no permission: extensions((\"x-permission\" = json!(…))), not {said:?}")
            });
            found.push(Operation { method: method.to_uppercase(), path: path.clone(), permission });
        }
    }
    found
}

/// Things of a tenant that paths can name.
struct Things {
    event: String,
    dead: String,
    key: String,
    escalated: String,
    tenant: &'static str,
}

struct World {
    api: Api,
    own: Things,
    other: Things,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl World {
    async fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-matrix-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let store = SqliteStore::open(&folder.join("store.db"), PARTITIONS, [7; 32], Arc::new(FakeClock)).await;
        let store = Arc::new(store.expect("a new file opens"));
        let graveyard = Graveyard::over(store.clone()).await;
        let mut own = things(&graveyard, &store, OWN, 1).await;
        let mut other = things(&graveyard, &store, OTHER, 2).await;
        // Its claim ends the graveyard's.
        let office = Office::over(store.clone(), store.clone()).await;
        own.escalated = office.escalated(OWN).await.to_string();
        other.escalated = office.escalated(OTHER).await.to_string();
        Self { api: Api::governed(store, |_| {}), own, other, folder }
    }

    async fn ask(&self, operation: &Operation, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("x-idempotency-key", "matrix")];
        if operation.method != "GET" {
            all.push(("content-type", "application/json"));
        }
        all.extend_from_slice(headers);
        let body = match &*operation.method {
            "GET" => "",
            _ if path.ends_with("/comments") => r#"{"text":"matrix"}"#,
            _ => r#"{"reason":"matrix"}"#,
        };
        self.api.call(&operation.method, path, &all, body).await
    }
}

async fn things(graveyard: &Graveyard, store: &SqliteStore, tenant: &'static str, n: u8) -> Things {
    let event = graveyard.dead(tenant).await.to_string();
    let owner = TenantId::parse(tenant).expect("legal");
    let key = ApiKey {
        id: KeyId::mint(NOW_MS, [n; 10]),
        hash: sha256(&[n]),
        tenant: Some(owner.clone()),
        roles: vec![Role::Viewer],
        name: tenant.into(),
        created_at: time::from_millis(NOW_MS),
        created_by: "ann".into(),
        expires_at: None,
        revoked: None,
        last_used_at: None,
    };
    let id = key.id.to_string();
    let audit = AuditBody::new((owner, Stream::Control), key.created_at, "ann", "key_created", ("key", id.clone()));
    store.create_key(&key, &audit).await.expect("made");
    for artifact in Artifact::ALL {
        let new = NewVersion {
            tenant: audit.tenant_id.clone(),
            artifact,
            name: VersionName::parse(tenant).expect("legal"),
            content: b"{}".to_vec(),
            author: "ben".into(),
            reason: "matrix".into(),
            at: time::from_millis(NOW_MS),
        };
        store.register_version(&new, &audit).await.expect("acts").expect("registered");
    }
    let dead = graveyard.dead(tenant).await.to_string();
    Things { event, dead, key: id, escalated: String::new(), tenant }
}

/// The path with its parameters filled in, and whether what it names is there: of a kind that is not
/// listed here nothing is.
fn filled(path: &str, things: &Things) -> (String, bool) {
    let thing = match path.split('/').nth(2) {
        Some("events") => Some(things.event.as_str()),
        Some("dead-letters") => Some(things.dead.as_str()),
        Some("keys") => Some(things.key.as_str()),
        Some("approvals") => Some(&*things.escalated),
        Some("tenants" | "costs") if path.contains('{') => Some(things.tenant),
        // Each has one version of each kind, under its own name.
        Some("models" | "prompts") => Some(things.tenant),
        _ => None,
    };
    let nothing = "019aa5a0-0000-7000-8000-000000000000".to_owned();
    let fill = |part: &str| match part {
        "{version}" => "1".to_owned(),
        part if part.starts_with('{') => thing.unwrap_or(&nothing).to_owned(),
        part => part.to_owned(),
    };
    let whole: Vec<String> = path.split('/').map(fill).collect();
    (whole.join("/"), thing.is_some() && path.contains('{'))
}

/// A credential of a role; only a producer's names none, and only an operator has no tenant.
fn credential(role: Role) -> String {
    let mut claims = json!({"sub": "ann", "tenant_id": OWN, "roles": [role.as_str()], "exp": NOW_MS / 1000 + 60});
    match role {
        Role::Producer => claims["roles"] = Value::Null,
        Role::Operator => claims["tenant_id"] = Value::Null,
        Role::Admin | Role::Analyst | Role::Approver | Role::Viewer => {}
    }
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
    format!("Bearer {}", token.expect("a token"))
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the count is what the test is asked for")]
async fn every_operation_is_held_against_the_table_for_every_role_and_tenant() {
    let world = World::new().await;
    let operations = operations();
    let mut held = 0;
    for operation in &operations {
        let place = format!("{} {}", operation.method, operation.path);
        let (own, _) = filled(&operation.path, &world.own);
        let (foreign, there) = filled(&operation.path, &world.other);
        for role in Role::ALL {
            let (authorization, name) = (credential(role), role.as_str());
            let credential = ("authorization", authorization.as_str());
            let allowed = role.allows(operation.permission);

            let answer = world.ask(operation, &own, &[credential]).await;
            match allowed {
                true => assert!(!matches!(answer.status.as_u16(), 401 | 403), "{name} {place}: {}", answer.text),
                false => assert_eq!(answer.problem(), (403, "forbidden".into()), "{name} {place}"),
            }

            let claimed = world.ask(operation, &own, &[credential, ("x-tenant-id", OTHER)]).await;
            assert_eq!(claimed.problem(), (403, "tenant-mismatch".into()), "{name} {place} as {OTHER}");
            if there {
                let answer = world.ask(operation, &foreign, &[credential]).await;
                match (allowed, role) {
                    // An operator looks after everybody's keys and tenants; a change may lack more than
                    // a reason.
                    (true, Role::Operator) => {
                        let reached = answer.status.is_success() || answer.status.as_u16() == 422;
                        assert!(reached, "{name} {place}: {}", answer.text);
                    }
                    (true, _) => assert_eq!(answer.problem(), (404, "not-found".into()), "{name} {place} of {OTHER}"),
                    (false, _) => assert_eq!(answer.problem(), (403, "forbidden".into()), "{name} {place} of {OTHER}"),
                }
            }

            for nobody in [&[][..], &[("x-tenant-id", OWN)], &[("authorization", "Bearer rfk_x")]] {
                let answer = world.ask(operation, &own, nobody).await;
                assert_eq!(answer.problem(), (401, "unauthorized".into()), "{place} without a credential");
            }
            held += 3;
        }
    }
    println!("access matrix: {held} = {} operations × {} roles × 3 tenants", operations.len(), Role::ALL.len());
    assert!(operations.len() >= 16, "{}", operations.len());
}

#[tokio::test]
async fn what_anybody_may_ask_shows_nothing_of_a_tenant() {
    let world = World::new().await;
    for path in PUBLIC {
        let answer = world.api.get(path, &[]).await;
        assert!(answer.status.is_success(), "{path}");
        assert!(!answer.text.contains(OTHER) && !answer.text.contains(&world.own.event), "{path}");
    }
}

/// The names of tenants are not for anybody who reaches the port.
#[tokio::test]
async fn only_who_runs_the_fleet_sees_tenants_in_the_metrics() {
    let world = World::new().await;
    // So that there is a request of a tenant to be counted.
    let (analyst, tenants) = (credential(Role::Analyst), "riskfleet_tenant_requests_total{");
    world.api.get("/v1/tenant/context", &[("authorization", &analyst)]).await;
    for role in Role::ALL {
        let answer = world.api.get("/metrics", &[("authorization", &credential(role))]).await;
        match role.allows(Permission::Fleet) {
            true => assert!(answer.status.is_success() && answer.text.contains(tenants), "{}", answer.text),
            false => assert_eq!(answer.problem(), (403, "forbidden".into()), "{}", role.as_str()),
        }
    }
    let wrong = world.api.get("/metrics", &[("authorization", "Bearer rfk_x")]).await;
    assert_eq!(wrong.problem(), (401, "unauthorized".into()));
    let nobody = world.api.get("/metrics", &[]).await;
    assert!(nobody.status.is_success() && !nobody.text.contains(tenants), "{}", nobody.text);
    assert!(nobody.text.contains("riskfleet_http_requests_total"), "the others are shown");
}
