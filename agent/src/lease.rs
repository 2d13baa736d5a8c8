//! Leadership by a Lease: a fence around kills, not for speed. Whoever doesn't hold it serves no slot.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use policy::keys::SYSTEM_NAMESPACE;
use runtime::clock::Clock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::election::{Election, LEASE_DURATION, RENEW_DEADLINE, Seen, Step};

/// The Lease's name, in namespace `pure-chaos`.
pub const LEASE: &str = "agent";
/// How often a leader renews.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// How often a standby looks: a Lease that was let go is taken up within a second.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);
/// How long one call may take: two of them and a pause fit twice into the deadline.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether this process leads; asked just before each kill.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl From<watch::Receiver<Option<Instant>>> for Leadership {
    /// Until the instant that the sender names; not at all while it names none.
    fn from(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(until)
    }
}

impl Leadership {
    /// Whether it leads at `now`. It stops by itself when it can't be renewed in time, whatever hangs.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        self.0.borrow().is_some_and(|until| now < until)
    }
}

/// Takes part in the election.
pub struct Candidacy {
    leases: Api<Lease>,
    clock: Arc<dyn Clock>,
    election: Election,
    until: watch::Sender<Option<Instant>>,
    /// Who else led when that was last looked at, for people.
    other: watch::Sender<Option<String>>,
    /// Since when this process leads, for people.
    acquired: Option<Timestamp>,
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attempt {
    /// This process leads.
    Leads,
    /// Another does.
    Another(String),
    /// It isn't known: no answer, or somebody wrote at the same time.
    Unknown(String),
}

impl Candidacy {
    /// Takes part as `identity`, which no other process may have, nor one that comes after this.
    #[must_use]
    pub fn new(client: Client, clock: Arc<dyn Clock>, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, SYSTEM_NAMESPACE),
            clock,
            election: Election::new(identity),
            until: watch::channel(None).0,
            other: watch::channel(None).0,
            acquired: None,
        }
    }

    /// What asks whether this process leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership(self.until.subscribe())
    }

    /// Who leads while this process stands by, as far as it is known.
    #[must_use]
    pub fn other(&self) -> watch::Receiver<Option<String>> {
        self.other.subscribe()
    }

    fn holds(&self) -> bool {
        self.leadership().holds(self.clock.monotonic())
    }

    /// Waits until this process leads; false if `end` came first.
    pub async fn win(&mut self, end: &CancellationToken) -> bool {
        let mut told = None;
        loop {
            let attempt = tokio::select! {
                biased;
                () = end.cancelled() => return false,
                attempt = self.attempt() => attempt,
            };
            self.other.send_replace(match &attempt {
                Attempt::Another(holder) if !holder.is_empty() => Some(holder.clone()),
                _ => None,
            });
            match &attempt {
                Attempt::Leads => {
                    tracing::info!(lease = LEASE, identity = self.election.identity(), "leads");
                    return true;
                }
                _ if told.as_ref() == Some(&attempt) => {}
                Attempt::Another(holder) => {
                    tracing::info!(lease = LEASE, holder, "another leads, standing by")
                }
                Attempt::Unknown(why) => {
                    tracing::warn!(lease = LEASE, why, "the Lease could not be taken, it is tried again")
                }
            }
            told = Some(attempt);
            tokio::select! {
                () = end.cancelled() => return false,
                () = tokio::time::sleep(STANDBY_INTERVAL) => {}
            }
        }
    }

    /// Takes the Lease if it is free, or if its holder is silent for long enough.
    ///
    /// # Errors
    /// Who holds it and gave a sign of life, or why it could not be had.
    pub async fn win_unless_held(&mut self) -> Result<(), String> {
        let give_up = self.clock.monotonic() + 2 * LEASE_DURATION;
        loop {
            let why = match self.attempt().await {
                Attempt::Leads => return Ok(()),
                Attempt::Another(holder) if self.election.is_renewed() => {
                    return Err(format!("{holder} holds Lease {LEASE} in namespace {SYSTEM_NAMESPACE}"));
                }
                Attempt::Another(holder) => format!("{holder} held it until just now"),
                Attempt::Unknown(why) => why,
            };
            if self.clock.monotonic() >= give_up {
                return Err(format!(
                    "Lease {LEASE} in namespace {SYSTEM_NAMESPACE} could not be taken: {why}"
                ));
            }
            tokio::time::sleep(STANDBY_INTERVAL).await;
        }
    }

    /// Renews until `end`.
    ///
    /// # Errors
    /// When leadership was lost, or could not be renewed in time: then the process has to end.
    pub async fn keep(&mut self, end: &CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = tokio::time::sleep(RENEW_INTERVAL) => {}
            }
            // Another may have led meanwhile, and what this process remembers be old.
            let too_late = format!("Lease {LEASE} was not renewed within {} s", RENEW_DEADLINE.as_secs());
            anyhow::ensure!(self.holds(), too_late);
            match self.attempt().await {
                Attempt::Leads => {}
                Attempt::Another(holder) => {
                    self.until.send_replace(None);
                    anyhow::bail!("lost Lease {LEASE} to {holder}");
                }
                Attempt::Unknown(why) => {
                    anyhow::ensure!(self.holds(), "{too_late}: {why}");
                    tracing::warn!(lease = LEASE, why, "failed to renew the Lease, it is tried again");
                }
            }
        }
    }

    /// Lets the Lease go, so that another need not wait for its end. Only after everything that it guards has ended.
    pub async fn release(&mut self) {
        if self.until.send_replace(None).is_none() {
            return;
        }
        let Ok(Some(lease)) = within(self.leases.get_opt(LEASE)).await else { return };
        if holder(&lease) != self.election.identity() {
            return;
        }
        let released = self.written(&lease, "");
        match within(self.leases.replace(LEASE, &PostParams::default(), &released)).await {
            Ok(_) => tracing::info!(lease = LEASE, "let the Lease go"),
            Err(why) => {
                tracing::warn!(lease = LEASE, why, "failed to let the Lease go, another waits for its end")
            }
        }
    }

    async fn attempt(&mut self) -> Attempt {
        let lease = match within(self.leases.get_opt(LEASE)).await {
            Ok(lease) => lease,
            Err(why) => return Attempt::Unknown(why),
        };
        let seen = lease.as_ref().map(|lease| Seen {
            holder: holder(lease).to_owned(),
            version: lease.resource_version().unwrap_or_default(),
        });
        // From before the write: whoever sees it counts from later.
        let begun = self.clock.monotonic();
        let step = self.election.step(seen, begun);
        if step == Step::Wait {
            return match &lease {
                Some(lease) => Attempt::Another(holder(lease).to_owned()),
                None => Attempt::Unknown(
                    "somebody took it away; it is made again when whoever held it has stopped".to_owned(),
                ),
            };
        }
        if step != Step::Renew {
            self.acquired = Some(self.clock.wall());
        }
        let lease = self.written(&lease.unwrap_or_default(), self.election.identity());
        let parameters = PostParams::default();
        let written = match step {
            Step::Create => within(self.leases.create(&parameters, &lease)).await,
            _ => within(self.leases.replace(LEASE, &parameters, &lease)).await,
        };
        match written {
            Ok(_) => {
                self.until.send_replace(Some(begun + RENEW_DEADLINE));
                Attempt::Leads
            }
            Err(why) => Attempt::Unknown(why),
        }
    }

    /// The Lease with another holder, or renewed. It keeps its resourceVersion, so that nobody else's write is overwritten.
    fn written(&self, lease: &Lease, holder: &str) -> Lease {
        let mut lease = lease.clone();
        lease.metadata.name = Some(LEASE.to_owned());
        let before = lease.spec.take().unwrap_or_default();
        let changes = before.holder_identity.as_deref() != Some(holder);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: self.acquired.map(MicroTime),
            renew_time: Some(MicroTime(self.clock.wall())),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(changes))),
            ..before
        });
        lease
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| runtime::client::CallError::from(error).to_string()),
        Err(_) => Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    }
}
