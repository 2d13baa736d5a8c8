//! One leader of two agents. The test kills the leader without a warning in the middle of its
//! kills, asks it to end, and removes its Lease. No slot is spent twice, and no kill is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use policy::schedule::{Schedule, Timetable};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::Value;
use tests::audit::{Mark, Request};
use tests::cluster::{Namespace, eventually, kubectl, object, run};
use tests::soak::share;

/// How often `make soak` kills the leader.
const DEATHS: usize = 20;

/// The longest time from a slot to the leader's death, in milliseconds. The look, the intent, the
/// kill and its result come within it.
const AROUND_A_KILL: u64 = 300;

/// How long a hand-over may take.
const HAND_OVER: Duration = Duration::from_secs(2);

const TWO: [&str; 5] = ["-n", "pure-chaos", "scale", "deployment", "agent"];

fn timetable() -> Timetable {
    Timetable {
        schedule: Schedule::parse("every 3s").unwrap(),
        also_at: None,
        zone: TimeZone::UTC,
        shortest_interval: Duration::from_secs(1),
    }
}

/// The identity that holds the Lease; empty if nobody holds it.
fn holder() -> String {
    let lease = object(&["lease", "agent", "-n", "pure-chaos"]);
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

fn pod_of(holder: &str) -> &str {
    holder.split_once('_').map_or(holder, |(pod, _)| pod)
}

/// The process ID of a Pod's agent on this machine. The node's processes are among the machine's
/// own.
fn process_of(pod: &str) -> String {
    let hostname = format!("HOSTNAME={pod}");
    let is_it = |folder: &std::path::Path| {
        let comm = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
        comm.trim() == "agent" && environment.split(|byte| *byte == 0).any(|pair| pair == hostname.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let found = processes.filter(|entry| is_it(&entry.path())).map(|entry| entry.file_name()).next();
    found.unwrap_or_else(|| panic!("no process of {pod}")).into_string().unwrap()
}

fn send(signal: &str, pod: &str) {
    run(std::process::Command::new("kill").args([signal, &process_of(pod)])).succeeds();
}

fn status(namespace: &Namespace) -> Value {
    namespace.record()["status"].clone()
}

/// Waits until an agent other than `before` leads and has spent a slot.
fn new_leader(namespace: &Namespace, before: &str) -> String {
    let leader = eventually("a leader", || Some(holder()).filter(|now| !now.is_empty() && now != before));
    let since = Timestamp::now();
    let has_served = || {
        let last: Timestamp = status(namespace)["lastSlot"].as_str()?.parse().ok()?;
        (last > since).then_some(())
    };
    eventually("a round of the new leader", has_served);
    leader
}

#[test]
fn a_leader_that_dies_loses_no_kill_and_spends_no_slot_twice() {
    let mark = Mark::now();
    let namespace = Namespace::new("leader");
    for name in ["one", "two", "three"] {
        namespace.deployment(name, 2);
    }
    // The mode is not `evict`, because after an eviction that met a change the workload rests for
    // two minutes.
    namespace.opt_in(&[
        "purechaos.dev/schedule=every 3s",
        "purechaos.dev/min-age=1s",
        "purechaos.dev/mode=delete",
    ]);
    let two = [&TWO[..], &["--replicas=2"]].concat();
    kubectl(&two).succeeds();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lead_and_die(&namespace)));
    kubectl(&[&TWO[..], &["--replicas=1"]].concat()).succeeds();
    kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment", "agent", "--timeout=120s"]).succeeds();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    account(&namespace, &mark);
}

fn lead_and_die(namespace: &Namespace) {
    let uid = object(&["namespace", &namespace.name])["metadata"]["uid"].as_str().unwrap().to_owned();
    let seed = rand::rng().next_u64();
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut leader = String::new();
    for death in 1..=share(DEATHS) {
        leader = new_leader(namespace, &leader);
        let slot = timetable().next_after(&uid, Timestamp::now()).unwrap();
        let moment = slot.checked_add(Duration::from_millis(rng.random_range(0..AROUND_A_KILL))).unwrap();
        let left = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default();
        std::thread::sleep(left);
        let pod = pod_of(&leader);
        send("-KILL", pod);
        // Otherwise Kubernetes would start the container again after longer and longer pauses.
        kubectl(&["-n", "pure-chaos", "delete", "pod", pod, "--force", "--grace-period=0", "--wait=false"]);
        // A field that doesn't exist yet, as before a first kill, is null.
        let status = status(namespace);
        println!(
            "death {death}: {} kills, intent {}, {} pending",
            status["kills"], status["intents"][0]["kill"]["pod"], status["pendingCount"]
        );
    }

    let leader = new_leader(namespace, &leader);
    eventually("a standby", || {
        let deployment = object(&["deployment", "agent", "-n", "pure-chaos"]);
        (deployment["status"]["readyReplicas"] == 2).then_some(())
    });
    let begun = Instant::now();
    send("-TERM", pod_of(&leader));
    let next =
        eventually("another leader", || Some(holder()).filter(|now| !now.is_empty() && *now != leader));
    let took = begun.elapsed();
    println!("handed over in {took:.1?}");
    assert!(took < HAND_OVER, "{took:?}");

    kubectl(&["-n", "pure-chaos", "delete", "lease", "agent"]).succeeds();
    let after = new_leader(namespace, &next);
    println!("the Lease was taken away from {next}; {after} leads");
}

/// Compares the record with the audit log.
fn account(namespace: &Namespace, mark: &Mark) {
    namespace.annotate(&["purechaos.dev/halt=counting"]).succeeds();
    let settled = eventually("the end of all recoveries", || {
        let status = status(namespace);
        (status["pendingCount"].as_i64().unwrap_or(0) == 0 && status["intents"].is_null()).then_some(status)
    });
    let is_ours =
        |request: &Request| request.namespace == namespace.name && request.is_kill() && request.is_accepted();
    let kills: Vec<Request> = mark.requests().into_iter().filter(is_ours).collect();
    let outcomes: i64 =
        settled["outcomes"].as_object().unwrap().values().map(|count| count.as_i64().unwrap()).sum();
    println!(
        "{} kills by the audit log, {} by the record, outcomes {}",
        kills.len(),
        settled["kills"],
        settled["outcomes"]
    );

    let uid = object(&["namespace", &namespace.name])["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut by_slot: BTreeMap<Timestamp, usize> = BTreeMap::new();
    for kill in &kills {
        let earlier = kill.received.checked_sub(Duration::from_secs(10)).unwrap();
        *by_slot.entry(timetable().newest_in(&uid, earlier, kill.received).unwrap()).or_default() += 1;
    }
    let twice: Vec<_> = by_slot.iter().filter(|(_, kills)| **kills > 1).collect();
    assert!(twice.is_empty(), "slots that were spent twice: {twice:?}");
    assert!(kills.len() > share(DEATHS), "each leader killed at least once");
    assert_eq!(
        settled["kills"].as_i64(),
        i64::try_from(kills.len()).ok(),
        "each kill is in the record, once"
    );
    assert_eq!(outcomes, settled["kills"].as_i64().unwrap(), "each kill has an outcome, and one only");
}
