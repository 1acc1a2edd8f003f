//! API keys at the API: who may make which, what they let in, how soon a revocation holds, and what
//! happens while the store is away. And what known callers are refused, in the audit.

use super::credentials::token;
use super::fakes::{FakeEntropy, NOW_MS};
use super::{Answer, Api};
use async_trait::async_trait;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use riskfleet::adapters::sqlite::SqliteStore;
use riskfleet::api::auth::{AUDIENCE, KeyRing, TokenRules, Tokens};
use riskfleet::api::{Authenticator, Refusals};
use riskfleet::domain::audit::{Hash, check};
use riskfleet::domain::{ApiKey, AuditBody, ChainHead, CorrelationId, KeyId, Stream, TenantId, time};
use riskfleet::ports::keys::{KeyAct, KeyFilter};
use riskfleet::ports::{Clock, EventStore, Keys, StoreError};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const JSON: (&str, &str) = ("content-type", "application/json");
const REASON: &str = r#"{"reason":"leaked"}"#;

/// A clock that moves when it is told to.
#[derive(Default)]
struct HandClock(AtomicU64);

impl HandClock {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).expect("short"), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        time::from_millis(NOW_MS + self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        // Not from zero: nothing may take the beginning for a moment at which something happened.
        Duration::from_secs(1_000) + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// A registry that can be away, and counts what it is asked.
struct Watched {
    store: Arc<SqliteStore>,
    away: AtomicBool,
    reads: AtomicU64,
}

#[async_trait]
impl Keys for Watched {
    async fn create_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<(), StoreError> {
        self.store.create_key(key, audit).await
    }

    async fn create_first_key(&self, key: &ApiKey, audit: &AuditBody) -> Result<bool, StoreError> {
        self.store.create_first_key(key, audit).await
    }

    async fn revoke_key(&self, id: KeyId, audit: &AuditBody) -> Result<KeyAct, StoreError> {
        self.store.revoke_key(id, audit).await
    }

    async fn key(&self, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        self.store.key(id).await
    }

    async fn key_by_hash(&self, hash: &Hash) -> Result<Option<ApiKey>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Away("connection refused".into()));
        }
        self.store.key_by_hash(hash).await
    }

    async fn list_keys(&self, filter: &KeyFilter) -> Result<Vec<ApiKey>, StoreError> {
        self.store.list_keys(filter).await
    }

    async fn touch_keys(&self, used: &[(KeyId, DateTime<Utc>)]) -> Result<(), StoreError> {
        self.store.touch_keys(used).await
    }

    async fn append_control(&self, audit: &AuditBody) -> Result<(), StoreError> {
        self.store.append_control(audit).await
    }
}

