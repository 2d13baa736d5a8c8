//! Writes Events of `events.k8s.io/v1` in the background.
//!
//! The caller never waits for the API server. Each Event goes into one bounded queue, which a few
//! senders empty, so a thousand Events at once need two connections. An Event that cannot be
//! written after several tries is dropped, counted and logged.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as StoredEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use parking_lot::Mutex;
use prometheus::{IntCounter, Registry};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::client::{CallError, call, is_terminating};
use crate::clock::Clock;
use crate::text::cut;

/// The most Events that can wait in the queue.
const QUEUE: usize = 1_024;
/// The places in the queue that only Events of [`Weight::Deed`] may take. Many refusals at once
/// must not displace the Event of a kill.
const RESERVED: usize = 256;
/// How many Events are sent at the same time.
const SENDERS: usize = 2;
/// How many times an Event is tried.
const TRIES: u32 = 6;
/// The wait after the first failed try. Each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two tries, even if the API server asks for more.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The shortest time between two log lines about dropped Events.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long the process waits at its end for Events that are not sent yet.
const LAST_EVENTS: Duration = Duration::from_secs(3);

/// The most bytes of a note, by the API server's validation of `events.k8s.io/v1`.
pub const LONGEST_NOTE: usize = 1_024;
/// The most bytes of an action and of a reporting instance, by the same validation.
const LONGEST_WORD: usize = 128;
/// The most bytes of an object's name that become part of the Event's name. Both names may have 253
/// bytes, and the rest of the Event's name makes it unique.
const LONGEST_OBJECT: usize = 200;

/// What an Event says, and about which object.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The object that the Event is about. The Event is stored in the namespace of this object.
    pub regarding: ObjectReference,
    /// Another object that is involved.
    pub related: Option<ObjectReference>,
    /// Whether the Event has the type `Warning` instead of `Normal`.
    pub is_warning: bool,
    /// What happened, such as `ChaosKilled`.
    pub reason: &'static str,
    /// What was done or tried, such as `Kill`.
    pub action: String,
    /// The sentence for people, cut to [`LONGEST_NOTE`] bytes.
    pub note: String,
    /// How important the Event is, and whether it can be stored twice.
    pub weight: Weight,
}

/// How important an Event is, and whether it can be stored twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Something was done, or ended. Other Events never displace an Event of this weight.
    Deed,
    /// Something was not done, and the Event says why.
    Refusal,
    /// Like [`Weight::Refusal`], but the API server keeps only one Event with the same words, even
    /// if several processes write it several times.
    Standing,
}

/// The process that writes the Events.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The name of the controller, such as `purechaos.dev/agent`.
    pub controller: &'static str,
    /// The name of the instance, such as that of its Pod. `None` means the name of the controller.
    pub instance: Option<String>,
}

/// Writes Events in the background. All clones write into the same queue.
#[derive(Clone)]
pub struct EventWriter(Arc<Inner>);

struct Inner {
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    /// The queue. `None` once the process ends.
    queue: Mutex<Option<mpsc::Sender<Box<StoredEvent>>>>,
    senders: TaskTracker,
    shared: Arc<Shared>,
    /// The number in the name of the last Event.
    last: AtomicI64,
}

/// What the senders need besides the queue.
struct Shared {
    clock: Arc<dyn Clock>,
    unwritten: AtomicUsize,
    dropped: IntCounter,
    losses: Mutex<Losses>,
}

/// Registers the counter of Events that were not written.
///
/// # Errors
/// Returns an error if the registry has this counter already.
pub fn dropped(registry: &Registry) -> prometheus::Result<IntCounter> {
    let dropped = IntCounter::new(
        "pure_chaos_events_dropped_total",
        "Kubernetes Events that could not be written: the queue was full, the API server refused, or it failed again and again.",
    )?;
    registry.register(Box::new(dropped.clone()))?;
    Ok(dropped)
}

