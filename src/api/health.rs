//! `GET /health`, `/health/live`, `/health/ready`: whether the process lives, can do its work, and
//! what of its surroundings answers. Never asks a dependency more often than once a second.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::json;

/// How long an answer is given again without asking: many may ask.
const FRESH: Duration = Duration::from_secs(1);

/// Figures that a check gives, by their names.
pub type Figures = Vec<(&'static str, f64)>;

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<Figures, String>> + Send + Sync>;

/// One dependency that can be asked whether it answers.
#[derive(Clone)]
pub struct Probe {
    /// Its name: `database`, `broker`, `leases`, …
    pub name: &'static str,
    /// Whether the process can't work without it; else it is shown, and does not count.
    pub required: bool,
    /// After which it counts as away.
    pub deadline: Duration,
    check: Check,
}

impl Probe {
    /// A probe that asks `check`; its error text is shown, so it must not hold a secret.
    pub fn new<F, Fut>(name: &'static str, required: bool, deadline: Duration, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check = move || -> BoxFuture<'static, Result<Figures, String>> {
            let asked = check();
            Box::pin(async move { asked.await.map(|()| Figures::new()) })
        };
        Self { name, required, deadline, check: Arc::new(check) }
    }

    /// A probe that measures, and is not required: its error says what is wrong with what it measured.
    pub fn measuring<F, Fut>(name: &'static str, deadline: Duration, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Figures, String>> + Send + 'static,
    {
        Self { name, required: false, deadline, check: Arc::new(move || Box::pin(check())) }
    }

    async fn ask(&self) -> Answer {
        let asked = Instant::now();
        let answer = tokio::time::timeout(self.deadline, (self.check)()).await;
        let (figures, error) = match answer {
            Ok(Ok(figures)) => (figures, None),
            Ok(Err(error)) => (Figures::new(), Some(error)),
            Err(_) => (Figures::new(), Some(format!("no answer within {:?}", self.deadline))),
        };
        let figures = figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let millis = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        Answer { name: self.name, required: self.required, ok: error.is_none(), millis, figures, error }
    }
}

/// What a dependency answered.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Answer {
    name: &'static str,
    /// Whether the process can't work without it.
    required: bool,
    ok: bool,
    /// How long it took to answer.
    millis: u64,
    /// What was measured, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    figures: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The state of the process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`; `degraded` when something is not as it should be; `error` when something required is away.
    status: &'static str,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The program's.
    version: &'static str,
    checks: Vec<Answer>,
}

impl Health {
    fn of(checks: Vec<Answer>) -> Self {
        let away = |required: bool| checks.iter().any(|a| !a.ok && a.required == required);
        let status = match (away(true), away(false)) {
            (true, _) => "error",
            (false, true) => "degraded",
            (false, false) => "ok",
        };
        let wrong: Vec<String> =
            checks.iter().filter_map(|a| Some(format!("{}: {}", a.name, a.error.as_ref()?))).collect();
        let reason = (!wrong.is_empty()).then(|| wrong.join("; "));
        Self { status, reason, version: env!("CARGO_PKG_VERSION"), checks }
    }

    fn answer(&self) -> Response {
        let code = if self.status == "error" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        json(code, self)
    }
}

/// When, and what was answered.
type Asked = (Instant, Vec<Answer>);

/// Probes that are asked together, with the last answers.
#[derive(Clone)]
struct Group {
    probes: Arc<[Probe]>,
    fresh: Duration,
    last: Arc<Mutex<Option<Asked>>>,
}

impl Group {
    fn new(fresh: Duration, probes: Vec<Probe>) -> Self {
        Self { probes: probes.into(), fresh, last: Arc::default() }
    }

    async fn ask(&self) -> Vec<Answer> {
        // Held while asking: whoever comes meanwhile takes the same answers.
        let mut last = self.last.lock().await;
        if let Some((_, answers)) = last.as_ref().filter(|(at, _)| at.elapsed() < self.fresh) {
            return answers.clone();
        }
        let answers = join_all(self.probes.iter().map(Probe::ask)).await;
        *last = Some((Instant::now(), answers.clone()));
        answers
    }
}

/// The probes of a process. Whether it is ready never waits for what is not required for it.
#[derive(Clone)]
pub(super) struct Probes {
    required: Group,
    others: Group,
}

impl Probes {
    pub(super) fn new(probes: Vec<Probe>) -> Self {
        Self::fresh_for(FRESH, probes)
    }

    fn fresh_for(fresh: Duration, probes: Vec<Probe>) -> Self {
        let (required, others) = probes.into_iter().partition(|probe| probe.required);
        Self { required: Group::new(fresh, required), others: Group::new(fresh, others) }
    }

    async fn ask(&self) -> Vec<Answer> {
        let (mut answers, others) = tokio::join!(self.required.ask(), self.others.ask());
        answers.extend(others);
        answers
    }
}

/// Everything that is known of the process
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    responses(
        (status = 200, body = Health, description = "It works; perhaps something optional is away"),
        (status = 503, body = Health, description = "Something required is away"),
    ),
)]
pub(super) async fn get_health(State(probes): State<Probes>) -> Response {
    Health::of(probes.ask().await).answer()
}

