//! Owns the class of every refusal: what the operator, or the caller, does next depends on it.

use super::problem::{Problem, ProblemType};
use crate::domain::{Failure, FailureClass};
use crate::telemetry::names;

impl ProblemType {
    /// What it is a failure of.
    fn failure(self) -> Failure {
        match self {
            Self::BrokenJson
            | Self::BadHeader
            | Self::BadQuery
            | Self::BadBody
            | Self::BodySlow
            | Self::UriTooLong
            | Self::KeyMissing
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::Validation => Failure::InvalidEvent,
            Self::TenantMissing => Failure::InvalidTenant,
            Self::TenantMismatch => Failure::Isolation,
            Self::Unauthorized
            | Self::Forbidden
            | Self::TenantFull
            | Self::RateLimited
            | Self::TooManyRequests
            | Self::SecondLevel => Failure::NotAuthorized,
            Self::NotApproved => Failure::NotApproved,
            Self::Expired | Self::Erased | Self::SubjectErased | Self::LegalHold | Self::FourEyes => {
                Failure::Governance
            }
            Self::IdempotencyConflict => Failure::IdempotencyConflict,
            Self::NotDecided
            | Self::NotDead
            | Self::Discarded
            | Self::NotEscalated
            | Self::AlreadyDecided
            | Self::Claimed
            | Self::NotClaimed
            | Self::RequestFull
            | Self::VersionDecided
            | Self::VersionsFull
            | Self::BudgetsFull => Failure::IllegalTransition,
            Self::Unavailable | Self::Timeout => Failure::Process,
            Self::Internal => Failure::Unexpected,
        }
    }
}

impl Problem {
    /// Its class.
    pub(super) fn class(&self) -> FailureClass {
        let wrong = self.errors();
        if wrong.is_empty() { self.what().failure().class() } else { crate::domain::invalid::failure_of(wrong).class() }
    }

    /// Counts it as told to somebody.
    pub(super) fn told(&self) {
        metrics::counter!(names::HTTP_FAILURES, "class" => self.class().as_str()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::parse;

    fn class(text: &str) -> FailureClass {
        let refused = parse::event(text.as_bytes(), parse::Given::default()).expect_err("no event");
        assert_eq!(Problem::from(refused.clone()).class(), refused.failure().class(), "{text}");
        refused.failure().class()
    }

    #[test]
    fn what_a_caller_did_wrong_has_its_class() {
        let risk = |more: &str| format!(r#"{{"kind":"risk","version":"1","tenant_id":"a"{more}}}"#);
        assert_eq!(class(&risk(r#","risk_score":100.5"#)), FailureClass::HighRisk);
        assert_eq!(class(&risk(r#","risk_score":-1,"amount":"x""#)), FailureClass::HighRisk);
        assert_eq!(class(&risk(r#","risk_score":"high""#)), FailureClass::ValidationError);
        assert_eq!(class(&risk(r#","metadata":[]"#)), FailureClass::ValidationError);
        assert_eq!(class(r#"{"kind":"risk","version":"1","tenant_id":"a b"}"#), FailureClass::ValidationError);
        assert_eq!(class("{"), FailureClass::ValidationError);
    }

    #[test]
    fn every_problem_has_a_class_and_every_class_a_problem() {
        let of = |what: ProblemType| Problem::new(what, "").class();
        for class in FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::HighRisk) {
            assert!(ProblemType::ALL.into_iter().any(|what| of(what) == class), "{class}");
        }
        assert_eq!(of(ProblemType::NotApproved), FailureClass::PolicyViolation);
        assert_eq!(of(ProblemType::TenantMismatch), FailureClass::PolicyViolation);
        assert_eq!(of(ProblemType::IdempotencyConflict), FailureClass::WorkflowError);
        assert_eq!(of(ProblemType::Unavailable), FailureClass::InfraError);
    }
}
