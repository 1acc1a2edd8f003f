//! The control API of models and prompts: who may do what, what is refused and with which name, what is
//! shown, and what stands in the audit afterwards.

use super::fakes::{FakeIntake, FakeStore, NOW_MS};
use super::{Answer, Api, LIMITS, SECRET, closed, open, pointers, state};
use crate::office::Office;
use axum::http::StatusCode;
use jsonwebtoken::{EncodingKey, Header, encode};
use riskfleet::api::{Authenticator, whole_router};
use riskfleet::domain::audit::sha256;
use serde_json::{Value, json};
use std::sync::Arc;

/// Spaces and the order of fields are the author's, and stay.
const CARD: &str = r#"{"kind":"scorecard", "min":0,"max":100,"base":30.0,
 "characteristics":[{"field":"amount","bins":[{"from":10000,"points":60}],"missing":0}]}"#;

const KINDS: [(&str, &str); 2] = [("models", CARD), ("prompts", "\"Say why.\\nÄ\"")];

fn api(office: &Office, auth: Authenticator) -> Api {
    let (intake, unused) = (Arc::new(FakeIntake::default()), Arc::new(FakeStore::default()));
    let mut state = state(office.store.clone(), auth, LIMITS, Vec::new());
    state.registry = office.registry.clone();
    Api { router: whole_router(state, intake.clone()), intake, store: unused }
}

fn person(who: &str, tenant: &str, role: &str) -> String {
    let claims = json!({"sub": who, "tenant_id": tenant, "roles": [role], "exp": NOW_MS / 1000 + 60});
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
    format!("Bearer {}", token.expect("a token"))
}

async fn post(api: &Api, who: &str, path: &str, body: impl Into<String>) -> Answer {
    let headers = [("content-type", "application/json"), ("authorization", who), ("x-correlation-id", "ticket-7")];
    api.call("POST", path, &headers, body.into()).await
}

async fn get(api: &Api, who: &str, path: &str) -> Answer {
    api.get(path, &[("authorization", who)]).await
}