/// Whether the process lives
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "operations",
    responses((status = 200, body = Health, description = "It answers, so it lives")),
)]
pub(super) async fn get_live() -> Response {
    Health::of(Vec::new()).answer()
}

/// Whether the process can work
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "operations",
    responses(
        (status = 200, body = Health, description = "Everything required answers"),
        (status = 503, body = Health, description = "Something required is away"),
    ),
)]
pub(super) async fn get_ready(State(probes): State<Probes>) -> Response {
    Health::of(probes.required.ask().await).answer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn probe(name: &'static str, required: bool, answer: Result<(), &'static str>) -> Probe {
        Probe::new(name, required, Duration::from_millis(50), move || async move { answer.map_err(String::from) })
    }

    #[tokio::test]
    async fn the_worst_answer_that_counts_is_the_status() {
        let status = |probes: Vec<Probe>| async move { Health::of(Probes::new(probes).ask().await).status };
        assert_eq!(status(vec![probe("a", true, Ok(()))]).await, "ok");
        assert_eq!(status(vec![probe("a", true, Ok(())), probe("b", false, Err("x"))]).await, "degraded");
        assert_eq!(status(vec![probe("a", true, Err("x")), probe("b", false, Ok(()))]).await, "error");
        let hangs = Probe::new("c", true, Duration::from_millis(50), std::future::pending);
        let answers = Probes::new(vec![hangs]).ask().await;
        assert_eq!(answers[0].error.as_deref(), Some("no answer within 50ms"));
    }

    #[tokio::test]
    async fn what_was_measured_is_shown_and_readiness_does_not_wait_for_it() {
        let full = Probe::measuring("full", FRESH, || std::future::ready(Ok(vec![("events", 3.0)])));
        let slow = Probe::measuring("slow", FRESH, || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err("it takes long".into())
        });
        let probes = Probes::new(vec![full, slow, probe("a", true, Ok(()))]);
        assert_eq!(probes.required.ask().await.len(), 1);
        assert!(probes.others.last.lock().await.is_none(), "nobody has asked");
        let health = Health::of(probes.ask().await);
        assert_eq!((health.status, health.reason.as_deref()), ("degraded", Some("slow: it takes long")));
        let shown = serde_json::to_value(&health.checks[1]).expect("JSON");
        assert_eq!(shown["figures"], serde_json::json!({"events": 3.0}));
    }

    #[tokio::test]
    async fn dependencies_are_asked_again_only_after_a_while() {
        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let probe = Probe::new("a", true, FRESH, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        let probes = Probes::fresh_for(FRESH, vec![probe.clone()]);
        for _ in 0..100 {
            probes.ask().await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let impatient = Probes::fresh_for(Duration::ZERO, vec![probe]);
        impatient.ask().await;
        impatient.ask().await;
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