impl EventWriter {
    /// Starts the senders. Call this function within a tokio runtime.
    #[must_use]
    pub fn start(client: &Client, reporter: Reporter, clock: Arc<dyn Clock>, dropped: IntCounter) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let shared = Arc::new(Shared {
            clock: Arc::clone(&clock),
            unwritten: AtomicUsize::new(0),
            dropped,
            losses: Mutex::default(),
        });
        let senders = TaskTracker::new();
        for _ in 0..SENDERS {
            senders.spawn(send_all(client.clone(), Arc::clone(&waiting), Arc::clone(&shared)));
        }
        senders.close();
        let queue = Mutex::new(Some(queue));
        Self(Arc::new(Inner { reporter, clock, queue, senders, shared, last: AtomicI64::new(0) }))
    }

    /// Puts an Event into the queue and never waits. If there is no place in the queue, the Event
    /// is dropped and counted.
    pub fn write(&self, event: Event) {
        let needed = if event.weight == Weight::Deed { 1 } else { RESERVED + 1 };
        let stored = Box::new(self.stored(event));
        let Inner { queue, shared, .. } = &*self.0;
        shared.unwritten.fetch_add(1, Ordering::Relaxed);
        let queue = queue.lock();
        let refused = match queue.as_ref().filter(|sender| sender.capacity() >= needed) {
            Some(sender) => sender.try_send(stored).err().map(TrySendError::into_inner),
            None => Some(stored),
        };
        if let Some(stored) = refused {
            shared.lose(&stored, "too many Events wait, or the process ends");
        }
    }

    /// Waits until all Events are written, but for at most 3 s. Later Events are dropped.
    pub async fn finish(&self) {
        drop(self.0.queue.lock().take());
        if tokio::time::timeout(LAST_EVENTS, self.0.senders.wait()).await.is_err() {
            let lost = self.0.shared.unwritten.load(Ordering::Relaxed);
            tracing::warn!(lost, "failed to write some Events before this process ends");
        }
    }

    /// The Event in the form that the API server stores.
    fn stored(&self, event: Event) -> StoredEvent {
        let Reporter { controller, instance } = &self.0.reporter;
        let now = self.0.clock.wall();
        let Event { regarding, related, is_warning, reason, action, note, weight } = event;
        let note = cut(note, LONGEST_NOTE);
        let suffix = if weight == Weight::Standing {
            let mut hasher = DefaultHasher::new();
            (reason, &action, &note, &regarding.kind, &regarding.uid).hash(&mut hasher);
            format!("{:x}", hasher.finish())
        } else {
            // The name must be unique, also for two Events at the same instant and for a clock that
            // steps back.
            let now = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
            let next = |last: i64| Some(now.max(last.saturating_add(1)));
            let last = self.0.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
            let last = last.unwrap_or_else(|last| last);
            format!("{:x}", now.max(last.saturating_add(1)))
        };
        StoredEvent {
            metadata: ObjectMeta {
                name: Some(name(regarding.name.as_deref().unwrap_or_default(), &suffix)),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            reporting_controller: Some((*controller).to_owned()),
            reporting_instance: Some(cut(
                instance.clone().unwrap_or_else(|| (*controller).to_owned()),
                LONGEST_WORD,
            )),
            action: Some(cut(action, LONGEST_WORD)),
            reason: Some(reason.to_owned()),
            note: Some(note),
            type_: Some(if is_warning { "Warning" } else { "Normal" }.to_owned()),
            regarding: Some(regarding),
            related,
            ..StoredEvent::default()
        }
    }
}

async fn send_all(
    client: Client,
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Box<StoredEvent>>>>,
    shared: Arc<Shared>,
) {
    loop {
        let next = waiting.lock().await.recv().await;
        let Some(event) = next else { return };
        send(&client, &event, &shared).await;
    }
}

async fn send(client: &Client, event: &StoredEvent, shared: &Shared) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<StoredEvent> = Api::namespaced(client.clone(), namespace);
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = call(api.create(&PostParams::default(), event)).await else { break };
        match after(&error, tries) {
            After::Settled => break,
            After::Again(wait) => tokio::time::sleep(wait).await,
            After::Dropped => return shared.lose(event, &error.to_string()),
        }
    }
    shared.unwritten.fetch_sub(1, Ordering::Relaxed);
}

/// What follows a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The Event needs no further try. An earlier try was carried out, another process wrote the
    /// same Event, or the namespace is being deleted together with its Events.
    Settled,
    /// The Event is tried again after this time.
    Again(Duration),
    /// The Event is dropped.
    Dropped,
}

