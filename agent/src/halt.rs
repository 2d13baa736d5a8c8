//! Tells people that everything is halted. Kills don't depend on it: each reads the halt for itself.

use std::time::Duration;

use policy::keys::SYSTEM_NAMESPACE;
use policy::lock::halt;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::deps::Deps;
use crate::observe::read_namespace;

/// How often the halt is looked at for the metric and the Event: whoever halts sees within a second that it was noticed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps `pure_chaos_halted` and writes `ChaosHalted` when a halt begins.
///
/// # Errors
/// Never; the form is that of the other tasks.
pub async fn observe_halt(deps: Deps, end: CancellationToken) -> anyhow::Result<()> {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<String> = None;
    // What people were told, which stays as it is while the namespace can't be read.
    let mut told: Option<String> = None;
    loop {
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            _ = interval.tick() => {}
        }
        let now = match read_namespace(&deps.client, SYSTEM_NAMESPACE).await {
            Ok(system) => {
                let halt = halt(&system);
                if let Some(text) = halt.as_ref().filter(|text| told.as_ref() != Some(*text)) {
                    deps.events.halted(&system.uid, text);
                }
                told.clone_from(&halt);
                halt
            }
            Err(error) => Some(format!("namespace {SYSTEM_NAMESPACE} can't be read: {error}")),
        };
        deps.metrics.set_halted(now.is_some());
        deps.board.set_halt(now.as_deref());
        if now != before {
            match &now {
                Some(text) => tracing::warn!(text, "every kill is halted"),
                None => tracing::info!("the halt ended"),
            }
            before = now;
        }
    }
}
