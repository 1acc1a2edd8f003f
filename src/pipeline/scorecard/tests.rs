//! Tests: what is refused and where, what is scored, and what holds for every document.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Scorecard;
use crate::domain::context::Subject24h;
use crate::domain::{EventBody, Invalid, Snapshot, parse};

fn read(document: &Value) -> Result<Scorecard, Vec<(String, String)>> {
    Scorecard::parse(document.to_string().as_bytes()).map_err(|invalid| match invalid {
        Invalid::Fields(wrong) => wrong.into_iter().map(|v| (v.pointer, v.detail)).collect(),
        other => vec![("broken".into(), other.to_string())],
    })
}

fn with(characteristics: &Value) -> Value {
    json!({ "kind": "scorecard", "base": 30, "min": 0, "max": 100, "characteristics": characteristics })
}

fn event(text: &str) -> EventBody {
    parse::event(text.as_bytes(), parse::Given::default()).expect("valid").body
}

fn plain(more: &Value) -> EventBody {
    let mut body = json!({ "kind": "risk", "version": "1", "tenant_id": "acme" });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    event(&body.to_string())
}

const EXAMPLE: &str = r#"{"kind":"scorecard","base":30,"min":0,"max":100,"characteristics":[
    {"field":"amount","bins":[{"from":0,"to":10000,"points":0},{"from":10000,"points":25}],"missing":5},
    {"field":"metadata.channel","values":{"web":0,"phone":10},"other":3,"missing":0},
    {"field":"context.count_24h","bins":[{"from":10,"points":20}]},
    {"field":"metadata.device.trusted","values":{"true":-15}}]}"#;

#[test]
fn points_are_added_and_each_that_was_given_is_a_reason() {
    let card = Scorecard::parse(EXAMPLE.as_bytes()).expect("whole");
    let many = Snapshot { subject_24h: Some(Subject24h { count: 12, ..Subject24h::default() }), ..Snapshot::default() };
    let cases = [
        (json!({}), Snapshot::default(), 35.0, vec!["fraud@2/amount"]),
        (json!({"amount": 9_999}), Snapshot::default(), 30.0, vec![]),
        (json!({"amount": 10_000}), Snapshot::default(), 55.0, vec!["fraud@2/amount"]),
        (
            json!({"amount": 10_000, "metadata": {"channel": "phone"}}),
            many.clone(),
            85.0,
            vec!["fraud@2/amount", "fraud@2/metadata.channel", "fraud@2/context.count_24h"],
        ),
        (
            json!({"amount": 1, "metadata": {"channel": "fax"}}),
            Snapshot::default(),
            33.0,
            vec!["fraud@2/metadata.channel"],
        ),
        (json!({"amount": 1, "metadata": {"channel": null}}), Snapshot::default(), 30.0, vec![]),
        (json!({"amount": 1, "metadata": {"device": {"trusted": true}}}), Snapshot::default(), 15.0, vec![]),
        (json!({"amount": 1, "metadata": {"device": ["trusted"]}}), Snapshot::default(), 30.0, vec![]),
        (json!({"amount": -1}), Snapshot::default(), 30.0, vec![]),
    ];
    for (body, context, score, rules) in cases {
        let (got, reasons) = card.score(&plain(&body), &context, "fraud@2");
        assert_eq!(got, score, "{body}");
        assert_eq!(reasons.iter().map(|r| r.rule.as_str()).collect::<Vec<_>>(), rules, "{body}");
        assert!(reasons.iter().all(|r| r.code == "SCORECARD"), "{body}");
    }
}

