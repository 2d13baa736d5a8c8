//! Keeps the records and RoleBindings as [`crate::desired`] says: one look at a namespace reads everything live, asks, and writes what
//! differs. Nothing is remembered between looks but what [`Notes`] and [`Pace`] hold.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use runtime::client::call;
use runtime::clock::Clock;

use crate::binding::{Step, step};
use crate::desired::{ADOPTED, Desired, desired, how_to_make_room, kept};
use crate::namespaces::{self, Stored};
use crate::notes::Notes;
use crate::objects::{Found, LookError, Objects};
use crate::pace::Pace;
use crate::queue::Queue;

/// Looks in a row when somebody else wrote in between; after that the queue's back-off.
const TRIES: u32 = 4;
/// An opt-in that ends later is looked at again after this time, so that a step of the wall clock delays its end no longer.
const LONGEST_TIMER: Duration = Duration::from_secs(600);
/// Wait after the first collision; each further one doubles it.
const COLLISION: Duration = Duration::from_millis(20);

/// What a look needs.
pub struct Records {
    /// The API server's objects.
    pub objects: Objects,
    /// The platform's policy.
    pub policy: Arc<PlatformPolicy>,
    /// Remembered admissions.
    pub notes: Arc<Notes>,
    /// For its jitter.
    pub queue: Arc<Queue>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// When not to write yet.
    pub pace: Pace,
}

impl Records {
    /// Looks at a namespace and puts right what differs. `Some` asks for another look after that time.
    ///
    /// # Errors
    /// When a call fails; the queue tries again.
    pub async fn look(&self, name: &str) -> Result<Option<Duration>, LookError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.look_once(name).await {
                Err(LookError::Conflict(_)) if attempt < TRIES => {
                    let wait = COLLISION * 2_u32.pow(attempt - 1);
                    tokio::time::sleep(wait + self.queue.jitter(wait, name, attempt)).await;
                }
                // Final, not a failure: the namespace controller takes everything away.
                Err(LookError::Terminating) => return Ok(None),
                other => return other,
            }
        }
    }

    async fn look_once(&self, name: &str) -> Result<Option<Duration>, LookError> {
        // The record before the Namespace: so what is written from an older Namespace collides with whoever saw a newer one.
        let found = self.objects.find(name).await?;
        let existing = self.objects.find_binding(name).await?;
        let live = call(namespaces::read(&self.objects.client, name))
            .await
            .map_err(LookError::of("read the namespace"))?;
        let Some(live) = live else {
            self.notes.gone(name);
            self.pace.forget(name);
            return Ok(None);
        };
        let now = self.clock.monotonic();
        let known = found.as_ref().and_then(|found| found.spec.as_ref());
        if let Some(admission) = kept(&live, known) {
            self.notes.hold(&live, &admission);
        }
        let remembered = self.notes.admission_of(&live, now);
        let wall = self.clock.wall();
        match desired(&live, known, remembered, &self.policy, wall) {
            Desired::LeftAlone => {
                self.pace.forget(name);
                Ok(None)
            }
            Desired::Nothing(why) => {
                self.pace.forget(name);
                self.objects.bind(name, existing.as_ref(), None).await?;
                self.objects.remove(&live.view, found.as_ref(), why).await?;
                Ok(None)
            }
            Desired::Record(spec) => {
                let end = until_expiry(&spec, wall);
                let again = self.keep(&live, found.as_ref(), existing.as_ref(), *spec).await?;
                Ok(again.into_iter().chain(end).min())
            }
        }
    }

    /// Makes the record and its binding what they should be, or says how long to wait with it.
    async fn keep(
        &self,
        live: &Stored,
        found: Option<&Found>,
        existing: Option<&RoleBinding>,
        mut spec: OptInSpec,
    ) -> Result<Option<Duration>, LookError> {
        let name = live.view.name.as_str();
        let known = found.and_then(|found| found.spec.as_ref());
        let is_admitted = spec.verdict == Verdict::Admitted;
        let accounts = &self.objects.accounts;
        if is_admitted && step(existing, None, accounts) == Step::Foreign {
            spec.reason = Some(how_to_make_room(name));
        }
        let record_uid = found.and_then(|found| found.metadata.uid.as_deref());
        let is_bound = match step(existing, record_uid.filter(|_| is_admitted), accounts) {
            Step::Nothing | Step::Foreign => true,
            Step::Create | Step::PutRight | Step::Replace(_) | Step::Delete(_) => false,
        };
        if known == Some(&spec) && is_bound {
            return Ok(None);
        }
        let now = self.clock.monotonic();
        let digest = live.digest();
        // The other replica may know better who it was.
        let is_unseen = spec.admission.as_ref().is_none_or(|admission| admission.user == ADOPTED);
        if is_unseen
            && spec.verdict != Verdict::NotUnderstood
            && known.map(|known| (known.verdict, &known.namespace_uid))
                != Some((spec.verdict, &spec.namespace_uid))
            && let Some(wait) = self.pace.before_not_admitted(name, &digest, now)
        {
            return Ok(Some(wait));
        }
        if let Some(wait) = self.pace.before_again(name, &spec, now) {
            return Ok(Some(wait));
        }
        // Rights go before the record says so, and come after it.
        if !is_admitted {
            self.objects.bind(name, existing, None).await?;
        }
        let uid = match found {
            Some(found) if known == Some(&spec) => found.metadata.uid.clone(),
            _ => self.objects.write(&live.view, found, &spec).await?,
        };
        if is_admitted {
            self.objects.bind(name, existing, uid.as_deref()).await?;
        }
        self.pace.wrote(name, spec, self.clock.monotonic());
        Ok(None)
    }
}

/// How long until the opt-in ends, or until that should be asked again; `None` if it has no end.
fn until_expiry(spec: &OptInSpec, now: Timestamp) -> Option<Duration> {
    let expires: Timestamp = spec.settings.as_ref()?.expires.as_ref()?.parse().ok()?;
    Some(Duration::try_from(expires.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_TIMER))
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
