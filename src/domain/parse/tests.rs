//! What is refused, where, and with which words.

use super::*;

fn parse(text: &str) -> Result<Parsed, Invalid> {
    event(text.as_bytes(), Given { keys_inside: true, ..Given::default() })
}

fn pointers(text: &str) -> Vec<String> {
    match parse(text) {
        Err(Invalid::Fields(wrong)) => wrong.into_iter().map(|v| v.pointer).collect(),
        other => panic!("expected wrong fields, got {other:?}"),
    }
}

const FULL: &str = r#"{"kind":"risk","event_type":"payment","version":"1.0","tenant_id":"acme","subject":"acct-42",
 "amount":1250,"currency":"EUR","occurred_at":"2026-11-21T10:00:00Z","risk_score":12.5,"category":"standard",
 "regulation_ref":null,"compliance_type":null,"regulatory_flags":[],"metadata":{"any":"object"}}"#;

#[test]
fn the_documented_event_is_read_and_written_canonically() {
    let parsed = parse(FULL).expect("the event of the documentation");
    let text = String::from_utf8(parsed.body.canonical()).expect("JSON is UTF-8");
    assert_eq!(
        text,
        r#"{"kind":"risk","event_type":"payment","version":"1.0","tenant_id":"acme","subject":"acct-42","amount":1250,"currency":"EUR","occurred_at":"2026-11-21T10:00:00.000Z","risk_score":12.5,"category":"standard","metadata":{"any":"object"}}"#
    );
    assert_eq!(EventBody::from_canonical(text.as_bytes()).expect("reads back"), parsed.body);
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let text = r#"{"kind":"risk","version":"","tenant_id":"a b","amount":1.5,"currency":"euro","risk_score":101,
        "occurred_at":"yesterday","regulatory_flags":["x",7],"metadata":[],"surprise":1,"event_type":5}"#;
    let mut got = pointers(text);
    got.sort();
    assert_eq!(
        got,
        [
            "/amount",
            "/currency",
            "/event_type",
            "/metadata",
            "/occurred_at",
            "/regulatory_flags",
            "/regulatory_flags/1",
            "/risk_score",
            "/surprise",
            "/tenant_id",
            "/version"
        ]
    );
}

#[test]
fn required_fields_are_required() {
    assert_eq!(pointers(r#"{"tenant_id":"a"}"#), ["/kind", "/version"]);
    assert!(matches!(parse(r#"{"kind":"risk","version":"1"}"#), Err(Invalid::TenantMissing)));
}

#[test]
fn a_route_implies_the_kind_and_a_credential_the_tenant() {
    let tenant = TenantId::parse("acme").expect("legal");
    let given = Given { kind: Some(Kind::Compliance), tenant: Some(&tenant), keys_inside: false };
    let parsed = event(br#"{"version":"1","regulatory_flags":["AML"]}"#, given).expect("valid");
    assert_eq!((parsed.body.kind, parsed.body.tenant_id.as_str()), (Kind::Compliance, "acme"));
    let other = event(br#"{"version":"1","tenant_id":"other"}"#, given);
    assert!(matches!(other, Err(Invalid::TenantMismatch { .. })), "{other:?}");
    let wrong = event(br#"{"version":"1","kind":"risk","idempotency_key":"k"}"#, given);
    let Err(Invalid::Fields(wrong)) = wrong else { panic!("{wrong:?}") };
    assert_eq!(wrong.iter().map(|v| v.pointer.as_str()).collect::<Vec<_>>(), ["/kind", "/idempotency_key"]);
}

#[test]
fn the_other_kinds_fields_are_refused() {
    assert_eq!(pointers(r#"{"kind":"compliance","version":"1","tenant_id":"a","risk_score":1}"#), ["/risk_score"]);
    assert_eq!(
        pointers(r#"{"kind":"risk","version":"1","tenant_id":"a","regulatory_flags":["x"]}"#),
        ["/regulatory_flags"]
    );
    assert!(parse(r#"{"kind":"compliance","version":"1","tenant_id":"a","risk_score":null}"#).is_ok());
}

#[test]
fn broken_json_deep_json_and_double_fields_are_refused() {
    for text in ["", "{", "nope", r#"{"kind":NaN}"#, r#"{"risk_score":1e999}"#, r#"{"kind":"risk","kind":"risk"}"#] {
        assert!(matches!(parse(text), Err(Invalid::Broken(_))), "{text}: {:?}", parse(text));
    }
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let Err(Invalid::Broken(why)) = parse(&deep) else { panic!("deep nesting was read") };
    assert!(why.contains("64 levels"), "{why}");
    let in_text =
        format!(r#"{{"kind":"risk","version":"1","tenant_id":"a","metadata":{{"t":"{}\""}}}}"#, "[{".repeat(500));
    assert!(parse(&in_text).is_ok(), "brackets inside text are no nesting");
    assert_eq!(pointers("[1]"), [""]);
}

#[test]
fn nul_and_control_characters_are_refused_where_they_stand() {
    let text =
        r#"{"kind":"risk","version":"1","tenant_id":"a","subject":"x\u0000","metadata":{"a/b":{"c":["ok","\u0000"]}}}"#;
    let mut got = pointers(text);
    got.sort();
    assert_eq!(got, ["/metadata/a~1b/c/1", "/subject"]);
}

#[test]
fn lengths_and_ranges_hold_at_their_borders() {
    let with = |field: &str| format!(r#"{{"kind":"risk","version":"1","tenant_id":"a",{field}}}"#);
    for good in [
        r#""risk_score":0"#,
        r#""risk_score":100"#,
        r#""amount":-100000000000000"#,
        r#""occurred_at":"1970-01-01T00:00:00Z""#,
    ] {
        assert!(parse(&with(good)).is_ok(), "{good}: {:?}", parse(&with(good)));
    }
    let long = format!(r#""event_type":"{}""#, "x".repeat(129));
    for bad in [
        r#""risk_score":-0.1"#,
        r#""risk_score":"12""#,
        r#""amount":100000000000001"#,
        r#""occurred_at":"1969-12-31T00:00:00Z""#,
        r#""amount":9223372036854775808"#,
        &long,
    ] {
        assert_eq!(pointers(&with(bad)).len(), 1, "{bad}");
    }
    let tenant = format!(r#"{{"kind":"risk","version":"1","tenant_id":"{}"}}"#, "t".repeat(129));
    assert_eq!(pointers(&tenant), ["/tenant_id"]);
}