#[test]
fn reasons_show_the_scorecards_words_and_never_the_events() {
    let card = read(&with(&json!([
        {"field": "metadata.name", "values": {"x": 1}, "other": 7},
        {"field": "amount", "bins": [{"to": 100.5, "points": 2}]},
        {"field": "category", "values": {"gold": 3}},
    ])))
    .expect("whole");
    let body = plain(&json!({"amount": 42, "category": "gold", "metadata": {"name": "Jane Roe"}}));
    let (score, reasons) = card.score(&body, &Snapshot::default(), "m@1");
    assert_eq!(score, 42.0);
    let values: Vec<Value> = reasons.into_iter().map(|r| Value::Object(r.values)).collect();
    let want = [
        json!({"points": 7.0, "matched": "other"}),
        json!({"points": 2.0, "bin": {"from": null, "to": 100.5}}),
        json!({"points": 3.0, "value": "gold"}),
    ];
    assert_eq!(values, want);
}

#[test]
fn the_score_stays_within_its_bounds() {
    for (points, want) in [(1e6, 90.0), (-1e6, 10.0), (-30.0, 10.0)] {
        let document = json!({ "kind": "scorecard", "base": 30, "min": 10, "max": 90,
            "characteristics": [{"field": "kind", "values": {"risk": points}}] });
        let (score, _) = read(&document).expect("whole").score(&plain(&json!({})), &Snapshot::default(), "m@1");
        assert_eq!(score, want);
    }
    let zero = json!({"kind": "scorecard", "base": -0.0, "min": 0, "max": 100, "characteristics": []});
    let (score, _) = read(&zero).expect("whole").score(&plain(&json!({})), &Snapshot::default(), "m@1");
    assert!(score.is_sign_positive(), "a negative zero would be written otherwise");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let bins = |bins: &Value| with(&json!([{ "field": "amount", "bins": bins }]));
    let many = |n: usize| Value::Object((0..n).map(|v| (v.to_string(), 1.into())).collect());
    let fields: Vec<Value> = (0..201).map(|n| json!({"field": format!("metadata.f{n}"), "values": {"x": 1}})).collect();
    let cases: Vec<(Value, &str, &str)> = vec![
        (json!([]), "", "must be an object"),
        (json!({"kind": "tree", "base": 0, "min": 0, "max": 1, "characteristics": []}), "/kind", "scorecard"),
        (json!({"kind": "scorecard", "min": 0, "max": 1, "characteristics": []}), "/base", "must be a number"),
        (json!({"kind": "scorecard", "base": 0, "min": 0, "max": 101, "characteristics": []}), "/max", "0 to 100"),
        (json!({"kind": "scorecard", "base": 0, "min": 9, "max": 1, "characteristics": []}), "/max", "below `min`"),
        (json!({"kind": "scorecard", "base": 0, "min": 0, "max": 1}), "/characteristics", "must be an array"),
        (with(&json!(fields)), "/characteristics", "at most 200"),
        (with(&json!([{"field": "metadata.x", "values": many(1_001)}])), "/characteristics", "at most 1000"),
        (with(&json!([7])), "/characteristics/0", "must be an object"),
        (with(&json!([{"field": "colour", "values": {"x": 1}}])), "/characteristics/0/field", "no field"),
        (with(&json!([{"field": "subject", "values": {"x": 1}}])), "/characteristics/0/field", "no field"),
        (with(&json!([{"field": "metadata.a..b", "values": {"x": 1}}])), "/characteristics/0/field", "no field"),
        (with(&json!([{"field": "amount", "values": {"x": 1}}])), "/characteristics/0", "give `bins`"),
        (with(&json!([{"field": "kind", "bins": [{"points": 1}]}])), "/characteristics/0", "give `values`"),
        (with(&json!([{"field": "amount"}])), "/characteristics/0", "either `bins` or `values`"),
        (with(&json!([{"field": "kind", "values": {"a/b": "x"}}])), "/characteristics/0/values/a~1b", "a number"),
        (with(&json!([{"field": "kind", "values": {}}])), "/characteristics/0/values", "at least one"),
        (with(&json!([{"field": "kind", "values": {"x": 1}, "why": 1}])), "/characteristics/0/why", "not known"),
        (
            with(&json!([{"field": "kind", "values": {"x": 1}}, {"field": "kind", "values": {"x": 1}}])),
            "/characteristics/1/field",
            "scored before",
        ),
        (bins(&json!([])), "/characteristics/0/bins", "at least one"),
        (bins(&json!([{"from": 1, "to": 1, "points": 1}])), "/characteristics/0/bins/0/to", "above `from`"),
        (bins(&json!([{"from": "1", "points": 1}])), "/characteristics/0/bins/0/from", "must be a number"),
        (bins(&json!([{"from": 1}])), "/characteristics/0/bins/0/points", "must be a number"),
        (bins(&json!([{"from": 1, "points": 2e6}])), "/characteristics/0/bins/0/points", "to 1000000"),
        (
            bins(&json!([{"from": 5, "to": 9, "points": 1}, {"from": 1, "to": 6, "points": 1}])),
            "/characteristics/0/bins/1",
            "overlaps /characteristics/0/bins/0",
        ),
        (bins(&json!([{"points": 1}, {"to": 3, "points": 1}])), "/characteristics/0/bins/1", "overlaps"),
    ];
    for (document, pointer, detail) in cases {
        let wrong = read(&document).expect_err("it is wrong");
        assert!(wrong.iter().any(|(p, d)| p == pointer && d.contains(detail)), "{pointer} {detail}: {wrong:?}");
    }
    assert!(read(&bins(&json!([{"from": 3, "points": 1}, {"to": 3, "points": 1}]))).is_ok(), "they touch");
    let twice = r#"{"kind":"scorecard","base":0,"base":9,"min":0,"max":100,"characteristics":[]}"#;
    let refused = Scorecard::parse(twice.as_bytes()).expect_err("ambiguous").to_string();
    assert!(refused.contains("stands twice"), "{refused}");
    for broken in ["", "{", "NaN", r#"{"base":1e999}"#, &"[".repeat(10_000)] {
        assert!(matches!(Scorecard::parse(broken.as_bytes()), Err(Invalid::Broken(_))), "{broken:.20}");
    }
}

