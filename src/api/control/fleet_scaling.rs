//! `GET /v1/fleet/scaling`: how many workers there should be, as KEDA's metrics-api scaler reads it.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::auth::Caller;
use super::super::docs::ListProblems;
use super::super::problem::{Problem, ProblemType};
use super::super::{Shared, json};
use crate::domain::Permission;
use crate::domain::scaling::{ScalingPolicy, judge};

/// By which policy; what is not said is the default's.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WantedScaling {
    /// At least so many workers.
    #[param(minimum = 0, maximum = 4096, default = 1)]
    min: Option<u32>,
    /// At most so many workers.
    #[param(minimum = 0, maximum = 4096, default = 20)]
    max: Option<u32>,
    /// More from this mean use of the workers' CPU on, in per cent.
    #[param(minimum = 0, default = 70)]
    cpu_high: Option<f64>,
    /// Fewer up to this mean use of the workers' CPU, in per cent.
    #[param(minimum = 0, default = 30)]
    cpu_low: Option<f64>,
    /// More from this 99th percentile from accept to decision on, in milliseconds; fewer under half of it.
    #[param(minimum = 0, default = 500)]
    p99_ms: Option<f64>,
    /// More from this share of failed events on, 0 to 1; fewer under half of it.
    #[param(minimum = 0, maximum = 1, default = 0.05)]
    failure_rate: Option<f64>,
    /// More from so many waiting events a worker on; fewer under half of it.
    #[param(minimum = 0, default = 50)]
    queue_depth: Option<f64>,
}

/// The most workers that a policy may speak of: as many as there can be partitions.
const WORKERS_MAX: u32 = 4_096;

impl WantedScaling {
    fn policy(&self) -> Result<ScalingPolicy, Problem> {
        let given = ScalingPolicy::default();
        let policy = ScalingPolicy {
            min: self.min.unwrap_or(given.min),
            max: self.max.unwrap_or(given.max),
            cpu_high: self.cpu_high.unwrap_or(given.cpu_high),
            cpu_low: self.cpu_low.unwrap_or(given.cpu_low),
            p99_ms: self.p99_ms.unwrap_or(given.p99_ms),
            failure_rate: self.failure_rate.unwrap_or(given.failure_rate),
            queue_depth: self.queue_depth.unwrap_or(given.queue_depth),
        };
        let wrong = |why: String| Err(Problem::new(ProblemType::BadQuery, why));
        if policy.min > policy.max || policy.max > WORKERS_MAX {
            let (min, max) = (policy.min, policy.max);
            return wrong(format!("min ({min}) must be at most max ({max}), and that at most {WORKERS_MAX}"));
        }
        let thresholds = [
            ("cpu_high", policy.cpu_high),
            ("cpu_low", policy.cpu_low),
            ("p99_ms", policy.p99_ms),
            ("failure_rate", policy.failure_rate),
            ("queue_depth", policy.queue_depth),
        ];
        match thresholds.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            Some((name, _)) => wrong(format!("{name} must be a number of 0 or more")),
            None => Ok(policy),
        }
    }
}

/// How many workers there should be.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the schema of domain::scaling::Judgement, which knows no documents")]
pub(super) struct ScalingView {
    /// How many workers there should be, within the policy's bounds.
    desired_replicas: u32,
    /// How many there are: those that are leaving do not count.
    replicas: u32,
    /// `scale_up`, `scale_down` or `no_action`.
    action: String,
    /// Why, in words.
    reason: String,
    signals: SignalsView,
}

/// What the fleet was judged by, over the last 30 seconds; null: not known.
#[derive(ToSchema)]
#[expect(dead_code, reason = "see ScalingView")]
struct SignalsView {
    /// Mean use of the workers' CPU, in per cent of the cores that each may use.
    cpu_percent: Option<f64>,
    /// 99th percentile from accept to decision, in milliseconds.
    p99_ms: Option<f64>,
    /// Failed of all begun events, 0 to 1.
    failure_rate: Option<f64>,
    /// Events that wait, without those whose next try is not due.
    queue_depth: Option<u64>,
}

/// How many workers there should be
///
/// For KEDA's metrics-api scaler (`valueLocation: desired_replicas`, a target average of 1), or anything
/// else that scales workers.
#[utoipa::path(
    get,
    path = "/v1/fleet/scaling",
    tag = "fleet",
    params(WantedScaling),
    responses((status = 200, body = ScalingView, description = "The fleet, judged by what its workers say"), ListProblems),
    security((), ("bearer" = [])),
    extensions(("x-permission" = json!("fleet"))),
)]
pub(super) async fn get_scaling(
    State(api): State<Shared>,
    caller: Caller,
    wanted: Result<Query<WantedScaling>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.require(Permission::Fleet)?;
    let Query(wanted) = wanted.map_err(|e| Problem::new(ProblemType::BadQuery, e.body_text()))?;
    let policy = wanted.policy()?;
    let (fleet, waits, now) = (api.store.fleet_status().await?, api.store.backlog().await?, api.store.now().await?);
    // No fleet has more than i16::MAX partitions, and so not more workers that work.
    let (replicas, partitions) = (fleet.working(now).count() as u32, fleet.partitions.len() as u32);
    Ok(json(StatusCode::OK, &judge(fleet.signals(&waits, now), &policy, replicas, partitions)))
}
