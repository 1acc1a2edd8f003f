//! The control API of approvals: who may do what to whose requests, what each act leaves behind, and
//! what is answered where it may not be.

use super::credentials::{producer_token, token};
use super::{Answer, Api, LIMITS, closed, open, pointers, state};
use crate::office::{ADMIN_POWERS, Office, PLAIN, act, after};
use axum::http::StatusCode;
use riskfleet::api::{Authenticator, whole_router};
use riskfleet::domain::EventId;
use riskfleet::domain::approval::Verdict;
use serde_json::{Value, json};
use std::sync::Arc;

use super::fakes::{FakeIntake, FakeStore};

const JSON: (&str, &str) = ("content-type", "application/json");
const REASON: &str = r#"{"reason":"seen the papers"}"#;
const TEXT: &str = r#"{"text":"Frau Meier rief an"}"#;

impl Office {
    /// The API over it.
    pub(super) fn api(&self, auth: Authenticator) -> Api {
        let (intake, unused) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
        let mut state = state(self.store.clone(), auth, LIMITS, Vec::new());
        state.registry = self.registry.clone();
        Api { router: whole_router(state, intake.clone()), intake, store: unused }
    }
}

async fn act_on(api: &Api, event: EventId, verb: &str, authorization: &str, body: &'static str) -> Answer {
    let headers = [JSON, ("authorization", authorization), ("x-correlation-id", "ticket-7")];
    api.call("POST", &format!("/v1/approvals/{event}/{verb}"), &headers, body).await
}

/// What each role gets for each call on its own tenant's request, and on another's. Columns: the
/// list, one, claim, release, comment, approve, reject (after the approval).
const TABLE: [(&str, [u16; 7], [u16; 7]); 6] = [
    ("ADMIN", [200, 200, 200, 200, 200, 200, 409], [200, 404, 404, 404, 404, 404, 404]),
    ("ANALYST", [200, 200, 403, 403, 200, 403, 403], [200, 404, 403, 403, 404, 403, 403]),
    ("APPROVER", [200, 200, 200, 200, 200, 200, 409], [200, 404, 404, 404, 404, 404, 404]),
    ("VIEWER", [200, 200, 403, 403, 403, 403, 403], [200, 404, 403, 403, 403, 403, 403]),
    ("OPERATOR", [403; 7], [403; 7]),
    ("", [200, 200, 403, 403, 200, 403, 403], [200, 404, 403, 403, 404, 403, 403]),
];

async fn statuses(api: &Api, event: EventId, authorization: &str) -> [u16; 7] {
    let auth = [("authorization", authorization)];
    let list = api.get("/v1/approvals", &auth).await;
    if list.status.is_success() {
        let items = list.json["items"].as_array().expect("items");
        assert!(items.len() == 1 && items[0]["tenant_id"] == "acme", "its own is listed: {}", list.text);
    }
    let one = api.get(&format!("/v1/approvals/{event}"), &auth).await;
    let mut got = [list.status.as_u16(), one.status.as_u16(), 0, 0, 0, 0, 0];
    let calls = [("claim", "{}"), ("release", "{}"), ("comments", TEXT), ("approve", REASON), ("reject", REASON)];
    for (n, (verb, body)) in calls.into_iter().enumerate() {
        got[n + 2] = act_on(api, event, verb, authorization, body).await.status.as_u16();
    }
    got
}

#[tokio::test]
async fn every_call_is_held_against_the_role_and_the_tenant() {
    for (role, own, others) in TABLE {
        let authorization = if role.is_empty() { producer_token() } else { token(&[role]) };
        for (tenant, want) in [("acme", own), ("globex", others)] {
            let office = Office::sqlite().await;
            let (acme, globex) = (office.escalated("acme").await, office.escalated("globex").await);
            let event = if tenant == "acme" { acme } else { globex };
            let api = office.api(closed());
            assert_eq!(statuses(&api, event, &authorization).await, want, "{role:?} on {tenant}");
            let done = want[2..].iter().filter(|status| **status == 200).count();
            assert_eq!(office.control(tenant).await.len(), done, "an act is audited, a refusal does nothing: {role:?}");
        }
    }
}

#[tokio::test]
async fn nobody_without_a_credential_is_answered() {
    let office = Office::sqlite().await;
    let (event, api) = (office.escalated("acme").await, office.api(closed()));
    for path in ["/v1/approvals", &format!("/v1/approvals/{event}")] {
        assert_eq!(api.get(path, &[]).await.problem(), (401, "unauthorized".into()), "{path}");
    }
    for verb in ["claim", "release", "comments", "approve", "reject"] {
        let path = format!("/v1/approvals/{event}/{verb}");
        assert_eq!(api.call("POST", &path, &[JSON], REASON).await.problem(), (401, "unauthorized".into()), "{path}");
    }
}

