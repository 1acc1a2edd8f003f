//! The control API: who may do what to whose dead letters, what each change leaves in the audit, and
//! what is answered where there is nothing to change.

use super::credentials::{producer_token, token};
use super::graveyard::{Graveyard, UNREADABLE};
use super::{Answer, Api, LIMITS, closed, open, pointers, state};
use axum::http::StatusCode;
use riskfleet::api::control_router;
use riskfleet::domain::{EventId, Scope};
use serde_json::{Value, json};
use tower::ServiceExt;

const JSON: (&str, &str) = ("content-type", "application/json");
const REASON: &str = r#"{"reason":"a test event"}"#;

impl Api {
    async fn change(&self, path: &str, headers: &[(&str, &str)], body: &'static str) -> Answer {
        self.call("POST", path, &[&[JSON], headers].concat(), body).await
    }
}

fn with(graveyard: &Graveyard, auth: riskfleet::api::Authenticator) -> Api {
    Api::over(graveyard.store.clone(), auth)
}

/// What each role gets for each call on its own tenant's dead letter, and on another's.
/// Columns: the list, one, replay, discard, the fleet, repair.
const TABLE: [(&str, [u16; 6], [u16; 6]); 6] = [
    ("ADMIN", [200, 200, 200, 200, 403, 403], [200, 404, 404, 404, 403, 403]),
    ("ANALYST", [200, 200, 403, 403, 403, 403], [200, 404, 403, 403, 403, 403]),
    ("APPROVER", [200, 200, 403, 403, 403, 403], [200, 404, 403, 403, 403, 403]),
    ("VIEWER", [200, 200, 403, 403, 403, 403], [200, 404, 403, 403, 403, 403]),
    ("OPERATOR", [403, 403, 403, 403, 200, 202], [403, 403, 403, 403, 200, 202]),
    ("", [200, 200, 403, 403, 403, 403], [200, 404, 403, 403, 403, 403]),
];

async fn statuses(api: &Api, authorization: &str, replayed: EventId, discarded: EventId) -> [u16; 6] {
    let auth = [("authorization", authorization)];
    let list = api.get("/v1/dead-letters", &auth).await;
    let answers = [
        api.get(&format!("/v1/dead-letters/{replayed}"), &auth).await,
        api.change(&format!("/v1/dead-letters/{replayed}/replay"), &auth, REASON).await,
        api.change(&format!("/v1/dead-letters/{discarded}/discard"), &auth, REASON).await,
        api.get("/v1/fleet", &auth).await,
        api.change("/v1/fleet/repair", &auth, "{}").await,
    ];
    if list.status.is_success() {
        let items = list.json["items"].as_array().expect("items");
        assert!(items.iter().all(|item| item["tenant_id"] == "acme"), "{}", list.text);
        assert_eq!(items.len(), 2, "its own dead letters are listed: {}", list.text);
    }
    let [one, replay, discard, fleet, repair] = answers.map(|answer| answer.status.as_u16());
    [list.status.as_u16(), one, replay, discard, fleet, repair]
}

#[tokio::test]
async fn every_call_is_held_against_the_role_and_the_tenant() {
    for (role, own, others) in TABLE {
        let authorization = if role.is_empty() { producer_token() } else { token(&[role]) };
        for (tenant, want) in [("globex", others), ("acme", own)] {
            let graveyard = Graveyard::new().await;
            // What is there besides: the list shows two of the caller's own in both cases.
            let (first, second) = (graveyard.dead("acme").await, graveyard.dead("acme").await);
            let (third, fourth) = (graveyard.dead("globex").await, graveyard.dead("globex").await);
            let api = with(&graveyard, closed());
            let (replayed, discarded) = if tenant == "acme" { (first, second) } else { (third, fourth) };
            assert_eq!(statuses(&api, &authorization, replayed, discarded).await, want, "{role:?} on {tenant}");
            let changed = graveyard.control_chain("acme").await.len() + graveyard.control_chain("globex").await.len();
            let allowed = want[2..4].iter().filter(|status| **status == 200).count();
            assert_eq!(changed, allowed, "a change is audited, a refusal changes nothing: {role:?} on {tenant}");
        }
    }
}

