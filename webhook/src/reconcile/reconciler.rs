//! Makes the records and RoleBindings what [`crate::reconcile::desired`] says. Each pass over a
//! namespace reads everything live, decides, and writes what differs. Between passes, only
//! [`PendingAdmissions`] and [`WriteThrottle`] remember something.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::RoleBinding;
use policy::platform::PlatformPolicy;
use policy::record::{OptInSpec, Verdict};
use runtime::client::call;
use runtime::clock::Clock;
use runtime::text::cut;

use crate::admission::pending_admissions::PendingAdmissions;
use crate::events::News;
use crate::namespaces::{self, Stored};
use crate::reconcile::binding::{Rights, Step, step};
use crate::reconcile::desired::{ADOPTED, Desired, LONGEST_REASON, desired, how_to_make_room, kept};
use crate::reconcile::queue::Queue;
use crate::reconcile::store::{Found, LookError, Objects};
use crate::reconcile::write_throttle::WriteThrottle;

/// The most attempts in a row when somebody else writes at the same time. After these, the queue's
/// back-off applies.
const TRIES: u32 = 4;
/// The longest wait for the end of an opt-in. The webhook checks the end at least this often, so a
/// step of the wall clock delays the end by no more than this time.
const LONGEST_TIMER: Duration = Duration::from_secs(600);
/// The wait after the first conflict. Each further conflict doubles it.
const COLLISION: Duration = Duration::from_millis(20);

/// What the reconciler needs.
pub struct Records {
    /// Reads and writes the objects of the API server.
    pub objects: Objects,
    /// The platform's policy.
    pub policy: Arc<PlatformPolicy>,
    /// The remembered admissions.
    pub pending_admissions: Arc<PendingAdmissions>,
    /// The queue, which here provides the jitter.
    pub queue: Arc<Queue>,
    /// The wall clock and the monotonic clock.
    pub clock: Arc<dyn Clock>,
    /// Delays writes that should not happen yet.
    pub write_throttle: WriteThrottle,
}

