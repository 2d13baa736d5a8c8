//! Presents the serving certificate to clients, and loads a new one whenever the mounted Secret
//! changes.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use certs::api::reload::{Serving, keep_loaded};
//! # async fn sketch(end: tokio_util::sync::CancellationToken) -> anyhow::Result<()> {
//! let serving = Arc::new(Serving::default());
//! let provider = Arc::new(rustls::crypto::ring::default_provider());
//! let tls = rustls::ServerConfig::builder_with_provider(provider)
//!     .with_safe_default_protocol_versions()?
//!     .with_no_client_auth()
//!     .with_cert_resolver(serving.clone());
//! // One task keeps it loaded; until the first pair, handshakes fail and `is_loaded` is false.
//! keep_loaded(serving, "/etc/webhook/tls".into(), end).await
//! # }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::rotation::observed::{SERVING_CERTIFICATE, SERVING_KEY};
use crate::x509::certificate::{Certificate, Unreadable};

/// How often the directory is read. The kubelet takes up to a minute to update a mounted Secret, so
/// one more second does not matter, not even at the first start. Reading two small files of a tmpfs
/// takes microseconds. An inotify watch would not work well: the kubelet swaps a symlink, which a
/// watch on the files does not see, and a watch can be lost.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How often the files are read at once, if they vanish during a read. The kubelet removes the old
/// directory after the swap, so the second read finds the new directory.
const READS: usize = 3;

/// Why a pair was not loaded. The error never contains any part of the key.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file can't be read.
    #[error("failed to read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file does not hold a certificate or a key.
    #[error("failed to understand the certificate and its key")]
    Unreadable(#[from] Unreadable),
    /// The certificate and the key do not belong together, or rustls can't use them.
    #[error("failed to use the certificate with the key")]
    Rejected(#[from] rustls::Error),
}

/// The pair that is presented now; empty until the first one is loaded. Give this to rustls as the
/// certificate resolver.
#[derive(Default)]
pub struct Serving {
    current: ArcSwapOption<Loaded>,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl Serving {
    /// Returns whether there is a pair to present. The readiness of the webhook depends on this.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// Returns the last second of the presented certificate, for the metric with role `serving`.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.current.load().as_ref().map(|loaded| loaded.not_after)
    }

    /// Presents this pair from now on, and returns the last second of its certificate. The
    /// certificate may be a chain, with the leaf first.
    ///
    /// # Errors
    /// Returns an error if this is not a usable pair. The pair that was presented before then
    /// stays.
    pub fn load(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<Timestamp, LoadError> {
        let not_after = Certificate::first(certificate_pem)?.not_after();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_pem).collect();
        let chain = chain.map_err(|_| Unreadable::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| Unreadable::Key)?;
        let key = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?;
        self.current.store(Some(Arc::new(Loaded { key: Arc::new(key), not_after })));
        Ok(not_after)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|loaded| Arc::clone(&loaded.key))
    }
}

/// Leaves out the key.
impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("not_after", &self.not_after()).finish_non_exhaustive()
    }
}

/// Keeps `serving` equal to the files in `directory`, until `end` is cancelled. If the files are
/// missing or damaged, the last good pair stays.
///
/// # Errors
/// Never returns an error. The result type is the one of an essential task.
pub async fn keep_loaded(
    serving: Arc<Serving>,
    directory: PathBuf,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let mut directory = Directory::new(directory);
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while end.run_until_cancelled(interval.tick()).await.is_some() {
        match directory.take_over(&serving) {
            Change::None => {}
            Change::Loaded(not_after) => tracing::info!(%not_after, "loaded the serving certificate"),
            Change::Kept(error) => {
                let kept = serving.is_loaded();
                let error = format!("{:#}", anyhow::Error::from(error));
                let directory = directory.path.display();
                if kept {
                    tracing::warn!(error, %directory, "failed to load the serving certificate, keeping the last good one");
                } else {
                    tracing::warn!(error, %directory, "waiting for a serving certificate");
                }
            }
        }
    }
    Ok(())
}

/// What changed since the last read of the directory.
#[derive(Debug)]
enum Change {
    /// Nothing changed.
    None,
    /// A new pair is presented, which is valid until this second.
    Loaded(Timestamp),
    /// The files changed and are not usable, so the old pair stays.
    Kept(LoadError),
}

/// A mounted directory, and what was last seen in it.
struct Directory {
    path: PathBuf,
    seen: Option<Seen>,
}

/// What was last seen in the directory. Only content is compared, not times or events: a renewal
/// may keep the key, and a swap may bring back earlier content.
#[derive(PartialEq, Eq)]
enum Seen {
    Files { certificate: Vec<u8>, key: Vec<u8> },
    Unreadable(io::ErrorKind),
}

impl Directory {
    fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Loads the pair if the files have changed. The read is of a few kilobytes in memory, so this
    /// function may block.
    fn take_over(&mut self, serving: &Serving) -> Change {
        let read = read(&self.path);
        let seen = match &read {
            Ok((certificate, key)) => Seen::Files { certificate: certificate.clone(), key: key.clone() },
            Err((_, error)) => Seen::Unreadable(error.kind()),
        };
        if self.seen.as_ref() == Some(&seen) {
            return Change::None;
        }
        self.seen = Some(seen);
        let loaded = match read {
            Ok((certificate, key)) => serving.load(&certificate, &key),
            Err((path, error)) => Err(LoadError::Read(path, error)),
        };
        loaded.map_or_else(Change::Kept, Change::Loaded)
    }
}

type Files = (Vec<u8>, Vec<u8>);

/// Reads both files from one version of the Secret.
fn read(directory: &Path) -> Result<Files, (PathBuf, io::Error)> {
    let mut outcome = read_once(directory);
    for _ in 1..READS {
        match &outcome {
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound => outcome = read_once(directory),
            _ => break,
        }
    }
    outcome
}

fn read_once(directory: &Path) -> Result<Files, (PathBuf, io::Error)> {
    // Read the link only once: through the symlinks of the two files, certificate and key could
    // come from two versions. A directory without the link is a plain directory. If the target of
    // the link was just removed, the caller reads again.
    let version = match std::fs::read_link(directory.join("..data")) {
        Ok(version) => directory.join(version),
        Err(_) => directory.to_owned(),
    };
    let file = |name| {
        let path = version.join(name);
        std::fs::read(&path).map_err(|error| (path, error))
    };
    Ok((file(SERVING_CERTIFICATE)?, file(SERVING_KEY)?))
}

#[cfg(test)]
mod tests;
