//! `riskfleet doctor`: has every adapter look at its server, and hands what was seen to the judge.
//! Every look has a deadline; what one server does not answer keeps no other from being asked.

use secrecy::ExposeSecret;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::servers::{open_store, rabbit_config, redis_config};
use super::{WiringError, single, vault};
use crate::adapters::sqlite::{self, SqliteStore};
use crate::adapters::{postgres, rabbitmq, redis};
use crate::cli::Examination;
use crate::config::{Settings, SettingsError};
use crate::domain::time::to_millis;
use crate::domain::{EventId, PartitionId};
use crate::lifecycle::{SystemClock, SystemEntropy};
use crate::ports::checkup::{FleetSeen, Looked, STALE, Schema, StaleEvents, StandingRows};
use crate::ports::{Clock, EventStore, KeyWrap, StoreError, Vault};

/// How long one server may take to be looked at; each of its answers has a shorter deadline.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Stale events counted in one partition.
const STALE_MAX: u32 = 100;

/// Looks at the folder of an `up` fleet.
pub(super) async fn folder(data: &Path) -> Examination {
    let path = single::database(data);
    let skipped = "an `up` folder needs no server";
    let folder = look(sqlite::checkup(&path, single::is_held(data))).await;
    let fleet = look(async {
        let store = SqliteStore::open_read(&path, Arc::new(SystemClock::new())).await?;
        let standing = store.standing_rows().await?;
        fleet(&store, standing).await
    });
    let vault = match folder.seen() {
        Some(_) => {
            look(async {
                let store = SqliteStore::open_read(&path, Arc::new(SystemClock::new())).await?;
                master(Arc::new(store), vault::master_for_reading(None, data)).await
            })
            .await
        }
        None => Looked::Skipped("the folder can't be read".into()),
    };
    Examination {
        settings: Looked::Skipped(skipped.into()),
        // Both would say the same of a folder that is not there.
        fleet: if folder.seen().is_some() { fleet.await } else { Looked::Skipped("the folder can't be read".into()) },
        folder,
        vault,
        postgres: Looked::Skipped(skipped.into()),
        redis: Looked::Skipped(skipped.into()),
        rabbitmq: Looked::Skipped(skipped.into()),
    }
}

/// Looks at the servers of a fleet.
pub(super) async fn servers(settings: Result<Settings, SettingsError>) -> Examination {
    let settings = match settings {
        Ok(settings) => settings,
        Err(e) => return blind(&e),
    };
    let clock = SystemClock::new();
    let (postgres, redis) = tokio::join!(look(postgres(&settings, &clock)), look(redis(&settings, &clock)));
    // A schema that does not fit is told of once, by who looked at the server.
    let fits = |schema: &Schema| matches!(schema, Schema::There { version, wanted, .. } if version >= wanted);
    let fleet = if postgres.seen().is_some_and(|p| fits(&p.schema)) {
        look(async {
            let store = open_store(&settings).await?;
            let standing = store.standing_rows().await?;
            Ok::<_, WiringError>(fleet(&store, standing).await?)
        })
        .await
    } else {
        Looked::Skipped("its schema can't be looked at".into())
    };
    let vault = if fleet.seen().is_some() {
        look(async {
            Ok::<_, WiringError>(master(Arc::new(open_store(&settings).await?), vault::master(&settings)?).await?)
        })
        .await
    } else {
        Looked::Skipped("its schema can't be looked at".into())
    };
    let partitions = fleet.seen().map_or(settings.partitions, |f| f.constants.partitions);
    let rabbitmq = look(rabbitmq(&settings, partitions)).await;
    let folder = Looked::Skipped("a fleet on servers has none".into());
    Examination { settings: Looked::Seen(settings), folder, postgres, vault, fleet, redis, rabbitmq }
}

/// Without settings nobody knows where to look.
fn blind(e: &SettingsError) -> Examination {
    const WHY: &str = "the settings can't be read";
    Examination {
        settings: Looked::Away(e.to_string()),
        folder: Looked::Skipped(WHY.into()),
        postgres: Looked::Skipped(WHY.into()),
        vault: Looked::Skipped(WHY.into()),
        fleet: Looked::Skipped(WHY.into()),
        redis: Looked::Skipped(WHY.into()),
        rabbitmq: Looked::Skipped(WHY.into()),
    }
}

async fn look<T, E: std::fmt::Display>(looking: impl Future<Output = Result<T, E>>) -> Looked<T> {
    match tokio::time::timeout(LOOK_WITHIN, looking).await {
        Ok(looked) => looked.map_err(|e| format!("failed to {e}")).into(),
        Err(_) => Looked::Away(format!("it has not answered everything within {LOOK_WITHIN:?}")),
    }
}

/// Which master key holds, if it is the one that is given here.
async fn master(store: Arc<dyn Vault>, wrap: Arc<dyn KeyWrap>) -> Result<String, StoreError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Ok(match vault::keyring(store, wrap, &clock).check().await? {
        Some(master) => format!("the data keys are wrapped by the master key {master}, which is set"),
        None => "no data key was made yet: the first start takes the master key that is set".into(),
    })
}

async fn postgres(settings: &Settings, clock: &dyn Clock) -> Result<crate::ports::checkup::PostgresSeen, WiringError> {
    let url = settings.database_url()?.expose_secret();
    Ok(postgres::checkup(url, settings.namespace.as_str(), settings.lanes, clock).await?)
}

async fn redis(settings: &Settings, clock: &dyn Clock) -> Result<crate::ports::checkup::RedisSeen, WiringError> {
    let config = redis_config(settings)?;
    redis::checkup(&config, clock).await.map_err(|e| WiringError::Address(e.to_string()))
}

async fn rabbitmq(settings: &Settings, partitions: u16) -> Result<crate::ports::checkup::RabbitSeen, WiringError> {
    let config = rabbit_config(settings)?;
    let seen = rabbitmq::checkup(&config, (0..partitions).map(PartitionId), Arc::new(SystemEntropy));
    seen.await.map_err(|e| WiringError::Address(e.to_string()))
}

async fn fleet(store: &dyn EventStore, standing: Vec<StandingRows>) -> Result<FleetSeen, StoreError> {
    let (constants, status, now) = (store.constants().await?, store.fleet_status().await?, store.now().await?);
    let before = EventId::floor(to_millis(now).saturating_sub(STALE.as_millis() as u64));
    let mut stale = Vec::new();
    for row in status.partitions.iter().filter(|p| p.backlog > 0) {
        let page = store.pending_page(row.partition, None, before, STALE_MAX).await?;
        if let Some(oldest) = page.first() {
            stale.push(StaleEvents {
                partition: row.partition,
                events: page.len(),
                more: page.len() >= STALE_MAX as usize,
                since: oldest.id.created_at(),
            });
        }
    }
    Ok(FleetSeen { now, constants, status, stale, standing })
}
