//! Kills on a real node, and their measurements, compared with an observer that knows nothing of
//! the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tests::cluster::{Namespace, eventually, kubeconfig, metrics, object, run, total};

/// What an observer of the Pods saw of one kill: when the victim began to go, and when there were
/// as many Ready Pods again, including a new one.
#[derive(Debug)]
struct Observed {
    recovery: Duration,
}

/// Watches a namespace's Pods until `kills` kills have ended in a recovery.
async fn observe(namespace: &str, replicas: usize, kills: usize, all_ready: Sender<()>) -> Vec<Observed> {
    runtime::process::install_tls_provider().unwrap();
    let client = runtime::client::connect(Some(kubeconfig().as_ref())).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let mut events = watcher(pods, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut ready: BTreeMap<String, bool> = BTreeMap::new();
    let mut gone: Option<(Instant, BTreeSet<String>)> = None;
    let mut seen = Vec::new();
    while let Some(pod) = events.try_next().await.unwrap() {
        let at = Instant::now();
        let uid = pod.uid().unwrap();
        let is_terminating = pod.metadata.deletion_timestamp.is_some();
        let is_ready = pod
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if is_terminating && gone.is_none() && ready.get(&uid) == Some(&true) {
            gone = Some((at, ready.keys().cloned().collect()));
        }
        ready.insert(uid, is_ready && !is_terminating);
        let count = ready.values().filter(|ready| **ready).count();
        if count == replicas && seen.is_empty() && gone.is_none() {
            all_ready.send(()).ok();
        }
        if let Some((begun, before)) = &gone
            && count >= replicas
            && ready.iter().any(|(uid, ready)| *ready && !before.contains(uid))
        {
            seen.push(Observed { recovery: at - *begun });
            gone = None;
            if seen.len() == kills {
                break;
            }
        }
    }
    seen
}

/// Starts the observer, and returns once it has seen all Pods Ready.
fn start_observer(namespace: &str, replicas: usize, kills: usize) -> std::thread::JoinHandle<Vec<Observed>> {
    let (ready, all_ready) = std::sync::mpsc::channel();
    let namespace = namespace.to_owned();
    let observer = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let observing = observe(&namespace, replicas, kills, ready);
        runtime.block_on(async {
            // After an eviction that met a change, the workload rests for two minutes.
            tokio::time::timeout(Duration::from_secs(300), observing)
                .await
                .expect("five minutes for the kills")
        })
    });
    all_ready.recv().expect("the observer sees the Pods");
    observer
}

#[test]
fn kills_recover_and_every_account_of_them_agrees() {
    let namespace = Namespace::new("kills");
    namespace.deployment("web", 3);
    let observer = start_observer(&namespace.name, 3, 4);
    namespace.opt_in(&["purechaos.dev/schedule=every 5s", "purechaos.dev/min-age=1s"]);
    let observed = observer.join().unwrap();
    let name = &namespace.name;
    let label = format!("target_namespace=\"{name}\"");
    let recovered =
        |text: &str| total(text, "pure_chaos_recoveries_total", &[&label, "outcome=\"recovered\""]);
    // The agent may see the fourth recovery later than the observer.
    eventually("the agent to count four recoveries", || (recovered(&metrics()) >= 4.0).then_some(()));
    namespace.annotate(&["chaos-"]).succeeds();

    // The last recovery may end as opted_out. Every kill ends in exactly one outcome.
    let text = eventually("every kill to end in an outcome", || {
        let text = metrics();
        let kills = total(&text, "pure_chaos_kills_total", &[&label]);
        (kills == total(&text, "pure_chaos_recoveries_total", &[&label])).then_some(text)
    });
    let kills = total(&text, "pure_chaos_kills_total", &[&label]);
    let recovered = recovered(&text);
    assert!(kills >= 4.0 && recovered >= 4.0, "{kills} kills, {recovered} recovered");

    // The mean over the same kills: the observer saw the first four kills that recovered.
    let seconds = total(&text, "pure_chaos_recovery_seconds_sum", &[&label]) / recovered;
    let seen = observed.iter().map(|kill| kill.recovery.as_secs_f64()).sum::<f64>() / 4.0;
    println!("mean recovery: {seconds:.3} s by the agent, {seen:.3} s by the observer");
    assert!((seconds - seen).abs() < 1.0, "{seconds} against {seen}: {observed:?}");

    let events = object(&["events.events.k8s.io", "-n", name]);
    let count = |reason: &str, kind: &str| {
        let of = |event: &&serde_json::Value| event["reason"] == reason && event["regarding"]["kind"] == kind;
        events["items"].as_array().unwrap().iter().filter(of).count() as f64
    };
    assert_eq!((count("ChaosKilled", "Pod"), count("ChaosKilled", "Deployment")), (kills, kills));
    assert_eq!(count("ChaosRecovered", "Deployment"), recovered);
    let created = count_created(&events);
    assert_eq!(created, 3.0 + kills, "the ReplicaSet made one Pod for each kill");

    let file = std::env::temp_dir().join(format!("{name}.metrics"));
    std::fs::write(&file, &text).unwrap();
    let mut check = std::process::Command::new("promtool");
    check.args(["check", "metrics"]).stdin(std::fs::File::open(&file).unwrap());
    let checked = run(&mut check);
    std::fs::remove_file(&file).unwrap();
    assert!(checked.ok && checked.stderr.is_empty(), "{checked:?}");

    // Long after the opt-out, measured in slots, the same Pods are alive.
    eventually("three Ready Pods", || (namespace.pods().len() == 3).then_some(()));
    let survivors = namespace.pods();
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(namespace.pods(), survivors);
}

fn count_created(events: &serde_json::Value) -> f64 {
    let of = |event: &&serde_json::Value| {
        event["reason"] == "SuccessfulCreate" && event["regarding"]["kind"] == "ReplicaSet"
    };
    events["items"].as_array().unwrap().iter().filter(of).count() as f64
}
