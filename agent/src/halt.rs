//! Tells people that everything is halted. Kills don't depend on it: each reads the halt for itself.

use std::time::Duration;

use policy::keys::SYSTEM_NAMESPACE;
use policy::lock::halt;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::observe::read_namespace;
use crate::round::Deps;

/// How often the halt is looked at for the metric and the Event: whoever halts sees within a second that it was noticed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps `pure_chaos_halted` and writes `ChaosHalted` when a halt begins.
///
/// # Errors
/// Never; the form is that of the other tasks.
pub async fn observe_halt(deps: Deps, end: CancellationToken) -> anyhow::Result<()> {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(String, Option<String>)> = None;
    loop {
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            _ = interval.tick() => {}
        }
        let now = match read_namespace(&deps.client, SYSTEM_NAMESPACE).await {
            Ok(system) => halt(&system).map(|text| (text, Some(system.uid))),
            Err(error) => Some((format!("namespace {SYSTEM_NAMESPACE} can't be read: {error}"), None)),
        };
        deps.metrics.set_halted(now.is_some());
        deps.board.set_halt(now.as_ref().map(|(text, _)| text.as_str()));
        if now != before {
            match &now {
                Some((text, uid)) => {
                    tracing::warn!(text, "every kill is halted");
                    if let Some(uid) = uid {
                        deps.events.halted(uid, text);
                    }
                }
                None => tracing::info!("the halt ended"),
            }
            before = now;
        }
    }
}
