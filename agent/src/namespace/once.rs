//! One visit to a namespace, for `agent once`: settle what earlier processes left, do a round if one is due, and wait if that is wanted.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use policy::schedule::Timetable;
use policy::settings::Key;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{LOOK_INTERVAL, NamespaceTask, next_event};
use crate::observe::read_namespace;
use crate::recoveries::Ended;
use crate::report::RoundReport;
use crate::slots::Serve;

/// How long the first list of the Pods may take.
const FIRST_LIST: Duration = Duration::from_secs(15);

/// How a visit was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// A round even where none is due.
    pub now: bool,
    /// Everything but the effect, and no slot is spent.
    pub dry_run: bool,
}

/// What a visit found.
#[derive(Debug)]
pub enum Visit {
    /// A round was done.
    Round(Box<RoundReport>),
    /// None was due; the next one is, if there is a next one.
    NotDue(Option<Timestamp>),
}

impl NamespaceTask {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends what has recovered meanwhile, and does one round if one is due.
    pub async fn visit(&mut self, asked: Asked) -> (Visit, Vec<Ended>) {
        self.follow(self.record.clone());
        let mut ended = self.first_list().await;
        self.settle().await;
        ended.extend(self.recoveries.look(&mut self.ledger).await);
        let now = self.deps.clock.wall();
        let visit = match self.due(asked, now).await {
            Some((slot, timetable)) => {
                let serve = Serve { slot, timetable: timetable.as_ref(), dry_run: asked.dry_run };
                let report = self.serve(serve).await;
                if !asked.dry_run {
                    self.record_round(slot, &report);
                }
                Visit::Round(Box::new(report))
            }
            None => Visit::NotDue(self.next_round()),
        };
        let next = self.next_round();
        self.ledger.set_next_slot(next);
        self.save().await;
        (visit, ended)
    }

    /// Waits until every pending recovery has ended.
    pub async fn wait(&mut self, end: &CancellationToken) -> Vec<Ended> {
        let mut ended = Vec::new();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.recoveries.is_empty() {
            tokio::select! {
                biased;
                () = end.cancelled() => break,
                Some(event) = next_event(&mut self.watch) => ended.extend(self.enter(event).await),
                _ = look.tick() => {
                    match self.ledger.read().await {
                        // With the record the rights have gone.
                        Err(error) if error.code() == Some(404) => ended.extend(self.conclude().await),
                        _ => ended.extend(self.recoveries.look(&mut self.ledger).await),
                    }
                }
            }
        }
        self.save().await;
        ended
    }

    /// The slot to serve, with the timetable it was computed from; without one where the round was asked for by hand, or by whatever starts
    /// this process.
    async fn due(&self, asked: Asked, now: Timestamp) -> Option<(Timestamp, Option<Timetable>)> {
        let by_hand = || Some((now.round(jiff::Unit::Millisecond).unwrap_or(now), None));
        if asked.now {
            return by_hand();
        }
        match read_namespace(&self.deps.client, &self.name).await {
            Ok(namespace) if namespace.annotations.contains_key(&Key::Schedule.annotation()) => {
                let timetable = self.timetable.clone()?;
                let opted_in = self.record.creation_timestamp().map_or(now, |created| created.0);
                let floor = self.ledger.last_slot().unwrap_or(opted_in);
                let slot = timetable.newest_in(&self.record.spec.namespace_uid, floor, now)?;
                let is_too_soon = timetable.is_too_soon(slot, self.ledger.last_slot());
                (!is_too_soon).then_some((slot, Some(timetable)))
            }
            // One that can't be read gets a round as well: that says why.
            _ => by_hand(),
        }
    }

    async fn first_list(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        let listing = async {
            while !self.recoveries.is_watched() && self.watch.is_some() {
                let Some(event) = next_event(&mut self.watch).await else { break };
                ended.extend(self.enter(event).await);
            }
        };
        if tokio::time::timeout(FIRST_LIST, listing).await.is_err() {
            tracing::warn!(
                namespace = self.name,
                "the Pods were not listed within {} s",
                FIRST_LIST.as_secs()
            );
        }
        ended
    }
}