#[tokio::test]
async fn nobody_without_a_credential_is_answered() {
    let graveyard = Graveyard::new().await;
    let id = graveyard.dead("acme").await;
    let api = with(&graveyard, closed());
    for path in ["/v1/dead-letters", &format!("/v1/dead-letters/{id}"), "/v1/fleet"] {
        assert_eq!(api.get(path, &[]).await.problem(), (401, "unauthorized".into()), "{path}");
    }
    for path in [format!("/v1/dead-letters/{id}/replay"), format!("/v1/dead-letters/{id}/discard")] {
        assert_eq!(api.change(&path, &[], REASON).await.problem(), (401, "unauthorized".into()), "{path}");
    }
    assert_eq!(api.change("/v1/fleet/repair", &[], "{}").await.problem(), (401, "unauthorized".into()));
}

#[tokio::test]
async fn a_change_stands_in_the_control_chain_with_who_and_why() {
    let graveyard = Graveyard::new().await;
    let (first, second) = (graveyard.dead("acme").await, graveyard.dead("acme").await);
    let api = with(&graveyard, closed());
    let admin = token(&["ADMIN"]);
    let headers = [("authorization", admin.as_str()), ("x-correlation-id", "ticket-7")];
    let path = format!("/v1/dead-letters/{first}/replay");
    let replayed = api.call("POST", &path, &headers, "").await;
    let want = json!({"event_id": first.to_string(), "tenant_id": "acme", "action": "dead_letter_replayed",
        "state": "received"});
    assert_eq!((replayed.status, replayed.json), (StatusCode::OK, want));
    let discarded = api.change(&format!("/v1/dead-letters/{second}/discard"), &headers, REASON).await;
    assert_eq!((discarded.status, &discarded.json["state"]), (StatusCode::OK, &json!("discarded")));
    let chain: Vec<Value> =
        graveyard.control_chain("acme").await.iter().map(|b| serde_json::to_value(b).expect("JSON")).collect();
    for (n, id, action, state, reason) in [
        (0, first, "dead_letter_replayed", "received", Value::Null),
        (1, second, "dead_letter_discarded", "discarded", json!("a test event")),
    ] {
        let record = &chain[n];
        let said = [
            "actor",
            "action",
            "resource_type",
            "resource_id",
            "event_id",
            "previous",
            "new",
            "reason",
            "correlation_id",
            "stream",
        ]
        .map(|name| record[name].clone());
        let id = json!(id.to_string());
        let want = [
            json!("ann"),
            json!(action),
            json!("event"),
            id.clone(),
            id,
            json!("failed"),
            json!(state),
            reason,
            json!("ticket-7"),
            json!("control"),
        ];
        assert_eq!(said, want);
    }
}

#[tokio::test]
async fn what_is_no_dead_letter_is_409_with_where_it_stands_and_what_is_not_there_404() {
    let graveyard = Graveyard::new().await;
    let alive = graveyard.accept("acme", UNREADABLE).await;
    let (replayed, discarded) = (graveyard.dead("acme").await, graveyard.dead("acme").await);
    let api = with(&graveyard, open());
    let path = |id: EventId, verb: &str| format!("/v1/dead-letters/{id}/{verb}");
    assert_eq!(api.change(&path(replayed, "replay"), &[], "{}").await.status, StatusCode::OK);
    assert_eq!(api.change(&path(discarded, "discard"), &[], REASON).await.status, StatusCode::OK);
    for verb in ["replay", "discard"] {
        let again = api.change(&path(replayed, verb), &[], REASON).await;
        assert_eq!(again.problem(), (409, "not-dead".into()), "{verb}");
        let now = graveyard.store.event(&Scope::Fleet, replayed).await.expect("read").expect("stored").status();
        assert_eq!(again.json["event_status"], json!(now), "{verb}");
        assert_eq!(again.json["event_id"], json!(replayed.to_string()), "{verb}");
        assert_eq!(api.change(&path(discarded, verb), &[], REASON).await.problem(), (409, "discarded".into()));
        let living = api.change(&path(alive, verb), &[], REASON).await;
        assert_eq!((living.problem(), &living.json["event_status"]), ((409, "not-dead".into()), &json!("received")));
        let unknown = api.change(&path(EventId::mint(1, [9; 10]), verb), &[], REASON).await;
        assert_eq!(unknown.problem(), (404, "not-found".into()), "{verb}");
        let nonsense = api.change(&format!("/v1/dead-letters/nonsense/{verb}"), &[], REASON).await;
        assert_eq!(nonsense.problem(), (404, "not-found".into()), "{verb}");
    }
    assert_eq!(graveyard.control_chain("acme").await.len(), 2, "a refusal leaves no record");
    let never = api.get(&format!("/v1/dead-letters/{alive}"), &[]).await;
    assert_eq!(never.problem(), (404, "not-found".into()));
}

