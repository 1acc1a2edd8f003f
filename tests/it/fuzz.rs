//! Tests: every reader of outside bytes against arbitrary and against nearly right input. None
//! panics, none takes what it should not, and what is taken reads back as itself.
//!
//! `PROPTEST_CASES=100000 ./tests/run.sh --test it fuzz` searches longer; it stays reproducible.

mod mutation;

use futures::FutureExt;
use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use riskfleet::config::{Namespace, Sources, load};
use riskfleet::crypto::packer::{Opened, open as open_pack};
use riskfleet::crypto::seal::PackSeal;
use riskfleet::domain::event::{AMOUNT_MAX, Kind};
use riskfleet::domain::lines::LineCutter;
use riskfleet::domain::parse::{self, Given, Parsed};
use riskfleet::domain::{
    CorrelationId, EventBody, EventId, IdempotencyKey, Invalid, PartitionId, Snapshot, TenantId, cloudevents,
};
use riskfleet::pipeline::Scorecard;
use tower::ServiceExt;

use crate::api::{LIMITS, closed, fakes, open, state};
use mutation::near;

const EVENT: &str = r#"{"kind":"risk","event_type":"payment","version":"1.0","tenant_id":"acme","subject":"acct-42",
 "amount":1250,"currency":"EUR","occurred_at":"2026-11-21T10:00:00Z","risk_score":12.5,"category":"standard",
 "regulation_ref":null,"compliance_type":null,"regulatory_flags":[],"metadata":{"any":{"object":[1,"x",null]}},
 "idempotency_key":"k-1","correlation_id":"c-1"}"#;

const FLAGGED: &str = r#"{"kind":"compliance","version":"1","tenant_id":"acme","regulation_ref":"AMLD6","compliance_type":"kyc",
 "regulatory_flags":["AML","PEP"],"metadata":{}}"#;

const ENVELOPE: &str = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"payment","time":"2026-11-21T10:00:00Z",
 "subject":"acct","datacontenttype":"application/json","data":{"kind":"risk","version":"1","tenant_id":"acme"}}"#;

const PACK: &str = r#"{"v":1,"partition":3,"events":[{"id":"019aa5a0-0000-7000-8000-000000000000","correlation_id":"c",
 "reply_to":"q","traceparent":"t","event":{"kind":"risk"}}]}"#;

const CARD: &str = r#"{"kind":"scorecard","base":30,"min":0,"max":100,"characteristics":[
 {"field":"amount","bins":[{"from":0,"to":10000,"points":-5.5},{"from":10000,"points":25}],"missing":5},
 {"field":"metadata.any.object","values":{"web":0,"":10},"other":3},{"field":"category","values":{"standard":1}}]}"#;

const SETTINGS: &str = "namespace = \"fleet_a\"\nhttp_addr = \"127.0.0.1:8080\"\nauth = \"on\"\n\
 jwt_secret = \"THESECRETTHATNOBODYMAYEVERSEEAGAIN\"\npartitions = 16\nbehind_proxy = false\nlog = \"info,lapin=warn\"\n";

fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(cases),
        // The same sequences on every machine: what is red here is red everywhere.
        rng_seed: RngSeed::Fixed(20_261_122),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What must hold of every event that was taken, wherever it came from.
fn assert_legal(parsed: &Parsed) {
    let body = &parsed.body;
    let text = |text: &str, max: usize| {
        assert!((1..=max).contains(&text.chars().count()) && !text.chars().any(char::is_control), "{text:?}");
    };
    text(&body.event_type, 128);
    text(&body.version, 32);
    body.subject.iter().for_each(|t| text(t, 256));
    body.category.iter().for_each(|t| text(t, 128));
    assert!(body.amount.is_none_or(|amount| amount.abs() <= AMOUNT_MAX));
    assert!(body.risk_score.is_none_or(|score| (0.0..=100.0).contains(&score)));
    assert!(body.currency.as_ref().is_none_or(|c| c.len() == 3 && c.bytes().all(|b| b.is_ascii_uppercase())));
    match body.kind {
        Kind::Risk => assert!(body.regulation_ref.is_none() && body.regulatory_flags.is_empty()),
        Kind::Compliance => assert!(body.risk_score.is_none() && body.category.is_none()),
    }
    let canonical = body.canonical();
    assert!(parse::check_depth(&canonical).is_ok());
    assert!(!String::from_utf8(canonical.clone()).expect("UTF-8").contains("\\u0000"));
    assert_eq!(EventBody::from_canonical(&canonical).expect("our own text").canonical(), canonical);
    let again = parse::event(&canonical, Given::default()).expect("what is stored can be sent");
    assert_eq!(again.body.canonical(), canonical, "reading is the inverse of writing");
}

