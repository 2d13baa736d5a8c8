//! Runs the process: ticks until it is told to end.

use std::sync::Arc;
use std::time::Duration;

use runtime::clock::{Clock, SystemClock};
use runtime::http::listen;
use runtime::process::{self, essential};
use runtime::{admin, client, logs};
use tokio_util::sync::CancellationToken;

use crate::api::probe::Endpoints;
use crate::args::Config;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::path::Paths;
use crate::rotation::{Rotation, TickError};

/// The wait after the first failed tick. At an installation, the webhook configuration may come a
/// moment after this process.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Runs `certs run` until a signal or a failure.
///
/// # Errors
/// Returns an error if the process can't start, or if a part of it fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let Config {
        common,
        namespace,
        service,
        webhook_configuration,
        policy,
        interval,
        path_period,
        only_path,
    } = config;
    logs::start(common.log_format)?;
    process::install_tls_provider()?;
    let end = process::ended_by_signal()?;
    let client = client::connect(common.kubeconfig.as_deref()).await?;
    let registry = runtime::metrics::registry()?;
    let metrics = Metrics::register(&registry)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Arc::new(Health::new(interval));
    let objects = (namespace.as_str(), webhook_configuration.as_str());
    let paths = Paths::new(client.clone(), objects, path_period, Arc::clone(&clock), metrics.clone());
    let rotation = (!only_path).then(|| {
        let endpoints = Box::new(Endpoints::new(client.clone(), &namespace, &service, &policy.name));
        Rotation::new(client, objects, endpoints, policy, Arc::clone(&clock), metrics)
    });
    let work = Work { paths, rotation };

    let address = common.metrics_address;
    let listener = listen(address).await?;
    tracing::info!(metrics_address = %address, namespace, version = runtime::VERSION, "started");
    let readiness: admin::Readiness = {
        let (health, clock) = (Arc::clone(&health), Arc::clone(&clock));
        Arc::new(move || health.check(clock.monotonic()))
    };
    let admin_task = admin::serve(listener, admin::router(registry, readiness), end.clone());
    let ticking = async {
        keep_right(work, interval, &health, clock.as_ref(), end.clone()).await;
        Ok(())
    };
    let (administered, ticked) = tokio::join!(
        essential("admin", end.clone(), admin_task),
        essential("rotation", end.clone(), ticking)
    );
    administered.and(ticked)
}

/// What one tick takes care of.
struct Work {
    paths: Paths,
    /// `None` if something else issues the certificates.
    rotation: Option<Rotation>,
}

impl Work {
    /// Runs one tick of the paths, and then one of the rotation. The paths come first, so that at a
    /// first start the keys are there when the certificate makes the webhook ready. If one of the
    /// two fails, the other still runs.
    async fn tick(&mut self) -> Result<Option<Duration>, TickError> {
        let paths = self.paths.tick().await;
        let rotation = match &mut self.rotation {
            Some(rotation) => rotation.tick().await?,
            None => None,
        };
        Ok([rotation, Some(paths?)].into_iter().flatten().min())
    }
}

/// Ticks until `end` is cancelled. The next tick comes after `interval`, or sooner if something is
/// due sooner, or soon after a failure. An end in the middle of a tick is like a crash, which the
/// plan allows for.
async fn keep_right(
    mut work: Work,
    interval: Duration,
    health: &Health,
    clock: &dyn Clock,
    end: CancellationToken,
) {
    let mut retry = FIRST_RETRY;
    let ticks = async {
        loop {
            let wait = match work.tick().await {
                Ok(due) => {
                    health.succeeded(clock.monotonic());
                    retry = FIRST_RETRY;
                    due.map_or(interval, |due| due.min(interval))
                }
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    let wait = retry.min(interval);
                    tracing::warn!(error = why, retry_in = ?wait, "failed to reconcile the certificates and the path, retrying");
                    health.failed(why);
                    retry = retry.saturating_mul(2).min(interval);
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = ticks => {}
    }
}

#[cfg(test)]
mod tests;
