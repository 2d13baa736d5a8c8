//! Faults between a process and the API, and how long they last.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// The subject of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Kill,
    RecordWrite,
    RecordRead,
    Namespace,
    PodRead,
    PodList,
    Workloads,
    Events,
    Lease,
    Other,
}

impl Class {
    pub fn of(verb: &str, path: &str) -> Self {
        let segments = path.trim_start_matches('/').split('/').count();
        match path {
            _ if verb == "DELETE" || path.ends_with("/eviction") => Self::Kill,
            _ if path.contains("/optins") && verb == "GET" => Self::RecordRead,
            _ if path.contains("/optins") => Self::RecordWrite,
            _ if path.contains("events") => Self::Events,
            _ if path.contains("/leases") => Self::Lease,
            _ if path.starts_with("/api/v1/namespaces/") && segments == 4 => Self::Namespace,
            _ if path.contains("/pods/") => Self::PodRead,
            _ if path.ends_with("/pods") => Self::PodList,
            _ if path.starts_with("/apis/apps/") || path.starts_with("/apis/policy/") => Self::Workloads,
            _ => Self::Other,
        }
    }
}

/// The fate of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The API does nothing, and answers with this status.
    Status(u16),
    /// A PodDisruptionBudget allows nothing.
    Budget,
    /// The API does nothing, and the connection breaks.
    Broken,
    /// The API does what was asked, and the connection breaks instead of the answer.
    Lost,
    /// The API does what was asked, and no answer comes until the client gives up the connection.
    Silent,
    /// The connection breaks or the answer is 500, and the API does what was asked only this many
    /// milliseconds later.
    Early(u64),
    /// The API acts and answers this many milliseconds later.
    Slow(u64),
    /// The API acts at once, and answers this many milliseconds later.
    Late(u64),
    /// The process is killed: before the call is sent, or after it was sent.
    Crash { sent: bool },
    /// The process is asked to end.
    Term,
}

/// A fault of some calls, for some time.
#[derive(Debug, Clone)]
struct Fault {
    class: Class,
    fate: Fate,
    left: usize,
    until: Instant,
}

/// The subject of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    Pods,
    Records,
    Other,
}

impl Watched {
    pub fn of(path: &str) -> Self {
        match path {
            _ if path.ends_with("/pods") => Self::Pods,
            _ if path.ends_with("/optins") => Self::Records,
            _ => Self::Other,
        }
    }
}

/// The faults of a watch.
#[derive(Debug, Clone, Default)]
pub struct WatchFaults {
    /// This many of its next events are lost.
    pub lose: usize,
    /// This many of its next events come twice.
    pub double: usize,
    /// Its events are late by this duration, until this instant.
    pub late: Option<(Duration, Instant)>,
    /// The watch is silent until this instant, and then breaks.
    pub deaf: Option<Instant>,
    /// Grows each time the watch breaks.
    pub breaks: u64,
    /// Until this instant, a new watch gets this status instead.
    pub refused: Option<(u16, Instant)>,
    /// This many of the next watches begin too late in the history.
    pub expired: usize,
}

/// All current faults.
#[derive(Default)]
pub struct Faults {
    seed: u64,
    calls: Vec<Fault>,
    pub watches: BTreeMap<Watched, WatchFaults>,
    /// How often each kind of call was made. So the fate of one call doesn't depend on all other
    /// calls.
    counts: BTreeMap<String, u64>,
    /// The longest delay of an event that came late without a sign. `gaps` holds the breaks and
    /// silences of the Pods' watch, each from when to when.
    pub lateness: Duration,
    pub gaps: Vec<(Instant, Instant)>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub fn add(&mut self, class: Class, fate: Fate, left: usize, until: Instant) {
        self.calls.push(Fault { class, fate, left, until });
    }

    pub fn heal(&mut self, now: Instant) {
        self.calls.clear();
        for watch in self.watches.values_mut() {
            // A silent watch breaks now.
            let deaf = watch.deaf.map(|_| now);
            *watch = WatchFaults { breaks: watch.breaks, deaf, ..WatchFaults::default() };
        }
    }

    pub fn watch(&mut self, watched: Watched) -> &mut WatchFaults {
        self.watches.entry(watched).or_default()
    }

    /// How long a call takes to arrive, and the call's fate.
    pub fn of_call(&mut self, class: Class, call: &str, now: Instant) -> (Duration, Option<Fate>) {
        let count = self.counts.entry(call.to_owned()).or_default();
        *count += 1;
        let chance = chance(self.seed, call, *count);
        self.calls.retain(|fault| fault.left > 0 && fault.until > now);
        let fault = self.calls.iter_mut().find(|fault| fault.class == class);
        let fate = fault.map(|fault| {
            fault.left -= 1;
            fault.fate
        });
        (Duration::from_millis(1 + chance % 7), fate)
    }
}

/// A number that depends only on these arguments.
pub fn chance(seed: u64, text: &str, count: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(count.to_be_bytes());
    hash.update(text.as_bytes());
    u64::from_be_bytes(hash.finalize()[..8].try_into().unwrap())
}
