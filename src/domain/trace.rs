//! Owns the trace context: which trace something belongs to, and what of it it hangs on, as
//! `traceparent` carries it (W3C Trace Context, level 1). Never makes an id by itself: random bits are
//! passed in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

/// The length of a `traceparent` of version 00, in bytes.
const LENGTH: usize = 55;

/// The flag that says that the trace is kept (section 3.2.2.5.1).
const SAMPLED: u8 = 1;

/// A trace: 128 bits, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The trace of these bits; none for zero, which the standard calls invalid.
    pub fn from_bits(bits: u128) -> Option<Self> {
        NonZeroU128::new(bits).map(Self)
    }

    /// As OTLP has it.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }
}

/// 32 lowercase hex digits.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A span of a trace: 64 bits, never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// The span of these bits; none for zero.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// As OTLP has it.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// 16 lowercase hex digits.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span as others name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Its trace.
    pub trace: TraceId,
    /// The span itself.
    pub span: SpanId,
    /// Whether the trace is kept.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`; none where it can't be read, so that a trace begins anew, as the standard
    /// has it. Of a version that is not known yet, what version 00 has is read (section 4.3).
    pub fn parse(raw: &str) -> Option<Self> {
        let bytes = raw.as_bytes();
        let (version, tail) = (raw.get(..2)?, bytes.get(LENGTH));
        let ends = tail.is_none() || (version != "00" && tail == Some(&b'-'));
        let dashes = [2, 35, 52].into_iter().all(|at| bytes.get(at) == Some(&b'-'));
        if version == "ff" || !ends || !dashes {
            return None;
        }
        digits(version)?;
        Some(Self {
            trace: TraceId::from_bits(digits(raw.get(3..35)?)?)?,
            span: SpanId::from_bits(u64::try_from(digits(raw.get(36..52)?)?).ok()?)?,
            sampled: u8::try_from(digits(raw.get(53..LENGTH)?)?).ok()? & SAMPLED == SAMPLED,
        })
    }

    /// Another span of the same trace.
    pub fn with_span(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

/// A number in lowercase hex digits, which is the only case that the standard knows.
fn digits(text: &str) -> Option<u128> {
    let legal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.bytes().all(legal) { u128::from_str_radix(text, 16).ok() } else { None }
}

/// As a `traceparent` of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Reads what a message carries; what is no trace context is none, and no failure of the message.
///
/// # Errors
/// When the message itself is broken there.
pub(super) fn lenient<'de, D: Deserializer<'de>>(from: D) -> Result<Option<TraceContext>, D::Error> {
    let said = serde_json::Value::deserialize(from)?;
    Ok(said.as_str().and_then(TraceContext::parse))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_or_the_trace_begins_anew() {
        let read = TraceContext::parse(GOOD).expect("the standard's own example");
        assert_eq!(read.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((read.span.to_bytes()[0], read.sampled, read.to_string().as_str()), (0xb7, true, GOOD));
        let good = [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02", false),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", true),
        ];
        for (text, sampled) in good {
            assert_eq!(TraceContext::parse(text), Some(TraceContext { sampled, ..read }), "{text}");
        }
        let bad = [
            "",
            "00",
            "x",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0ä-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for text in bad {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace in 1u128.., span in 1u64.., sampled: bool) {
            let context = TraceContext {
                trace: TraceId::from_bits(trace).expect("not zero"),
                span: SpanId::from_bits(span).expect("not zero"),
                sampled,
            };
            prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
        }

        #[test]
        fn nothing_that_is_read_panics(text in "\\PC{0,64}", cut in 0usize..56) {
            TraceContext::parse(&text);
            let torn: String = GOOD.chars().take(cut).chain(text.chars()).collect();
            if let Some(read) = TraceContext::parse(&torn) {
                prop_assert!(torn.starts_with(&read.to_string()[..53]));
            }
        }
    }
}
