//! Owns what a process does on SIGTERM and SIGINT: the first asks it to end, the second ends it.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code after a second signal: 128 + SIGINT, as shells have it.
pub const EXIT_INTERRUPTED: i32 = 130;

/// Gives a token that the first SIGTERM or SIGINT cancels. The second one ends the process at
/// once, with [`EXIT_INTERRUPTED`].
///
/// # Errors
/// When the signals can't be listened to.
pub fn stop_on_signals() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping; a second signal ends at once");
        asked.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(signal = name, "ended by a second signal; what was not finished is taken up again by others");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(stop)
}

/// Cancels `stop` when nobody holds the other end of this process's standard input any more: whoever
/// started it has closed it, or is gone. What comes in is thrown away.
///
/// By a thread of its own, which the end of the process does not wait for: a runtime would wait for
/// a read that nothing can interrupt.
pub fn stop_at_end_of_input(stop: CancellationToken) {
    std::thread::spawn(move || {
        let ended = io::copy(&mut io::stdin().lock(), &mut io::sink());
        tracing::info!(error = ended.err().map(tracing::field::display), "standard input was closed: stopping");
        stop.cancel();
    });
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
