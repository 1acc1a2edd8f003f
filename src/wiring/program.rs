//! The spine of every long-running program: settings, logs, metrics, traces, signals, then the program.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::WiringError;
use crate::config::{Settings, Sources, load};
use crate::lifecycle::{SystemClock, SystemEntropy, install_crypto_provider, stop_on_signals};
use crate::telemetry::{Prometheus, Role, Traces, init_logs, tenants};

/// How long the end waits for a collector to take the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// What a program tells about itself with.
pub(super) struct Telemetry {
    pub(super) prometheus: Prometheus,
    pub(super) traces: Traces,
}

/// Runs a program until it ends or SIGTERM comes; says on standard error why it failed.
///
/// Exit codes: 0 ended as asked, 1 failed, 2 wrong settings.
pub(super) fn run<F, Fut>(sources: &Sources, role: Role, program: F) -> ExitCode
where
    F: FnOnce(Settings, Telemetry, CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), WiringError>>,
{
    install_crypto_provider();
    let settings = match load(sources) {
        Ok(settings) => settings,
        Err(e) => return refuse(&e, 2),
    };
    if let Err(e) = init_logs(settings.log_format, &settings.log) {
        return refuse(&e, 2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return refuse(&e, 1),
    };
    runtime.block_on(async move {
        let (prometheus, stop) = match (Prometheus::install(role), stop_on_signals()) {
            (Ok(prometheus), Ok(stop)) => (prometheus, stop),
            (Err(e), _) => return refuse(&e, 1),
            (_, Err(e)) => return refuse(&e, 1),
        };
        tenants().show(settings.metrics_tenants);
        tokio::spawn(prometheus.clone().upkeep(stop.clone()));
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let (traces, exporting) = match Traces::start(&settings, role, clock, entropy) {
            Ok(started) => started,
            Err(e) => return refuse(&WiringError::from(e), 2),
        };
        let ended = program(settings, Telemetry { prometheus, traces }, stop).await;
        exporting.finish(LAST_SPANS).await;
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(e @ WiringError::Settings(_)) => refuse(&e, 2),
            Err(e) => refuse(&e, 1),
        }
    })
}

#[expect(clippy::print_stderr, reason = "logs may not be there yet, and a person is looking")]
fn refuse(e: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("error: failed to {e}");
    ExitCode::from(code)
}
