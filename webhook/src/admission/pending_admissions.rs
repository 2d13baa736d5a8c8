//! Remembers admissions, which no stored object shows, until the watch shows that the opt-in was
//! stored.
//!
//! A note is *fresh* when the request was admitted, and nobody knows yet whether the change was
//! stored. A note is *held* once the watch or a live read has shown exactly these annotations, set
//! by this very request. A held note lasts as long as the annotations do, so that the webhook can
//! repair a record that somebody edits or deletes.
//!
//! The API server asks for a review before it stores a change, and each change of `chaos` or of a
//! setting is reviewed. So a fresh note becomes held only by a version in which these keys differ
//! from the version seen before. Two kinds of reviews admit nothing: a review of annotations that are
//! already stored, and a review of annotations that were stored while the API server did not have
//! to ask for a review ([`crate::admission::configuration_watch`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use policy::record::Admission;
use tokio::time::Instant;

use crate::admission::configuration_watch::ConfigurationWatch;
use crate::admission::decide::Note;
use crate::namespaces::Stored;

/// How long a fresh note is kept. The API server stores an admitted request within its own limit of
/// 34 s, or never.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// The most fresh notes of one namespace. In normal use, fewer requests are under way at the same
/// time.
const MOST_OF_ONE: usize = 8;
/// The most fresh notes in total, of about 200 bytes each, so that requests that are never stored
/// can't fill the memory.
const MOST: usize = 2_000;
/// The tolerance for creation times, which are whole seconds of another machine's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// The remembered admissions of one replica.
pub struct PendingAdmissions {
    inner: Mutex<Inner>,
    guard: Arc<ConfigurationWatch>,
}

#[derive(Debug, Default)]
struct Inner {
    fresh: BTreeMap<String, Vec<Fresh>>,
    /// No fresh note ends before this instant.
    ends: Option<Instant>,
    held: BTreeMap<String, Held>,
    /// The newest version seen of each namespace that has, or had, annotations of ours.
    standing: BTreeMap<String, Standing>,
    /// Whether every namespace has been seen once.
    is_complete: bool,
}

#[derive(Debug)]
struct Standing {
    uid: String,
    digest: String,
    /// The digest of [`Stored::reviewed`].
    reviewed: String,
    version: u64,
}

#[derive(Debug)]
struct Fresh {
    uid: Option<String>,
    admission: Admission,
    wall: Timestamp,
    until: Instant,
}

#[derive(Debug, Clone)]
struct Held {
    uid: String,
    admission: Admission,
    /// The resource version of the Namespace up to which the annotations are known to have been
    /// these without a break.
    version: u64,
}

impl PendingAdmissions {
    /// Creates an empty memory. Annotations that are stored while `guard` does not hold are never
    /// admitted.
    #[must_use]
    pub fn new(guard: Arc<ConfigurationWatch>) -> Self {
        Self { inner: Mutex::default(), guard }
    }

