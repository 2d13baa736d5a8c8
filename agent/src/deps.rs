//! What every task of the agent is given.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kube::Client;
use policy::platform::PlatformPolicy;
use prometheus::Registry;
use runtime::clock::Clock;

use crate::board::Board;
use crate::budget::Budget;
use crate::events::Events;
use crate::lease::Leadership;
use crate::metrics::Metrics;

/// What every round needs: the world, and ways to tell it.
#[derive(Clone)]
pub struct Deps {
    /// The Kubernetes client.
    pub client: Client,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The platform's policy.
    pub policy: Arc<PlatformPolicy>,
    /// The metric families.
    pub metrics: Metrics,
    /// What the agent's page is made of.
    pub board: Board,
    /// The Events.
    pub events: Events,
    /// The whole cluster's kills.
    pub budget: Arc<Budget>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Whether the cluster's nodes may be read.
    pub reads_nodes: Arc<AtomicBool>,
}

impl Deps {
    /// Makes what follows from the rest. `instance` names this process in Events.
    ///
    /// # Errors
    /// When the registry has these metrics already.
    pub fn new(
        client: Client,
        clock: Arc<dyn Clock>,
        policy: PlatformPolicy,
        registry: &Registry,
        instance: Option<String>,
        leadership: Leadership,
        reads_nodes: Arc<AtomicBool>,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            events: Events::new(client.clone(), instance),
            metrics: Metrics::new(registry, &policy.hash, &policy.ceilings.modes)?,
            board: Board::default(),
            budget: Arc::new(Budget::new(policy.kills_per_minute)),
            policy: Arc::new(policy),
            leadership,
            client,
            clock,
            reads_nodes,
        })
    }
}
