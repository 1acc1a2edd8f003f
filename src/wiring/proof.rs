//! Who signs the audit, and the commands that prove it: which key, which store, which file.

use secrecy::ExposeSecret;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::WiringError;
use crate::cli;
use crate::config::{Settings, SettingsError};
use crate::crypto::{AuditKey, Trust};
use crate::governance::{Keys, Notary, Outside, Rules, Shortener, Verifier};
use crate::ports::{Clock, Entropy, EventStore, Registry};

/// The notary's file and key in a data folder.
const KEY_FILE: &str = "audit.key";
const CHECKPOINTS_FILE: &str = "checkpoints.jsonl";

/// The keys of the settings; none where none is set.
pub(super) fn keys(settings: &Settings) -> Result<Option<Keys>, WiringError> {
    let read = |seed: Option<secrecy::SecretBox<[u8; 32]>>| seed.map(|s| AuditKey::from_seed(s.expose_secret()));
    let previous = read(settings.audit_key_previous()?);
    Ok(read(settings.audit_key()?).map(|current| Keys { current, previous }))
}

/// The key of a data folder; none where there is none yet.
pub(super) fn key_of(data: &Path) -> Result<Option<AuditKey>, WiringError> {
    let path = data.join(KEY_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => zeroize::Zeroizing::new(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(WiringError::io(format!("read {}", path.display()))(e)),
    };
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), &mut *seed)
        .map_err(|_| WiringError::Address(format!("read {}: it must hold 64 hex digits", path.display())))?;
    Ok(Some(AuditKey::from_seed(&seed)))
}

/// Fills in, for `up`, what the settings do not say: a key of its own in the folder, made at the
/// first start, and the file of checkpoints beside it.
fn settle_folder(settings: &Settings, data: &Path, entropy: &dyn Entropy) -> Result<(Keys, Outside), WiringError> {
    let outside = settings.checkpoint_file.clone().unwrap_or_else(|| data.join(CHECKPOINTS_FILE));
    if let Some(keys) = keys(settings)? {
        return Ok((keys, Outside::new(outside)));
    }
    let path = data.join(KEY_FILE);
    if key_of(data)?.is_none() {
        cli::write_seed(&path, &entropy.secret()).map_err(WiringError::io(format!("make {}", path.display())))?;
    }
    let made = key_of(data)?.ok_or_else(|| WiringError::Address(format!("read {}: it went away", path.display())))?;
    let previous = settings.audit_key_previous()?.map(|seed| AuditKey::from_seed(seed.expose_secret()));
    Ok((Keys { current: made, previous }, Outside::new(outside)))
}

/// What verifies the audit by itself; none where the settings want none. `public_key`: who signs.
pub(super) fn verifier(
    settings: &Settings,
    (store, registry): (&Arc<dyn EventStore>, &Arc<dyn Registry>),
    clock: &Arc<dyn Clock>,
    public_key: Option<[u8; 32]>,
) -> Option<Verifier> {
    // A key that signs is one that verifies.
    let trust = public_key.and_then(|key| Trust::of(&key).ok());
    (settings.audit_verify_s > 0).then(|| Verifier {
        store: Arc::clone(store),
        registry: Arc::clone(registry),
        clock: Arc::clone(clock),
        trust,
        every: Duration::from_secs(settings.audit_verify_s),
    })
}

/// A notary at work.
pub(super) struct Signing {
    /// What verifies what it signs.
    pub(super) public_key: [u8; 32],
    stop: CancellationToken,
    notary: JoinHandle<()>,
    shortener: Option<JoinHandle<()>>,
}

impl Signing {
    /// Starts the notary.
    ///
    /// # Errors
    /// When the store fails, or the key is not the one in force.
    async fn begin(
        settings: &Settings,
        (keys, outside): (Keys, Option<Outside>),
        (store, registry): (&Arc<dyn EventStore>, &Arc<dyn Registry>),
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, WiringError> {
        let rules = Rules { every: settings.checkpoint_every(), records: settings.checkpoint_records };
        let (public_key, stop) = (keys.current.public(), CancellationToken::new());
        let shortener = (settings.audit_retention_days > 0).then(|| Shortener {
            store: Arc::clone(store),
            registry: Arc::clone(registry),
            clock: Arc::clone(clock),
            key: keys.current.clone(),
            audit_days: settings.audit_retention_days,
        });
        let notary = Notary::begin(Arc::clone(registry), Arc::clone(clock), keys, rules, outside).await?;
        let shortener = shortener.map(|shortener| tokio::spawn(shortener.run(stop.clone())));
        Ok(Self { public_key, notary: tokio::spawn(notary.run(stop.clone())), shortener, stop })
    }

    /// Starts the notary of a data folder, under the settings' key or one of the folder's own.
    ///
    /// # Errors
    /// As [`Signing::begin`], and when the folder's key can't be read or made.
    pub(super) async fn in_folder(
        settings: &Settings,
        (data, entropy): (&Path, &dyn Entropy),
        stores: (&Arc<dyn EventStore>, &Arc<dyn Registry>),
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, WiringError> {
        let (keys, outside) = settle_folder(settings, data, entropy)?;
        Self::begin(settings, (keys, Some(outside)), stores, clock).await
    }

    /// Starts the console's notary, where a key is set.
    ///
    /// # Errors
    /// As [`Signing::begin`].
    pub(super) async fn in_console(
        settings: &Settings,
        stores: (&Arc<dyn EventStore>, &Arc<dyn Registry>),
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Self>, WiringError> {
        let Some(keys) = keys(settings)? else {
            if settings.audit_retention_days > 0 {
                let needs = "audit_retention_days needs audit_key: a chain is only shortened below a signed anchor";
                return Err(SettingsError::new(needs).into());
            }
            tracing::warn!("audit_key is not set: nobody signs checkpoints of the audit");
            return Ok(None);
        };
        let outside = settings.checkpoint_file.clone().map(Outside::new);
        if outside.is_none() {
            tracing::warn!("checkpoint_file is not set: checkpoints of the audit are kept in the database alone");
        }
        Self::begin(settings, (keys, outside), stores, clock).await.map(Some)
    }

    /// Ends the notary behind a last look, or without it when that takes too long.
    pub(super) async fn end(self, patience: Duration) {
        self.stop.cancel();
        let both = async {
            if let Some(shortener) = self.shortener {
                _ = shortener.await;
            }
            self.notary.await
        };
        if tokio::time::timeout(patience, both).await.is_err() {
            tracing::warn!("ended without a last checkpoint; the next start signs it");
        }
    }
}