/// Tokens are looked at in memory: nobody is asked, and nothing is waited for.
fn at_once<T>(asked: impl Future<Output = T>) -> T {
    asked.now_or_never().expect("waits for nobody")
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn an_event_is_refused_or_legal(text in near(&[EVENT, FLAGGED])) {
        let acme: TenantId = "acme".parse().expect("legal");
        for (tenant, keys_inside, kind) in [(None, true, None), (Some(&acme), false, Some(Kind::Compliance))] {
            let Ok(parsed) = parse::event(&text, Given { kind, tenant, keys_inside }) else { continue };
            assert_legal(&parsed);
            prop_assert!(tenant.is_none_or(|own| *own == parsed.body.tenant_id), "the credential's tenant binds");
            prop_assert!(kind.is_none_or(|own| own == parsed.body.kind), "the route's kind binds");
            prop_assert!(keys_inside || (parsed.key.is_none() && parsed.correlation_id.is_none()));
        }
    }

    #[test]
    fn a_cloud_event_is_refused_or_an_event_with_a_key(text in near(&[ENVELOPE])) {
        if let Ok(parsed) = cloudevents::event(&text, Given { keys_inside: true, ..Given::default() }) {
            assert_legal(&parsed);
            prop_assert!(parsed.key.is_some());
        }
    }

    #[test]
    fn a_scorecard_is_refused_or_scores_every_event_the_same(card in near(&[CARD]), event in near(&[EVENT, FLAGGED])) {
        let read = Scorecard::parse(&card);
        prop_assert!(!matches!(&read, Err(Invalid::Fields(wrong)) if wrong.is_empty() || wrong.len() > 100));
        let Ok(read) = read else { return Ok(()) };
        let good = parse::event(EVENT.as_bytes(), Given { keys_inside: true, ..Given::default() }).expect("valid");
        let given = Given { keys_inside: true, ..Given::default() };
        let events = [Some(good.body), parse::event(&event, given).ok().map(|parsed| parsed.body)];
        for event in events.iter().flatten() {
            let (score, reasons) = read.score(event, &Snapshot::default(), "fraud@1");
            prop_assert!((0.0..=100.0).contains(&score) && !(score == 0.0 && score.is_sign_negative()), "{}", score);
            let again = Scorecard::parse(&card).expect("it was read").score(event, &Snapshot::default(), "fraud@1");
            prop_assert_eq!((score.to_bits(), &reasons), (again.0.to_bits(), &again.1));
            for reason in &reasons {
                prop_assert!(reason.values["points"].as_f64().is_some_and(|points| points > 0.0), "{:?}", reason);
            }
        }
    }

    #[test]
    fn lines_do_not_depend_on_how_the_text_comes(
        text in near(&["{\"a\":1}\n\r\n{\"b\":2}\r\n \n{\"c\":\"\\n\"}"]),
        cuts in prop::collection::vec(1_usize..9, 1..40),
        max in 1_usize..40,
    ) {
        let (mut whole, mut pieces) = (LineCutter::new(max), LineCutter::new(max));
        let (mut once, mut cut) = (Vec::new(), Vec::new());
        whole.push(&text, &mut once);
        once.extend(whole.finish());
        let mut rest = text.as_slice();
        for size in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (now, later) = rest.split_at((*size).min(rest.len()));
            pieces.push(now, &mut cut);
            rest = later;
        }
        cut.extend(pieces.finish());
        prop_assert_eq!(&once, &cut);
        for pair in once.windows(2) {
            prop_assert!(pair[0].number < pair[1].number && pair[0].end < pair[1].end);
        }
        for line in &once {
            let text = line.text.as_deref().unwrap_or_default();
            prop_assert!(text.len() <= max && !text.contains(&b'\n'));
        }
    }

    #[test]
    fn no_pack_is_genuine_without_its_seal(body in near(&[PACK]), mac in prop::array::uniform32(any::<u8>())) {
        let seal = PackSeal::new(&[7; 32]);
        let here = PartitionId(3);
        prop_assert!(!matches!(open_pack(&seal, here, &body, Some(&mac)), Opened::Genuine(_)));
        prop_assert!(!matches!(open_pack(&seal, here, &body, None), Opened::Genuine(_)));
        let signed = seal.sign(&body);
        if let Opened::Genuine(pack) = open_pack(&seal, here, &body, Some(&signed)) {
            prop_assert_eq!((pack.v, pack.partition), (1, here));
        }
        prop_assert!(!matches!(open_pack(&seal, PartitionId(4), PACK.as_bytes(), Some(&seal.sign(PACK.as_bytes()))),
            Opened::Genuine(_)));
    }

    #[test]
    fn an_id_is_refused_or_reads_back_as_it_was(
        text in prop_oneof![any::<String>(), near(&["acme.eu_1-x", "019aa5a0-0000-7000-8000-000000000000", "fleet_a"])
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())],
    ) {
        if let Ok(id) = TenantId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert!(text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
        }
        if let Ok(id) = EventId::parse(&text) {
            prop_assert_eq!(id.to_string(), text.to_ascii_lowercase());
        }
        for read in [IdempotencyKey::parse(&text).map(|k| k.to_string()), CorrelationId::parse(&text).map(|k| k.to_string())] {
            let Ok(read) = read else { continue };
            prop_assert_eq!(&read, &text);
            prop_assert!(HeaderValue::from_str(&text).is_ok(), "it goes back in a header");
        }
        if let Ok(namespace) = Namespace::parse(&text) {
            prop_assert_eq!(namespace.as_str(), &text);
            let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            prop_assert!(plain && (1..=31).contains(&text.len()) && text.as_bytes()[0].is_ascii_lowercase());
        }
    }

    #[test]
    fn no_credential_is_good_but_a_signed_one(text in near(&[
        "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJ0ZW5hbnRfaWQiOiJhY21lIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2ln",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJ0ZW5hbnRfaWQiOiJhY21lIiwiZXhwIjo5OTk5OTk5OTk5fQ.",
    ])) {
        let now: DateTime<Utc> = riskfleet::domain::time::from_millis(fakes::NOW_MS);
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            let headers = HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, value)]);
            prop_assert!(at_once(closed().caller(&headers, now)).is_err());
        }
        prop_assert!(at_once(closed().producer(&String::from_utf8_lossy(&text), now)).is_err());
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_settings_file_is_taken_or_refused_in_one_line_without_its_secrets(text in near(&[SETTINGS])) {
        let path = std::env::temp_dir().join(format!("riskfleet-fuzz-{}.toml", uuid::Uuid::new_v4().simple()));
        std::fs::write(&path, &text).expect("write a file");
        let read = load(&Sources { file: Some(path.clone()), ..Sources::default() });
        std::fs::remove_file(&path).expect("remove a file");
        match read {
            Ok(settings) => prop_assert!(Namespace::parse(settings.namespace.as_str()).is_ok()),
            Err(error) => {
                let said = error.to_string();
                prop_assert!(!said.is_empty() && !said.contains('\n'), "{:?}", said);
                prop_assert!(!said.contains("THESECRETTHAT"), "{}", said);
            }
        }
    }

    /// Keys, trace contexts, preferences, correlation ids and reasons, at the API itself.
    #[test]
    fn no_header_and_no_reason_breaks_the_api(
        key in near(&["k-1"]),
        trace in near(&["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
        prefer in near(&["wait=0, respond-async", "return=minimal; wait=1"]),
        correlation in near(&["c-1"]),
        reason in near(&[r#"{"reason":"a test event"}"#]),
        event in near(&[EVENT]),
    ) {
        // Time passes as soon as nobody works: a wait for a decision costs nothing.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let seen = runtime.block_on(statuses([key, trace, prefer, correlation], &reason, event));
        let known = BTreeSet::from([200, 202, 400, 403, 404, 409, 413, 415, 422]);
        prop_assert!(seen.is_subset(&known), "{:?}", seen);
    }
}

async fn statuses(headers: [Vec<u8>; 4], reason: &[u8], event: Vec<u8>) -> BTreeSet<u16> {
    let store = std::sync::Arc::new(fakes::FakeStore::default());
    let intake = std::sync::Arc::new(fakes::FakeIntake::default());
    let router = riskfleet::api::whole_router(state(store, open(), LIMITS, Vec::new()), intake);
    let names = ["x-idempotency-key", "traceparent", "prefer", "x-correlation-id"];
    let mut seen = BTreeSet::new();
    let id = "019aa5a0-0000-7000-8000-000000000000";
    for (path, body) in [
        ("/v1/risk".to_owned(), event.clone()),
        ("/v1/events".into(), event),
        (format!("/v1/dead-letters/{id}/discard"), reason.to_vec()),
        (format!("/v1/dead-letters/{id}/replay"), reason.to_vec()),
    ] {
        let mut request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
        for (name, value) in names.iter().zip(&headers) {
            // What is no header value never leaves the reader of HTTP.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                request = request.header(*name, value);
            }
        }
        let request = request.body(Body::from(body)).expect("a request");
        let response = router.clone().oneshot(request).await.expect("routers do not fail");
        assert!(response.headers()["x-correlation-id"].to_str().is_ok());
        seen.insert(response.status().as_u16());
    }
    seen
}
