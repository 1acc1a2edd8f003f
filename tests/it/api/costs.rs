//! `/v1/costs`: who sees what, what is taken, what is answered.

use axum::http::StatusCode;
use riskfleet::domain::cost::{Charge, Micros};
use serde_json::{Value, json};

use super::credentials::{operator_token, token};
use super::{Answer, Api, closed, open, pointers};
use crate::office::{Office, after};

const BUDGET: &str = r#"{"monthly":"0.50","reason":"contract 12"}"#;
const REASON: &str = r#"{"reason":"over"}"#;

async fn post(api: &Api, path: &str, auth: &[(&str, &str)], body: &str) -> Answer {
    api.call("POST", path, &[&[("content-type", "application/json")], auth].concat(), body.to_owned()).await
}

/// Two tenants that have spent, in the month of the tests' clock.
async fn spent() -> Office {
    let o = Office::sqlite().await;
    let charge = |tokens, millionths| Charge { tokens, cost: Micros::new(millionths) };
    o.charged("acme", after(0), "fraud@3", charge(1_200, 412_400)).await;
    o.charged("acme", after(0), "baseline@1", charge(0, 0)).await;
    o.charged("globex", after(0), "baseline@1", charge(0, 7)).await;
    o
}

#[tokio::test]
async fn a_report_shows_rows_total_and_budget() {
    let o = spent().await;
    let api = o.api(open());
    let all = api.get("/v1/costs?by=tenant", &[]).await;
    let row = |tenant: &str, decisions: u64, tokens: u64, micros: u64, cost: &str| json!({"tenant_id": tenant, "decisions": decisions, "tokens": tokens, "cost_micros": micros, "cost": cost});
    let total = json!({"decisions": 3, "tokens": 1_200, "cost_micros": 412_407, "cost": "0.412407"});
    let want = json!({
        "currency_unit": "micros", "from": "2026-11-01", "to": "2026-11-21", "by": "tenant", "items_all": 2,
        "items": [row("acme", 2, 1_200, 412_400, "0.4124"), row("globex", 1, 0, 7, "0.000007")],
        "total": total, "budget": null,
    });
    assert_eq!((all.status, &all.json), (StatusCode::OK, &want));
    let models = api.get("/v1/costs?by=model&tenant=acme", &[]).await.json;
    assert_eq!((&models["items"][0]["model"], &models["items"][1]["model"]), (&json!("fraud@3"), &json!("baseline@1")));
    let days = api.get("/v1/costs?tenant=acme", &[]).await.json;
    assert_eq!((&days["items"][0]["day"], &days["items"][0]["cost"]), (&json!("2026-11-21"), &json!("0.4124")));
    post(&api, "/v1/costs/budgets/acme", &[], BUDGET).await;
    let budget = &api.get("/v1/costs?tenant=acme", &[]).await.json["budget"];
    assert_eq!(
        (&budget["spent"], &budget["monthly"], &budget["state"]),
        (&json!("0.4124"), &json!("0.5"), &json!("warned"))
    );
    let none = api.get("/v1/costs?from=2026-01-01&to=2026-10-31&limit=1", &[]).await.json;
    assert_eq!((&none["items"], &none["total"]["cost"]), (&json!([]), &json!("0")));
}

#[tokio::test]
async fn a_budget_is_set_shown_changed_and_taken_away() {
    let o = spent().await;
    let api = o.api(open());
    let set = post(&api, "/v1/costs/budgets/acme", &[], BUDGET).await;
    let want = json!({
        "tenant_id": "acme", "monthly_micros": 500_000, "monthly": "0.5", "warn_percent": 80, "stop": false,
        "set_at": "2026-11-21T10:00:00.000Z", "set_by": "local", "month": "2026-11",
        "spent_micros": 412_400, "spent": "0.4124", "state": "warned",
    });
    assert_eq!(set.json, json!({"changed": true, "budget": want}));
    assert_eq!(post(&api, "/v1/costs/budgets/acme", &[], BUDGET).await.json["changed"], false);
    let listed = api.get("/v1/costs/budgets?limit=1", &[]).await;
    assert_eq!(listed.json, json!({"items": [want], "next": "acme"}));
    assert_eq!(api.get("/v1/costs/budgets?after=acme", &[]).await.json, json!({"items": [], "next": null}));
    let stop = r#"{"monthly":"0.4","warn_percent":50,"stop":true,"reason":"too dear"}"#;
    let stopped = post(&api, "/v1/costs/budgets/acme", &[], stop).await.json;
    assert_eq!((&stopped["budget"]["state"], &stopped["budget"]["stop"]), (&json!("exhausted"), &json!(true)));
    let gone = post(&api, "/v1/costs/budgets/acme/remove", &[], REASON).await;
    assert_eq!(gone.json, json!({"changed": true, "budget": null}));
    assert_eq!(post(&api, "/v1/costs/budgets/acme/remove", &[], REASON).await.json["changed"], false);
    let actions: Vec<_> = o.control("acme").await.into_iter().map(|body| (body.action, body.reason)).collect();
    let act = |action: &str, why: &str| (action.to_owned(), Some(why.to_owned()));
    assert_eq!(
        actions,
        [act("budget_set", "contract 12"), act("budget_set", "too dear"), act("budget_removed", "over")]
    );
}

