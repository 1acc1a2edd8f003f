//! Tokens of a key set: every algorithm, every way to swap one for another, and the exchange of keys.

use super::credentials::token;
use super::fakes::{FakeClock, FakeRegistry, NOW_MS};
use super::{Api, SECRET};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use riskfleet::api::Authenticator;
use riskfleet::api::auth::{KeyRing, KeySet, TokenRules, Tokens};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;

const NOW: u64 = NOW_MS / 1000;

// Made for these tests with openssl, and used nowhere else.
const RSA_PRIVATE: &str = "\
    MIIEowIBAAKCAQEArM/8DmUz1RyaC+iMZmEt3OFdh65q8ciyLhafLVgLQpICTGbtMKwzm+pa2d9/h+zq3C5pmOdVTMnTYxLnKZir\
    zrM06VOEMjenD78h70Zgl/uZEsGJoZaDmFMmh83p1hdiaC+WC37xXo8IxtRF1+MhfFiskbAOudPZ9BS/Vznxc4bY/o9clUuDO14J\
    hkfIeIBuyPsk5MWs0NtfdRZvADO9LSk+DGIiuAAXPw9i+L0HeYArtauzaDbGPfC5BFi6oK4IosixK4zbVRw6fOaYA6bX3sigFCi9\
    IFRHSqhzOC4NIbc5jLYvWWNXsjj9iC8cf/9MqEjgfxnSRYH7GRr4YU+CPQIDAQABAoIBAAYCIYlu7NdWbCezq+VSWyRwbyP3b+Sc\
    qE9Fvj6MGVt06qC1PRQXD0tMNwuXWPPaTEx1TlAV45zCG/f4RrJm9RBAdvuRdF7vmZQd/oQhyQbNEAR7gfls24HutX/9bDQjR4AH\
    qYVC97Q52mGurIf7RQ/cSxGx/UJqPSFz8uF0PwgXw9yGl8TJXqesTBkRs2DMlULg4UB/xYNtyGzUogLuHe8sFVdKPEyMS0LVy/IU\
    vPysUP1tyMhmG9o0oaUCxSGvVAA5y95wV1W+DgFglPOtUp2X9l4VcRlnlYZnEvLYFsalAIVdjSjkbDoMQ9dFoMQGXPd/sE77/B/o\
    0VCNNoXK5NkCgYEA6Q40LJx3goKLL41kXppmZKLH49R3QfE/cthEqBgXcZiRJqaIEWacaWGCUqzfwM/VYOkJWvIZmEDkbNiRrCxr\
    +tnZpGi1Q7EFnNkjjEiu7Bc1Uaard8LOmYbW1XU7lZJlcKDuT/OF1FDp6O0l5UAHhUWVj/jxYz5TlE8MPzsOzzkCgYEAvdNzJoeE\
    NmIc9oY14BkIrx8dmkiZxAxDYWD6F1Lna+VCgcVEKdDgxlpKguEoU/B/hz1icO7nKFq2dbmG1QeEQRXoRSTc9FSCgCfDkhKNYT35\
    h+1gAHcDt0KRMMpscCfqmbOuf1ED1uW0ntIXW78iWezDAlPPiJJTEXIX4+OJByUCgYAOeEBLCMfuxXYo1KmHqiRzWRv6DEX/RSBA\
    XCcfHKfP+L4CXVKTagCKFnDF+0/FI+JGqxFWoTNvnY/RJj0dKIDnyUDXEV03v7TugRjQ6+5YYDSCRkvdGq5DH/kUtbumVLmRnZxO\
    QHttrDxppte0fR46axCXKMir9cGwspu7DUqlGQKBgQCq7S+Ozg/a+FWkFg2FEIWlSptZRW5P/crecHhBcEE6AmH0gDB0hsUfVkYp\
    u5yYmMH8gOWXU0eKKsSJFNm4EOChypwvRpY+26n2w9dyPIpZuXhrUO9U+9W4upQKHvutsgOpCwZhVg3i/0u4huzJjD3eQzcFbXo+\
    O6PY3adtaIEGkQKBgBBjTQbCmZCzDcgzhX1V9UAS6/fcSrXKEVyIXgUGOn9sbP93LP5VdsW/6ptiweyyPruvgH+4btOMCE6CMrzk\
    GuZZiC86Kl/6h1nDznQdSG3yjP3W8zEMF1uk/L8E1ulzUkJvms8DxdA/3+lYq+bqG/qI4hJioQoBfwVFlvbfH1ep";
