//! Runs one task per OptIn record, and drops a namespace's metric series ten minutes after its
//! record is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use policy::record::OptIn;
use policy::well_known::RECORD;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::pods;
use crate::context::Context;
use crate::controller::namespace::NamespaceTask;
use crate::telemetry::metrics::LINGER;

/// How often the supervisor looks for series that it has to drop.
const SWEEP: Duration = Duration::from_secs(30);

/// After this many seconds the API server ends the watch. The agent then notices a dead connection
/// soon.
const WATCH_SECONDS: u32 = 60;

struct Followed {
    record_uid: String,
    records: watch::Sender<Arc<OptIn>>,
    gone: CancellationToken,
    /// Cancelled when the task has ended.
    over: CancellationToken,
}

/// A namespace whose record is gone.
struct Lost {
    /// When its metric series are dropped.
    series_until: Instant,
    /// Cancelled when its task has ended.
    over: CancellationToken,
}

/// The namespaces with a record, and their tasks.
struct Supervisor {
    context: Context,
    rng: ChaCha8Rng,
    end: CancellationToken,
    tasks: JoinSet<()>,
    followed: BTreeMap<String, Followed>,
    lost: BTreeMap<String, Lost>,
    has_listed: bool,
}

/// Watches the records until `end`, and then waits for the tasks of the namespaces. Sets `synced`
/// to true after the first complete list.
///
/// # Errors
/// When the task of a namespace panicked.
pub async fn supervise(
    context: Context,
    rng: ChaCha8Rng,
    synced: Arc<AtomicBool>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let client = context.watches.take();
    let records: Api<OptIn> = Api::all(client.client());
    let mut events =
        watcher(records, watcher::Config::default().timeout(WATCH_SECONDS)).default_backoff().boxed();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut supervisor = Supervisor {
        context,
        rng,
        end: end.clone(),
        tasks: JoinSet::new(),
        followed: BTreeMap::new(),
        lost: BTreeMap::new(),
        has_listed: false,
    };
    let mut listed: Vec<OptIn> = Vec::new();
    let mut failure = None;
    loop {
        let event = tokio::select! {
            () = end.cancelled() => break,
            _ = sweep.tick() => {
                supervisor.sweep();
                continue;
            }
            Some(task) = supervisor.tasks.join_next() => match task {
                Ok(()) => continue,
                Err(error) => {
                    // Lets the other tasks end in order, because dropping them could interrupt a
                    // kill.
                    failure = Some(error);
                    end.cancel();
                    break;
                }
            },
            event = events.next() => event,
        };
        match event {
            None => {
                end.cancel();
                break;
            }
            Some(Err(error)) => {
                tracing::warn!(error = pods::words(error), "failed to watch records, retrying")
            }
            Some(Ok(watcher::Event::Init)) => listed.clear(),
            Some(Ok(watcher::Event::InitApply(record))) => listed.push(record),
            Some(Ok(watcher::Event::InitDone)) => {
                supervisor.list(std::mem::take(&mut listed));
                synced.store(true, Ordering::Relaxed);
            }
            Some(Ok(watcher::Event::Apply(record))) => supervisor.apply(record),
            Some(Ok(watcher::Event::Delete(record))) => {
                supervisor.lose(&record.namespace().unwrap_or_default())
            }
        }
    }
    while let Some(task) = supervisor.tasks.join_next().await {
        failure = failure.or(task.err());
    }
    failure.map_or(Ok(()), |error| Err(error).context("a namespace's task failed"))
}

impl Supervisor {
    /// Takes over a complete list of the records. Records that disappeared while the watch was down
    /// are lost.
    fn list(&mut self, records: Vec<OptIn>) {
        let listed: BTreeSet<String> = records.iter().filter_map(ResourceExt::namespace).collect();
        let lost: Vec<String> =
            self.followed.keys().filter(|followed| !listed.contains(*followed)).cloned().collect();
        for namespace in lost {
            self.lose(&namespace);
        }
        if !std::mem::replace(&mut self.has_listed, true) {
            // Must happen before any task begins. Later kills are those of this process, which
            // counts them itself.
            self.context.carry_over(&records);
        }
        for record in records {
            self.apply(record);
        }
    }

    fn apply(&mut self, mut record: OptIn) {
        record.metadata.managed_fields = None;
        let (Some(namespace), Some(uid)) = (record.namespace(), record.uid()) else {
            return;
        };
        if record.name_any() != RECORD {
            tracing::warn!(
                namespace,
                record = record.name_any(),
                "ignored a record that isn't named `{RECORD}`"
            );
            return;
        }
        let record = Arc::new(record);
        if let Some(followed) = self.followed.get(&namespace) {
            if followed.record_uid == uid {
                followed.records.send_replace(record);
                return;
            }
            self.lose(&namespace);
        }
        tracing::info!(namespace, verdict = ?record.spec.verdict, "following a namespace");
        let (sender, mut receiver) = watch::channel(record);
        let (gone, over) = (CancellationToken::new(), CancellationToken::new());
        let rng = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
        let before = self.lost.remove(&namespace).map(|lost| lost.over);
        let (context, name, end) = (self.context.clone(), namespace.clone(), self.end.clone());
        let (is_gone, over_at_end) = (gone.clone(), over.clone().drop_guard());
        self.tasks.spawn(async move {
            let _over = over_at_end;
            // Waits for the earlier task of the same namespace. Its last writes are about the
            // earlier record, and two tasks must not kill in one namespace.
            if let Some(before) = before {
                before.cancelled().await;
            }
            if is_gone.is_cancelled() || end.is_cancelled() {
                return;
            }
            let record = receiver.borrow_and_update().clone();
            let (activity_log, shown) = (context.activity_log.clone(), name.clone());
            NamespaceTask::new(context, name, record, rng, end).run(receiver, is_gone.clone()).await;
            if is_gone.is_cancelled() {
                // Removes the card again. The record may have been lost just before the task
                // created the card.
                activity_log.forget(&shown);
            }
        });
        self.followed.insert(namespace, Followed { record_uid: uid, records: sender, gone, over });
        self.context.metrics.set_opt_ins(self.followed.len());
    }

    fn lose(&mut self, namespace: &str) {
        if let Some(followed) = self.followed.remove(namespace) {
            tracing::info!(namespace, "the record of a namespace is gone");
            followed.gone.cancel();
            self.context.activity_log.forget(namespace);
            let series_until = self.context.clock.monotonic() + LINGER;
            self.lost.insert(namespace.to_owned(), Lost { series_until, over: followed.over });
            self.context.metrics.set_opt_ins(self.followed.len());
        }
    }

    fn sweep(&mut self) {
        let now = self.context.clock.monotonic();
        self.lost.retain(|namespace, lost| {
            let lingers = lost.series_until > now;
            if !lingers {
                self.context.metrics.forget(namespace);
            }
            lingers
        });
    }
}
