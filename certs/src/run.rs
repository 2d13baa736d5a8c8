//! The process: ticks until it is told to end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use runtime::clock::{Clock, SystemClock};
use runtime::process::{self, essential};
use runtime::{admin, client, logs};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::Config;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::rotation::Rotation;
use crate::served::Endpoints;

/// The wait after a first failed tick. At an installation the webhook configuration may come a moment after this process.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Runs `certs run` until a signal.
///
/// # Errors
/// When it can't be started, or a part of it fails.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let Config { common, namespace, service, webhook_configuration, policy, interval } = config;
    logs::start(common.log_format)?;
    process::install_tls_provider()?;
    let end = process::ended_by_signal()?;
    let client = client::connect(common.kubeconfig.as_deref()).await?;
    let registry = runtime::metrics::registry()?;
    let metrics = Metrics::register(&registry)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let health = Arc::new(Health::new(interval));
    let objects = (namespace.as_str(), webhook_configuration.as_str());
    let endpoints = Box::new(Endpoints::new(client.clone(), &namespace, &service, &policy.name));
    let rotation = Rotation::new(client, objects, endpoints, policy, Arc::clone(&clock), metrics);

    let address = common.metrics_address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}: choose another --metrics-address"))?;
    tracing::info!(metrics_address = %address, namespace, version = runtime::VERSION, "started");
    let readiness: admin::Readiness = {
        let (health, clock) = (Arc::clone(&health), Arc::clone(&clock));
        Arc::new(move || health.check(clock.monotonic()))
    };
    let admin_task = admin::serve(listener, admin::router(registry, readiness), end.clone());
    let ticking = async {
        keep_right(rotation, interval, &health, clock.as_ref(), end.clone()).await;
        Ok(())
    };
    let (administered, ticked) = tokio::join!(
        essential("admin", end.clone(), admin_task),
        essential("rotation", end.clone(), ticking)
    );
    administered.and(ticked)
}

/// Ticks every `interval`, sooner when something is due sooner, and soon after a failure, until `end`. An end in the middle of a tick
/// is one of the crashes that the plan is made for.
async fn keep_right(
    mut rotation: Rotation,
    interval: Duration,
    health: &Health,
    clock: &dyn Clock,
    end: CancellationToken,
) {
    let mut retry = FIRST_RETRY;
    let ticks = async {
        loop {
            let wait = match rotation.tick().await {
                Ok(due) => {
                    health.succeeded(clock.monotonic());
                    retry = FIRST_RETRY;
                    due.map_or(interval, |due| due.min(interval))
                }
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    let wait = retry.min(interval);
                    tracing::warn!(error = why, retry_in = ?wait, "a tick failed");
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
#[path = "run_tests.rs"]
mod tests;
