//! Owns the form of what the doctor says. Never judges.

use serde::Serialize;

use crate::ports::checkup::ClockPair;

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and will hurt some day.
    Warning,
    /// It hurts now, or something accepted may be lost.
    Failed,
}

/// One line of the doctor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Stable name for programs.
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) seen: String,
    /// What to do, where something is to be done.
    #[serde(rename = "next")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, seen: seen.into(), advice: None }
    }

    pub(super) fn warning(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, seen: seen.into(), advice: Some(advice.into()) }
    }

    pub(super) fn failed(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failed, seen: seen.into(), advice: Some(advice.into()) }
    }
}

/// Judges how far a server's clock is from this host's: beyond 1 s a warning, beyond 2 s a failure,
/// the uncertainty of the reading in the host's favour.
pub(super) fn clock(check: &'static str, clock: ClockPair, hurts: &str) -> Finding {
    let distance = clock.ahead_ms.abs().saturating_sub(clock.error_ms);
    let side = if clock.ahead_ms < 0 { "behind" } else { "ahead of" };
    let seen = format!("its clock is {} ms {side} this host's (± {} ms)", clock.ahead_ms.abs(), clock.error_ms);
    let advice = format!("run a time service (chrony, systemd-timesyncd) on both hosts: {hurts}");
    match distance {
        ..=1_000 => Finding::ok(check, seen),
        1_001..=2_000 => Finding::warning(check, seen, advice),
        _ => Finding::failed(check, seen, advice),
    }
}

/// `12,340`: figures of an operator's size are read in thousands.
pub(super) fn thousands(n: impl TryInto<i128>) -> String {
    let n: i128 = n.try_into().unwrap_or(i128::MAX);
    let digits = n.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if n < 0 { format!("-{text}") } else { text }
}

/// `p000 p003 p007 and 9 more`.
pub(super) fn some<T: std::fmt::Display>(names: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_by_their_distance() {
        let judged = |ahead_ms, error_ms| clock("c", ClockPair { ahead_ms, error_ms }, "x").verdict;
        assert_eq!(judged(1_000, 0), Verdict::Ok);
        assert_eq!((judged(1_001, 0), judged(-1_500, 0)), (Verdict::Warning, Verdict::Warning));
        assert_eq!((judged(2_001, 0), judged(-86_400_000, 0)), (Verdict::Failed, Verdict::Failed));
        assert_eq!(judged(2_001, 1_100), Verdict::Ok, "a reading that is no better proves nothing");
        assert_eq!(judged(i64::MIN + 1, 0), Verdict::Failed);
    }

    #[test]
    fn figures_and_lists_are_short() {
        assert_eq!(thousands(12_340_i64), "12,340");
        assert_eq!((thousands(999_i64), thousands(-1_000_i64)), ("999".into(), "-1,000".into()));
        assert_eq!(some(&(0..10).collect::<Vec<_>>()), "0 1 2 3 4 5 6 7 and 2 more");
        assert_eq!(some::<u8>(&[]), "");
    }
}
