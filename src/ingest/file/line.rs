//! Owns the reading of one line: its tenant, its key, its correlation id.

use super::report::Rejection;
use crate::domain::audit::{Hash, sha256};
use crate::domain::lines::{Line, line_key};
use crate::domain::parse::{self, Given, Parsed};
use crate::domain::{CorrelationId, IdempotencyKey, Invalid, TenantId};
use crate::ports::intake::Candidate;

/// What a line without a key gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Keys {
    /// The file's hash, and its number.
    Hash(Hash),
    /// A text of the operator, and its number.
    Prefix(String),
    /// None: it is refused.
    Own,
}

/// What a line is.
pub(super) enum Read {
    Candidate(Box<Candidate>),
    Rejected(Rejection),
    /// The last line, and not whole.
    Cut,
}

/// Reads lines.
pub(super) struct Reader {
    tenant: Option<TenantId>,
    keys: Keys,
}

impl Reader {
    pub(super) fn new(tenant: Option<TenantId>, keys: Keys) -> Self {
        Self { tenant, keys }
    }

    pub(super) fn read(&self, line: &Line, line_max: usize) -> Read {
        let Some(text) = &line.text else {
            return Read::Rejected(Rejection::plain(line.number, format!("the line is longer than {line_max} bytes")));
        };
        let parsed = match self.parse(text) {
            Ok(parsed) => parsed,
            // A whole JSON object is never the beginning of another, so what can't be read at the
            // very end, without a line end, is a beginning.
            Err(Invalid::Broken(_)) if !line.ended => return Read::Cut,
            Err(invalid) => return Read::Rejected(Rejection::invalid(line.number, invalid)),
        };
        match parsed.key.clone().map_or_else(|| self.key(line.number), Ok) {
            Ok(key) => Read::Candidate(Box::new(candidate(parsed, key))),
            Err(invalid) => Read::Rejected(Rejection::invalid(line.number, invalid)),
        }
    }

    /// The given tenant is a default: a line that names another keeps it. Read again only then.
    fn parse(&self, text: &[u8]) -> Result<Parsed, Invalid> {
        let given = |tenant| Given { kind: None, tenant, keys_inside: true };
        match parse::event(text, given(self.tenant.as_ref())) {
            Err(Invalid::TenantMismatch { .. }) => parse::event(text, given(None)),
            Err(Invalid::TenantMissing) => {
                let detail = "is required: name the tenant in each line, or for all with --tenant";
                Err(Invalid::Fields(vec![crate::domain::Violation::at("/tenant_id", detail)]))
            }
            other => other,
        }
    }

    fn key(&self, number: u64) -> Result<IdempotencyKey, Invalid> {
        match &self.keys {
            Keys::Hash(hash) => Ok(line_key(hash, number)),
            Keys::Prefix(prefix) => IdempotencyKey::parse(&format!("{prefix}:{number}"))
                .map_err(|_| Invalid::KeyMissing("the one of --key-prefix is too long")),
            Keys::Own => {
                Err(Invalid::KeyMissing("give `idempotency_key` in each piped line, or --key-prefix for all of them"))
            }
        }
    }
}

fn candidate(parsed: Parsed, key: IdempotencyKey) -> Candidate {
    let Parsed { body, correlation_id, .. } = parsed;
    let correlation_id = correlation_id.unwrap_or_else(|| {
        // The same line gives the same id on every run, and no other line does.
        let unique = sha256(format!("{}\0{key}", body.tenant_id).as_bytes());
        CorrelationId::parse(&format!("import-{}", hex::encode(&unique[..12]))).expect("hex digits are a legal id")
    });
    Candidate { key, correlation_id, traceparent: None, body, wait: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: Keys, tenant: Option<&str>, text: &str, ended: bool) -> Read {
        let tenant = tenant.map(|t| TenantId::parse(t).expect("legal"));
        let line = Line { number: 3, end: 0, ended, text: Some(text.into()) };
        Reader::new(tenant, keys).read(&line, 100)
    }

    #[test]
    fn the_given_tenant_is_a_default_and_the_key_is_the_lines_own_first() {
        let plain = r#"{"kind":"risk","version":"1"}"#;
        let own = r#"{"kind":"risk","version":"1","tenant_id":"b","idempotency_key":"k","correlation_id":"c"}"#;
        let Read::Candidate(first) = read(Keys::Hash([1; 32]), Some("a"), plain, true) else { panic!("taken") };
        assert_eq!(first.body.tenant_id.as_str(), "a");
        assert_eq!(first.key, line_key(&[1; 32], 3));
        assert!(first.correlation_id.as_str().starts_with("import-"));
        let Read::Candidate(second) = read(Keys::Own, Some("a"), own, true) else { panic!("taken") };
        assert_eq!((second.body.tenant_id.as_str(), second.key.as_str()), ("b", "k"));
        assert_eq!(second.correlation_id.as_str(), "c");
        let Read::Candidate(third) = read(Keys::Prefix("p".into()), Some("a"), plain, true) else { panic!("taken") };
        assert_eq!(third.key.as_str(), "p:3");
    }

    #[test]
    fn what_is_wrong_is_named_and_only_an_unfinished_last_line_is_cut() {
        for (keys, tenant, text, want) in [
            (Keys::Own, Some("a"), r#"{"kind":"risk","version":"1"}"#, "idempotency key missing"),
            (Keys::Hash([1; 32]), None, r#"{"kind":"risk","version":"1"}"#, "/tenant_id: is required"),
            (Keys::Hash([1; 32]), Some("a"), r#"{"kind":"risk","#, "broken JSON"),
            (Keys::Hash([1; 32]), Some("a"), "7", "must be an object"),
        ] {
            let Read::Rejected(r) = read(keys, tenant, text, true) else { panic!("refused: {text}") };
            assert!(r.to_string().contains(want), "{r}");
        }
        assert!(matches!(read(Keys::Own, Some("a"), r#"{"kind":"ri"#, false), Read::Cut));
        assert!(matches!(read(Keys::Own, Some("a"), r#"{"kind":"x"}"#, false), Read::Rejected(_)));
    }
}
