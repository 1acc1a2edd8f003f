//! Owns the events that are sent: their shape, and the mix of what decides them.

use std::fmt::Write;

/// The tenant of a request.
pub(crate) fn tenant(request: u64, tenants: u64) -> String {
    format!("tenant-{:04}", request % tenants)
}

/// One event about 200 bytes long. Nine of ten are approved; the tenth is a person's.
fn write_event(text: &mut String, n: u64) {
    let event_type = match n % 10 {
        0 => "high_risk",
        1..=3 => "low_risk",
        _ => "payment",
    };
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        r#"{{"kind":"risk","event_type":"{event_type}","version":"1.0","subject":"account-{}","amount":{},"currency":"EUR","risk_score":12.5,"category":"standard","metadata":{{"channel":"web","n":{n}}}"#,
        n % 5_000,
        n % 100_000,
    );
}

/// The body of a request of one event, whose key goes into a header.
pub(crate) fn single(n: u64) -> String {
    let mut text = String::with_capacity(256);
    write_event(&mut text, n);
    text.push('}');
    text
}

/// The body of a request of many: an array, each event with its key.
pub(crate) fn batch(run: &str, first: u64, count: u64) -> String {
    let mut text = String::with_capacity(300 * usize::try_from(count).unwrap_or(0) + 2);
    for n in first..first + count {
        text.push(if n == first { '[' } else { ',' });
        write_event(&mut text, n);
        let _ = write!(text, r#","idempotency_key":"{run}-{n}"}}"#);
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::{batch, single};

    #[test]
    fn what_is_sent_are_events() {
        use riskfleet::domain::parse::{Given, event};
        let tenant = riskfleet::domain::TenantId::parse("tenant-0001").expect("legal");
        let given = Given { tenant: Some(&tenant), keys_inside: true, ..Given::default() };
        for n in 0..20 {
            event(single(n).as_bytes(), given).expect("a valid event");
        }
        let items: Vec<serde_json::Value> = serde_json::from_str(&batch("run", 40, 20)).expect("an array");
        assert_eq!(items.len(), 20);
        for item in items {
            let parsed = event(item.to_string().as_bytes(), given).expect("a valid event");
            assert!(parsed.key.is_some(), "each has its key");
        }
    }
}
