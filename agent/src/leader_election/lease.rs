//! Leader election with a Lease. A process that does not hold the Lease serves no slot. The Lease
//! keeps two processes from killing at the same time; it is not there to share work.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use policy::well_known::{LEASE, SYSTEM_NAMESPACE};
use runtime::client::CallError;
use runtime::clock::Clock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::leader_election::rule::{Election, LEASE_DURATION, RENEW_DEADLINE, Seen, Step};

/// How often a leader renews the Lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// How often a standby reads the Lease. A standby takes over a released Lease within a second.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);
/// How long one call may take. If a renewal gets no answer, the leader still has time for a second
/// attempt before [`RENEW_DEADLINE`].
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells whether this process leads. The agent asks just before each kill.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl From<watch::Receiver<Option<Instant>>> for Leadership {
    /// Leadership that lasts until the instant that the sender gives. There is no leadership while
    /// the sender gives `None`.
    fn from(until: watch::Receiver<Option<Instant>>) -> Self {
        Self(until)
    }
}

impl Leadership {
    /// Whether this process leads at `now`. Leadership ends at its deadline even if the task that
    /// renews the Lease hangs.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        self.0.borrow().is_some_and(|until| now < until)
    }
}

/// One process's part in the leader election.
pub struct LeaderElector {
    leases: Api<Lease>,
    clock: Arc<dyn Clock>,
    election: Election,
    until: watch::Sender<Option<Instant>>,
    /// The other process that led at the last look, for the status page.
    other: watch::Sender<Option<String>>,
    /// Since when this process leads. The Lease shows it to people.
    acquired: Option<Timestamp>,
    /// The Lease as this process last wrote it. A renewal builds on it, so that it needs no read.
    held: Option<Lease>,
}

/// The result of an attempt to get or renew the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attempt {
    /// This process leads.
    Leads,
    /// Another process leads. The text names it.
    Another(String),
    /// The result is unknown, because there was no answer or somebody wrote the Lease at the same
    /// time.
    Unknown(String),
}

impl LeaderElector {
    /// Takes part in the election under the name `identity`. No other process may have the same
    /// identity, not even a later one.
    #[must_use]
    pub fn new(client: Client, clock: Arc<dyn Clock>, identity: String) -> Self {
        Self {
            leases: Api::namespaced(client, SYSTEM_NAMESPACE),
            clock,
            election: Election::new(identity),
            until: watch::channel(None).0,
            other: watch::channel(None).0,
            acquired: None,
            held: None,
        }
    }

