//! The agent as a process: what it needs, made once, and its tasks, which end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use policy::platform::PlatformPolicy;
use rand::rngs::ChaCha8Rng;
use runtime::admin;
use runtime::args::CommonArgs;
use runtime::clock::SystemClock;
use runtime::process::{ended_by_signal, essential};
use tokio::net::TcpListener;

use crate::args::RunArgs;
use crate::budget::Budget;
use crate::events::Events;
use crate::halt::observe_halt;
use crate::metrics::Metrics;
use crate::round::Deps;
use crate::supervise::supervise;

/// Runs until a signal ends it.
///
/// # Errors
/// When it can't start, or a task fails.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { common, policy } = args;
    let CommonArgs { metrics_address, log_format: _, kubeconfig } = common;
    let policy = match policy.policy_file {
        Some(file) => {
            let yaml = std::fs::read_to_string(&file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            PlatformPolicy::parse(&yaml).with_context(|| file.display().to_string())?
        }
        None => PlatformPolicy::built_in(),
    };
    let end = ended_by_signal()?;
    let client = runtime::client::connect(kubeconfig.as_deref()).await?;
    let registry = runtime::metrics::registry()?;
    let metrics = Metrics::new(&registry, &policy.hash)?;
    let listener = TcpListener::bind(metrics_address)
        .await
        .with_context(|| format!("failed to listen on {metrics_address}"))?;
    let deps = Deps {
        events: Events::new(client.clone(), std::env::var("HOSTNAME").ok()),
        client,
        clock: Arc::new(SystemClock),
        budget: Arc::new(Budget::new(policy.kills_per_minute)),
        policy: Arc::new(policy),
        metrics,
    };
    let synced = Arc::new(AtomicBool::new(false));
    let readiness = {
        let synced = synced.clone();
        Arc::new(move || {
            let is_synced = synced.load(Ordering::Relaxed);
            if is_synced { Ok(()) } else { Err("the records have not been listed yet".to_owned()) }
        })
    };
    tracing::info!(version = runtime::VERSION, policy = deps.policy.hash, address = %metrics_address, "started");
    let events = deps.events.clone();
    // Not `try_join!`: one task's failure ends the others in order, it doesn't drop them.
    let (admin, halt, records) = tokio::join!(
        essential(
            "admin",
            end.clone(),
            admin::serve(listener, admin::router(registry, readiness), end.clone())
        ),
        essential("halt", end.clone(), observe_halt(deps.clone(), end.clone())),
        essential("records", end.clone(), supervise(deps, generator(), synced, end.clone())),
    );
    events.finish().await;
    records.and(halt).and(admin)
}

#[expect(clippy::disallowed_methods, reason = "the one source of randomness")]
fn generator() -> ChaCha8Rng {
    rand::make_rng()
}
