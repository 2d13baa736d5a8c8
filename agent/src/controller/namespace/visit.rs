//! One visit of `agent once` to a namespace. It finds out the results of earlier kills, does a
//! round if one is due, and can wait for the recoveries.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use policy::schedule::Timetable;
use policy::settings::Key;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{LOOK_INTERVAL, NamespaceTask};
use crate::cluster::live_consent::read_namespace;
use crate::recovery::tracker::Ended;
use crate::round::due::DueSlot;
use crate::round::report::RoundReport;

/// How long the first list of the Pods may take.
const FIRST_LIST: Duration = Duration::from_secs(15);

/// The options of a visit, from the flags of `agent once`.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Whether to do a round even if none is due.
    pub now: bool,
    /// Whether to do everything except the kill. A dry run does not spend the slot.
    pub dry_run: bool,
}

/// The result of a visit.
#[derive(Debug)]
pub enum Visit {
    /// The visit did a round.
    Round(Box<RoundReport>),
    /// No round was due. The value is the time of the next round, if there is one.
    NotDue(Option<Timestamp>),
}

impl NamespaceTask {
    /// The name of the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the recoveries that have ended in the meantime, and does one round if one is due.
    pub async fn visit(&mut self, asked: Asked) -> (Visit, Vec<Ended>) {
        self.follow(self.record.clone());
        let mut ended = self.first_list().await;
        self.settle().await;
        ended.extend(self.recoveries.look(&mut self.status_writer).await);
        let now = self.context.clock.wall();
        let visit = match self.due(asked, now).await {
            Some((slot, timetable)) => {
                let serve = DueSlot { slot, timetable: timetable.as_ref(), dry_run: asked.dry_run };
                let report = self.serve(serve).await;
                if !asked.dry_run {
                    self.record_round(slot, &report);
                }
                Visit::Round(Box::new(report))
            }
            None => Visit::NotDue(self.next().round),
        };
        let next = self.next().round;
        self.status_writer.set_next_slot(next);
        self.leave().await;
        (visit, ended)
    }

    /// Waits until every pending recovery has ended, or until `end`.
    pub async fn wait(&mut self, end: &CancellationToken) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.recoveries.is_empty() {
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                Some(event) = self.recoveries.next_event() => ended.extend(self.enter(event).await),
                _ = look.tick() => {
                    match self.status_writer.read().await {
                        // The agent lost its rights together with the record.
                        Err(error) if error.is_gone() => ended.extend(self.conclude().await),
                        _ => ended.extend(self.recoveries.look(&mut self.status_writer).await),
                    }
                }
            }
        }
        self.leave().await;
        ended
    }

    /// The slot to serve, with the timetable from which it was computed. There is no timetable if
    /// `--now` requests the round or if the namespace sets no schedule of its own.
    async fn due(&self, asked: Asked, now: Timestamp) -> Option<(Timestamp, Option<Timetable>)> {
        let by_hand = || Some((now.round(jiff::Unit::Millisecond).unwrap_or(now), None));
        if asked.now {
            return by_hand();
        }
        match read_namespace(&self.context.client, &self.name).await {
            Ok(namespace) if namespace.annotations.contains_key(&Key::Schedule.annotation()) => {
                let timetable = self.timetable.clone()?;
                let opted_in = self.record.creation_timestamp().map_or(now, |created| created.0);
                let watermark = self.status_writer.last_slot().unwrap_or(opted_in);
                let slot = timetable.newest_in(&self.record.spec.namespace_uid, watermark, now)?;
                let is_too_soon = timetable.is_too_soon(slot, self.status_writer.last_slot());
                (!is_too_soon).then_some((slot, Some(timetable)))
            }
            // A namespace without a schedule of its own is due at each visit. A namespace that
            // can't be read gets a round as well, because the report of the round says why.
            _ => by_hand(),
        }
    }

    async fn first_list(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        let listing = async {
            while self.recoveries.watch().is_none() && self.recoveries.has_watch() {
                let Some(event) = self.recoveries.next_event().await else { break };
                ended.extend(self.enter(event).await);
            }
        };
        if tokio::time::timeout(FIRST_LIST, listing).await.is_err() {
            tracing::warn!(
                namespace = self.name,
                "failed to list the Pods within {} s",
                FIRST_LIST.as_secs()
            );
        }
        ended
    }
}
