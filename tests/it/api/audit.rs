//! `GET /v1/audit`, its checkpoints and its key: who may read which chain.

use super::credentials::token;
use super::fakes::{FakeIntake, FakeStore};
use super::{Api, LIMITS, closed, state};
use crate::checkpoints_contract::fixture::{self, Fixture, key};
use riskfleet::api::{ApiState, control_router};
use riskfleet::domain::Stream;
use riskfleet::governance::{Keys, Notary, Rules};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// An API over chains of acme, another tenant and the fleet itself, with a checkpoint over them.
async fn api(f: &Fixture) -> Api {
    for (name, stream) in [
        ("_platform", Stream::Control),
        ("acme", Stream::Workflow),
        ("acme", Stream::Control),
        ("other", Stream::Workflow),
    ] {
        f.grow(name, stream, 3).await;
    }
    let keys = Keys { current: key(1), previous: None };
    let rules = Rules { every: Duration::from_secs(60), records: 100 };
    let notary = Notary::begin(f.registry.clone(), f.clock.clone(), keys, rules, None).await;
    notary.expect("begins").look(true).await.expect("signs");
    let base = state(f.store.clone(), closed(), LIMITS, Vec::new());
    let state = ApiState { registry: f.registry.clone(), audit_key: Some(key(1).public()), ..base };
    let (intake, store) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
    Api { router: control_router(state), intake, store }
}

#[tokio::test]
async fn each_role_reads_its_own_chains_only() {
    fixture::run(fixture::sqlite().await, async |f: &Fixture| {
        let api = api(f).await;
        // Columns: acme's chain, another's, the fleet's, the checkpoints, the key.
        let paths = ["?tenant=acme", "?tenant=other", "?tenant=_platform", "/checkpoints", "/public-key"];
        for (role, want) in [
            ("ADMIN", [200, 403, 403, 403, 200]),
            ("ANALYST", [200, 403, 403, 403, 200]),
            ("APPROVER", [200, 403, 403, 403, 200]),
            ("VIEWER", [200, 403, 403, 403, 200]),
            ("OPERATOR", [403, 403, 200, 200, 200]),
        ] {
            let authorization = token(&[role]);
            for (path, want) in paths.iter().zip(want) {
                let answer = api.get(&format!("/v1/audit{path}"), &[("authorization", &authorization)]).await;
                assert_eq!(answer.status.as_u16(), want, "{role} {path}: {}", answer.text);
            }
        }
        assert_eq!(api.get("/v1/audit", &[]).await.status.as_u16(), 401);
    })
    .await;
}

#[tokio::test]
async fn a_chain_comes_in_pages_and_ends_where_it_ends() {
    fixture::run(fixture::sqlite().await, async |f: &Fixture| {
        let api = api(f).await;
        let authorization = token(&["VIEWER"]);
        let get = async |path: &str| api.get(path, &[("authorization", &authorization)]).await;
        let first = get("/v1/audit?limit=2").await.json;
        let places = |page: &serde_json::Value| -> Vec<(String, i64)> {
            let items = page["items"].as_array().expect("items");
            items
                .iter()
                .map(|r| (r["stream"].as_str().expect("text").into(), r["seq"].as_i64().expect("a number")))
                .collect()
        };
        assert_eq!(places(&first), [("workflow".into(), 1), ("workflow".into(), 2)]);
        assert_eq!(first["next"], json!(2));
        let rest = get("/v1/audit?after=2&limit=2").await.json;
        assert_eq!((places(&rest), &rest["next"]), (vec![("workflow".into(), 3)], &json!(null)));
        let control = get("/v1/audit?stream=control").await.json;
        assert_eq!(places(&control).len(), 3);
        for wrong in ["?stream=other", "?after=-1", "?limit=0", "?limit=1001", "?x=1"] {
            assert_eq!(get(&format!("/v1/audit{wrong}")).await.status.as_u16(), 400, "{wrong}");
        }
        let shown = get("/v1/audit/public-key").await.json;
        assert_eq!(shown, json!({ "key_id": key(1).id(), "public_key": hex::encode(key(1).public()) }));
    })
    .await;
}
