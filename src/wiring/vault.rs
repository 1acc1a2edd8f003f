//! Which master key a process has, and the keyring on it.

use metrics::{counter, gauge};
use secrecy::ExposeSecret;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use super::WiringError;
use crate::adapters::master::{LocalMaster, NoMaster};
use crate::cli;
use crate::config::Settings;
use crate::crypto::Keyring;
use crate::crypto::keyring::KEYS_MAX;
use crate::lifecycle::SystemEntropy;
use crate::ports::{Clock, Entropy, KeyWrap, Vault};
use crate::telemetry::names;

/// The master key's file in a data folder.
const KEY_FILE: &str = "master.key";

/// How often a process looks for erasures; one is known everywhere within twice that.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The master key of the settings.
///
/// # Errors
/// When none is set.
pub(super) fn master(settings: &Settings) -> Result<Arc<dyn KeyWrap>, WiringError> {
    let (current, previous) = (settings.master_key()?, settings.master_key_previous()?);
    Ok(Arc::new(LocalMaster::new(current.expose_secret(), previous.as_ref().map(ExposeSecret::expose_secret))))
}

/// The master key of the settings, or for a command that may do without, none and why.
pub(super) fn master_if_set(settings: &Settings) -> Arc<dyn KeyWrap> {
    master(settings).unwrap_or_else(|e| Arc::new(NoMaster(format!("read what is sealed: {e}"))))
}

/// The master key of a data folder; none where there is none yet.
///
/// # Errors
/// When the file can't be read.
fn key_of(data: &Path) -> Result<Option<Zeroizing<[u8; 32]>>, WiringError> {
    let path = data.join(KEY_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(WiringError::io(format!("read {}", path.display()))(e)),
    };
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), &mut *key)
        .map_err(|_| WiringError::Address(format!("read {}: it must hold 64 hex digits", path.display())))?;
    Ok(Some(key))
}

/// The master key of `up`: the settings', else one of the folder's own, made at its first start.
///
/// # Errors
/// When the file can't be read or made.
fn master_of_folder(settings: &Settings, data: &Path, entropy: &dyn Entropy) -> Result<Arc<dyn KeyWrap>, WiringError> {
    if settings.master_key.is_some() {
        return master(settings);
    }
    let path = data.join(KEY_FILE);
    if key_of(data)?.is_none() {
        let secret = Zeroizing::new(entropy.secret());
        cli::write_seed(&path, &secret).map_err(WiringError::io(format!("make {}", path.display())))?;
        super::summary::say(&format!(
            "made {}: what is stored can be read with this key alone; keep a copy elsewhere",
            path.display()
        ));
    }
    let key = key_of(data)?.ok_or_else(|| WiringError::Address(format!("read {}: it went away", path.display())))?;
    let previous = settings.master_key_previous()?;
    Ok(Arc::new(LocalMaster::new(&key, previous.as_ref().map(ExposeSecret::expose_secret))))
}

/// The master key of a folder for a command that reads: the environment's, the folder's, or none.
pub(super) fn master_for_reading(settings: Option<&Settings>, data: &Path) -> Arc<dyn KeyWrap> {
    if let Some(settings) = settings.filter(|settings| settings.master_key.is_some()) {
        return master_if_set(settings);
    }
    match key_of(data) {
        Ok(Some(key)) => Arc::new(LocalMaster::new(&key, None)),
        Ok(None) => Arc::new(NoMaster(format!(
            "read what is sealed: there is no {}, and RISKFLEET_MASTER_KEY is not set",
            data.join(KEY_FILE).display()
        ))),
        Err(e) => Arc::new(NoMaster(e.to_string())),
    }
}

/// A keyring that has asked nobody yet.
pub(super) fn keyring(vault: Arc<dyn Vault>, wrap: Arc<dyn KeyWrap>, clock: &Arc<dyn Clock>) -> Arc<Keyring> {
    Arc::new(Keyring::new(vault, wrap, (Arc::clone(clock), Arc::new(SystemEntropy)), KEYS_MAX))
}

/// The keyring of a data folder, kept fresh until the guard is dropped: what was taken is decided after
/// the process was asked to stop.
///
/// # Errors
/// As [`start`], and when the folder's master key can't be read or made.
pub(super) async fn of_folder(
    settings: &Settings,
    (data, entropy): (&Path, &dyn Entropy),
    vault: Arc<dyn Vault>,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Keyring>, DropGuard), WiringError> {
    let keyring = keyring(vault, master_of_folder(settings, data, entropy)?, clock);
    let ended = CancellationToken::new();
    start(&keyring, &ended).await?;
    Ok((keyring, ended.drop_guard()))
}

/// Checks the master key against the vault, and keeps the keyring fresh until stopped.
///
/// # Errors
/// When the store is away, or the master key is not the one that the fleet's keys are wrapped by.
pub(super) async fn start(keyring: &Arc<Keyring>, stop: &CancellationToken) -> Result<(), WiringError> {
    keyring.look().await?;
    tokio::spawn(watch(Arc::clone(keyring), stop.clone()));
    Ok(())
}

async fn watch(keyring: Arc<Keyring>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        if let Err(e) = keyring.look().await {
            counter!(names::VAULT_LOOKS_FAILED).increment(1);
            tracing::warn!(error = %e, "failed to look for erased keys; none is used until it is known");
        }
        let figures = keyring.figures();
        counter!(names::DATA_KEY_HITS).absolute(figures.hits);
        counter!(names::DATA_KEY_MISSES).absolute(figures.misses);
        gauge!(names::DATA_KEYS_OPEN).set(figures.keys as f64);
    }
}
