//! Watches the Pods of one namespace, and checks the quality of the watch. The watch says since
//! when it is down, marks its gaps, and can be compared with a live list. Otherwise, a watch that
//! fails, or that stays open without delivering anything, would look like Pods that do not change.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use runtime::client::{CallError, call};
use runtime::clock::Clock;
use runtime::watch_clients::WatchClient;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::list::{ListError, list_with_version};
use crate::cluster::pods::SlimPod;
use crate::cluster::snapshot::{PodView, newest};

/// After this many seconds the API server ends a watch. It sends a bookmark two seconds before.
/// Both show that the connection works.
const WATCH_SECONDS: u32 = 60;

/// How long after [`WATCH_SECONDS`] a watch may still end. After that, its connection is dead.
const OVERTIME: Duration = Duration::from_secs(5);

/// How recently a watch that ends in time must have received something. A working watch receives at
/// least its last bookmark. A watch that was silent for longer may have missed changes.
const LAST_SIGN: Duration = Duration::from_secs(5);

/// An interruption longer than this is a gap. A time measured across it may be too long by that
/// much. Two consecutive watches are normally milliseconds apart.
const GAP: Duration = Duration::from_secs(1);

/// A watch that has been down for longer than this counts as no watch, because the Pods may have
/// changed.
const LOST: Duration = Duration::from_secs(5);

/// How long the watch may take to show what a list has shown. Usually the watch is faster than the
/// list.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The first and the longest pause after a failure. The pause doubles with each failure.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How long after the beginning a missing right is only a debug message, because the API server may
/// need a moment to see a new RoleBinding.
const RIGHTS_COME: Duration = Duration::from_secs(10);

/// How many Pod events can wait while a round is running.
const QUEUE: usize = 4_096;

/// A change that the watch showed.
#[derive(Debug)]
pub enum PodChange {
    /// All Pods of the namespace, after a new list.
    Listed(Vec<PodView>),
    /// A Pod was created or changed.
    Applied(PodView),
    /// A Pod is gone.
    Gone(PodView),
    /// The watch showed nothing for a while, until now. Changes from that time are shown late.
    Gap,
}

/// A change, and when the agent received it.
#[derive(Debug)]
pub struct PodEvent {
    /// When the agent received the change.
    pub at: Instant,
    /// The change.
    pub change: PodChange,
}

/// The state of the watch.
#[derive(Debug, Clone, Copy)]
struct Hearing {
    /// The newest version that the watch has shown.
    version: u64,
    /// Since when no watch is open. `None` while one is open.
    down_since: Option<Instant>,
}

/// A watch of the Pods in one namespace. Dropping it ends the watch.
pub struct PodWatch {
    events: mpsc::Receiver<Box<PodEvent>>,
    hearing: watch::Receiver<Hearing>,
    anew: Arc<Notify>,
    _client: WatchClient,
    _task: AbortOnDropHandle<()>,
}

impl PodWatch {
    /// Begins to watch. `lists` limits how many lists run at once. `rng` spreads the pauses after
    /// failures.
    #[must_use]
    pub fn begin(
        client: WatchClient,
        namespace: &str,
        (clock, lists): (Arc<dyn Clock>, Arc<Semaphore>),
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let (changes, events) = mpsc::channel(QUEUE);
        let begun = clock.monotonic();
        let (hearing, heard) = watch::channel(Hearing { version: 0, down_since: Some(begun) });
        let anew = Arc::new(Notify::new());
        let watcher = Watcher {
            pods: Api::namespaced(client.client(), namespace),
            clock,
            rng: ChaCha8Rng::seed_from_u64(rng.next_u64()),
            changes,
            hearing,
            anew: Arc::clone(&anew),
            version: None,
            heard: None,
            begun,
            lists,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(watcher.run()));
        Self { events, hearing: heard, anew, _client: client, _task: task }
    }