const EC_PRIVATE: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMtaZ0Rf0hwHlgB5MxWBD+Rb6v+9nQP9HG5Q+3ELEvh2hRANCAAQi\
    FoTxg3bCtwG31HDHRJCbz9WbAlXTQSB7q+8zyFl3WMATk/Gx69pysODKcUe8fQGrOK/fjS3SI3GAV8aCt4VC";
const ED_PRIVATE: &str = "\
    MC4CAQAwBQYDK2VwBCIEIId6aBiSoYBCaAwsY15VnbAAmHiBUbfUU9m2QWkxJ3vX";
const RSA_N: &str = "\
    rM_8DmUz1RyaC-iMZmEt3OFdh65q8ciyLhafLVgLQpICTGbtMKwzm-pa2d9_h-zq3C5pmOdVTMnTYxLnKZirzrM06VOEMjenD78h\
    70Zgl_uZEsGJoZaDmFMmh83p1hdiaC-WC37xXo8IxtRF1-MhfFiskbAOudPZ9BS_Vznxc4bY_o9clUuDO14JhkfIeIBuyPsk5MWs\
    0NtfdRZvADO9LSk-DGIiuAAXPw9i-L0HeYArtauzaDbGPfC5BFi6oK4IosixK4zbVRw6fOaYA6bX3sigFCi9IFRHSqhzOC4NIbc5\
    jLYvWWNXsjj9iC8cf_9MqEjgfxnSRYH7GRr4YU-CPQ";
const EC_X: &str = "IhaE8YN2wrcBt9Rwx0SQm8_VmwJV00Ege6vvM8hZd1g";
const EC_Y: &str = "wBOT8bHr2nKw4MpxR7x9Aas4r9-NLdIjcYBXxoK3hUI";
const ED_X: &str = "sxpFXCg8Co6Jfg_2ddrmdAV-IYBhip_ESMBr-Um9HUo";

fn der(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64")
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_der(&der(RSA_PRIVATE))
}

fn ec() -> EncodingKey {
    EncodingKey::from_ec_der(&der(EC_PRIVATE))
}

fn ed() -> EncodingKey {
    EncodingKey::from_ed_der(&der(ED_PRIVATE))
}

fn rsa_jwk() -> Value {
    json!({"kty": "RSA", "kid": "r", "alg": "RS256", "use": "sig", "n": RSA_N, "e": "AQAB"})
}

pub(crate) fn ec_jwk() -> Value {
    json!({"kty": "EC", "crv": "P-256", "kid": "e", "x": EC_X, "y": EC_Y})
}

pub(crate) fn ed_jwk() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": ED_X})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(&json!({"keys": keys}).to_string()).expect("a set")
}

/// A bearer header that the key of [`ed_jwk`] has signed.
pub(crate) fn ed_bearer(claims: &Value) -> String {
    signed(claims, Some("d"), Algorithm::EdDSA, &ed())
}

fn signed(claims: &Value, kid: Option<&str>, algorithm: Algorithm, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    format!("Bearer {}", encode(&header, claims, key).expect("a token"))
}

fn claims() -> Value {
    json!({"sub": "ann", "tenant_id": "acme", "roles": ["VIEWER"], "aud": "riskfleet", "iss": "https://issuer.example",
        "exp": NOW + 60})
}

fn with(name: &str, value: Value) -> Value {
    let mut changed = claims();
    changed[name] = value;
    changed.as_object_mut().expect("an object").retain(|_, claim| !claim.is_null());
    changed
}