#[tokio::test]
async fn everybody_sees_its_own_and_only_operators_set_budgets() {
    let o = spent().await;
    let api = o.api(closed());
    for (role, reads, sets) in [
        ("ADMIN", 200, 403),
        ("ANALYST", 200, 403),
        ("APPROVER", 200, 403),
        ("VIEWER", 200, 403),
        ("OPERATOR", 200, 200),
    ] {
        let authorization = if role == "OPERATOR" { operator_token() } else { token(&[role]) };
        let auth = [("authorization", authorization.as_str())];
        let set = post(&api, "/v1/costs/budgets/globex", &auth, BUDGET).await.status.as_u16();
        let removed = post(&api, "/v1/costs/budgets/globex/remove", &auth, REASON).await.status.as_u16();
        assert_eq!((set, removed), (sets, sets), "{role}");
        post(&api, "/v1/costs/budgets/globex", &[("authorization", &operator_token())], BUDGET).await;
        for path in ["/v1/costs?by=tenant", "/v1/costs/budgets"] {
            let answer = api.get(path, &auth).await;
            assert_eq!(answer.status.as_u16(), reads, "{role} {path}");
            let sees_globex = answer.text.contains("globex");
            assert_eq!(sees_globex, role == "OPERATOR", "{role} {path}: {}", answer.text);
            let foreign =
                api.get(&format!("{path}{}tenant=globex", if path.contains('?') { '&' } else { '?' }), &auth).await;
            match role {
                "OPERATOR" => {
                    assert!(foreign.status.is_success() && !foreign.text.contains("acme"), "{}", foreign.text);
                }
                _ => assert_eq!(foreign.problem(), (403, "tenant-mismatch".into()), "{role} {path}"),
            }
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let o = spent().await;
    let api = o.api(open());
    for query in [
        "from=yesterday",
        "by=hour",
        "limit=0",
        "limit=1001",
        "from=2026-11-22&to=2026-11-21",
        "from=2025-01-01&to=2026-11-21",
        "page=2",
    ] {
        assert_eq!(api.get(&format!("/v1/costs?{query}"), &[]).await.problem(), (400, "bad-query".into()), "{query}");
    }
    for (body, wrong) in [
        ("{}", vec!["/monthly", "/reason"]),
        (r#"{"monthly":25,"reason":"x"}"#, vec!["/monthly"]),
        (r#"{"monthly":"-1","reason":"x"}"#, vec!["/monthly"]),
        (r#"{"monthly":"1000000000.000001","reason":"x"}"#, vec!["/monthly"]),
        (r#"{"monthly":"1","warn_percent":0,"stop":"yes","reason":"x"}"#, vec!["/warn_percent", "/stop"]),
        (r#"{"monthly":"1","warn_percent":101,"reason":" ","more":1}"#, vec!["/warn_percent", "/more", "/reason"]),
    ] {
        let answer = post(&api, "/v1/costs/budgets/acme", &[], body).await;
        assert_eq!((answer.problem().1.as_str(), pointers(&answer.json)), ("validation", wrong), "{body}");
    }
    for path in ["/v1/costs/budgets/_platform", "/v1/costs/budgets/a%2Fb"] {
        assert_eq!(post(&api, path, &[], BUDGET).await.problem(), (404, "not-found".into()), "{path}");
    }
    assert_eq!(o.control("acme").await.len(), 0);
}

#[tokio::test]
async fn an_event_shows_what_it_cost_and_nothing_where_that_is_nothing() {
    let o = Office::sqlite().await;
    let api = o.api(open());
    let dear = o.charged("acme", after(0), "fraud@3", Charge { tokens: 10, cost: Micros::new(20) }).await;
    let free = o.charged("acme", after(0), "fraud@3", Charge::default()).await;
    let want = json!({"tokens": 10, "cost_micros": 20, "cost": "0.00002"});
    assert_eq!(api.get(&format!("/v1/events/{dear}"), &[]).await.json["cost"], want);
    assert_eq!(api.get(&format!("/v1/events/{free}"), &[]).await.json.get("cost"), None::<&Value>);
    let timeline = api.get(&format!("/v1/events/{dear}/timeline"), &[]).await.json;
    let decided = timeline["steps"].as_array().expect("steps").iter().find(|step| step["step"] == "decided");
    assert_eq!(decided.expect("was decided")["detail"]["cost"], want);
}
