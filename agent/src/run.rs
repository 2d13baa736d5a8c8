//! The process `agent run`. It makes the shared values once, and runs the tasks, which end
//! together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use policy::settings::Mode;
use runtime::args::CommonArgs;
use runtime::clock::{Clock, SystemClock};
use runtime::http::listen;
use runtime::process::{ended_by_signal, essential};
use runtime::{admin, logs};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{RunArgs, read_policy};
use crate::cluster::access;
use crate::context::Context;
use crate::controller::halt::observe_halt;
use crate::controller::supervisor::supervise;
use crate::identity::{generator, identity};
use crate::leader_election::lease::LeaderElector;
use crate::status_page;
use crate::telemetry::activity::ActivityLog;
use crate::telemetry::metrics;

/// Runs until a signal ends the process.
///
/// # Errors
/// When the process can't start, or a task fails.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { common, policy } = args;
    let CommonArgs { metrics_address, log_format, kubeconfig } = common;
    logs::start(log_format)?;
    let policy = read_policy(&policy)?;
    let end = ended_by_signal()?;
    let (client, watches) = runtime::client::connect_to_watch(kubeconfig.as_deref()).await?;
    let registry = runtime::metrics::registry()?;
    let leader = metrics::leader(&registry)?;
    let listener = listen(metrics_address).await?;
    let state = State::default();
    let readiness = {
        let state = state.clone();
        Arc::new(move || state.readiness())
    };
    tracing::info!(version = runtime::VERSION, policy = policy.hash, address = %metrics_address, "started");

    let mut rng = generator();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (instance, identity) = identity(&mut rng);
    let mut elector = LeaderElector::new(client.clone(), Arc::clone(&clock), identity);
    let page = status_page::Sources {
        activity_log: ActivityLog::default(),
        clock: Arc::clone(&clock),
        leadership: elector.leadership(),
        synced: Arc::clone(&state.synced),
        other: elector.other(),
    };
    let activity_log = page.activity_log.clone();
    let rights = observe_rights(client.clone(), policy.ceilings.modes.clone(), state.clone(), end.clone());
    let nodes = observe_nodes_right(client.clone(), Arc::clone(&state.reads_nodes), end.clone());
    let lead = async {
        if !elector.win(&end).await {
            return Ok(());
        }
        state.leads.store(true, Ordering::Relaxed);
        leader.set(1);
        let reads_nodes = Arc::clone(&state.reads_nodes);
        let leadership = elector.leadership();
        let context = Context {
            activity_log,
            watches,
            ..Context::new(client, clock, policy, &registry, instance, leadership, reads_nodes)?
        };
        let events = context.events.clone();
        // Does not use `try_join!`, which would drop the other tasks when one fails. Here the other
        // tasks end in order.
        let (kept, halt, records) = tokio::join!(
            essential("lease", end.clone(), elector.keep(&end)),
            essential("halt", end.clone(), observe_halt(context.clone(), end.clone())),
            essential("records", end.clone(), supervise(context, rng, state.synced.clone(), end.clone())),
        );
        // No task kills any more, so the next leader may begin.
        leader.set(0);
        elector.release().await;
        events.finish().await;
        kept.and(records).and(halt)
    };
    let routes = admin::router(registry.clone(), readiness).merge(status_page::router(page));
    let admin = admin::serve(listener, routes, end.clone());
    let (served, led, observed, nodes) = tokio::join!(
        essential("admin", end.clone(), admin),
        essential("agent", end.clone(), lead),
        essential("rights", end.clone(), rights),
        essential("nodes", end.clone(), nodes),
    );
    led.and(served).and(observed).and(nodes)
}

/// How often the agent checks its own rights: while one is missing, and otherwise. The first is
/// short, so that the agent is ready soon after somebody grants the right.
const RIGHTS_INTERVALS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Updates the readiness of this process from its own rights, until `end`.
async fn observe_rights(
    client: kube::Client,
    modes: Vec<Mode>,
    state: State,
    end: CancellationToken,
) -> anyhow::Result<()> {
    match access::unable(&client, &modes).await {
        Ok(None) => {}
        Ok(Some(unable)) => {
            tracing::warn!(unable, "the policy allows a mode that the agent has no right for")
        }
        Err(error) => {
            tracing::warn!(error = %error, "failed to check the rights for the modes that the policy allows");
        }
    }
    loop {
        let missing = access::missing(&client).await.map(|missing| {
            missing.first().map(|right| {
                format!("this account has no right to {right}; to grant it, run: kubectl apply -k manifests")
            })
        });
        let (short, long) = RIGHTS_INTERVALS;
        let wait = match missing {
            Ok(None) => {
                state.missing.send_replace(None);
                long
            }
            Ok(Some(missing)) => {
                let before = state.missing.send_replace(Some(missing.clone()));
                if before.as_ref() != Some(&missing) {
                    tracing::warn!(missing, "the agent is not ready");
                }
                short
            }
            // Without an answer, the last known result stays.
            Err(error) => {
                tracing::warn!(error = %error, "failed to check the agent's rights, retrying");
                short
            }
        };
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How often the agent checks whether it may list nodes. Somebody may add or remove the component
/// `nodes` while the agent runs.
const NODES_INTERVAL: Duration = Duration::from_secs(60);

/// Updates whether the agent may list the cluster's nodes, until `end`.
async fn observe_nodes_right(
    client: kube::Client,
    reads_nodes: Arc<AtomicBool>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        // Without an answer, the last known result stays.
        if let Ok(may) = access::reads_nodes(&client).await {
            reads_nodes.store(may, Ordering::Relaxed);
        }
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(NODES_INTERVAL) => {}
        }
    }
}

/// What readiness and the status page need to know about this process.
#[derive(Clone)]
struct State {
    /// Why the process is not ready: the first right that is missing. `None` if it has all rights.
    missing: watch::Sender<Option<String>>,
    leads: Arc<AtomicBool>,
    /// Whether the agent may list the cluster's nodes.
    reads_nodes: Arc<AtomicBool>,
    /// Whether the leader has listed the records.
    synced: Arc<AtomicBool>,
}

impl Default for State {
    fn default() -> Self {
        let missing = watch::Sender::new(Some("the agent has not checked its rights yet".to_owned()));
        Self { missing, leads: Arc::default(), reads_nodes: Arc::default(), synced: Arc::default() }
    }
}

impl State {
    /// Whether the process is ready, and if not why. A standby is ready, because it does everything
    /// that it should.
    fn readiness(&self) -> Result<(), String> {
        if let Some(missing) = &*self.missing.borrow() {
            return Err(missing.clone());
        }
        if self.leads.load(Ordering::Relaxed) && !self.synced.load(Ordering::Relaxed) {
            return Err("the agent has not listed the records yet".to_owned());
        }
        Ok(())
    }
}