impl Records {
    /// Reconciles a namespace. With `Some`, the namespace needs another pass after that time.
    ///
    /// # Errors
    /// Returns an error if a call fails. The queue then tries again.
    pub async fn look(&self, name: &str) -> Result<Option<Duration>, LookError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.look_once(name).await {
                Err(LookError::Conflict(_)) if attempt < TRIES => {
                    let wait = COLLISION * 2_u32.pow(attempt - 1);
                    tokio::time::sleep(wait + self.queue.jitter(wait, name, attempt)).await;
                }
                // The refusal is final, and not a failure: the namespace controller deletes
                // everything in the namespace.
                Err(LookError::Terminating) => return Ok(None),
                other => return other,
            }
        }
    }

    async fn look_once(&self, name: &str) -> Result<Option<Duration>, LookError> {
        // Read the record before the Namespace. Then a write that is based on an old Namespace
        // conflicts with a replica that has seen a newer one.
        let (found, existing) = tokio::try_join!(self.objects.find(name), self.objects.find_binding(name))?;
        let live = call(namespaces::read(&self.objects.client, name))
            .await
            .map_err(LookError::of("read the namespace"))?;
        let Some(live) = live else {
            self.pending_admissions.gone(name);
            self.write_throttle.forget(name);
            return Ok(None);
        };
        let now = self.clock.monotonic();
        let known = found.as_ref().and_then(|found| found.spec.as_ref());
        if let Some(admission) = kept(&live, known) {
            self.pending_admissions.hold(&live, &admission);
        }
        let remembered = self.pending_admissions.admission_of(&live, now);
        let wall = self.clock.wall();
        match desired(&live, known, remembered, &self.policy, wall) {
            Desired::LeftAlone => {
                self.write_throttle.forget(name);
                Ok(None)
            }
            Desired::Nothing(why) => {
                self.write_throttle.forget(name);
                self.objects.bind(name, existing, Rights::None).await?;
                self.objects.remove(&live.view, found.as_ref(), why).await?;
                Ok(None)
            }
            Desired::Record(spec) => {
                let end = until_expiry(&spec, wall);
                let kept = self.keep(&live, found.as_ref(), existing, *spec).await;
                if let Some(why) = kept.as_ref().err().and_then(LookError::refusal) {
                    self.refused(&live, why).await?;
                }
                Ok(kept?.into_iter().chain(end).min())
            }
        }
    }

    /// Makes the record and its RoleBinding what they should be, or returns how long to wait before
    /// the write.
    async fn keep(
        &self,
        live: &Stored,
        found: Option<&Found>,
        existing: Option<RoleBinding>,
        mut spec: OptInSpec,
    ) -> Result<Option<Duration>, LookError> {
        let name = live.view.name.as_str();
        let known = found.and_then(|found| found.spec.as_ref());
        let is_admitted = spec.verdict == Verdict::Admitted;
        let accounts = &self.objects.accounts;
        let rights = match found.and_then(|found| found.metadata.uid.as_deref()) {
            _ if !is_admitted => Rights::None,
            Some(record_uid) => Rights::OwnedBy(record_uid),
            None => Rights::Given,
        };
        let is_new = existing.is_none() || found.is_none();
        let step = step(existing.as_ref(), rights, accounts);
        let is_foreign = is_admitted && step == Step::Foreign;
        let is_bound = match step {
            Step::Nothing | Step::Foreign => true,
            Step::Create | Step::PutRight | Step::Replace(_) | Step::Delete(_) => false,
        };
        if is_foreign {
            spec.reason = Some(how_to_make_room(name));
        } else if is_admitted && !is_bound {
            // The reason of a refusal stays in the record until the RoleBinding exists.
            spec.reason = known
                .filter(|known| known.verdict == Verdict::Admitted)
                .and_then(|known| known.reason.clone());
        }
        if known == Some(&spec) && is_bound {
            return Ok(None);
        }
        let now = self.clock.monotonic();
        let digest = live.digest();
        // The other replica may know the user who opted in.
        let is_unseen = spec.admission.as_ref().is_none_or(|admission| admission.user == ADOPTED);
        if is_unseen
            && spec.verdict != Verdict::NotUnderstood
            && known.map(|known| (known.verdict, &known.namespace_uid))
                != Some((spec.verdict, &spec.namespace_uid))
            && let Some(wait) = self.write_throttle.before_not_admitted(name, &digest, now)
        {
            return Ok(Some(wait));
        }
        if let Some(wait) = self.write_throttle.before_again(name, &spec, now) {
            return Ok(Some(wait));
        }
        // Change the RoleBinding before the record, both to give rights and to take them: the agent
        // looks at the Pods as soon as it sees the record.
        let bound = self.objects.bind(name, existing, rights).await;
        if let Err(error) = &bound
            && let Some(why) = error.refusal()
        {
            // The owner reads in the record what keeps the agent out.
            spec.reason = is_admitted.then(|| cut(why, LONGEST_REASON)).or(spec.reason);
            if known != Some(&spec) {
                self.objects.write(&live.view, found, &spec).await?;
            }
            self.write_throttle.wrote(name, spec, now);
            return bound.map(|_| None);
        }
        let binding = bound?;
        let uid = match found {
            Some(found) if known == Some(&spec) => found.metadata.uid.clone(),
            _ => self.objects.write(&live.view, found, &spec).await?,
        };
        if is_admitted && !is_foreign {
            self.objects.bind(name, binding, uid.as_deref().map_or(Rights::Given, Rights::OwnedBy)).await?;
            // Owners who have read that no Pod is killed must also read when that ends.
            let is_real_now = known.is_some_and(is_dry) && !is_dry(&spec);
            if is_new || is_real_now {
                // Publish this only now, because without its rights the agent kills no Pod.
                let user = spec.admission.as_ref().map(|admission| admission.user.clone());
                let news = News::OptedIn { user: user.unwrap_or_default(), dry_run: is_dry(&spec) };
                self.objects.publish(&live.view, &news);
            }
            if spec.reason.is_some() {
                self.explain(live, None).await?;
            }
        }
        self.write_throttle.wrote(name, spec, self.clock.monotonic());
        Ok(None)
    }

    /// Tells the owner that a write was refused, in an Event and in the record, if the record
    /// exists.
    async fn refused(&self, live: &Stored, why: String) -> Result<(), LookError> {
        self.objects.publish(&live.view, &News::Refused(why.clone()));
        self.explain(live, Some(why)).await
    }

    /// Writes into the record of an admitted opt-in why the opt-in has no effect. Without a reason,
    /// removes the earlier reason.
    async fn explain(&self, live: &Stored, reason: Option<String>) -> Result<(), LookError> {
        let Some(found) = self.objects.find(&live.view.name).await? else { return Ok(()) };
        let Some(known) = &found.spec else { return Ok(()) };
        let reason = reason.map(|why| cut(why, LONGEST_REASON));
        if known.verdict != Verdict::Admitted || known.reason == reason {
            return Ok(());
        }
        let spec = OptInSpec { reason, ..known.clone() };
        self.objects.write(&live.view, Some(&found), &spec).await.map(drop)
    }
}

/// Returns whether an opt-in consents to dry runs only.
fn is_dry(spec: &OptInSpec) -> bool {
    spec.settings.as_ref().is_some_and(|settings| settings.dry_run)
}

/// Returns how long until the opt-in ends or has to be checked again; `None` if the opt-in has no
/// end.
fn until_expiry(spec: &OptInSpec, now: Timestamp) -> Option<Duration> {
    let expires: Timestamp = spec.settings.as_ref()?.expires.as_ref()?.parse().ok()?;
    Some(Duration::try_from(expires.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_TIMER))
}

#[cfg(test)]
mod tests;
