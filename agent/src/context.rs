//! The clients, clocks, metrics and shared limits that every task of the agent receives.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kube::Client;
use policy::platform::PlatformPolicy;
use policy::record::OptIn;
use prometheus::Registry;
use runtime::clock::Clock;
use runtime::events::{EventWriter, Reporter};
use runtime::watch_clients::WatchClients;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::guard::rate_limit::KillRateLimit;
use crate::leader_election::lease::Leadership;
use crate::steady_state::prober::Prober;
use crate::telemetry::activity::{ActivityLog, Halt};
use crate::telemetry::events::REPORTER;
use crate::telemetry::metrics::Metrics;

/// How many rounds may run at once, and how many namespaces `agent once` visits at once.
pub const ROUNDS_AT_ONCE: usize = 16;

/// How long a call of a namespace's task waits for its turn.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// What every round needs: access to the cluster, clocks, limits, and ways to report.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes client.
    pub client: Client,
    /// The clients that watches use.
    pub watches: WatchClients,
    /// The wall clock and the monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// The platform's policy.
    pub policy: Arc<PlatformPolicy>,
    /// The metrics of the agent.
    pub metrics: Metrics,
    /// What the status page shows.
    pub activity_log: ActivityLog,
    /// Writes Events.
    pub events: EventWriter,
    /// Whether the whole cluster is halted, as the watch last showed. This is for display only:
    /// each kill reads the halt from the API server.
    pub halt: watch::Sender<Halt>,
    /// Asks the checks of the steady state.
    pub prober: Arc<Prober>,
    /// Limits the kills in the whole cluster, as `killsPerMinute` says.
    pub budget: KillRateLimit,
    /// Limits the rounds that run at once, because each keeps its lists in memory.
    pub rounds: Arc<Semaphore>,
    /// Limits the lists and the writes of statuses outside of rounds that run at once. When the
    /// agent starts, every namespace needs some. Each Pod in a response takes a few kilobytes until
    /// the agent has parsed it, and each call under way has a connection of its own.
    pub background: Arc<Semaphore>,
    /// Tells whether this process leads.
    pub leadership: Leadership,
    /// Whether the agent may list the cluster's nodes.
    pub reads_nodes: Arc<AtomicBool>,
}

impl Context {
    /// Makes the context. Watches use `client`, too. `instance` is the name of this process in
    /// Events.
    ///
    /// # Errors
    /// When the registry already has metrics of these names.
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        policy: PlatformPolicy,
        registry: &Registry,
        instance: Option<String>,
        leadership: Leadership,
        reads_nodes: Arc<AtomicBool>,
    ) -> prometheus::Result<Self> {
        let metrics = Metrics::new(registry, &policy)?;
        Ok(Self {
            events: EventWriter::start(
                &client,
                Reporter { controller: REPORTER, instance },
                Arc::clone(&clock),
                metrics.events_dropped(),
            ),
            metrics,
            activity_log: ActivityLog::default(),
            halt: watch::Sender::new(Halt::Unknown),
            prober: Arc::new(Prober::new(client.clone(), Arc::clone(&clock), policy.steady_state.clone())),
            budget: KillRateLimit::new(policy.kills_per_minute),
            rounds: Arc::new(Semaphore::new(ROUNDS_AT_ONCE)),
            background: Arc::new(Semaphore::new(ROUNDS_AT_ONCE)),
            policy: Arc::new(policy),
            leadership,
            watches: WatchClients::by(client.clone()),
            client,
            clock,
            reads_nodes,
        })
    }

    /// Waits for a turn among the calls outside of rounds. Returns `None` after a second, because
    /// nothing else of the namespace goes on meanwhile, and the calls before it may wait for a dead
    /// connection.
    pub async fn background_turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        tokio::time::timeout(LONGEST_TURN, self.background.acquire()).await.ok()?.ok()
    }

    /// Takes over the kills that earlier processes made, as all the records show them. They count
    /// against the limit of the whole cluster.
    pub fn carry_over(&self, records: &[OptIn]) {
        let (wall, now) = (self.clock.wall(), self.clock.monotonic());
        for status in records.iter().filter_map(|record| record.status.as_ref()) {
            self.budget.carry_over(status, wall, now);
        }
    }
}