    /// The next change. The watch stamps each change when it receives it. So the time that a round
    /// takes does not falsify a measured recovery.
    pub async fn next(&mut self) -> Option<PodEvent> {
        self.events.recv().await.map(|event| *event)
    }

    /// Whether a watch is open at `now`, or was open until a few seconds ago.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.hearing.borrow().down_since.is_none_or(|since| now.saturating_duration_since(since) < LOST)
    }

    /// Whether the watch has shown this version or a newer one.
    #[must_use]
    pub fn has_shown(&self, version: u64) -> bool {
        self.hearing.borrow().version >= version
    }

    /// Waits until the watch has shown all that a live list showed, for at most two seconds. If the
    /// watch does not show it in time, the watch begins anew and the function returns false.
    pub async fn catches_up(&self, pods: &[PodView]) -> bool {
        let newest = newest(pods);
        let mut hearing = self.hearing.clone();
        let shown = hearing.wait_for(|hearing| hearing.version >= newest);
        let catches_up = matches!(tokio::time::timeout(CATCH_UP, shown).await, Ok(Ok(_)));
        if !catches_up {
            self.begin_anew();
        }
        catches_up
    }

    /// Drops the stream and lists all Pods again.
    pub fn begin_anew(&self) {
        // A watch that is not open is about to begin anyway. It must not be ended as soon as it is
        // open.
        if self.hearing.borrow().down_since.is_none() {
            self.anew.notify_one();
        }
    }
}

/// Why a watch ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{} ({})", .0.message, .0.code)]
    Refused(Box<kube::core::Status>),
    #[error("the watch was silent and did not end in time")]
    Silent,
    #[error("the watch did not show what a list showed")]
    Deaf,
}

impl Failure {
    fn is_forbidden(&self) -> bool {
        match self {
            Self::List(error) => error.is_forbidden(),
            Self::Call(error) => error.code() == Some(403),
            Self::Refused(status) => status.code == 403,
            Self::Silent | Self::Deaf => false,
        }
    }

    /// Whether the next watch can't continue at the last version and needs a new list.
    fn needs_list(&self) -> bool {
        match self {
            Self::Call(error) => error.code() == Some(410),
            Self::Refused(status) => status.code == 410,
            Self::Deaf => true,
            Self::List(_) | Self::Silent => false,
        }
    }
}

struct Watcher {
    pods: Api<SlimPod>,
    clock: Arc<dyn Clock>,
    rng: ChaCha8Rng,
    /// The events are boxed to keep the queue small, because it has room for many.
    changes: mpsc::Sender<Box<PodEvent>>,
    hearing: watch::Sender<Hearing>,
    anew: Arc<Notify>,
    /// The version from which the next watch continues. `None` before the first list.
    version: Option<String>,
    /// Until when the watch has received everything.
    heard: Option<Instant>,
    begun: Instant,
    lists: Arc<Semaphore>,
}

impl Watcher {
    async fn run(mut self) {
        let (changes, anew) = (self.changes.clone(), Arc::clone(&self.anew));
        let mut failures = 0;
        loop {
            let since = self.clock.monotonic();
            let ended = tokio::select! {
                biased;
                () = changes.closed() => return,
                () = anew.notified() => Err(Failure::Deaf),
                ended = self.follow() => ended,
            };
            let now = self.clock.monotonic();
            self.hearing.send_modify(|hearing| {
                hearing.down_since.get_or_insert(now);
            });
            if now.saturating_duration_since(since) > LOST {
                failures = 0;
            }
            match ended {
                Ok(()) => {
                    if self.heard.is_some_and(|heard| now.saturating_duration_since(heard) <= LAST_SIGN) {
                        self.heard = Some(now);
                    }
                }
                Err(failure) => {
                    self.tell(&failure, now);
                    if failure.needs_list() {
                        self.version = None;
                    }
                }
            }
            // If a watch ended normally, the next one follows without a pause.
            if failures > 0 || now.saturating_duration_since(since) < LOST {
                tokio::select! {
                    biased;
                    () = changes.closed() => return,
                    () = tokio::time::sleep(self.pause(failures)) => {}
                }
            }
            failures = failures.saturating_add(1);
        }
    }

