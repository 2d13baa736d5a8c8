//! The agent as a process: what it needs, made once, and its tasks, which end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::Rng;
use rand::rngs::ChaCha8Rng;
use runtime::args::CommonArgs;
use runtime::clock::{Clock, SystemClock};
use runtime::process::{ended_by_signal, essential};
use runtime::{admin, logs};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{RunArgs, read_policy};
use crate::board::Board;
use crate::deps::Deps;
use crate::halt::observe_halt;
use crate::lease::Candidacy;
use crate::metrics;
use crate::supervise::supervise;
use crate::{own_rights, page};

/// Runs until a signal ends it.
///
/// # Errors
/// When it can't start, or a task fails.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs { common, policy } = args;
    let CommonArgs { metrics_address, log_format, kubeconfig } = common;
    logs::start(log_format)?;
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
    let (instance, identity) = identity(&mut rng);
    let mut candidacy = Candidacy::new(client.clone(), Arc::clone(&clock), identity);
    let page = page::Sources {
        board: Board::default(),
        clock: Arc::clone(&clock),
        leadership: candidacy.leadership(),
        synced: Arc::clone(&state.synced),
        other: candidacy.other(),
    };
    let board = page.board.clone();
    let rights = observe_rights(client.clone(), state.clone(), end.clone());
    let lead = async {
        if !candidacy.win(&end).await {
            return Ok(());
        }
        state.leads.store(true, Ordering::Relaxed);
        leader.set(1);
        let reads_nodes = Arc::clone(&state.reads_nodes);
        let leadership = candidacy.leadership();
        let deps =
            Deps { board, ..Deps::new(client, clock, policy, &registry, instance, leadership, reads_nodes)? };
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
    let routes = admin::router(registry.clone(), readiness).merge(page::router(page));
    let admin = admin::serve(listener, routes, end.clone());
    let (served, led, observed) = tokio::join!(
        essential("admin", end.clone(), admin),
        essential("agent", end.clone(), lead),
        essential("rights", end.clone(), rights)
    );
    led.and(served).and(observed)
}

/// How often the agent's own rights are looked at: often while one is missing, so that it is ready soon after that was given.
const RIGHTS_INTERVALS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Keeps what readiness says of this process's own rights.
async fn observe_rights(client: kube::Client, state: State, end: CancellationToken) -> anyhow::Result<()> {
    loop {
        let missing = own_rights::missing(&client).await.map(|missing| {
            missing.first().map(|right| {
                format!("this account has no right to {right}; this grants it: kubectl apply -k manifests")
            })
        });
        if let Ok(may) = own_rights::reads_nodes(&client).await {
            state.reads_nodes.store(may, Ordering::Relaxed);
        }
        let (short, long) = RIGHTS_INTERVALS;
        let wait = match missing {
            Ok(None) => {
                state.missing.send_replace(None);
                long
            }
            Ok(Some(missing)) => {
                let before = state.missing.send_replace(Some(missing.clone()));
                if before.as_ref() != Some(&missing) {
                    tracing::warn!(missing, "not ready");
                }
                short
            }
            // What is known stays known.
            Err(error) => {
                tracing::warn!(error = %error, "failed to ask for this account's rights, it is tried again");
                short
            }
        };
        tokio::select! {
            () = end.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// How far this process has come.
#[derive(Clone)]
struct State {
    /// The first right that is missing.
    missing: watch::Sender<Option<String>>,
    leads: Arc<AtomicBool>,
    /// Whether the cluster's nodes may be read.
    reads_nodes: Arc<AtomicBool>,
    /// Whether the leader has listed the records.
    synced: Arc<AtomicBool>,
}

impl Default for State {
    fn default() -> Self {
        let missing = watch::Sender::new(Some("the rights have not been asked for yet".to_owned()));
        Self { missing, leads: Arc::default(), reads_nodes: Arc::default(), synced: Arc::default() }
    }
}

impl State {
    /// A standby is ready: it does all that it should.
    fn readiness(&self) -> Result<(), String> {
        if let Some(missing) = &*self.missing.borrow() {
            return Err(missing.clone());
        }
        if self.leads.load(Ordering::Relaxed) && !self.synced.load(Ordering::Relaxed) {
            return Err("the records have not been listed yet".to_owned());
        }
        Ok(())
    }
}

/// This Pod's name, and what no other process is called.
pub(crate) fn identity(rng: &mut impl Rng) -> (Option<String>, String) {
    let instance = std::env::var("HOSTNAME").ok();
    // The Pod's name alone would let a container that is started again believe itself to be the one before it.
    let identity = format!("{}_{:08x}", instance.as_deref().unwrap_or("agent"), rng.next_u32());
    (instance, identity)
}

#[expect(clippy::disallowed_methods, reason = "the one source of randomness")]
pub(crate) fn generator() -> ChaCha8Rng {
    rand::make_rng()
}
