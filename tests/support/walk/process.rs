//! The agent as a process of a walk: what `agent run` does after it has its flags and its client.

use std::sync::Arc;
use std::time::Duration;

use agent::context::Context;
use agent::controller::halt::observe_halt;
use agent::controller::supervisor::supervise;
use agent::leader_election::lease::LeaderElector;
use prometheus::Registry;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use runtime::clock::TokioClock;
use runtime::process::essential;
use tokio_util::sync::CancellationToken;

use super::network;
use super::world::{Life, Shared};

/// How long a container that ended without being asked waits for its next start.
const RESTART: Duration = Duration::from_millis(1_300);

/// Starts a process in a slot, and starts it again when it ends without being asked.
pub fn start(world: &Shared, slot: usize, seed: u64, halts: bool) {
    let (clock, end) = {
        let mut it = world.lock().unwrap();
        let slot = &mut it.slots[slot];
        slot.end = CancellationToken::new();
        slot.start = None;
        (slot.clock.clone(), slot.end.clone())
    };
    let task = tokio::spawn(run(world.clone(), slot, clock, end, seed, halts));
    world.lock().unwrap().slots[slot].abort = Some(task.abort_handle());
}

async fn run(world: Shared, slot: usize, clock: TokioClock, end: CancellationToken, seed: u64, halts: bool) {
    while !end.is_cancelled() {
        let (process, registry, ended, policy) = {
            let mut it = world.lock().unwrap();
            let (registry, ended) = (Registry::new(), CancellationToken::new());
            let life = Life { slot, clock: clock.clone(), registry: registry.clone(), ended: ended.clone() };
            it.lives.push(life);
            let process = it.lives.len() - 1;
            it.say(&format!("process {process} starts in slot {slot}"));
            (process, registry, ended, it.policy.clone())
        };
        let client = network::client(world.clone(), process, ended.clone());
        let shared: Arc<TokioClock> = Arc::new(clock.clone());
        let mut candidacy = LeaderElector::new(client.clone(), shared.clone(), format!("agent_{process}"));
        // This belongs to the process and not to the slot, because the next process has its own
        // end.
        let over = end.child_token();
        if candidacy.win(&over).await {
            world.lock().unwrap().say(&format!("process {process} leads"));
            let leadership = candidacy.leadership();
            let context =
                Context::new(client, shared, policy, &registry, None, leadership, Arc::default()).unwrap();
            let (rng, events) = (ChaCha8Rng::seed_from_u64(seed ^ process as u64), context.events.clone());
            let halt = async {
                if halts {
                    observe_halt(context.clone(), over.clone()).await
                } else {
                    over.cancelled().await;
                    Ok(())
                }
            };
            let (kept, halt, records) = tokio::join!(
                essential("lease", over.clone(), candidacy.keep(&over)),
                essential("halt", over.clone(), halt),
                essential(
                    "records",
                    over.clone(),
                    supervise(context.clone(), rng, Arc::default(), over.clone())
                ),
            );
            candidacy.release().await;
            events.finish().await;
            let how = kept.and(halt).and(records);
            world.lock().unwrap().say(&format!("process {process} ends: {how:?}"));
        }
        ended.cancel();
        tokio::time::sleep(RESTART).await;
    }
}