    fn tell(&self, failure: &Failure, now: Instant) {
        let is_early = now.saturating_duration_since(self.begun) < RIGHTS_COME;
        if failure.is_forbidden() && is_early {
            tracing::debug!(error = %failure, "the agent has no right to watch Pods yet");
        } else {
            tracing::warn!(error = %failure, "failed to watch Pods, retrying");
        }
    }

    /// A random pause between half and all of a value that doubles with each failure.
    fn pause(&mut self, failures: u32) -> Duration {
        let (first, most) = PAUSES;
        let pause = first.saturating_mul(1 << failures.min(16)).min(most);
        pause.mul_f64(self.rng.random_range(0.5..1.0))
    }

    /// Runs one watch until it ends. Lists the Pods first if a list is needed.
    async fn follow(&mut self) -> Result<(), Failure> {
        let version = match &self.version {
            Some(version) => version.clone(),
            None => self.list().await?,
        };
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let stream = call(self.pods.watch(&parameters, &version)).await?;
        tokio::pin!(stream);
        self.hears(None).await;
        self.hearing.send_modify(|hearing| hearing.down_since = None);
        let end = tokio::time::sleep(Duration::from_secs(WATCH_SECONDS.into()) + OVERTIME);
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                biased;
                event = stream.next() => event,
                () = &mut end => return Err(Failure::Silent),
            };
            let Some(event) = event else { return Ok(()) };
            let (version, change) = match event.map_err(CallError::from)? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    (pod.meta().resource_version.clone(), Some(PodChange::Applied(PodView::from(pod))))
                }
                WatchEvent::Deleted(pod) => {
                    (pod.meta().resource_version.clone(), Some(PodChange::Gone(PodView::from(pod))))
                }
                WatchEvent::Bookmark(bookmark) => (Some(bookmark.metadata.resource_version), None),
                WatchEvent::Error(status) => return Err(Failure::Refused(status)),
            };
            let at = self.clock.monotonic();
            self.heard = Some(at);
            if let Some(change) = change {
                self.send(at, change).await;
            }
            if let Some(version) = version {
                self.reached(version);
            }
        }
    }

    async fn list(&mut self) -> Result<String, Failure> {
        let (pods, version) = {
            let _turn = self.lists.acquire().await;
            let (pods, version) = list_with_version(&self.pods, ListParams::default()).await?;
            (pods.into_iter().map(PodView::from).collect(), version)
        };
        self.hears(Some(PodChange::Listed(pods))).await;
        self.reached(version.clone());
        Ok(version)
    }

    /// Notes that the watch receives again, and sends `change` if there is one. If the watch was
    /// down for a while, this first sends a gap, because the receiver has to know of the gap before
    /// it sees late changes.
    async fn hears(&mut self, change: Option<PodChange>) {
        let at = self.clock.monotonic();
        if self.heard.is_some_and(|heard| at.saturating_duration_since(heard) > GAP) {
            self.send(at, PodChange::Gap).await;
        }
        self.heard = Some(at);
        if let Some(change) = change {
            self.send(at, change).await;
        }
    }

    /// Announces the version after the change itself. A caller that waits for the version then
    /// finds the change in the queue.
    fn reached(&mut self, version: String) {
        let number = version.parse().unwrap_or(0);
        self.hearing.send_modify(|hearing| hearing.version = hearing.version.max(number));
        self.version = Some(version);
    }

    async fn send(&self, at: Instant, change: PodChange) {
        // Ignores the error. If the receiver is gone, `run` ends.
        self.changes.send(Box::new(PodEvent { at, change })).await.ok();
    }
}