/// Decides what follows the error of the try number `tries`.
fn after(error: &CallError, tries: u32) -> After {
    let is_passing = match error.code() {
        Some(404 | 409) => return After::Settled,
        Some(403) if is_terminating(error) => return After::Settled,
        Some(code) => code == 429 || code >= 500,
        None => true,
    };
    if !is_passing || tries >= TRIES {
        return After::Dropped;
    }
    let asked = error.status().and_then(|status| Some(status.details.as_ref()?.retry_after_seconds));
    let asked = Duration::from_secs(u64::from(asked.unwrap_or(0)));
    let usual = FIRST_WAIT * 2_u32.saturating_pow(tries.saturating_sub(1));
    After::Again(usual.max(asked).min(LONGEST_WAIT))
}

impl Shared {
    fn lose(&self, event: &StoredEvent, why: &str) {
        self.unwritten.fetch_sub(1, Ordering::Relaxed);
        self.dropped.inc();
        let Some(lost) = self.losses.lock().note(self.clock.monotonic()) else { return };
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let reason = event.reason.as_deref().unwrap_or_default();
        tracing::warn!(namespace, reason, why, lost, "failed to write an Event");
    }
}

/// How many Events were dropped since the last log line about them.
#[derive(Debug, Default)]
struct Losses {
    untold: u64,
    told: Option<Instant>,
}

impl Losses {
    /// Counts one more dropped Event. Returns how many the log has to report now, or `None` if the
    /// last log line is too recent.
    fn note(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now < told + LOG_INTERVAL) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// The name of an Event: the beginning of its object's name, and a suffix that makes it unique.
fn name(object: &str, suffix: &str) -> String {
    let end = object.floor_char_boundary(LONGEST_OBJECT);
    let allowed = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') => c,
        _ => '-',
    };
    let prefix: String = object[..end].chars().map(allowed).collect();
    match prefix.trim_matches(['.', '-']) {
        "" => suffix.to_owned(),
        prefix => format!("{prefix}.{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn refused(code: u16, seconds: u32) -> CallError {
        let nothing = String::new;
        let details = kube::core::response::StatusDetails {
            name: nothing(),
            group: nothing(),
            kind: nothing(),
            uid: nothing(),
            causes: Vec::new(),
            retry_after_seconds: seconds,
        };
        let status = kube::core::Status { code, details: Some(details), ..kube::core::Status::default() };
        CallError::Kube(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn what_passes_is_tried_again_and_nothing_for_ever() {
        let again = |seconds| After::Again(Duration::from_secs(seconds));
        for (error, tries, expected) in [
            (refused(429, 0), 1, again(1)),
            (refused(429, 7), 1, again(7)),
            (refused(429, 3_600), 1, again(30)),
            (refused(500, 0), 3, again(4)),
            (CallError::TimedOut(FIRST_WAIT), 2, again(2)),
            (refused(503, 0), TRIES, After::Dropped),
            (refused(409, 0), 2, After::Settled),
            (refused(403, 0), 1, After::Dropped),
            (refused(422, 0), 1, After::Dropped),
        ] {
            assert_eq!(after(&error, tries), expected, "{error} {tries}");
        }
    }

    #[test]
    fn a_name_is_one_whatever_its_object_is_called() {
        for (object, expected) in [
            ("web-1", "web-1.f".to_owned()),
            ("", "f".to_owned()),
            ("System:Web", "system-web.f".to_owned()),
            (&"a.".repeat(126), format!("{}.f", "a.".repeat(100).trim_end_matches('.'))),
        ] {
            assert_eq!(name(object, "f"), expected);
        }
        let longest = name(&"a".repeat(253), &format!("{:x}", i64::MAX));
        assert!(longest.len() <= 253, "{}", longest.len());
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_of_losses_once_a_minute() {
        let now = SystemClock.monotonic();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut losses = Losses::default();
        let told: Vec<Option<u64>> =
            [0, 1, 59, 60, 61, 200].map(after).into_iter().map(|at| losses.note(at)).collect();
        assert_eq!(told, [Some(1), None, None, Some(3), None, Some(2)]);
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        let note = cut("ü".repeat(600), LONGEST_NOTE);
        assert!(note.len() <= LONGEST_NOTE && note.ends_with("ü…"), "{}", note.len());
        assert_eq!(cut("short".to_owned(), LONGEST_NOTE), "short");
    }
}