#[tokio::test]
async fn a_verdict_is_the_final_outcome_wherever_the_event_is_shown() {
    let office = Office::sqlite().await;
    let (event, api, ann) = (office.escalated("acme").await, office.api(closed()), token(&["APPROVER"]));
    let auth = [("authorization", ann.as_str())];
    assert_eq!(api.get(&format!("/v1/events/{event}"), &auth).await.json["status"], "escalated");
    let claimed = act_on(&api, event, "claim", &ann, "{}").await;
    assert_eq!(claimed.json["claimed_until"], "2026-11-21T10:15:00.000Z", "{}", claimed.text);
    act_on(&api, event, "comments", &ann, TEXT).await;
    let shown = api.get(&format!("/v1/approvals/{event}"), &auth).await;
    let approval = &shown.json["approval"];
    assert_eq!((&approval["state"], &approval["claimed_by"]), (&json!("claimed"), &json!("ann")));
    assert_eq!((&approval["due_at"], &approval["overdue"]), (&json!("2026-11-22T10:00:00.000Z"), &json!(false)));
    assert_eq!(shown.json["decision"]["reasons"][0]["code"], "SCORE_THRESHOLD");
    assert_eq!(
        (&shown.json["event"]["status"], &shown.json["event"]["event_type"]),
        (&json!("escalated"), &json!("high_risk"))
    );
    let comment = json!([{"at": "2026-11-21T10:00:00.000Z", "by": "ann", "text": "Frau Meier rief an"}]);
    assert_eq!(shown.json["comments"], comment);
    let approved = act_on(&api, event, "approve", &ann, REASON).await;
    let want = json!({"event_id": event.to_string(), "tenant_id": "acme", "action": "approval_approved",
        "claimed_until": null, "verdict": "APPROVED"});
    assert_eq!((approved.status, approved.json), (StatusCode::OK, want));
    assert_eq!(api.get(&format!("/v1/events/{event}"), &auth).await.json["status"], "approved");
    let decision = api.get(&format!("/v1/events/{event}/decision"), &auth).await.json;
    assert_eq!((&decision["outcome"], &decision["final_outcome"]), (&json!("REQUIRE_APPROVAL"), &json!("APPROVED")));
    let shown = api.get(&format!("/v1/approvals/{event}"), &auth).await.json;
    let acts: Vec<&Value> = shown["history"].as_array().expect("steps").iter().map(|step| &step["act"]).collect();
    assert_eq!(acts, ["opened", "claimed", "commented", "decided"]);
    let timeline = api.get(&format!("/v1/events/{event}/timeline"), &auth).await.json;
    let steps: Vec<&str> =
        timeline["steps"].as_array().expect("steps").iter().filter_map(|step| step["step"].as_str()).collect();
    let want = ["outcome_published", "approval_opened", "approval_claimed", "approval_decided", "verdict_waits"];
    assert_eq!(steps[steps.len() - 5..], want);
    assert!(!timeline.to_string().contains("Meier"), "comments are shown with the request alone");
}

#[tokio::test]
async fn an_act_stands_in_the_control_chain_with_who_what_and_why() {
    let office = Office::sqlite().await;
    let (event, api, ann) = (office.escalated("acme").await, office.api(closed()), token(&["APPROVER"]));
    for (verb, body) in [("claim", "{}"), ("comments", TEXT), ("reject", REASON)] {
        assert_eq!(act_on(&api, event, verb, &ann, body).await.status, StatusCode::OK, "{verb}");
    }
    let chain: Vec<Value> =
        office.control("acme").await.iter().map(|body| serde_json::to_value(body).expect("JSON")).collect();
    let actions: Vec<&Value> = chain.iter().map(|body| &body["action"]).collect();
    assert_eq!(actions, ["approval_claimed", "approval_commented", "approval_rejected"]);
    for body in &chain {
        assert_eq!((&body["actor"], &body["correlation_id"]), (&json!("ann"), &json!("ticket-7")));
        assert_eq!((&body["resource_type"], &body["event_id"]), (&json!("approval"), &json!(event.to_string())));
        assert!(body["decision_sha256"].is_string() && body["event_sha256"].is_string(), "{body}");
    }
    assert_eq!((&chain[2]["previous"], &chain[2]["new"]), (&json!("escalated"), &json!("rejected")));
    assert_eq!((&chain[2]["outcome"], &chain[2]["reason"]), (&json!("REJECTED"), &json!("seen the papers")));
    assert_eq!((&chain[1]["new"]["characters"], &chain[1]["reason"]), (&json!(18), &Value::Null));
    assert!(!chain[1].to_string().contains("Meier"), "of a comment the audit has the hash alone: {}", chain[1]);
}

