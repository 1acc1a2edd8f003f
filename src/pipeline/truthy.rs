//! Truth as producers of the baseline's events know it (Python, "Truth Value Testing").

use serde_json::Value;

/// False for null, false, 0, 0.0, "", [] and {}; true for everything else.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64().is_none_or(|n| n != 0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn truth_is_pythons() {
        for no in [json!(null), json!(false), json!(0), json!(0.0), json!(-0.0), json!(""), json!([]), json!({})] {
            assert!(!truthy(&no), "{no}");
        }
        for yes in
            [json!(true), json!(1), json!(-1), json!(0.1), json!("0"), json!("false"), json!([0]), json!({"a": null})]
        {
            assert!(truthy(&yes), "{yes}");
        }
    }
}
