//! Keeps the secret path that the API server calls: the keys in Secret `webhook-path`, and the
//! segments in the webhook configuration.
//!
//! | state found | act |
//! | --- | --- |
//! | the keys are missing or damaged | make keys |
//! | the keys are as old as [`KEYS_LIFETIME`] | rotate them: the next key, which every replica has had all this time, becomes the current one |
//! | the path of some webhook was not made by the current key, or was made longer ago than the period | make new paths and inject them |
//! | everything is as it should be | rest |
//!
//! Between ticks, this module remembers only what logs and metrics need, so a crash at any point
//! does no harm. The module is independent of the certificates, and also runs where something else
//! issues them.

pub mod segment;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use runtime::clock::Clock;

use crate::api::inject::{Injector, PathOf};
use crate::api::secrets::{PATH_SECRET, Store, Written};
use crate::metrics::Metrics;
use crate::path::segment::{KEYS, Keys};
use crate::rotation::TickError;
use crate::rotation::observed::Data;
use crate::x509::issue::IssueError;

/// Key of Secret `webhook-path`: when these keys were made or rotated, as RFC 3339.
const SINCE: &str = "since";
/// How long a key makes segments. The lifetime is about a thousand times as long as the kubelet
/// takes to update a mounted Secret. A stolen copy of the Secret is worth nothing after three
/// lifetimes.
pub const KEYS_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// The most acts in one tick. A first start takes two. If more are needed, somebody else keeps
/// changing the same objects.
const MOST_ACTS: usize = 6;

/// The next act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Make,
    Rotate,
    Inject,
    /// Do nothing for this time.
    Rest(Duration),
}

/// The keys, and when they were made or rotated.
#[derive(Debug, Clone)]
struct Kept {
    keys: Keys,
    since: Timestamp,
}

impl Kept {
    fn read(data: &Data) -> Option<Self> {
        let since = std::str::from_utf8(data.get(SINCE)?).ok()?.parse().ok()?;
        Some(Self { keys: Keys::parse(data.get(KEYS)?)?, since })
    }

    fn data(&self) -> Data {
        Data::from([
            (KEYS.to_owned(), self.keys.text().into_bytes()),
            (SINCE.to_owned(), self.since.to_string().into_bytes()),
        ])
    }
}

/// Returns the next act.
///
/// If the clock is set back, paths are made again. Keys are rotated only if the clock is off by a
/// whole lifetime. So two rotations never come faster than a mounted Secret is updated.
fn plan(kept: Option<&Kept>, injected: Option<&[PathOf]>, now: Timestamp, period: Duration) -> Act {
    let Some(Kept { keys, since }) = kept else {
        return Act::Make;
    };
    if now.duration_since(*since).unsigned_abs() >= KEYS_LIFETIME {
        return Act::Rotate;
    }
    let mut ages = injected.unwrap_or_default().iter().map(|path| age(keys, path, now));
    let oldest = ages.try_fold(Duration::ZERO, |oldest, age| Some(oldest.max(age?)));
    match oldest.and_then(|oldest| period.checked_sub(oldest)).filter(|left| !left.is_zero()) {
        Some(left) => Act::Rest(left),
        None => Act::Inject,
    }
}

/// Returns how long ago the path was made. Returns `None` if the current key did not make the path,
/// or if its time is in the future.
fn age(keys: &Keys, path: &PathOf, now: Timestamp) -> Option<Duration> {
    let made = keys.made_by_current(&path.route, segment(path)?)?;
    Duration::try_from(now.duration_since(made)).ok()
}

/// Returns when the path was made, or `None` if none of the keys made it.
fn made(keys: &Keys, path: &PathOf) -> Option<Timestamp> {
    keys.made(&path.route, segment(path)?)
}

fn segment(PathOf { route, path, .. }: &PathOf) -> Option<&str> {
    path.as_deref()?.strip_prefix('/')?.strip_prefix(route.as_str())?.strip_prefix('/')
}

/// The secret paths of one webhook configuration.
pub struct Paths {
    store: Store,
    injector: Injector,
    period: Duration,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// The paths that were there when this process last found everything in order; `None` while
    /// that is not known.
    in_place: Option<Vec<PathOf>>,
}

impl Paths {
    /// Creates paths that are renewed each `period`.
    #[must_use]
    pub fn new(
        client: kube::Client,
        (namespace, configuration): (&str, &str),
        period: Duration,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            store: Store::new(client.clone(), namespace),
            injector: Injector::new(client, configuration),
            period,
            clock,
            metrics,
            in_place: None,
        }
    }

    /// Does all acts that are due, and returns in how long the next one is due.
    ///
    /// # Errors
    /// Returns an error if an act failed, or if somebody else keeps changing the same objects.
    pub async fn tick(&mut self) -> Result<Duration, TickError> {
        for _ in 0..MOST_ACTS {
            // Read in the opposite order of writing. Then the keys are always read later than the
            // paths that they replace.
            let configuration = self.injector.read().await?;
            let found = self.store.read(PATH_SECRET).await?;
            let kept = found.as_ref().and_then(|found| Kept::read(found.data()));
            let now = self.clock.wall();
            let injected = configuration.as_ref().map(|read| read.paths());
            let act = plan(kept.as_ref(), injected, now, self.period);
            let written = match (act, kept) {
                (Act::Rest(left), _) => {
                    self.in_place = injected.map(<[PathOf]>::to_vec);
                    return Ok(left);
                }
                (Act::Inject, Some(Kept { keys, .. })) => {
                    let Some(read) = &configuration else { return Ok(self.period) };
                    // If the keys were lost, this process still knows the paths that the lost keys
                    // made.
                    let is_known = self.in_place.take().is_none_or(|known| known == read.paths());
                    let is_foreign = !is_known && read.paths().iter().any(|path| made(&keys, path).is_none());
                    let written = self.injector.inject_paths(read, |route| keys.path(route, now)).await?;
                    if written == Written::Done && is_foreign {
                        self.metrics.bundle_restored();
                        tracing::warn!(
                            "restored the path that somebody else changed in the webhook configuration"
                        );
                    }
                    written
                }
                (Act::Rotate, Some(Kept { keys, .. })) => {
                    let rotated = Kept { keys: keys.rotated(random()?), since: now };
                    let written = self.store.write(PATH_SECRET, "Opaque", found, rotated.data()).await?;
                    tracing::info!("rotated the keys of the path");
                    written
                }
                (_, _) => {
                    let made = Kept { keys: Keys::of(random()?, random()?), since: now };
                    let written = self.store.write(PATH_SECRET, "Opaque", found, made.data()).await?;
                    tracing::info!("created the keys of the path");
                    written
                }
            };
            if written == Written::Conflict {
                tracing::debug!("somebody else wrote first, planning again");
            }
        }
        Err(TickError::Restless)
    }
}

fn random() -> Result<[u8; 32], IssueError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IssueError::Randomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