    /// A value that tells whether this process leads.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        Leadership(self.until.subscribe())
    }

    /// The process that leads while this one stands by, if it is known.
    #[must_use]
    pub fn other(&self) -> watch::Receiver<Option<String>> {
        self.other.subscribe()
    }

    fn holds(&self) -> bool {
        self.leadership().holds(self.clock.monotonic())
    }

    /// Waits until this process leads. Returns false if `end` came first.
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
                    tracing::info!(lease = LEASE, identity = self.election.identity(), "became the leader");
                    return true;
                }
                _ if told.as_ref() == Some(&attempt) => {}
                Attempt::Another(holder) => {
                    tracing::info!(lease = LEASE, holder, "another process leads, standing by")
                }
                Attempt::Unknown(why) => {
                    tracing::warn!(lease = LEASE, why, "failed to take the Lease, retrying")
                }
            }
            told = Some(attempt);
            tokio::select! {
                () = end.cancelled() => return false,
                () = tokio::time::sleep(STANDBY_INTERVAL) => {}
            }
        }
    }

    /// Takes the Lease if it is free, or after its holder has been silent for long enough.
    ///
    /// # Errors
    /// A sentence that names the active holder, or says why the Lease could not be taken.
    pub async fn win_unless_held(&mut self) -> Result<(), String> {
        let give_up = self.clock.monotonic() + 2 * LEASE_DURATION;
        loop {
            let why = match self.attempt().await {
                Attempt::Leads => return Ok(()),
                Attempt::Another(holder) if self.election.is_renewed() => {
                    return Err(format!("{holder} holds Lease {LEASE} in namespace {SYSTEM_NAMESPACE}"));
                }
                Attempt::Another(holder) => format!("{holder} held the Lease a moment ago"),
                Attempt::Unknown(why) => why,
            };
            if self.clock.monotonic() >= give_up {
                return Err(format!("failed to take Lease {LEASE} in namespace {SYSTEM_NAMESPACE}: {why}"));
            }
            tokio::time::sleep(STANDBY_INTERVAL).await;
        }
    }

    /// Renews the Lease until `end`.
    ///
    /// # Errors
    /// When this process lost the Lease or could not renew it in time. Then the process has to end.
    pub async fn keep(&mut self, end: &CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = end.cancelled() => return Ok(()),
                () = tokio::time::sleep(RENEW_INTERVAL) => {}
            }
            // After the deadline, another process may have led, and the data in this process may be
            // out of date.
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
                    tracing::warn!(lease = LEASE, why, "failed to renew the Lease, retrying");
                }
            }
        }
    }

    /// Releases the Lease, so that another process does not have to wait until it expires. Call
    /// this only after all tasks that kill have ended.
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
            Ok(_) => tracing::info!(lease = LEASE, "released the Lease"),
            Err(error) => {
                let why = error.to_string();
                tracing::warn!(
                    lease = LEASE,
                    why,
                    "failed to release the Lease, the next leader waits until it expires"
                )
            }
        }
    }

    async fn attempt(&mut self) -> Attempt {
        if let Some(held) = self.held.take() {
            match self.write(Step::Renew, held).await {
                Ok(()) => return Attempt::Leads,
                // Somebody else wrote or deleted the Lease. The read below tells whether this
                // process still leads.
                Err(error) if matches!(error.code(), Some(404 | 409)) => {}
                Err(error) => return Attempt::Unknown(error.to_string()),
            }
        }
        let lease = match within(self.leases.get_opt(LEASE)).await {
            Ok(lease) => lease,
            Err(error) => return Attempt::Unknown(error.to_string()),
        };
        let seen = lease.as_ref().map(|lease| Seen {
            holder: holder(lease).to_owned(),
            version: lease.resource_version().unwrap_or_default(),
        });
        let step = self.election.step(seen, self.clock.monotonic());
        if step == Step::Wait {
            return match &lease {
                Some(lease) => Attempt::Another(holder(lease).to_owned()),
                None => Attempt::Unknown(
                    "the Lease was deleted; this process creates it when the last holder has stopped"
                        .to_owned(),
                ),
            };
        }
        if step != Step::Renew {
            self.acquired = Some(self.clock.wall());
        }
        match self.write(step, lease.unwrap_or_else(new_lease)).await {
            Ok(()) => Attempt::Leads,
            Err(error) => Attempt::Unknown(error.to_string()),
        }
    }

    /// Writes the Lease with this process as its holder, for exactly this version. If the write
    /// succeeds, this process leads.
    async fn write(&mut self, step: Step, lease: Lease) -> Result<(), CallError> {
        // Leadership counts from before the write. Another process sees the write later, so it also
        // counts from a later moment.
        let begun = self.clock.monotonic();
        let lease = self.written(&lease, self.election.identity());
        let parameters = PostParams::default();
        let written = match step {
            Step::Create => within(self.leases.create(&parameters, &lease)).await,
            _ => within(self.leases.replace(LEASE, &parameters, &lease)).await,
        };
        self.held = Some(written?);
        self.until.send_replace(Some(begun + RENEW_DEADLINE));
        Ok(())
    }

    /// The Lease with this holder and a new renewal time. It keeps its resourceVersion, so that the
    /// write does not overwrite anybody else's.
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

/// A Lease with the labels that it has in the manifests, so that it is found and removed with the
/// rest.
fn new_lease() -> Lease {
    let labels = [("component", "agent"), ("name", "pure-chaos"), ("part-of", "pure-chaos")];
    let labels = labels.map(|(key, value)| (format!("app.kubernetes.io/{key}"), value.to_owned()));
    Lease { metadata: ObjectMeta { labels: Some(labels.into()), ..ObjectMeta::default() }, spec: None }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(CallError::from),
        Err(_) => Err(CallError::TimedOut(CALL_TIMEOUT)),
    }
}