struct Door {
    api: Api,
    tokens: Arc<Tokens>,
}

impl Door {
    fn new(keys: &[Value], issuer: Option<&str>) -> Self {
        let rules = TokenRules {
            secret: Some(SecretString::from(SECRET)),
            audience: "riskfleet".into(),
            issuer: issuer.map(str::to_owned),
            leeway_s: 30,
        };
        let tokens = Arc::new(Tokens::new(rules));
        tokens.set_keys(set(keys));
        let ring = Arc::new(KeyRing::new(Arc::new(FakeRegistry), Arc::new(FakeClock)));
        let api = Api::closed_by(Authenticator::closed(tokens.clone(), ring));
        Self { api, tokens }
    }

    async fn status(&self, authorization: &str) -> u16 {
        self.api.get("/v1/tenant/context", &[("authorization", authorization)]).await.status.as_u16()
    }
}

fn all() -> [Value; 3] {
    [rsa_jwk(), ec_jwk(), ed_jwk()]
}

#[tokio::test]
async fn each_algorithm_of_the_set_is_taken_by_its_key() {
    let door = Door::new(&all(), None);
    for (kid, algorithm, key) in
        [("r", Algorithm::RS256, rsa()), ("e", Algorithm::ES256, ec()), ("d", Algorithm::EdDSA, ed())]
    {
        assert_eq!(door.status(&signed(&claims(), Some(kid), algorithm, &key)).await, 200, "{algorithm:?}");
        assert_eq!(door.status(&signed(&claims(), None, algorithm, &key)).await, 200, "the only {algorithm:?}");
        for wrong in ["r", "e", "d", "x", ""].into_iter().filter(|other| *other != kid) {
            assert_eq!(door.status(&signed(&claims(), Some(wrong), algorithm, &key)).await, 401, "{kid} as {wrong:?}");
        }
    }
    assert_eq!(door.status(&token(&["VIEWER"])).await, 200, "tokens under the secret go on");
}