    /// Returns whether an admission could count now.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guard.holds()
    }

    /// Remembers an admission, and returns whether it did. If there are too many admissions, the
    /// result is false, and the request must be denied.
    ///
    /// For the same namespace, UID, digest and origin, the first admission stays.
    #[must_use]
    pub fn remember(&self, note: Note, wall: Timestamp, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        // Each namespace has a few notes at most, so counting is needed only rarely.
        let may_be_full = inner.fresh.len() * MOST_OF_ONE >= MOST;
        if may_be_full && inner.fresh.values().map(Vec::len).sum::<usize>() >= MOST {
            tracing::warn!(
                namespace = note.namespace,
                "refused an opt-in, too many admissions are under way"
            );
            return false;
        }
        let Note { namespace, uid, user, digest, set_by } = note;
        let of_one = inner.fresh.entry(namespace).or_default();
        let same = of_one.iter_mut().find(|known| {
            known.admission.digest == digest && known.uid == uid && known.admission.set_by == set_by
        });
        if let Some(first) = same {
            first.until = now + LIFETIME;
            return true;
        }
        if of_one.len() >= MOST_OF_ONE {
            of_one.remove(0);
        }
        of_one.push(Fresh {
            uid,
            admission: Admission { user, time: wall.to_string(), digest, set_by },
            wall,
            until: now + LIFETIME,
        });
        inner.ends = inner.ends.or(Some(now + LIFETIME));
        true
    }

    /// Returns the admission of exactly the annotations that a live read has just shown, if this
    /// replica knows the admission. A fresh note of these annotations becomes held.
    pub fn admission_of(&self, live: &Stored, now: Instant) -> Option<Admission> {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        let name = &live.view.name;
        inner.read(live, self.guard.holds());
        let digest = live.digest();
        // The version must be the one up to which the annotations are known to be unchanged: the
        // namespace may have opted out between that version and a newer one.
        inner
            .held
            .get(name)
            .filter(|held| {
                held.uid == live.view.uid && held.admission.digest == digest && held.version == live.version
            })
            .map(|held| held.admission.clone())
    }

    /// Returns whether this replica knows the admission of the annotations that the watch has just
    /// shown.
    #[must_use]
    pub fn holds(&self, seen: &Stored) -> bool {
        let inner = self.inner.lock();
        let held = inner.held.get(&seen.view.name);
        held.is_some_and(|held| held.uid == seen.view.uid && held.admission.digest == seen.digest())
    }

    /// Holds an admission that a record shows, for the annotations that a live read shows.
    pub fn hold(&self, live: &Stored, admission: &Admission) {
        self.inner.lock().hold(live, admission.clone());
    }

    /// Takes over a change that the watch shows. Call this function in the order of the watch. The
    /// held admission goes on if the annotations are the same, and ends if they differ. A fresh
    /// note of exactly this version becomes held.
    pub fn changed(&self, seen: &Stored) {
        let mut inner = self.inner.lock();
        inner.seen(seen);
        inner.watched(seen, self.guard.holds());
    }

    /// Takes over a namespace that a new list shows. Nobody knows what happened since the last
    /// event, so a held admission of an older version ends.
    pub fn listed(&self, seen: &Stored) {
        let mut inner = self.inner.lock();
        if inner.held.get(&seen.view.name).is_some_and(|held| held.version < seen.version) {
            inner.held.remove(&seen.view.name);
        }
        inner.watched(seen, self.guard.holds());
    }

    /// Takes over the names of a complete list. All other namespaces are gone.
    pub fn only(&self, names: &BTreeSet<String>) {
        let mut inner = self.inner.lock();
        inner.held.retain(|name, _| names.contains(name));
        inner.standing.retain(|name, _| names.contains(name));
        inner.is_complete = true;
    }

    /// Returns whether every namespace has been seen once. Before that, nobody can tell whether a
    /// review is of annotations that are already stored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.inner.lock().is_complete
    }

    /// Forgets a namespace that is gone.
    pub fn gone(&self, name: &str) {
        let mut inner = self.inner.lock();
        inner.held.remove(name);
        inner.standing.remove(name);
    }

    /// Returns whether there is a fresh note, so that an admitted change may still be stored.
    #[must_use]
    pub fn is_waiting(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        inner.forget_old(now);
        !inner.fresh.is_empty()
    }
}

impl Fresh {
    fn is_of(&self, live: &Stored, digest: &str) -> bool {
        self.admission.digest == digest
            && self.admission.set_by == live.set_by
            && match &self.uid {
                Some(uid) => *uid == live.view.uid,
                // The API server asked before the namespace had a UID, so the namespace can't be
                // older than the note.
                None => live
                    .created
                    .and_then(|created| created.checked_add(CLOCK_TOLERANCE).ok())
                    .is_some_and(|created| created >= self.wall),
            }
    }
}

impl Standing {
    fn is_no_older_than(&self, stored: &Stored) -> bool {
        self.uid == stored.view.uid && self.version >= stored.version
    }
}