/// JSON that resembles a scorecard, more or less.
fn nearly() -> impl Strategy<Value = Value> {
    let points = prop_oneof![(-200_i32..200).prop_map(Value::from), any::<f64>().prop_map(Value::from)];
    let bin = (proptest::option::of(-50_i32..50), proptest::option::of(-50_i32..50), points.clone()).prop_map(
        |(from, to, points)| {
            let mut bin = json!({ "points": points });
            if let Some(from) = from {
                bin["from"] = from.into();
            }
            if let Some(to) = to {
                bin["to"] = to.into();
            }
            bin
        },
    );
    let field = prop_oneof![Just("amount"), Just("kind"), Just("metadata.a"), Just("context.count_24h"), Just("x")];
    let table = prop_oneof![
        proptest::collection::vec(bin, 0..4).prop_map(|bins| ("bins", Value::from(bins))),
        proptest::collection::btree_map("[a-z]{0,3}", points.clone(), 0..4)
            .prop_map(|values| ("values", json!(values))),
    ];
    let characteristic = (field, table, points.clone())
        .prop_map(|(field, (name, table), missing)| json!({ "field": field, name: table, "missing": missing }));
    let characteristics = proptest::collection::vec(characteristic, 0..5);
    (points, characteristics).prop_map(|(base, characteristics)| {
        json!({ "kind": "scorecard", "base": base, "min": 5, "max": 95, "characteristics": characteristics })
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Scorecard::parse(&bytes);
    }

    #[test]
    fn scores_are_bounded_and_repeat_bit_by_bit(document in nearly(), amount in -60_i64..60, a in "[a-z]{0,3}") {
        if let Ok(card) = read(&document) {
            let body = plain(&json!({ "amount": amount, "metadata": { "a": a } }));
            let (score, reasons) = card.score(&body, &Snapshot::default(), "m@1");
            prop_assert!((5.0..=95.0).contains(&score), "{score}");
            let again = read(&document).expect("as before").score(&body, &Snapshot::default(), "m@1");
            prop_assert_eq!((score.to_bits(), reasons), (again.0.to_bits(), again.1));
        }
    }
}