#[tokio::test]
async fn a_reason_is_read_strictly_and_needed_to_discard() {
    let graveyard = Graveyard::new().await;
    let id = graveyard.dead("acme").await;
    let api = with(&graveyard, open());
    let discard = format!("/v1/dead-letters/{id}/discard");
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    let refused: [(String, &str, u16, &[&str]); 8] = [
        (String::new(), "validation", 422, &["/reason"]),
        ("{}".into(), "validation", 422, &["/reason"]),
        (r#"{"reason":null}"#.into(), "validation", 422, &["/reason"]),
        (r#"{"reason":" "}"#.into(), "validation", 422, &["/reason"]),
        (r#"{"reason":7,"who":"me"}"#.into(), "validation", 422, &["/reason", "/who"]),
        (long, "validation", 422, &["/reason"]),
        ("[]".into(), "validation", 422, &[""]),
        (r#"{"reason""#.into(), "broken-json", 400, &[]),
    ];
    for (body, kind, status, fields) in refused {
        let answer = api.call("POST", &discard, &[JSON], body.clone()).await;
        assert_eq!(answer.problem(), (status, kind.into()), "{body}");
        if !fields.is_empty() {
            assert_eq!(pointers(&answer.json), fields, "{body}");
        }
    }
    let huge = api.call("POST", &discard, &[JSON], vec![b' '; 20 << 10]).await;
    assert_eq!(huge.problem(), (413, "too-large".into()));
    let wrong = api.call("POST", &format!("/v1/dead-letters/{id}/replay"), &[JSON], r#"{"why":"x"}"#).await;
    assert_eq!(wrong.problem(), (422, "validation".into()));
    assert!(graveyard.control_chain("acme").await.is_empty());
}

#[tokio::test]
async fn without_authentication_no_page_changes_anything_and_the_tenant_is_the_events() {
    let graveyard = Graveyard::new().await;
    let id = graveyard.dead("globex").await;
    let api = with(&graveyard, open());
    let replay = format!("/v1/dead-letters/{id}/replay");
    for path in [replay.as_str(), "/v1/fleet/repair"] {
        for foreign in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")]
        {
            assert_eq!(api.change(path, &[foreign], "{}").await.problem(), (403, "forbidden".into()), "{foreign:?}");
        }
        // What a form of an old browser could send.
        for form in [&[][..], &[("content-type", "text/plain")], &[("content-type", "multipart/form-data")]] {
            let refused = api.call("POST", path, form, "").await;
            assert_eq!(refused.problem(), (415, "unsupported-media-type".into()), "{path} {form:?}");
        }
    }
    let foreign = [("x-tenant-id", "acme")];
    assert_eq!(api.change(&replay, &foreign, "{}").await.problem(), (404, "not-found".into()));
    assert_eq!(api.change(&replay, &[], "{}").await.status, StatusCode::OK);
    let chain = graveyard.control_chain("globex").await;
    assert_eq!((chain.len(), chain[0].actor.as_str()), (1, "local"));
}

#[tokio::test]
async fn dead_letters_are_listed_by_tenant_and_in_pages() {
    let graveyard = Graveyard::new().await;
    let mut acme = Vec::new();
    for n in 0..6 {
        let id = graveyard.dead(if n % 3 == 2 { "globex" } else { "acme" }).await;
        if n % 3 != 2 {
            acme.insert(0, id.to_string());
        }
    }
    let api = with(&graveyard, open());
    let all = api.get("/v1/dead-letters", &[]).await;
    assert_eq!((all.json["items"].as_array().map(Vec::len), &all.json["next"]), (Some(6), &Value::Null));
    let (mut seen, mut path) = (Vec::new(), "/v1/dead-letters?tenant=acme&limit=3".to_owned());
    for pages in 1.. {
        let page = api.get(&path, &[]).await;
        let items = page.json["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["event_id"].as_str().expect("an id").to_owned()));
        let Some(next) = page.json["next"].as_str() else {
            assert_eq!(pages, 2);
            break;
        };
        path = format!("/v1/dead-letters?tenant=acme&limit=3&before={next}");
    }
    assert_eq!(seen, acme, "newest first, each once");
    let one = &all.json["items"][5];
    let at = "2026-11-21T10:00:00.500Z";
    let want = json!({"event_id": acme[3], "tenant_id": "acme", "category": "UNEXPECTED_ERROR", "error": "no model",
        "attempts": 3, "at": at});
    assert_eq!(*one, want);
    for query in ["limit=0", "limit=1001", "limit=x", "before=x", "tenant=a%20b", "status=dead"] {
        let refused = api.get(&format!("/v1/dead-letters?{query}"), &[]).await;
        assert_eq!(refused.problem(), (400, "bad-query".into()), "{query}");
    }
    let closed = with(&graveyard, closed());
    let auth = token(&["ADMIN"]);
    let foreign = closed.get("/v1/dead-letters?tenant=globex", &[("authorization", &auth)]).await;
    assert_eq!(foreign.problem(), (403, "tenant-mismatch".into()));
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_payload_and_its_history() {
    let graveyard = Graveyard::new().await;
    let id = graveyard.dead("acme").await;
    let unreadable = graveyard.accept("acme", UNREADABLE).await;
    graveyard.bury(unreadable, "the stored event is unreadable").await;
    let api = with(&graveyard, open());
    let path = format!("/v1/dead-letters/{id}");
    let shown = api.get(&path, &[]).await;
    assert_eq!((&shown.json["state"], &shown.json["error"]), (&json!("dead"), &json!("no model")), "{}", shown.text);
    assert_eq!((&shown.json["event"]["version"], &shown.json["history"]), (&json!("1"), &json!([])));
    let replayed = api.change(&format!("{path}/replay"), &[], r#"{"reason":"mended"}"#).await;
    assert_eq!(replayed.status, StatusCode::OK);
    let shown = api.get(&path, &[]).await;
    assert_ne!(shown.json["state"], "dead");
    graveyard.bury(id, "still no model").await;
    let shown = api.get(&path, &[]).await;
    assert_eq!((&shown.json["state"], &shown.json["error"]), (&json!("dead"), &json!("still no model")));
    let past = &shown.json["history"][0];
    assert_eq!((&past["error"], &past["act"], &past["by"]), (&json!("no model"), &json!("replayed"), &json!("local")));
    assert_eq!(past["reason"], "mended");
    api.change(&format!("{path}/discard"), &[], REASON).await;
    let shown = api.get(&path, &[]).await;
    assert_eq!((&shown.json["state"], shown.json["history"].as_array().map(Vec::len)), (&json!("discarded"), Some(2)));
    let timeline = api.get(&format!("/v1/events/{id}/timeline"), &[]).await;
    let told: Vec<(&str, &str)> = timeline.json["steps"].as_array().expect("steps")[2..]
        .iter()
        .map(|step| (step["step"].as_str().expect("a name"), step["by"].as_str().unwrap_or("-")))
        .collect();
    let worker = "worker:00000000-0000-0000-0000-0000000000aa";
    assert_eq!(told, [("failed", "-"), ("replayed", "local"), ("failed", worker), ("discarded", "local")]);
    let raw = api.get(&format!("/v1/dead-letters/{unreadable}"), &[]).await;
    assert_eq!((raw.status, &raw.json["raw"]), (StatusCode::OK, &json!(UNREADABLE)));
}

#[tokio::test]
async fn the_fleet_is_shown_and_repairs_are_counted() {
    let graveyard = Graveyard::new().await;
    graveyard.dead("acme").await;
    let api = with(&graveyard, open());
    let fleet = api.get("/v1/fleet", &[]).await;
    assert_eq!(fleet.json["ledger"], json!({"accepted": 1, "decided": 0, "dead": 1, "pending": 0}));
    assert_eq!(fleet.json["partitions"].as_array().map(Vec::len), Some(4));
    let first = api.change("/v1/fleet/repair", &[], "").await;
    assert_eq!((first.status, &first.json), (StatusCode::ACCEPTED, &json!({"repair": 1})));
    assert_eq!(api.change("/v1/fleet/repair", &[], REASON).await.json, json!({"repair": 2}));
    assert_eq!(graveyard.store.repairs().await.expect("read"), 2);
}

#[tokio::test]
async fn the_console_answers_operators_and_takes_no_events() {
    let graveyard = Graveyard::new().await;
    let router = control_router(state(graveyard.store.clone(), open(), LIMITS, Vec::new()));
    for (path, want) in
        [("/v1/dead-letters", 200), ("/v1/fleet", 200), ("/health/ready", 200), ("/metrics", 200), ("/v1/events", 404)]
    {
        let request = axum::http::Request::builder().uri(path).header("host", "localhost:8080");
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let response = router.clone().oneshot(request).await.expect("routers do not fail");
        assert_eq!(response.status().as_u16(), want, "{path}");
    }
}