#[tokio::test]
async fn no_algorithm_is_the_tokens_choice() {
    let door = Door::new(&all(), None);
    // The public key's own bytes as a secret: what a verifier that believes the header would take.
    let modulus = URL_SAFE_NO_PAD.decode(RSA_N).expect("base64url");
    let spki = [&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00][..], &modulus, &[2, 3, 1, 0, 1]].concat();
    let secrets = [modulus.clone(), spki, RSA_N.as_bytes().to_vec(), rsa_jwk().to_string().into_bytes(), Vec::new()];
    for secret in secrets {
        let key = EncodingKey::from_secret(&secret);
        for kid in [Some("r"), None] {
            assert_eq!(door.status(&signed(&claims(), kid, Algorithm::HS256, &key)).await, 401);
        }
    }
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        assert_eq!(door.status(&signed(&claims(), Some("r"), algorithm, &rsa())).await, 401, "{algorithm:?}");
    }
    let good = signed(&claims(), Some("r"), Algorithm::RS256, &rsa());
    let parts: Vec<&str> = good.trim_start_matches("Bearer ").split('.').collect();
    let header = |json: &str| URL_SAFE_NO_PAD.encode(json);
    for forged in [
        format!("Bearer {}.{}.", header(r#"{"alg":"none"}"#), parts[1]),
        format!("Bearer {}.{}.{}", header(r#"{"alg":"none","kid":"r"}"#), parts[1], parts[2]),
        format!("Bearer {}.{}.{}", header(r#"{"alg":"ES256","kid":"r"}"#), parts[1], parts[2]),
        format!("Bearer {}.{}.{}", parts[0], header(&with("tenant_id", json!("globex")).to_string()), parts[2]),
        format!("Bearer {}.{}.", parts[0], parts[1]),
    ] {
        assert_eq!(door.status(&forged).await, 401, "{forged}");
    }
    let crit = Header { crit: Some(vec!["b64".into()]), kid: Some("r".into()), ..Header::new(Algorithm::RS256) };
    let crit = format!("Bearer {}", encode(&crit, &claims(), &rsa()).expect("a token"));
    assert_eq!(door.status(&crit).await, 401, "an extension that is not understood");
    let own_key = json!({"alg": "EdDSA", "jwk": ed_jwk()}).to_string();
    let own_key = format!("Bearer {}.{}.{}", header(&own_key), parts[1], parts[2]);
    assert_eq!(door.status(&own_key).await, 401, "a key that the token brings along");
}

#[tokio::test]
async fn what_a_token_says_is_held_against_the_clock_and_the_rules() {
    let door = Door::new(&[ed_jwk()], Some("https://issuer.example"));
    let status = async |claims: Value| door.status(&signed(&claims, Some("d"), Algorithm::EdDSA, &ed())).await;
    for good in [
        claims(),
        with("exp", json!(NOW - 29)),
        with("nbf", json!(NOW + 29)),
        with("exp", json!(1.0e300)),
        with("aud", json!(["other", "riskfleet"])),
    ] {
        assert_eq!(status(good.clone()).await, 200, "{good}");
    }
    for bad in [
        with("exp", json!(NOW - 31)),
        with("exp", json!(-1.0e300)),
        with("exp", Value::Null),
        with("exp", json!("NaN")),
        with("nbf", json!(NOW + 31)),
        with("nbf", json!("NaN")),
        with("aud", json!("other")),
        with("aud", json!(["other"])),
        with("aud", json!(5)),
        with("aud", Value::Null),
        with("iss", json!("https://evil.example")),
        with("iss", json!(["https://issuer.example"])),
        with("iss", Value::Null),
        with("tenant_id", json!("_platform")),
        with("tenant_id", Value::Null),
        with("roles", json!(["PRODUCER"])),
        with("sub", json!("")),
        with("sub", json!("key:019aa5a0-0000-7000-8000-000000000000")),
        with("sub", json!("worker:1")),
        with("sub", json!("ann\nadmin")),
        with("sub", json!("x".repeat(257))),
    ] {
        assert_eq!(status(bad.clone()).await, 401, "{bad}");
    }
}

#[tokio::test]
async fn exchanged_keys_count_at_once_and_two_of_one_algorithm_need_a_name() {
    let door = Door::new(&[ed_jwk()], None);
    let (old, new) =
        (signed(&claims(), Some("d"), Algorithm::EdDSA, &ed()), signed(&claims(), Some("e"), Algorithm::ES256, &ec()));
    assert_eq!((door.status(&old).await, door.status(&new).await), (200, 401));
    door.tokens.set_keys(set(&[ec_jwk()]));
    assert_eq!((door.status(&old).await, door.status(&new).await), (401, 200));
    let mut twin = ec_jwk();
    twin["kid"] = json!("f");
    door.tokens.set_keys(set(&[ec_jwk(), twin]));
    let unnamed = signed(&claims(), None, Algorithm::ES256, &ec());
    assert_eq!((door.status(&unnamed).await, door.status(&new).await), (401, 200));
}

#[tokio::test]
async fn nobody_may_be_the_fleet_itself() {
    let api = Api::open();
    let json = [("content-type", "application/json"), ("x-idempotency-key", "k")];
    let named = api.call("POST", "/v1/risk", &json, r#"{"version":"1","tenant_id":"_platform"}"#).await;
    assert_eq!(named.problem(), (422, "validation".into()));
    let header = [&json[..], &[("x-tenant-id", "_platform")]].concat();
    let header = api.call("POST", "/v1/risk", &header, r#"{"version":"1"}"#).await;
    assert_eq!(header.problem(), (400, "bad-header".into()));
    let line = [("content-type", "application/x-ndjson")];
    let line = api.call("POST", "/v1/events", &line, r#"{"version":"1","kind":"risk","tenant_id":"_platform"}"#).await;
    assert_eq!(line.status, StatusCode::MULTI_STATUS);
    assert_eq!(line.json["items"][0]["status"], 422, "{}", line.text);
    assert!(api.intake.seen.lock().expect("held").is_empty());
}
