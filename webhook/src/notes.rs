//! Remembered admissions: what only admission knows, until the watch shows that it was stored.
//!
//! A note is *fresh* when the request was admitted; that it is stored is not known yet. It is *held* once the watch or a live read has
//! shown exactly those annotations, set by that very request, and lasts as long as they do: then the record can be put right if somebody edits or deletes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use policy::record::Admission;
use tokio::time::Instant;

use crate::decide::Note;
use crate::namespaces::Stored;

/// How long a fresh note is kept: an admitted request is stored within the API server's own limit of 34 s, or never.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// Fresh notes of one namespace: more can't be under way at once in earnest.
const MOST_OF_ONE: usize = 8;
/// Fresh notes in all, 200 bytes each, so that nobody can fill the memory with requests that are never stored.
const MOST: usize = 2_000;
/// Creation times are whole seconds of another machine's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// The remembered admissions of one replica.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    fresh: BTreeMap<String, Vec<Fresh>>,
    /// Before this no fresh note ends.
    ends: Option<Instant>,
    held: BTreeMap<String, Held>,
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
    /// Up to this resource version of the Namespace its annotations are known to have been these without a break.
    version: u64,
}

impl Notes {
    /// Remembers an admission. When there are too many, the one that was asked last is the one forgotten: it becomes a record that says so.
    pub fn remember(&self, note: Note, wall: Timestamp, now: Instant) {
        let mut inner = self.lock();
        inner.forget_old(now);
        // Each has a few at most, so most of the time nothing needs to be counted.
        let may_be_full = inner.fresh.len() * MOST_OF_ONE >= MOST;
        if may_be_full && inner.fresh.values().map(Vec::len).sum::<usize>() >= MOST {
            tracing::warn!(
                namespace = note.namespace,
                "too many admissions under way, one is not remembered"
            );
            return;
        }
        let Note { namespace, uid, user, digest, set_by } = note;
        let of_one = inner.fresh.entry(namespace).or_default();
        of_one.retain(|known| {
            known.admission.digest != digest || known.uid != uid || known.admission.set_by != set_by
        });
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
    }

    /// The admission of exactly the annotations that a live read has just shown, if this replica knows it. A fresh note becomes held.
    pub fn admission_of(&self, live: &Stored, now: Instant) -> Option<Admission> {
        let mut inner = self.lock();
        inner.forget_old(now);
        let name = &live.view.name;
        inner.settle(live);
        let digest = live.digest();
        // Only at the very version up to which nothing else was seen: in between the namespace may have opted out.
        inner
            .held
            .get(name)
            .filter(|held| {
                held.uid == live.view.uid && held.admission.digest == digest && held.version == live.version
            })
            .map(|held| held.admission.clone())
    }

    /// Holds an admission that a record showed, of the annotations that a live read shows.
    pub fn hold(&self, live: &Stored, admission: &Admission) {
        self.lock().hold(live, admission.clone());
    }

    /// A change that the watch shows, in order: the held admission goes on with the same annotations, and ends with others. A fresh note
    /// of exactly this version becomes held.
    pub fn changed(&self, seen: &Stored) {
        let mut inner = self.lock();
        inner.seen(seen);
        inner.settle(seen);
    }

    /// A namespace that a new list shows: what happened since the last event is not known.
    pub fn listed(&self, seen: &Stored) {
        let mut inner = self.lock();
        if inner.held.get(&seen.view.name).is_some_and(|held| held.version < seen.version) {
            inner.held.remove(&seen.view.name);
        }
        inner.settle(seen);
    }

    /// A list is whole: what it does not name is gone.
    pub fn only(&self, names: &BTreeSet<String>) {
        self.lock().held.retain(|name, _| names.contains(name));
    }

    /// A namespace that is gone.
    pub fn gone(&self, name: &str) {
        self.lock().held.remove(name);
    }

    /// Whether an admission may still be stored that no live read has shown.
    #[must_use]
    pub fn is_waiting(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        inner.forget_old(now);
        !inner.fresh.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fresh {
    fn is_of(&self, live: &Stored, digest: &str) -> bool {
        self.admission.digest == digest
            && self.admission.set_by == live.set_by
            && match &self.uid {
                Some(uid) => *uid == live.view.uid,
                // Asked before the namespace had a UID: then it can't be older than the note.
                None => live
                    .created
                    .and_then(|created| created.checked_add(CLOCK_TOLERANCE).ok())
                    .is_some_and(|created| created >= self.wall),
            }
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
            // A slow read must not set back what the watch has shown since.
            Some(known) if known.version > held.version => {}
            _ => {
                self.held.insert(live.view.name.clone(), held);
            }
        }
    }

    /// The fresh note of exactly this version becomes held.
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
#[path = "notes_tests.rs"]
mod tests;
