//! Forged, expired, borrowed and twisted credentials: each is 401 without a hint, and another
//! tenant's good one opens nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{EVERY_ROLE, SECRET, Target, bearer, claims, now, raw, signed, status};
use crate::harness::fleet::http;

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with this header, the good claims, and this signature.
fn with_header(header: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", part(header), part(&claims("acme", EVERY_ROLE)))
}

/// Tokens that must not hold, by what is wrong with them.
fn forged() -> Vec<(&'static str, String)> {
    let good = signed(&claims("acme", EVERY_ROLE), Algorithm::HS256, SECRET.as_bytes());
    let parts: Vec<&str> = good.split('.').collect();
    let (head, payload, signature) = (parts[0], parts[1], parts[2]);
    let with = |name: &str, value: Value| {
        let mut changed = claims("acme", EVERY_ROLE);
        changed[name] = value;
        signed(&changed, Algorithm::HS256, SECRET.as_bytes())
    };
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    let other = part(&claims("globex", EVERY_ROLE));
    let mut flipped = signature.to_owned().into_bytes();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("ASCII");
    vec![
        ("no signature", with_header(&json!({"alg": "none", "typ": "JWT"}), "")),
        ("None", with_header(&json!({"alg": "None"}), "")),
        ("nOnE with the good signature", with_header(&json!({"alg": "nOnE"}), signature)),
        ("none, signed all the same", with_header(&json!({"alg": "none"}), signature)),
        ("HS384", signed(&claims("acme", EVERY_ROLE), Algorithm::HS384, SECRET.as_bytes())),
        ("HS512", signed(&claims("acme", EVERY_ROLE), Algorithm::HS512, SECRET.as_bytes())),
        ("RS256 named, HS256 signed", format!("{}.{payload}.{signature}", part(&json!({"alg": "RS256"})))),
        ("EdDSA named, HS256 signed", format!("{}.{payload}.{signature}", part(&json!({"alg": "EdDSA"})))),
        ("HS256 under a public key", signed(&claims("acme", EVERY_ROLE), Algorithm::HS256, public.as_bytes())),
        ("HS256 under nothing", signed(&claims("acme", EVERY_ROLE), Algorithm::HS256, b"")),
        ("a key id that is a path", with_header(&json!({"alg": "HS256", "kid": "../../../dev/null"}), "")),
        ("a key id that is SQL", with_header(&json!({"alg": "HS256", "kid": "x' UNION SELECT 'k"}), signature)),
        ("a key of its own", with_header(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}), "AAAA")),
        ("a key elsewhere", with_header(&json!({"alg": "RS256", "jku": "http://127.0.0.1:1/k", "x5u": "x"}), "AAAA")),
        ("another payload", format!("{head}.{other}.{signature}")),
        ("a flipped bit", format!("{head}.{payload}.{flipped}")),
        ("half a signature", format!("{head}.{payload}.{}", &signature[..signature.len() / 2])),
        ("no signature at all", format!("{head}.{payload}.")),
        ("two parts", format!("{head}.{payload}")),
        ("two dots", "..".into()),
        ("two dots in a row", format!("{head}..{signature}")),
        ("four parts", format!("{good}.{signature}")),
        ("a space inside", format!("{head}. {payload}.{signature}")),
        ("padded", format!("{head}.{payload}.{signature}==")),
        ("a giant", format!("{head}.{}.{signature}", "A".repeat(12_000))),
        ("expired", with("exp", json!(now() - 60))),
        ("expired long ago", with("exp", json!(-1))),
        ("never expires", with("exp", json!("never"))),
        ("not yet", with("nbf", json!(now() + 120))),
        ("for another service", with("aud", json!("payroll"))),
        ("a tenant that is none", with("tenant_id", json!("acme/../globex"))),
        ("the platform's own", with("tenant_id", json!("_platform"))),
        ("tenants", with("tenant_id", json!(["acme", "globex"]))),
        ("a role that is none", with("roles", json!(["SUPERUSER"]))),
        ("roles as text", with("roles", json!("ADMIN"))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_token_opens_anything_and_none_is_told_what_was_wrong() {
    let mut target = Target::closed(&[]).await;
    let event = target.send("acme", "before").await;
    let mut words = std::collections::BTreeSet::new();
    for (what, token) in forged() {
        for path in ["/v1/tenant/context".to_owned(), format!("/v1/events/{event}"), "/v1/dead-letters".into()] {
            let request = http().get(target.url(&path)).header("authorization", format!("Bearer {token}"));
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 401, "{what}: {path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{what}");
            let text = answer.text().await.expect("a text");
            assert!(!text.contains(&event) && !text.contains("acme"), "{what}: {text}");
            words.insert(serde_json::from_str::<Value>(&text).expect("a problem")["detail"].to_string());
        }
    }
    assert!(words.len() <= 4, "a refusal does not tell forgers how near they are: {words:?}");
    target.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_read_from_one_header_and_nowhere_else() {
    let target = Target::closed(&[]).await;
    let good = bearer("acme", EVERY_ROLE);
    let token = good.strip_prefix("Bearer ").expect("a scheme");
    let ask = |head: String| {
        let text = format!("GET /v1/tenant/context HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n");
        async { (raw(target.addr(), text.as_bytes()).await, text) }
    };
    for head in [
        String::new(),
        "Authorization:\r\n".into(),
        "Authorization: Bearer\r\n".into(),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer\t{token}\r\n"),
        format!("Authorization: Bearer x\r\nAuthorization: {good}\r\n"),
        format!("Cookie: token={token}; Authorization={good}\r\n"),
        format!("X-Authorization: {good}\r\nProxy-Authorization: {good}\r\n"),
        format!("X-Tenant-ID: acme\r\nX-Forwarded-User: ann\r\nX-API-Key: {token}\r\n"),
    ] {
        let (answer, asked) = ask(head).await;
        assert_eq!(status(&answer), Some(401), "{asked}\n{answer}");
    }
    for query in [format!("?access_token={token}"), format!("?token={token}"), format!("?authorization={good}")] {
        let answer = http().get(target.url(&format!("/v1/tenant/context{query}"))).send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{query}");
    }
    let (answer, _) = ask(format!("Authorization: bearer {token}\r\n")).await;
    assert_eq!(status(&answer), Some(200), "the scheme's case does not matter (RFC 9110): {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_token_of_another_tenant_reaches_nothing() {
    let mut target = Target::closed(&[]).await;
    let event = target.send("acme", "mine").await;
    let foreign = bearer("globex", EVERY_ROLE);
    let get = |path: String| http().get(target.url(&path)).header("authorization", &foreign);
    let unknown = "019aa5a0-0000-7000-8000-000000000000";
    for route in ["/v1/events/{id}", "/v1/events/{id}/decision", "/v1/events/{id}/timeline", "/v1/dead-letters/{id}"] {
        let mut said = Vec::new();
        for id in [event.as_str(), unknown] {
            let answer = get(route.replace("{id}", id)).send().await.expect("an answer");
            said.push((answer.status().as_u16(), answer.text().await.expect("a text")));
        }
        assert_eq!(said[0].0, 404, "{route}");
        assert_eq!(said[0], said[1], "{route}: another's event is answered like one that is not there");
    }
    let said = get("/v1/dead-letters?tenant=acme".into()).send().await.expect("an answer");
    assert_eq!(said.status(), 403);
    let said = get("/v1/tenant/context".into()).header("x-tenant-id", "acme").send().await.expect("an answer");
    assert_eq!(said.status(), 403);
    for (path, body) in [
        ("/v1/risk", json!({"version": "1", "tenant_id": "acme"})),
        ("/v1/events", json!({"kind": "risk", "version": "1", "tenant_id": "acme"})),
        ("/v1/compliance", json!({"version": "1", "tenant_id": "acme"})),
    ] {
        let request = http().post(target.url(path)).header("authorization", &foreign).header("x-idempotency-key", "x");
        assert_eq!(request.json(&body).send().await.expect("an answer").status(), 403, "{path}");
    }
    let batch = json!([{"kind": "risk", "version": "1", "tenant_id": "acme", "idempotency_key": "a"},
        {"kind": "risk", "version": "1", "tenant_id": "globex", "idempotency_key": "b"}]);
    let request = http().post(target.url("/v1/events")).header("authorization", &foreign).json(&batch);
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&answer["items"][0]["status"], &answer["items"][1]["tenant_id"]), (&json!(403), &json!("globex")));
    for change in ["replay", "discard"] {
        let path = format!("/v1/dead-letters/{event}/{change}");
        let request = http().post(target.url(&path)).header("authorization", &foreign).json(&json!({"reason": "x"}));
        assert_eq!(request.send().await.expect("an answer").status(), 404, "{path}");
    }
    target.assert_whole().await;
}