/// Two processes on one store, as far as keys go.
struct World {
    first: Api,
    second: Api,
    registry: Arc<Watched>,
    clock: Arc<HandClock>,
    rings: Vec<Arc<KeyRing>>,
    stop: CancellationToken,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl World {
    async fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("riskfleet-api-keys-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let clock = Arc::new(HandClock::default());
        let store = SqliteStore::open(&folder.join("store.db"), 4, [7; 32], clock.clone()).await;
        let store = Arc::new(store.expect("a new file opens"));
        let registry =
            Arc::new(Watched { store: store.clone(), away: AtomicBool::new(false), reads: AtomicU64::new(0) });
        let (mut rings, stop, entropy) = (Vec::new(), CancellationToken::new(), Arc::new(FakeEntropy::default()));
        let mut process = || {
            let secret = Some(SecretString::from(super::SECRET));
            let rules = TokenRules { secret, audience: AUDIENCE.into(), issuer: None, leeway_s: 30 };
            let ring = Arc::new(KeyRing::new(registry.clone(), clock.clone()));
            let auth = Authenticator::closed(Arc::new(Tokens::new(rules)), ring.clone());
            rings.push(ring);
            let (refusals, writer) = Refusals::new(clock.clone());
            tokio::spawn(writer.run(registry.clone(), stop.clone()));
            Api::governed(store.clone(), |state| {
                (state.auth, state.clock, state.registry) = (auth, clock.clone(), store.clone());
                (state.refusals, state.entropy) = (refusals, entropy.clone());
            })
        };
        let (first, second) = (process(), process());
        Self { first, second, registry, clock, rings, stop, folder }
    }

    /// Makes a key as `authorization`.
    async fn make(&self, authorization: &str, body: &Value) -> Answer {
        self.first.call("POST", "/v1/keys", &[JSON, ("authorization", authorization)], body.to_string()).await
    }

    /// A key with these roles: its id and its bearer header.
    async fn key(&self, roles: &[&str]) -> (String, String) {
        let made = self.make(&token(&["ADMIN"]), &json!({"name": "shop", "roles": roles})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
        let text = made.json["key"].as_str().expect("a key");
        (made.json["api_key"]["id"].as_str().expect("an id").to_owned(), format!("Bearer {text}"))
    }

    async fn revoke(&self, id: &str, authorization: &str) -> Answer {
        let path = format!("/v1/keys/{id}/revoke");
        self.first.call("POST", &path, &[JSON, ("authorization", authorization)], REASON).await
    }

    async fn control_chain(&self, tenant: &TenantId) -> Vec<AuditBody> {
        let (mut head, mut found) = (ChainHead::EMPTY, Vec::new());
        for line in self.registry.store.audit_page(None, 10_000).await.expect("read") {
            if (&line.record.tenant, line.record.stream) == (tenant, Stream::Control) {
                found.push(check(&mut head, &line.record).expect("a whole chain"));
            }
        }
        found
    }
}

fn acme() -> TenantId {
    TenantId::parse("acme").expect("legal")
}

async fn status(api: &Api, authorization: &str) -> u16 {
    api.get("/v1/tenant/context", &[("authorization", authorization)]).await.status.as_u16()
}

#[tokio::test]
async fn a_key_lets_its_holder_in_as_what_it_says_until_its_end() {
    let world = World::new().await;
    let end = time::text(time::from_millis(NOW_MS + 60_000));
    let made = world.make(&token(&["ADMIN"]), &json!({"name": "shop", "roles": ["PRODUCER"], "expires_at": end})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let text = made.json["key"].as_str().expect("a key").to_owned();
    let bearer = format!("Bearer {text}");
    let seen = world.second.get("/v1/tenant/context", &[("authorization", &bearer)]).await;
    let id = made.json["api_key"]["id"].as_str().expect("an id");
    let shown = (&seen.json["tenant_id"], &seen.json["roles"], &seen.json["subject"]);
    assert_eq!(shown, (&json!("acme"), &json!(["PRODUCER"]), &json!(format!("key:{id}"))), "{}", seen.text);
    let list = world.first.get("/v1/keys", &[("authorization", &token(&["ADMIN"]))]).await;
    assert!(!list.text.contains(&text), "a key is shown once");
    assert_eq!((&list.json["items"][0]["state"], &list.json["items"][0]["name"]), (&json!("active"), &json!("shop")));
    let chain = world.control_chain(&acme()).await;
    let record = serde_json::to_string(&chain).expect("JSON");
    assert_eq!((chain.len(), chain[0].action.as_str(), chain[0].actor.as_str()), (1, "key_created", "ann"));
    assert!(!record.contains(&text) && !record.contains("shop"), "{record}");
    for wrong in [&bearer[..bearer.len() - 1], &format!("{bearer}A"), "Bearer rfk_", &bearer.to_lowercase()] {
        assert_eq!(status(&world.first, wrong).await, 401, "{wrong}");
    }
    world.clock.pass(Duration::from_secs(60));
    assert_eq!(status(&world.second, &bearer).await, 401, "it has expired");
}

#[tokio::test]
async fn nobody_gives_away_what_is_not_theirs() {
    let world = World::new().await;
    let (admin, body) =
        (token(&["ADMIN"]), |roles: Value, tenant: Value| json!({"name": "k", "roles": roles, "tenant_id": tenant}));
    let operator = world.make(&token(&["OPERATOR"]), &body(json!(["OPERATOR"]), Value::Null)).await;
    assert_eq!((operator.status, &operator.json["api_key"]["tenant_id"]), (StatusCode::CREATED, &Value::Null));
    let ops = format!("Bearer {}", operator.json["key"].as_str().expect("a key"));
    for (who, roles, tenant, want) in [
        (&admin, json!(["ADMIN", "ANALYST", "APPROVER", "VIEWER", "PRODUCER"]), json!("acme"), 201),
        (&admin, json!(["OPERATOR"]), Value::Null, 403),
        (&admin, json!(["VIEWER"]), json!("globex"), 403),
        (&admin, json!(["ROOT"]), Value::Null, 422),
        (&admin, json!([]), Value::Null, 422),
        (&admin, json!("VIEWER"), Value::Null, 422),
        (&admin, json!(["VIEWER", "VIEWER"]), Value::Null, 422),
        (&admin, json!(["VIEWER"]), json!("_platform"), 422),
        (&ops, json!(["ADMIN"]), json!("globex"), 201),
        (&ops, json!(["ADMIN"]), Value::Null, 422),
        (&ops, json!(["OPERATOR", "ADMIN"]), json!("globex"), 422),
        (&ops, json!(["ADMIN"]), json!("_platform"), 422),
    ] {
        let answer = world.make(who, &body(roles.clone(), tenant.clone())).await;
        assert_eq!(answer.status.as_u16(), want, "{roles} {tenant}: {}", answer.text);
    }
    let past = time::text(time::from_millis(NOW_MS));
    for wrong in [
        json!({"roles": ["VIEWER"]}),
        json!({"name": "", "roles": ["VIEWER"]}),
        json!({"name": "x".repeat(101), "roles": ["VIEWER"]}),
        json!({"name": "k", "roles": ["VIEWER"], "expires_at": past}),
        json!({"name": "k", "roles": ["VIEWER"], "expires_at": 5}),
        json!({"name": "k", "roles": ["VIEWER"], "key": "rfk_mine"}),
        json!([]),
    ] {
        assert_eq!(world.make(&admin, &wrong).await.problem(), (422, "validation".into()), "{wrong}");
    }
    let seen =
        async |who: &str, query: &str| world.first.get(&format!("/v1/keys{query}"), &[("authorization", who)]).await;
    assert_eq!(seen(&admin, "").await.json["items"].as_array().map(Vec::len), Some(1), "its own tenant's");
    assert_eq!(seen(&ops, "").await.json["items"].as_array().map(Vec::len), Some(3));
    let globex = seen(&ops, "?tenant=globex").await;
    let id = globex.json["items"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(seen(&admin, "?tenant=globex").await.problem(), (403, "tenant-mismatch".into()));
    let operators = operator.json["api_key"]["id"].as_str().expect("an id");
    for hidden in [id.as_str(), operators, "nonsense"] {
        assert_eq!(world.revoke(hidden, &admin).await.problem(), (404, "not-found".into()), "{hidden}");
    }
    assert_eq!(world.revoke(&id, &ops).await.json["state"], "revoked");
    assert_eq!(world.revoke(&id, &ops).await.status, StatusCode::OK, "again changes nothing");
    let globex = world.control_chain(&TenantId::parse("globex").expect("legal")).await;
    let actions: Vec<&str> = globex.iter().map(|body| body.action.as_str()).collect();
    assert_eq!(actions, ["key_created", "key_revoked"]);
    assert_eq!(globex[1].reason.as_deref(), Some("leaked"));
    assert_eq!(world.control_chain(&TenantId::platform()).await.len(), 1);
}

#[tokio::test]
async fn a_revocation_holds_on_every_process_within_two_seconds_while_requests_flow() {
    let world = World::new().await;
    let (id, bearer) = world.key(&["VIEWER"]).await;
    for api in [&world.first, &world.second] {
        assert_eq!(status(api, &bearer).await, 200);
    }
    world.clock.pass(Duration::from_millis(900));
    assert_eq!(world.revoke(&id, &token(&["ADMIN"])).await.status, StatusCode::OK);
    let mut let_in = Duration::ZERO;
    for step in 0..40_u32 {
        for api in [&world.first, &world.second] {
            if status(api, &bearer).await == 200 {
                let_in = Duration::from_millis(50) * step;
            }
        }
        world.clock.pass(Duration::from_millis(50));
    }
    assert!(let_in < Duration::from_secs(1), "still let in after {let_in:?}");
    assert_eq!((status(&world.first, &bearer).await, status(&world.second, &bearer).await), (401, 401));
}

#[tokio::test]
async fn a_store_that_is_away_lets_nobody_in_and_is_not_asked_by_everybody() {
    let world = World::new().await;
    let (_, bearer) = world.key(&["VIEWER"]).await;
    assert_eq!(status(&world.first, &bearer).await, 200);
    world.registry.away.store(true, Ordering::SeqCst);
    assert_eq!(status(&world.first, &bearer).await, 200, "what was read a moment ago holds for a second");
    assert_eq!(status(&world.second, &bearer).await, 503, "a process that has never seen it can't tell");
    world.clock.pass(Duration::from_secs(1));
    let before = world.registry.reads.load(Ordering::SeqCst);
    for _ in 0..50 {
        let refused = world.first.get("/v1/tenant/context", &[("authorization", &bearer)]).await;
        assert_eq!(refused.problem(), (503, "unavailable".into()));
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(world.registry.reads.load(Ordering::SeqCst) - before, 1, "one asks, the others are told");
    assert_eq!(status(&world.first, &token(&["VIEWER"])).await, 200, "tokens need no store");
    world.registry.away.store(false, Ordering::SeqCst);
    world.clock.pass(Duration::from_secs(1));
    assert_eq!(status(&world.first, &bearer).await, 200);
}

#[tokio::test]
async fn made_up_keys_cost_a_bounded_number_of_reads_and_known_ones_go_on() {
    let world = World::new().await;
    let (_, bearer) = world.key(&["VIEWER"]).await;
    assert_eq!(status(&world.first, &bearer).await, 200);
    let before = world.registry.reads.load(Ordering::SeqCst);
    let made_up = |n: u16| {
        let mut bits = [0xee; 32];
        bits[..2].copy_from_slice(&n.to_be_bytes());
        format!("Bearer {}", riskfleet::domain::keys::key_text(bits))
    };
    let mut answers = [0_u32; 2];
    for n in 0..600 {
        match status(&world.first, &made_up(n)).await {
            401 => answers[0] += 1,
            503 => answers[1] += 1,
            other => panic!("made up and answered with {other}"),
        }
    }
    assert!(answers[0] <= 200 && answers[1] >= 400, "{answers:?}");
    let asked = world.registry.reads.load(Ordering::SeqCst) - before;
    assert!(asked <= 200, "{asked} reads");
    assert_eq!(status(&world.first, &bearer).await, 200, "a key that is known does not suffer");
    assert_eq!(status(&world.first, &made_up(0)).await, 401, "remembered");
    assert_eq!(world.registry.reads.load(Ordering::SeqCst) - before, asked);
    world.clock.pass(Duration::from_secs(1));
    assert_eq!(status(&world.first, &made_up(599)).await, 401, "the next second has its own");
}

#[tokio::test]
async fn many_at_once_read_a_key_once_and_its_use_is_noted() {
    let world = World::new().await;
    let (id, bearer) = world.key(&["VIEWER"]).await;
    assert_eq!(status(&world.first, &bearer).await, 200);
    world.clock.pass(Duration::from_secs(2));
    let before = world.registry.reads.load(Ordering::SeqCst);
    let all = futures::future::join_all((0..40).map(|_| status(&world.first, &bearer))).await;
    assert!(all.iter().all(|status| *status == 200));
    assert_eq!(world.registry.reads.load(Ordering::SeqCst) - before, 1);
    let stop = CancellationToken::new();
    stop.cancel();
    world.rings[0].write_uses(stop).await;
    let used = world.registry.store.key(id.parse().expect("an id")).await.expect("read").expect("there").last_used_at;
    assert_eq!(used, Some(time::from_millis(NOW_MS)), "the first use; the others came within its minute");
}

#[tokio::test]
async fn what_a_known_caller_is_refused_is_chained_once_a_minute_and_route() {
    let world = World::new().await;
    let viewer = token(&["VIEWER"]);
    let headers = [("authorization", viewer.as_str()), ("x-correlation-id", "ticket-9")];
    for _ in 0..5 {
        assert_eq!(world.first.get("/v1/fleet", &headers).await.status, StatusCode::FORBIDDEN);
        let foreign = [&headers[..], &[("x-tenant-id", "globex")]].concat();
        assert_eq!(world.first.get("/v1/dead-letters", &foreign).await.status, StatusCode::FORBIDDEN);
        assert_eq!(world.first.get("/v1/fleet", &[("authorization", "Bearer x")]).await.status, 401);
    }
    let written = async |count: usize| {
        for _ in 0..400 {
            let chain = world.control_chain(&acme()).await;
            if chain.len() >= count {
                return chain;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{count} records are not there: {:?}", world.control_chain(&acme()).await)
    };
    let chain = written(2).await;
    let said: Vec<_> = chain.iter().map(|b| (b.action.as_str(), b.actor.as_str(), b.resource_id.as_str())).collect();
    let want = [("access_refused", "ann", "GET /v1/fleet"), ("access_refused", "ann", "GET /v1/dead-letters")];
    assert_eq!(said, want);
    assert_eq!(
        (chain[0].reason.as_deref(), &chain[0].reason_codes[..]),
        (Some("fleet"), &["permission_missing".into()][..])
    );
    assert_eq!(&chain[1].reason_codes[..], ["other_tenant"]);
    assert_eq!(chain[0].correlation_id.as_ref().map(CorrelationId::as_str), Some("ticket-9"));
    world.clock.pass(Duration::from_secs(60));
    assert_eq!(world.first.get("/v1/fleet", &headers).await.status, StatusCode::FORBIDDEN);
    assert_eq!(written(3).await.len(), 3, "the next minute has its own");
    // A crowd of callers leaves at most so many.
    for n in 0..150 {
        let claims =
            json!({"sub": format!("person-{n}"), "tenant_id": "acme", "roles": ["VIEWER"], "exp": NOW_MS / 1000 + 600});
        let key = jsonwebtoken::EncodingKey::from_secret(super::SECRET.as_bytes());
        let one = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
        let refused = world.first.get("/v1/fleet", &[("authorization", &format!("Bearer {one}"))]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let chain = written(50).await.len();
    assert!(chain <= 2 + 100, "{chain} records");
}
