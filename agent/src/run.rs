//! The agent as a process: what it needs, made once, and its tasks, which end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use rand::Rng;
use rand::rngs::ChaCha8Rng;
use runtime::admin;
use runtime::args::CommonArgs;
use runtime::clock::{Clock, SystemClock};
use runtime::process::{ended_by_signal, essential};
use tokio::net::TcpListener;

use crate::args::{RunArgs, read_policy};
use crate::budget::Budget;
use crate::events::Events;
use crate::halt::observe_halt;
use crate::lease::Candidacy;
use crate::metrics::{self, Metrics};
use crate::round::Deps;
use crate::supervise::supervise;

/// Runs until a signal ends it.
///
/// # Errors
/// When it can't start, or a task fails.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { common, policy } = args;
    let CommonArgs { metrics_address, log_format: _, kubeconfig } = common;
    let policy = read_policy(&policy)?;
    let end = ended_by_signal()?;
    let client = runtime::client::connect(kubeconfig.as_deref()).await?;
    let registry = runtime::metrics::registry()?;
    let leader = metrics::leader(&registry)?;
    let listener = TcpListener::bind(metrics_address)
        .await
        .with_context(|| format!("failed to listen on {metrics_address}"))?;
    let state = State::default();
    let readiness = {
        let state = state.clone();
        Arc::new(move || state.readiness())
    };
    tracing::info!(version = runtime::VERSION, policy = policy.hash, address = %metrics_address, "started");

    let mut rng = generator();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let instance = std::env::var("HOSTNAME").ok();
    // The Pod's name alone would let a container that is started again believe itself to be the one before it.
    let identity = format!("{}_{:08x}", instance.as_deref().unwrap_or("agent"), rng.next_u32());
    let mut candidacy = Candidacy::new(client.clone(), Arc::clone(&clock), identity);
    let lead = async {
        if !candidacy.win(&end).await {
            return Ok(());
        }
        state.leads.store(true, Ordering::Relaxed);
        leader.set(1);
        let deps = Deps {
            events: Events::new(client.clone(), instance),
            metrics: Metrics::new(&registry, &policy.hash)?,
            budget: Arc::new(Budget::new(policy.kills_per_minute)),
            policy: Arc::new(policy),
            leadership: candidacy.leadership(),
            client,
            clock,
        };
        let events = deps.events.clone();
        // Not `try_join!`: one task's failure ends the others in order, it doesn't drop them.
        let (kept, halt, records) = tokio::join!(
            essential("lease", end.clone(), candidacy.keep(&end)),
            essential("halt", end.clone(), observe_halt(deps.clone(), end.clone())),
            essential("records", end.clone(), supervise(deps, rng, state.synced.clone(), end.clone())),
        );
        // Nothing kills any more, so the next one may begin.
        leader.set(0);
        candidacy.release().await;
        events.finish().await;
        kept.and(records).and(halt)
    };
    let admin = admin::serve(listener, admin::router(registry.clone(), readiness), end.clone());
    let (served, led) =
        tokio::join!(essential("admin", end.clone(), admin), essential("agent", end.clone(), lead));
    led.and(served)
}

/// How far this process has come.
#[derive(Clone, Default)]
struct State {
    leads: Arc<AtomicBool>,
    /// Whether the leader has listed the records.
    synced: Arc<AtomicBool>,
}

impl State {
    /// A standby is ready: it does all that it should.
    fn readiness(&self) -> Result<(), String> {
        if self.leads.load(Ordering::Relaxed) && !self.synced.load(Ordering::Relaxed) {
            return Err("the records have not been listed yet".to_owned());
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one source of randomness")]
fn generator() -> ChaCha8Rng {
    rand::make_rng()
}