fn new(content: &str) -> String {
    format!(r#"{{"name":"fraud","reason":"new accounts","content":{content}}}"#)
}

#[tokio::test]
async fn a_version_goes_from_its_author_over_somebody_else_into_force() {
    for (kind, content) in KINDS {
        let office = Office::sqlite().await;
        let api = api(&office, closed());
        let (ann, ben) = (person("ann", "acme", "ADMIN"), person("ben", "acme", "APPROVER"));
        let registered = post(&api, &ann, &format!("/v1/{kind}"), new(content)).await;
        assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.text);
        let stored: Vec<u8> = match kind {
            "models" => content.into(),
            _ => serde_json::from_str::<String>(content).expect("a text").into(),
        };
        let one = &registered.json;
        assert_eq!((&one["name"], &one["version"], &one["state"]), (&json!("fraud"), &json!(1), &json!("pending")));
        assert_eq!((&one["author"], &one["reason"]), (&json!("ann"), &json!("new accounts")));
        assert_eq!(one["sha256"], hex::encode(sha256(&stored)), "of the bytes as they were sent");
        let path = format!("/v1/{kind}/fraud/1");
        let shown = get(&api, &ben, &path).await;
        assert_eq!((&shown.json["version"], &shown.json["intact"]), (one, &json!(true)));
        assert!(shown.text.contains(&format!("\"content\":{content}")), "{}", shown.text);

        let own = post(&api, &ann, &format!("{path}/approve"), "{}").await;
        assert_eq!(own.problem(), (409, "four-eyes".into()));
        let approved = post(&api, &ben, &format!("{path}/approve"), r#"{"reason":"tried on last month"}"#).await;
        assert_eq!(
            (approved.status, &approved.json["decided_by"]),
            (StatusCode::OK, &json!("ben")),
            "{}",
            approved.text
        );
        let again = post(&api, &ben, &format!("{path}/reject"), r#"{"reason":"no"}"#).await;
        assert_eq!(again.problem(), (409, "version-decided".into()));
        let chain = office.control("acme").await;
        let told: Vec<(&str, &str)> = chain.iter().map(|b| (b.actor.as_str(), b.action.as_str())).collect();
        let singular = kind.trim_end_matches('s');
        let want = [format!("{singular}_registered"), format!("{singular}_approved")];
        assert_eq!(told, [("ann", want[0].as_str()), ("ben", want[1].as_str())]);
        assert_eq!((chain[1].resource_type.as_str(), chain[1].resource_id.as_str()), (singular, "fraud@1"));
        assert_eq!(chain[1].correlation_id.as_ref().map(ToString::to_string), Some("ticket-7".into()));
        assert!(chain.iter().all(|body| !format!("{body:?}").contains("Say why")), "no content in the audit");
    }
}

#[tokio::test]
async fn an_approved_model_is_made_active_and_inactive() {
    let office = Office::sqlite().await;
    let api = api(&office, closed());
    let (ann, ben) = (person("ann", "acme", "ADMIN"), person("ben", "acme", "APPROVER"));
    assert_eq!(get(&api, &ben, "/v1/models/active").await.json, json!({"tenant_id": "acme", "active": null}));
    for number in [1, 2] {
        post(&api, &ann, "/v1/models", new(CARD)).await;
        let path = format!("/v1/models/fraud/{number}");
        let early = post(&api, &ann, &format!("{path}/activate"), "{}").await;
        assert_eq!(early.problem(), (409, "not-approved".into()));
        post(&api, &ben, &format!("{path}/approve"), "{}").await;
        let refused = post(&api, &ben, &format!("{path}/activate"), "{}").await;
        assert_eq!(refused.problem(), (403, "forbidden".into()), "an approver does not choose what decides");
        let active = post(&api, &ann, &format!("{path}/activate"), r#"{"reason":"go"}"#).await;
        assert_eq!(
            (active.status, &active.json["active"]["version"]),
            (StatusCode::OK, &json!(number)),
            "{}",
            active.text
        );
        assert_eq!(get(&api, &ben, "/v1/models/active").await.json, active.json);
    }
    let unreasoned = post(&api, &ann, "/v1/models/deactivate", "{}").await;
    assert_eq!((unreasoned.problem(), pointers(&unreasoned.json)), ((422, "validation".into()), vec!["/reason"]));
    for was in [json!("fraud@2"), Value::Null] {
        let off = post(&api, &ann, "/v1/models/deactivate", r#"{"reason":"too strict"}"#).await;
        assert_eq!(off.json, json!({"tenant_id": "acme", "deactivated": was}));
    }
    assert_eq!(get(&api, &ben, "/v1/models/active").await.json["active"], Value::Null);
    let told: Vec<String> =
        office.control("acme").await.into_iter().map(|b| format!("{} {}", b.action, b.resource_id)).collect();
    assert_eq!(told[told.len() - 2..], ["model_activated fraud@2", "model_deactivated fraud@2"]);
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let office = Office::sqlite().await;
    let (api, ann) = (api(&office, closed()), person("ann", "acme", "ADMIN"));
    let wrong_card =
        r#"{"kind":"tree","base":"x","min":0,"max":100,"characteristics":[{"field":"age","bins":[]}],"z":1}"#;
    let long = format!("\"{}\"", "x".repeat((1 << 20) + 1));
    let cases: [(&str, String, &[&str]); 11] = [
        ("models", String::new(), &["/name", "/content", "/reason"]),
        ("models", "{}".into(), &["/name", "/content", "/reason"]),
        (
            "models",
            r#"{"name":"A","content":7,"reason":"","x":1,"tenant_id":"a/b"}"#.into(),
            &["/name", "/tenant_id", "/content", "/reason", "/x"],
        ),
        (
            "models",
            new(wrong_card),
            &[
                "/content/kind",
                "/content/base",
                "/content/characteristics/0/field",
                "/content/characteristics/0/bins",
                "/content/z",
            ],
        ),
        ("models", new(r#"{"kind":"scorecard","kind":"scorecard"}"#), &["/content"]),
        ("models", new("\"text\""), &["/content"]),
        ("models", new(CARD).replace("fraud", "baseline"), &["/name"]),
        ("prompts", new(CARD), &["/content"]),
        ("prompts", new("\" \""), &["/content"]),
        ("prompts", new("\"a\\u0000b\""), &["/content"]),
        ("prompts", new(&long), &["/content"]),
    ];
    for (kind, body, want) in cases {
        let answer = post(&api, &ann, &format!("/v1/{kind}"), body.clone()).await;
        let shown: String = body.chars().take(100).collect();
        assert_eq!(answer.problem(), (422, "validation".into()), "{kind} {shown}");
        let (mut named, mut want) = (pointers(&answer.json), want.to_vec());
        named.sort_unstable();
        want.sort_unstable();
        assert_eq!(named, want, "{kind} {shown}: {}", answer.text);
    }
    assert_eq!(post(&api, &ann, "/v1/models", "{").await.problem(), (400, "broken-json".into()));
    let huge = new(&format!("\"{}\"", "x".repeat(3 << 20)));
    assert_eq!(post(&api, &ann, "/v1/prompts", huge).await.problem(), (413, "too-large".into()));
    for path in ["models/fraud/0", "models/fraud/x", "models/fraud/9", "prompts/A/1", "models/fraud/01"] {
        assert_eq!(get(&api, &ann, &format!("/v1/{path}")).await.problem(), (404, "not-found".into()), "{path}");
    }
    for query in ["state=good", "name=A", "after=fraud", "limit=0", "limit=1001", "page=2"] {
        let answer = get(&api, &ann, &format!("/v1/models?{query}")).await;
        assert_eq!(answer.problem(), (400, "bad-query".into()), "{query}");
    }
    assert_eq!(office.control("acme").await.len(), 0);
}

#[tokio::test]
async fn lists_are_paged_and_each_tenant_sees_its_own() {
    let office = Office::sqlite().await;
    let api = api(&office, closed());
    let (ann, eve) = (person("ann", "acme", "ADMIN"), person("eve", "globex", "ADMIN"));
    for called in ["fraud", "credit", "fraud"] {
        post(&api, &ann, "/v1/models", new(CARD).replace("fraud", called)).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|item| format!("{}@{}", item["name"].as_str().expect("a name"), item["version"])).collect()
    };
    let first = get(&api, &ann, "/v1/models?limit=2").await.json;
    assert_eq!((names(&first), &first["next"]), (vec!["credit@1".into(), "fraud@1".into()], &json!("fraud@1")));
    let second = get(&api, &ann, "/v1/models?limit=2&after=fraud@1").await.json;
    assert_eq!((names(&second), &second["next"]), (vec!["fraud@2".to_owned()], &Value::Null));
    assert_eq!(names(&get(&api, &ann, "/v1/models?name=credit&state=pending").await.json), ["credit@1"]);
    assert_eq!(names(&get(&api, &ann, "/v1/models?state=approved").await.json), [""; 0]);
    assert_eq!(names(&get(&api, &ann, "/v1/prompts").await.json), [""; 0]);

    assert_eq!(names(&get(&api, &eve, "/v1/models").await.json), [""; 0]);
    assert_eq!(get(&api, &eve, "/v1/models/fraud/1").await.problem(), (404, "not-found".into()));
    for verb in ["approve", "reject", "activate"] {
        let answer = post(&api, &eve, &format!("/v1/models/fraud/1/{verb}"), r#"{"reason":"x"}"#).await;
        assert_eq!(answer.problem(), (404, "not-found".into()), "{verb}");
        let answer = post(&api, &eve, &format!("/v1/models/fraud/1/{verb}?tenant=acme"), r#"{"reason":"x"}"#).await;
        assert_eq!(answer.problem(), (403, "tenant-mismatch".into()), "{verb}");
    }
    let body = new(CARD).replace("\"name\"", "\"tenant_id\":\"acme\",\"name\"");
    assert_eq!(post(&api, &eve, "/v1/models", body.clone()).await.problem(), (403, "tenant-mismatch".into()));
    assert_eq!(post(&api, &ann, "/v1/models", body).await.json["version"], json!(3));
}

#[tokio::test]
async fn without_authentication_a_tenant_is_said_and_four_eyes_hold_all_the_same() {
    let office = Office::sqlite().await;
    let api = api(&office, open());
    let json_type = [("content-type", "application/json")];
    let none = api.call("POST", "/v1/models", &json_type, new(CARD)).await;
    assert_eq!(none.problem(), (400, "tenant-missing".into()));
    assert_eq!(api.get("/v1/models", &[]).await.problem(), (400, "tenant-missing".into()));
    assert_eq!(api.get("/v1/models?tenant=_platform", &[]).await.problem(), (403, "tenant-mismatch".into()));
    let said = new(CARD).replace("\"name\"", "\"tenant_id\":\"acme\",\"name\"");
    assert_eq!(api.call("POST", "/v1/models", &json_type, said).await.status, StatusCode::CREATED);
    let own = api.call("POST", "/v1/models/fraud/1/approve?tenant=acme", &json_type, "").await;
    assert_eq!(own.problem(), (409, "four-eyes".into()), "everybody is `local`");
    let form = api.call("POST", "/v1/models/fraud/1/approve?tenant=acme", &[], "").await;
    assert_eq!(form.problem(), (415, "unsupported-media-type".into()), "no web page can");
    assert_eq!(api.get("/v1/models/fraud/1?tenant=acme", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_content_that_was_changed_is_shown_as_such() {
    let office = Office::sqlite().await;
    let (api, ann) = (api(&office, closed()), person("ann", "acme", "ADMIN"));
    post(&api, &ann, "/v1/models", new(CARD)).await;
    let changed = "DROP TRIGGER versions_never_change; DROP TRIGGER versions_are_decided_once; \
        UPDATE versions SET content = CAST('{}' AS BLOB)";
    office.sql(changed, riskfleet::domain::EventId(uuid::Uuid::nil())).await.expect("who rules the database can");
    let shown = get(&api, &ann, "/v1/models/fraud/1").await.json;
    assert_eq!((&shown["intact"], &shown["content"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn the_scorecard_of_the_readme_is_taken() {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once("### Models under four eyes").expect("a section");
    let (_, block) = section.split_once("```json\n").expect("a scorecard");
    let (card, _) = block.split_once("```").expect("its end");
    let office = Office::sqlite().await;
    let (api, ann) = (api(&office, closed()), person("ann", "acme", "ADMIN"));
    let registered = post(&api, &ann, "/v1/models", new(card)).await;
    assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.text);
}