impl Inner {
    fn forget_old(&mut self, now: Instant) {
        if self.ends.is_some_and(|ends| now < ends) {
            return;
        }
        self.fresh.retain(|_, of_one| {
            of_one.retain(|note| note.until > now);
            !of_one.is_empty()
        });
        self.ends = self.fresh.values().flatten().map(|note| note.until).min();
    }

    fn hold(&mut self, live: &Stored, admission: Admission) {
        let held = Held { uid: live.view.uid.clone(), admission, version: live.version };
        match self.held.get(&live.view.name) {
            // A slow read must not undo what the watch has shown since.
            Some(known) if known.version > held.version => {}
            _ => {
                self.held.insert(live.view.name.clone(), held);
            }
        }
    }

    /// Takes over a version that the watch or its list shows, in order.
    fn watched(&mut self, seen: &Stored, is_guarded: bool) {
        if self.standing.get(&seen.view.name).is_some_and(|known| known.is_no_older_than(seen)) {
            return;
        }
        let is_reviewed = self.is_reviewed_change(seen);
        self.stands(seen);
        if is_reviewed && is_guarded {
            self.settle(seen);
        }
    }

    /// Takes over a version that a live read shows, if its digest differs from the watch's newest
    /// version. If the digest is the same, there may have been another version in between that the
    /// watch still has to show.
    fn read(&mut self, live: &Stored, is_guarded: bool) {
        let known = self.standing.get(&live.view.name);
        if known.is_some_and(|known| known.is_no_older_than(live)) || !self.is_changed(live) {
            return;
        }
        let is_reviewed = self.is_reviewed_change(live);
        self.stands(live);
        if is_reviewed && is_guarded {
            self.settle(live);
        }
    }

    fn is_changed(&self, stored: &Stored) -> bool {
        match self.standing.get(&stored.view.name) {
            Some(known) => known.uid != stored.view.uid || known.digest != stored.digest(),
            None => !stored.view.annotations.is_empty(),
        }
    }

    /// Returns whether something changed that is certain to have been reviewed.
    ///
    /// A caller who knows the secret path can post a review of any state. Such a state must not
    /// become consent through a change about which the API server asks nobody.
    fn is_reviewed_change(&self, stored: &Stored) -> bool {
        match self.standing.get(&stored.view.name) {
            Some(known) => known.uid != stored.view.uid || known.reviewed != stored.reviewed(),
            None => !stored.view.annotations.is_empty(),
        }
    }

    fn stands(&mut self, stored: &Stored) {
        let Stored { view, version, .. } = stored;
        if view.annotations.is_empty() && !self.standing.contains_key(&view.name) {
            return;
        }
        let (digest, reviewed) = (stored.digest(), stored.reviewed());
        let standing = Standing { uid: view.uid.clone(), digest, reviewed, version: *version };
        self.standing.insert(view.name.clone(), standing);
    }

    /// Makes the fresh note of exactly this version the held one.
    fn settle(&mut self, stored: &Stored) {
        let name = &stored.view.name;
        let Some(of_one) = self.fresh.get_mut(name) else {
            return;
        };
        let digest = stored.digest();
        if let Some(found) = of_one.iter().rposition(|note| note.is_of(stored, &digest)) {
            let Fresh { admission, .. } = of_one.remove(found);
            if of_one.is_empty() {
                self.fresh.remove(name);
            }
            self.hold(stored, admission);
        }
    }

    fn seen(&mut self, seen: &Stored) {
        let Some(held) = self.held.get_mut(&seen.view.name) else {
            return;
        };
        if seen.version <= held.version {
            return;
        }
        if held.uid == seen.view.uid && held.admission.digest == seen.digest() {
            held.version = seen.version;
            held.admission.set_by = seen.set_by.clone();
        } else {
            self.held.remove(&seen.view.name);
        }
    }
}

#[cfg(test)]
mod tests;