#[tokio::test]
async fn what_may_not_be_is_a_conflict_with_its_name() {
    let office = Office::sqlite().await;
    let (event, plain) = (office.escalated("acme").await, office.decided("acme", PLAIN, after(0)).await);
    let (api, ann) = (office.api(closed()), token(&["APPROVER"]));
    let auth = [("authorization", ann.as_str())];
    let refused = async |event, verb, body| act_on(&api, event, verb, &ann, body).await;
    assert_eq!(refused(plain, "approve", REASON).await.problem(), (409, "not-escalated".into()));
    let path = format!("/v1/approvals/{plain}");
    assert_eq!(api.get(&path, &auth).await.problem(), (404, "not-found".into()));
    assert_eq!(refused(event, "release", "{}").await.problem(), (409, "not-claimed".into()));
    let bob = act("acme", event, "bob", ADMIN_POWERS, after(0));
    let claimed = office.registry.claim_approval(&bob, after(1_000)).await.expect("acts");
    assert_eq!(claimed, Ok(()));
    for verb in ["claim", "release"] {
        assert_eq!(refused(event, verb, "{}").await.problem(), (409, "claimed".into()), "{verb}");
    }
    let held = refused(event, "approve", REASON).await;
    assert_eq!(held.problem(), (409, "claimed".into()));
    assert!(held.json["detail"].as_str().is_some_and(|why| why.contains("claimed by bob until 2026")), "{}", held.text);
    let second = office.escalated("acme").await;
    let audit = act("acme", second, "system:console", ADMIN_POWERS, after(0)).audit;
    let risen = office.registry.escalate_approval(&bob.tenant, second, after(0), &audit).await;
    assert!(risen.expect("acts"));
    assert_eq!(refused(second, "approve", REASON).await.problem(), (403, "second-level".into()));
    let admin = token(&["ADMIN"]);
    assert_eq!(act_on(&api, second, "approve", &admin, REASON).await.status, StatusCode::OK);
    assert_eq!(office.decide(&bob, Verdict::Rejected).await, Ok(()));
    let late = act_on(&api, event, "approve", &admin, REASON).await;
    assert_eq!(late.problem(), (409, "already-decided".into()));
    assert_eq!((&late.json["event_status"], &late.json["event_id"]), (&json!("rejected"), &json!(event.to_string())));
    assert!(
        late.json["detail"].as_str().is_some_and(|why| why.contains("decided REJECTED by bob at")),
        "{}",
        late.text
    );
}

#[tokio::test]
async fn every_wrong_field_of_a_body_is_named() {
    let office = Office::sqlite().await;
    let (event, api) = (office.escalated("acme").await, office.api(open()));
    let long = format!(r#"{{"text":"{}"}}"#, "é".repeat(2_001));
    let bodies: [(&str, String, &[&str]); 8] = [
        ("approve", "{}".into(), &["/reason"]),
        ("approve", r#"{"reason":" "}"#.into(), &["/reason"]),
        ("approve", format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001)), &["/reason"]),
        ("reject", r#"{"reason":7,"text":"x"}"#.into(), &["/reason", "/text"]),
        ("comments", "{}".into(), &["/text"]),
        ("comments", long, &["/text"]),
        ("comments", r#"{"text":"x","reason":"y"}"#.into(), &["/reason"]),
        ("claim", r#"{"minutes":9}"#.into(), &["/minutes"]),
    ];
    for (verb, body, want) in bodies {
        let answer = api.call("POST", &format!("/v1/approvals/{event}/{verb}"), &[JSON], body).await;
        assert_eq!(answer.problem(), (422, "validation".into()), "{verb}");
        assert_eq!(pointers(&answer.json), want, "{verb}");
    }
    // A form of a web page can't do it.
    let path = format!("/v1/approvals/{event}/claim");
    assert_eq!(api.call("POST", &path, &[], "").await.problem(), (415, "unsupported-media-type".into()));
    assert_eq!(office.control("acme").await.len(), 0);
}

#[tokio::test]
async fn lists_are_paged_and_wrong_queries_are_told() {
    let office = Office::sqlite().await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(office.escalated("acme").await.to_string());
    }
    let (api, auth) = (office.api(closed()), token(&["VIEWER"]));
    let auth = [("authorization", auth.as_str())];
    let first = api.get("/v1/approvals?limit=2", &auth).await.json;
    let ids = |page: &Value| -> Vec<Value> {
        page["items"].as_array().expect("items").iter().map(|item| item["event_id"].clone()).collect()
    };
    assert_eq!(ids(&first), [json!(events[2]), json!(events[1])]);
    let next = first["next"].as_str().expect("another page");
    let second = api.get(&format!("/v1/approvals?limit=2&before={next}"), &auth).await.json;
    assert_eq!((ids(&second), &second["next"]), (vec![json!(events[0])], &Value::Null));
    for state in ["claimed", "overdue", "decided"] {
        let page = api.get(&format!("/v1/approvals?state={state}"), &auth).await.json;
        assert_eq!(page, json!({"items": [], "next": null}), "{state}");
    }
    for query in ["state=late", "limit=0", "limit=1001", "before=x", "page=2"] {
        let answer = api.get(&format!("/v1/approvals?{query}"), &auth).await;
        assert_eq!(answer.problem(), (400, "bad-query".into()), "{query}");
    }
    let other = api.get("/v1/approvals?tenant=globex", &auth).await;
    assert_eq!(other.problem(), (403, "tenant-mismatch".into()));
}
