//! Authenticates callers. Only an API server knows the secret path that `certs` injects into the
//! webhook configuration. The webhook turns all other callers away before it reads, logs, remembers
//! or counts their request as an admission.
//!
//! A path is valid if one of the keys made it ([`certs::path::segment`]) and the webhook
//! configuration contains it, as this replica's own watch shows. An API server may be a moment
//! ahead of that watch or behind it. So a path is also valid if the configuration contained it
//! until [`GRACE`] ago, or if it is newer than every path seen.
//!
//! A failed call shows its path to the user. A minute after the next change, that path is useless.
//! If `certs` is away, the path does not change, and stays valid for [`LONGEST`] by the wall clock.
//! After that, nobody can opt in and no Pod is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use certs::api::keyring::Keyring;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use parking_lot::Mutex;
use runtime::clock::Clock;
use tokio::time::Instant;

use crate::metrics::{Metrics, Rule};

/// How long a path stays valid after the configuration has a new one. The watch of an API server is
/// at most a second behind, unless it is broken.
pub const GRACE: Duration = Duration::from_secs(60);
/// The largest accepted difference between now and the time at which a path was made. For this time
/// `certs` may be away, or clocks may differ.
pub const LONGEST: Duration = Duration::from_secs(3_600);
/// The shortest time between two log lines about callers that were turned away.
const QUIET: Duration = Duration::from_secs(60);

/// Tells API servers from all other callers.
pub struct Callers {
    keys: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    standing: Mutex<Standing>,
    told: Mutex<Option<Instant>>,
}

/// The paths that the configuration contains, and those that it contained until recently.
#[derive(Debug, Default)]
struct Standing {
    paths: Vec<String>,
    left: BTreeMap<String, Instant>,
    newest: Option<Timestamp>,
}

impl Callers {
    /// Creates a check that has not seen the configuration yet. Until it has, every path is valid
    /// that these keys made at most [`LONGEST`] ago.
    #[must_use]
    pub fn new(keys: Arc<Keyring>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { keys, clock, metrics, standing: Mutex::default(), told: Mutex::default() }
    }

    /// Returns the rule that `path` calls, or `None` if the caller is not an API server.
    #[must_use]
    pub fn rule_of(&self, path: &str) -> Option<Rule> {
        let (rule, made) = self.made(path)?;
        let now = self.clock.wall();
        let is_of_now = now.duration_since(made).unsigned_abs() <= LONGEST;
        (is_of_now && self.standing.lock().accepts(path, made, self.clock.monotonic())).then_some(rule)
    }

    /// Counts a caller that was turned away, and logs this at most once a minute.
    pub fn turned_away(&self) {
        self.metrics.unauthenticated();
        let now = self.clock.monotonic();
        let mut told = self.told.lock();
        if told.is_none_or(|told| now.duration_since(told) >= QUIET) {
            *told = Some(now);
            drop(told);
            tracing::warn!(
                "refused a request whose path is not in the webhook configuration (logged at most once a minute)"
            );
        }
    }

    /// Takes over the present configuration; `None` means that there is none.
    pub fn configuration(&self, configuration: Option<&ValidatingWebhookConfiguration>) {
        let webhooks = configuration.and_then(|read| read.webhooks.as_deref()).unwrap_or_default();
        let services = webhooks.iter().filter_map(|webhook| webhook.client_config.service.as_ref());
        let paths: Vec<String> = services.filter_map(|service| service.path.clone()).collect();
        let newest = paths.iter().filter_map(|path| self.made(path)).map(|(_, made)| made).max();
        self.standing.lock().show(paths, newest, self.clock.monotonic());
    }

    fn made(&self, path: &str) -> Option<(Rule, Timestamp)> {
        let (route, segment) = path.strip_prefix('/')?.split_once('/')?;
        let rule = route.parse().ok()?;
        Some((rule, self.keys.keys()?.made(route, segment)?))
    }
}

impl Standing {
    fn accepts(&self, path: &str, made: Timestamp, now: Instant) -> bool {
        self.paths.iter().any(|stands| stands == path)
            || self.newest.is_none_or(|newest| made > newest)
            || self.left.get(path).is_some_and(|left| now.duration_since(*left) <= GRACE)
    }

    fn show(&mut self, paths: Vec<String>, newest: Option<Timestamp>, now: Instant) {
        self.left.retain(|_, left| now.duration_since(*left) <= GRACE);
        for path in std::mem::replace(&mut self.paths, paths) {
            if !self.paths.contains(&path) {
                self.left.insert(path, now);
            }
        }
        self.newest = self.newest.max(newest);
    }
}

#[cfg(test)]
mod tests;
