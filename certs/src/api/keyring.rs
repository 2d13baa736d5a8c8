//! Keeps the keys of the secret path for the webhook, as the mounted file has them now.
//! [`crate::path::segment`] explains the keys.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::api::reload::INTERVAL;
use crate::path::segment::{KEYS, Keys};

/// The present keys; empty until the first ones are loaded.
#[derive(Debug, Default)]
pub struct Keyring(ArcSwapOption<Keys>);

impl Keyring {
    /// Returns the present keys.
    #[must_use]
    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.0.load_full()
    }

    /// Replaces the keys.
    pub fn set(&self, keys: Keys) {
        self.0.store(Some(Arc::new(keys)));
    }
}

/// Keeps `ring` equal to the file in `directory`, until `end` is cancelled. If the file is missing
/// or damaged, the last good keys stay.
///
/// # Errors
/// Never returns an error. The result type is the one of an essential task.
pub async fn keep_keys(ring: Arc<Keyring>, directory: PathBuf, end: CancellationToken) -> anyhow::Result<()> {
    let file = directory.join(KEYS);
    // All keys are in one file, so that one read follows the link to the mounted version only once.
    let mut seen: Option<Result<Vec<u8>, std::io::ErrorKind>> = None;
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while end.run_until_cancelled(interval.tick()).await.is_some() {
        let read = std::fs::read(&file).map_err(|error| error.kind());
        if seen.as_ref() == Some(&read) {
            continue;
        }
        let kept = ring.keys().is_some();
        match read.as_ref().map(|text| Keys::parse(text)) {
            Ok(Some(keys)) => {
                ring.set(keys);
                tracing::info!("loaded the keys of the path");
            }
            Ok(None) => {
                tracing::warn!(file = %file.display(), kept, "failed to understand the keys of the path")
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), kept, %error, "failed to read the keys of the path");
            }
        }
        seen = Some(read);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_file_is_followed_and_the_last_good_keys_stay() {
        let directory = std::env::temp_dir().join(format!("path-keys-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (ring, end) = (Arc::new(Keyring::default()), CancellationToken::new());
        let task = tokio::spawn(keep_keys(Arc::clone(&ring), directory.clone(), end.clone()));
        let text = |ring: &Keyring| ring.keys().map(|keys| keys.text());
        let pass = || tokio::time::sleep(Duration::from_millis(1_500));
        pass().await;
        assert_eq!(text(&ring), None);
        let first = Keys::of([1; 32], [2; 32]);
        let second = first.rotated([3; 32]);
        for keys in [first, second.clone()] {
            std::fs::write(directory.join(KEYS), keys.text()).unwrap();
            pass().await;
            assert_eq!(text(&ring), Some(keys.text()));
        }
        std::fs::write(directory.join(KEYS), "garbage").unwrap();
        pass().await;
        std::fs::remove_dir_all(&directory).unwrap();
        pass().await;
        assert_eq!(text(&ring), Some(second.text()));
        end.cancel();
        task.await.unwrap().unwrap();
    }
}
