//! Tests: whose queue messages are, with authentication on: by the user that the broker has validated,
//! by an API key, and otherwise parked. And the first key of a fleet, from the command line to a door.

use std::time::{Duration, Instant};

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::json;

use crate::api::tokens::{ec_jwk, ed_bearer, ed_jwk};
use crate::harness::fleet::{Fleet, alone, http};
use crate::harness::process::{Process, Program};

/// The user of the tests' broker.
fn user() -> String {
    let amqp = crate::harness::amqp_url();
    let rest = amqp.split("://").nth(1).expect("a URL");
    rest.split_once('@').and_then(|(user, _)| user.split(':').next()).unwrap_or("guest").to_owned()
}

async fn publish(channel: &Channel, inbox: &str, id: &str, body: &str, user: Option<&str>, bearer: Option<&str>) {
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
    if let Some(user) = user {
        properties = properties.with_user_id(user.into());
    }
    if let Some(bearer) = bearer {
        let mut headers = FieldTable::default();
        headers.insert("authorization".into(), AMQPValue::LongString(bearer.into()));
        properties = properties.with_headers(headers);
    }
    channel
        .basic_publish(inbox.into(), inbox.into(), BasicPublishOptions::default(), body.as_bytes(), properties)
        .await
        .expect("publish to the inbox");
}

const EVENT: &str = r#"{"kind":"risk","version":"1"}"#;

/// Exchanges the set of keys whole, as deployments do.
fn write_keys(fleet: &Fleet, text: &str) {
    let (aside, file) = (fleet.dir.join("jwks.new"), fleet.dir.join("jwks.json"));
    std::fs::write(&aside, text).expect("write the keys");
    std::fs::rename(aside, file).expect("exchange the keys");
}

async fn ingest(fleet: &Fleet) -> Process {
    write_keys(fleet, &json!({"keys": [ed_jwk()]}).to_string());
    let mut settings = fleet.settings();
    settings.insert("RISKFLEET_JWKS_FILE".into(), fleet.dir.join("jwks.json").display().to_string());
    settings.insert("RISKFLEET_AUTH".into(), "on".into());
    settings.insert("RISKFLEET_INBOX_USERS".into(), format!("{}=acme", user()));
    let mut process = Process::start("ingest", Program::Ingest, &["serve"], &settings, &fleet.dir);
    process.ready().await;
    process
}

async fn seen(ingest: &Process, bearer: &str) -> u16 {
    let asked = http().get(ingest.url("/v1/tenant/context")).header("authorization", bearer).send().await;
    asked.expect("asked").status().as_u16()
}

/// A token is taken while its key is in the file; a file that can't be read changes nothing.
async fn keys_are_followed(fleet: &Fleet, ingest: &Process) {
    let claims =
        json!({"sub": "ann", "tenant_id": "acme", "roles": ["VIEWER"], "aud": "riskfleet", "exp": 4_000_000_000_u64});
    let bearer = ed_bearer(&claims);
    let reloads = async |result: &str| {
        let metrics = ingest.metrics().await.0;
        let sample = format!("riskfleet_file_reloads_total{{file=\"key_set\",result=\"{result}\"}} 1");
        metrics.contains(&sample)
    };
    assert_eq!(seen(ingest, &bearer).await, 200);
    for (text, result, status) in
        [("no set".to_owned(), "failed", 200), (json!({"keys": [ec_jwk()]}).to_string(), "ok", 401)]
    {
        write_keys(fleet, &text);
        let until = Instant::now() + Duration::from_secs(20);
        while !reloads(result).await {
            assert!(Instant::now() < until, "the file was not read again:\n{}", ingest.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(seen(ingest, &bearer).await, status, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_its_users_or_its_keys_and_a_first_key_opens_the_doors() {
    let _alone = alone().await;
    let fleet = Fleet::new().await;
    let mut console_settings = fleet.settings();
    console_settings.insert("RISKFLEET_AUTH".into(), "on".into());
    let mut console = Process::start("console", Program::Console, &[], &console_settings, &fleet.dir);
    console.ready().await;
    let ingest = ingest(&fleet).await;
    keys_are_followed(&fleet, &ingest).await;

    let first = fleet.operate(&["keys", "create", "--bootstrap", "--name", "ops"]);
    let first = first.trim();
    assert!(first.starts_with("rfk_") && first.len() == 47, "{first}");
    let again = fleet.run(Program::Operator, &["keys", "create", "--bootstrap", "--name", "ops"]);
    assert_eq!(again.status.code(), Some(2), "a second first key is refused");
    let url = format!("http://{}", console.addr);
    let shop = ["keys", "create", "--name", "shop", "--role", "PRODUCER", "--tenant", "globex", "--url", &url];
    let shop = fleet.operate_json(&[&shop[..], &["--token", first]].concat());
    let bearer = format!("Bearer {}", shop["key"].as_str().expect("a key"));
    let id = shop["api_key"]["id"].as_str().expect("an id");

    let sent = http().post(ingest.url("/v1/risk")).header("authorization", &bearer).header("idempotency-key", "h");
    let sent = sent.header("content-type", "application/json").body(r#"{"version":"1"}"#).send().await.expect("sent");
    assert_eq!(sent.status().as_u16(), 202, "{}", ingest.log_tail());

    let connection = fleet.broker().await;
    let channel = connection.create_channel().await.expect("open a channel");
    let inbox = format!("{}.inbox", fleet.ns);
    publish(&channel, &inbox, "by-user", EVENT, Some(&user()), None).await;
    publish(&channel, &inbox, "by-key", EVENT, None, Some(&bearer)).await;
    publish(&channel, &inbox, "by-nobody", EVENT, None, None).await;
    publish(&channel, &inbox, "by-two", EVENT, Some(&user()), Some(&bearer)).await;
    let platform = r#"{"kind":"risk","version":"1","tenant_id":"_platform"}"#;
    publish(&channel, &inbox, "by-fleet", platform, Some(&user()), None).await;
    publish(&channel, &inbox, "made-up", EVENT, None, Some("Bearer rfk_made-up")).await;
    let patience = Duration::from_secs(30);
    fleet.until("accepted", "SELECT count(*) FROM {ns}.events", 3, patience).await;
    fleet.until("parked", "SELECT count(*) FROM {ns}.inbox_rejected", 4, patience).await;
    for (tenant, events) in [("acme", 1), ("globex", 2)] {
        let of = format!("SELECT count(*) FROM {{ns}}.events WHERE tenant_id = '{tenant}'");
        assert_eq!(fleet.number(&of).await, events, "{tenant}");
    }
    for why in ["names no user with a tenant", "of two tenants", "_platform", "does not hold"] {
        let reason = format!("SELECT count(*) FROM {{ns}}.inbox_rejected WHERE position('{why}' IN reason) > 0");
        assert_eq!(fleet.number(&reason).await, 1, "{why}");
    }

    fleet.operate(&["keys", "revoke", id, "--reason", "the shop has closed", "--url", &url, "--token", first]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let late = http().post(ingest.url("/v1/risk")).header("authorization", &bearer).send().await.expect("sent");
    assert_eq!(late.status().as_u16(), 401, "revoked two seconds ago");
    let listed = fleet.operate_json(&["keys", "list"]);
    let states: Vec<&str> = listed.as_array().expect("keys").iter().filter_map(|key| key["state"].as_str()).collect();
    assert_eq!(states, ["revoked", "active"], "{listed}");
    let audit = fleet.operate_json(&["audit", "verify"]);
    assert_eq!(audit["ok"], true, "{audit}");
}
