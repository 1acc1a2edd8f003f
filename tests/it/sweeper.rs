//! The hourly sweep of a console: what is old goes by itself, and everything it drops is counted.

use crate::api::archive::Archive;
use riskfleet::domain::retention::Day;
use riskfleet::governance::retention::Sweeper;
use riskfleet::ports::{Clock, EventStore, Registry};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_go_by_themselves_as_many_as_there_are() {
    let archive = Archive::new().await;
    let mut old = Vec::new();
    // More than one sweep drops.
    for days_ago in 40..50 {
        old.push(archive.decided("acme", days_ago).await);
    }
    let young = archive.decided("acme", 2).await;
    archive.advance().await;
    let registry: Arc<dyn Registry> = archive.store.clone();
    let clock: Arc<dyn Clock> = archive.clock();
    let stop = CancellationToken::new();
    let sweeping = tokio::spawn(Sweeper { registry, clock, retention_days: 30 }.run(stop.clone()));
    let deadline = Instant::now() + Duration::from_secs(30);
    for event in &old {
        while archive.store.expired_day(Day::of(*event)).await.expect("reads").is_none() {
            assert!(Instant::now() < deadline, "{event} is still kept");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    stop.cancel();
    sweeping.await.expect("it ends when it is told to");
    assert_eq!(archive.store.events(&old).await.expect("reads"), []);
    assert_eq!(archive.store.events(&[young]).await.expect("reads").len(), 1);
}
