//! `/v1/tenants` and `/v1/retention`: who may, what is taken, what is answered, and what is gone.

use axum::http::StatusCode;
use riskfleet::ports::EventStore;
use serde_json::{Value, json};

use super::archive::Archive;
use super::credentials::token;
use super::{Answer, Api, closed, open, pointers};

const REASON: &str = r#"{"reason":"case 7"}"#;
const RETENTION: &str = r#"{"reason":"contract 12","retention_days":400}"#;

/// A role, and the statuses that it gets.
type Row = (&'static str, u16, [u16; 4], [u16; 4], u16);

/// By role: the list; then of the caller's own tenant, and of another's: reading, retention, hold,
/// release; then a dry sweep.
const TABLE: [Row; 5] = [
    ("ADMIN", 403, [200, 403, 200, 200], [404, 403, 404, 404], 403),
    ("ANALYST", 403, [403; 4], [403; 4], 403),
    ("APPROVER", 403, [403; 4], [403; 4], 403),
    ("VIEWER", 403, [403; 4], [403; 4], 403),
    ("OPERATOR", 200, [200; 4], [200; 4], 200),
];

async fn post(api: &Api, path: &str, auth: &[(&str, &str)], body: &str) -> Answer {
    api.call("POST", path, &[&[("content-type", "application/json")], auth].concat(), body.to_owned()).await
}

#[tokio::test]
async fn every_call_is_held_against_the_role_and_the_tenant() {
    for (role, list, own, others, sweep) in TABLE {
        let archive = Archive::new().await;
        archive.decided("acme", 3).await;
        archive.decided("globex", 3).await;
        let api = Api::over_archive(&archive, closed());
        let authorization = token(&[role]);
        let auth = [("authorization", authorization.as_str())];
        assert_eq!(api.get("/v1/tenants", &auth).await.status.as_u16(), list, "{role}");
        for (tenant, want) in [("acme", own), ("globex", others)] {
            let path = |verb: &str| format!("/v1/tenants/{tenant}{verb}");
            let answers = [
                api.get(&path(""), &auth).await,
                post(&api, &path("/retention"), &auth, RETENTION).await,
                post(&api, &path("/hold"), &auth, REASON).await,
                post(&api, &path("/release"), &auth, REASON).await,
            ];
            assert_eq!(answers.map(|answer| answer.status.as_u16()), want, "{role} on {tenant}");
        }
        let swept = post(&api, "/v1/retention/sweep", &auth, r#"{"dry_run":true}"#).await;
        assert_eq!(swept.status.as_u16(), sweep, "{role}");
    }
}

#[tokio::test]
async fn what_is_set_is_shown_and_said_again_changes_nothing() {
    let archive = Archive::new().await;
    archive.decided("acme", 3).await;
    let api = Api::over_archive(&archive, open());
    let set = post(&api, "/v1/tenants/acme/retention", &[], RETENTION).await;
    assert_eq!((&set.json["changed"], &set.json["tenant"]["retention_days"]), (&json!(true), &json!(400)));
    let held = post(&api, "/v1/tenants/acme/hold", &[], REASON).await;
    assert_eq!(held.json["tenant"]["hold"]["reason"], "case 7");
    assert_eq!(post(&api, "/v1/tenants/acme/hold", &[], REASON).await.json["changed"], false);
    let shown = api.get("/v1/tenants/acme", &[]).await;
    assert_eq!(shown.json, held.json["tenant"]);
    let listed = api.get("/v1/tenants?limit=1", &[]).await;
    assert_eq!((&listed.json["items"][0], &listed.json["next"]), (&shown.json, &json!("acme")));
    assert_eq!(api.get("/v1/tenants?after=acme", &[]).await.json, json!({"items": [], "next": null}));
    let free = post(&api, "/v1/tenants/acme/release", &[], REASON).await;
    assert_eq!(free.json["tenant"]["hold"], Value::Null);
    for path in ["/v1/tenants/nobody", "/v1/tenants/_platform", "/v1/tenants/a%2Fb"] {
        assert_eq!(api.get(path, &[]).await.problem(), (404, "not-found".into()), "{path}");
    }
    let platform = post(&api, "/v1/tenants/_platform/hold", &[], REASON).await;
    assert_eq!(platform.problem(), (404, "not-found".into()));
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let archive = Archive::new().await;
    let api = Api::over_archive(&archive, open());
    let cases = [
        ("/v1/tenants/acme/retention", "{}", vec!["/reason", "/retention_days"]),
        ("/v1/tenants/acme/retention", r#"{"retention_days":36501,"reason":"x"}"#, vec!["/retention_days"]),
        (
            "/v1/tenants/acme/retention",
            r#"{"retention_days":-1,"reason":7,"x":1}"#,
            vec!["/reason", "/retention_days", "/x"],
        ),
        ("/v1/tenants/acme/hold", "{}", vec!["/reason"]),
        ("/v1/tenants/acme/release", r#"{"reason":""}"#, vec!["/reason"]),
        ("/v1/retention/sweep", "{}", vec!["/reason"]),
        ("/v1/retention/sweep", r#"{"dry_run":1,"days":3}"#, vec!["/days", "/dry_run"]),
    ];
    for (path, body, want) in cases {
        let refused = post(&api, path, &[], body).await;
        assert_eq!(refused.problem(), (422, "validation".into()), "{path} {body}");
        let mut named = pointers(&refused.json);
        named.sort_unstable();
        assert_eq!(named, want, "{path} {body}");
    }
    assert_eq!(api.get("/v1/tenants?limit=0", &[]).await.problem(), (400, "bad-query".into()));
}

#[tokio::test]
async fn a_sweep_says_what_goes_and_what_went_answers_410() {
    let archive = Archive::new().await;
    let (old, held) = (archive.decided("acme", 60).await, archive.decided("globex", 50).await);
    let young = archive.decided("acme", 3).await;
    archive.advance().await;
    let api = Api::over_archive(&archive, open());
    post(&api, "/v1/tenants/globex/hold", &[], REASON).await;
    let fates = |answer: &Value| -> Vec<String> {
        let days = answer["days"].as_array().expect("days").iter();
        days.map(|day| format!("{} {}", day["fate"].as_str().expect("a fate"), day["reasons"][0]["code"])).collect()
    };
    let dry = post(&api, "/v1/retention/sweep", &[], r#"{"dry_run":true}"#).await;
    assert_eq!(fates(&dry.json), ["goes null", "stays \"held\"", "stays \"young\""]);
    assert_eq!((&dry.json["retention_days"], &dry.json["more"]), (&json!(30), &json!(false)));
    assert_eq!(api.get(&format!("/v1/events/{old}"), &[]).await.status, StatusCode::OK);
    let swept = post(&api, "/v1/retention/sweep", &[], REASON).await;
    assert_eq!(fates(&swept.json), ["dropped null", "stays \"held\"", "stays \"young\""]);
    for path in ["", "/decision", "/timeline"] {
        let gone = api.get(&format!("/v1/events/{old}{path}"), &[]).await;
        assert_eq!(gone.problem(), (410, "expired".into()), "{path}");
    }
    assert_eq!(api.get(&format!("/v1/dead-letters/{old}"), &[]).await.problem(), (410, "expired".into()));
    for kept in [held, young] {
        assert_eq!(api.get(&format!("/v1/events/{kept}"), &[]).await.status, StatusCode::OK);
    }
    let ledger = archive.store.ledger().await.expect("read");
    assert_eq!((ledger.accepted, ledger.decided, ledger.pending), (3, 3, 0));
}
