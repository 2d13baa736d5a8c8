//! Compares each recovery that the agent exports with an observer in a process of its own. Over
//! kills of mixed workloads, whose Pods take up to 15 s to become Ready, the counts are the same
//! and the times differ by next to nothing.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tests::audit::Mark;
use tests::cluster::{Namespace, eventually, kubeconfig, kubectl, kubectl_with, metrics, run, total, within};
use tests::site::Site;
use tests::truth::{Desired, Recovery, Sight, Workload, ready, recoveries};

use self::rows::{Row, differences, print_all, print_summary};

/// Which workloads there are, and how they are killed.
struct Plan {
    namespace: &'static str,
    /// The kinds, the number of Pods of each workload, and one workload for each of these seconds
    /// from a container's start until it is Ready.
    workloads: &'static [(&'static str, usize, &'static [u64])],
    settings: &'static [&'static str],
    /// On how many nodes without a machine a DaemonSet has its Pods. `None` for the real node.
    nodes: Option<usize>,
    /// The smallest number of recoveries in all.
    enough: usize,
}

/// One Pod of a workload at a time.
const ONE: Plan = Plan {
    namespace: "truth",
    workloads: &[
        ("Deployment", 2, &[0, 1, 2, 3, 5, 8, 10, 15]),
        ("StatefulSet", 2, &[0, 3, 10]),
        ("ReplicaSet", 2, &[1, 5]),
        ("DaemonSet", 1, &[0, 2]),
    ],
    settings: &[
        "purechaos.dev/schedule=every 1s",
        "purechaos.dev/min-age=1s",
        "purechaos.dev/recovery-deadline=60s",
        "purechaos.dev/kinds=Deployment,StatefulSet,ReplicaSet,DaemonSet",
        "purechaos.dev/single-replica=allow",
    ],
    nodes: None,
    enough: 50,
};

/// Two Pods of a workload in one round.
const TWO: Plan = Plan {
    namespace: "truth-two",
    workloads: &[
        ("Deployment", 4, &[2]),
        ("StatefulSet", 4, &[1]),
        ("ReplicaSet", 4, &[3]),
        ("DaemonSet", 4, &[2]),
    ],
    settings: &[
        "purechaos.dev/schedule=every 4s",
        "purechaos.dev/min-age=1s",
        "purechaos.dev/recovery-deadline=60s",
        "purechaos.dev/per-workload=50%",
        "purechaos.dev/limit=2",
        "purechaos.dev/kinds=Deployment,StatefulSet,ReplicaSet,DaemonSet",
    ],
    nodes: Some(4),
    enough: 12,
};

/// The smallest number of recoveries of each workload.
const ENOUGH_OF_EACH: usize = 2;

/// When there must be enough recoveries. They take about two minutes.
const DEADLINE: Duration = Duration::from_secs(300);

/// How much the agent's seconds may differ from the observer's, if both processes got their events
/// in time.
fn tolerance(seconds: f64) -> f64 {
    (seconds * 0.02).max(0.1)
}

/// One recovery in this many may differ by more: if there are more running processes than
/// processors, one of the two gets an event late now and then.
const ONE_MAY_BE_LATE_IN: usize = 20;
/// Even such a recovery differs by less than this. A measurement from the victim's end would be
/// wrong by a second.
const LATEST: f64 = 0.5;
/// Half of all recoveries differ by less than this, on a busy machine as well. If every one is
/// late, that is no accident.
const MEDIAN: f64 = 0.05;

/// The observer's process, which ends with this value.
struct Observer {
    process: Child,
    input: ChildStdin,
    sights: Arc<Mutex<Vec<Sight>>>,
    reader: JoinHandle<()>,
}

impl Observer {
    fn start(namespace: &str, desired: &Desired) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
        command.args([&kubeconfig(), namespace]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        // Under load the observer would get events late, and the agent would seem wrong.
        let raised = run(Command::new("chrt").args(["--fifo", "--pid", "10", &process.id().to_string()]));
        if !raised.ok {
            println!("The observer is as late as any other process here: {}", raised.stderr.trim());
        }
        let input = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let sights = Arc::new(Mutex::new(Vec::new()));
        let (seen, desired) = (sights.clone(), desired.clone());
        let reader = std::thread::spawn(move || {
            lines.for_each(|line| seen.lock().unwrap().push(Sight::parse(&line.unwrap(), &desired)));
        });
        Self { process, input, sights, reader }
    }

    /// The sights until now.
    fn sights(&self) -> Vec<Sight> {
        self.sights.lock().unwrap().clone()
    }

    /// Ends the observer, and returns all its sights.
    fn end(mut self) -> Vec<Sight> {
        drop(self.input);
        assert!(self.process.wait().unwrap().success(), "the observer missed something");
        self.reader.join().unwrap();
        self.sights.lock().unwrap().clone()
    }
}

/// How long some process has waited for a processor since the machine started. `None` if the kernel
/// doesn't tell.
fn waited() -> Option<Duration> {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let (_, micros) = pressure.lines().next()?.split_once("total=")?;
    Some(Duration::from_micros(micros.parse().ok()?))
}

impl Plan {
    /// The workloads, with the number of Pods that each wants and the seconds after which these are
    /// Ready.
    fn each(&self) -> impl Iterator<Item = (Workload, usize, u64)> {
        self.workloads.iter().flat_map(|(kind, replicas, delays)| {
            delays.iter().map(move |delay| {
                (((*kind).to_owned(), format!("{}-{delay}", kind.to_lowercase())), *replicas, *delay)
            })
        })
    }
}

fn manifest((kind, name): &Workload, replicas: usize, delay: u64) -> Value {
    // A victim takes a second to go, so a measurement from or until its end is wrong by a second.
    let mut container = json!({
        "name": "logger", "image": "chentex/random-logger", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    });
    if delay > 0 {
        // The kubelet probes itself, which always answers. So only the delay matters.
        container["readinessProbe"] = json!({
            "httpGet": {"host": "127.0.0.1", "port": 10248, "path": "/healthz"},
            "initialDelaySeconds": delay, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 30,
        });
    }
    let mut workload = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
            },
        },
    });
    if kind != "DaemonSet" {
        workload["spec"]["replicas"] = replicas.into();
    }
    workload
}

/// The recoveries in the agent's log, by the victims' UIDs: how each ended, and its seconds.
fn told_by_the_agent(namespace: &str, since: Timestamp) -> BTreeMap<BTreeSet<String>, (String, Option<f64>)> {
    let since = format!("--since-time={since}");
    let log = kubectl(&["-n", "pure-chaos", "logs", "deployment/agent", &since]).succeeds();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut told = BTreeMap::new();
    for line in lines.filter(|line| line["message"] == "recovery ended" && line["namespace"] == namespace) {
        let word = |key: &str| line[key].as_str().unwrap().to_owned();
        let victims = word("uid").split(", ").map(str::to_owned).collect();
        let before = told.insert(victims, (word("outcome"), line["seconds"].as_f64()));
        assert!(before.is_none(), "a recovery that ended twice: {line}");
    }
    told
}

/// When the API server answered the kills of each Pod that it accepted, in Unix seconds from its
/// audit log.
fn answers(namespace: &str, audit_log: &Mark) -> BTreeMap<String, Vec<f64>> {
    let mut answers = BTreeMap::<String, Vec<f64>>::new();
    for kill in audit_log.requests() {
        if kill.namespace == namespace && kill.is_kill() && kill.is_accepted() {
            answers.entry(kill.name).or_default().push(kill.answered.as_microsecond() as f64 / 1e6);
        }
    }
    answers
}

/// How many seconds after the API server's answer the observer saw a kill. A recovery begins with
/// the earlier of the two.
fn lag(recovery: &Recovery, answers: &BTreeMap<String, Vec<f64>>) -> f64 {
    let Recovery { victim, .. } = recovery;
    let lags = answers[&victim.name].iter().map(|answer| victim.at - answer);
    // A StatefulSet's Pods have the same name one after another.
    lags.min_by(|one, other| one.abs().total_cmp(&other.abs())).unwrap()
}

/// Kills a namespace's Pods until there are enough recoveries and none is pending. Returns all that
/// the observer saw.
fn kill_and_watch(plan: &Plan, site: &Site, desired: &Desired) -> Vec<Sight> {
    let namespace = &site.scene().namespace;
    let observer = Observer::start(&namespace.name, desired);
    let mut all: Vec<Value> =
        plan.each().map(|(workload, replicas, delay)| manifest(&workload, replicas, delay)).collect();
    if plan.nodes.is_some() {
        let of_nodes = all.iter_mut().filter(|object| object["kind"] == "DaemonSet");
        of_nodes.for_each(|object| site.place(&mut object["spec"]["template"]["spec"]));
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
    kubectl_with(&["-n", &namespace.name, "create"], &list).succeeds();
    let pods: usize = desired.values().sum();
    within(DEADLINE, "all Pods to be Ready", || (ready(&observer.sights()) == pods).then_some(()));

    namespace.opt_in(plan.settings);
    within(DEADLINE, "enough recoveries", || {
        let recoveries = recoveries(&observer.sights(), desired);
        let of = |workload: &Workload| {
            let is_its = |one: &&Recovery| one.victim.workload == *workload && one.seconds.is_some();
            recoveries.iter().filter(is_its).count()
        };
        let is_enough = desired.keys().map(of).sum::<usize>() >= plan.enough
            && desired.keys().all(|workload| of(workload) >= ENOUGH_OF_EACH);
        is_enough.then_some(())
    });
    namespace.annotate(&["purechaos.dev/halt=counting"]).succeeds();
    eventually("the end of all recoveries, for the agent and for the observer", || {
        let status = namespace.record()["status"].take();
        let is_settled = status["pendingCount"].as_i64().unwrap_or(0) == 0 && status["intents"].is_null();
        let recoveries = recoveries(&observer.sights(), desired);
        (is_settled && recoveries.iter().all(|one| one.seconds.is_some())).then_some(())
    });
    observer.end()
}

#[test]
fn each_recovery_is_as_long_as_an_independent_observer_says() {
    let (rows, busy) = compare(&ONE);
    let far: Vec<_> = rows
        .iter()
        .filter(|row| row.difference().abs() > tolerance(row.watched))
        .map(|row| (&row.workload.1, row.watched, row.exported))
        .collect();
    let largest = differences(&rows)[rows.len() - 1];
    assert!(
        far.len() * ONE_MAY_BE_LATE_IN <= rows.len() && largest < LATEST,
        "workload, seconds by the observer and by the agent, on a machine busy {busy:.0} %: {far:?}"
    );
}

#[test]
fn a_recovery_of_two_pods_is_as_long_as_an_independent_observer_says() {
    let (rows, busy) = compare(&TWO);
    assert!(rows.iter().all(|row| row.kills == 2), "rounds take two Pods of a workload that has four");
    let largest = differences(&rows)[rows.len() - 1];
    assert!(largest < LATEST, "they differ by {largest} s, on a machine busy {busy:.0} %");
}

/// Kills as the plan says, and compares what the agent and the observer say of each recovery. Returns
/// the recoveries, and how much of the time in percent some process waited for a processor.
fn compare(plan: &Plan) -> (Vec<Row>, f64) {
    let site = Site::make(plan.namespace, &vec!["east"; plan.nodes.unwrap_or(0)]);
    let namespace = &site.scene().namespace;
    let name = &namespace.name;
    let desired: Desired = plan.each().map(|(workload, replicas, _)| (workload, replicas)).collect();
    let delays: BTreeMap<Workload, u64> = plan.each().map(|(workload, _, delay)| (workload, delay)).collect();
    let (since, begun, waited_before) = (Timestamp::now(), Instant::now(), waited());
    let audit_log = Mark::now();
    let seen = recoveries(&kill_and_watch(plan, &site, &desired), &desired);
    let busy = waited().zip(waited_before).map(|(now, before)| (now - before).as_secs_f64());
    let busy = busy.map(|seconds| seconds / begun.elapsed().as_secs_f64() * 100.0).unwrap_or(f64::NAN);
    let told = told_by_the_agent(name, since);
    let answers = answers(name, &audit_log);

    let uids = |recovery: &Recovery| recovery.victims().map(|victim| victim.uid.clone()).collect();
    let victims: BTreeSet<BTreeSet<String>> = seen.iter().map(uids).collect();
    assert_eq!(
        victims,
        told.keys().cloned().collect(),
        "the Pods that the observer saw die are those that the agent killed"
    );
    let other: Vec<_> = told.iter().filter(|(_, (outcome, _))| outcome != "recovered").collect();
    assert!(other.is_empty(), "recoveries that ended otherwise: {other:?}");

    let rows: Vec<Row> = seen
        .iter()
        .map(|recovery| Row {
            workload: recovery.victim.workload.clone(),
            delay: delays[&recovery.victim.workload],
            kills: recovery.victims().count(),
            watched: recovery.seconds.unwrap() + lag(recovery, &answers).max(0.0),
            exported: told[&uids(recovery)].1.unwrap(),
        })
        .collect();
    print_all(&rows);
    print_summary(plan.each().map(|(workload, _, delay)| (workload, delay)), &rows);
    println!("In {busy:.0} % of the time some process of this machine waited for a processor.");
    check_exported(plan, namespace, &rows);
    assert!(rows.len() >= plan.enough, "{} recoveries", rows.len());
    let median = differences(&rows)[rows.len() / 2];
    assert!(median < MEDIAN, "half of all differ by more than {median} s");
    (rows, busy)
}

/// Checks that the metrics and the record say the same of each workload and kind as the rows.
fn check_exported(plan: &Plan, namespace: &Namespace, rows: &[Row]) {
    let text = metrics();
    let here = format!("target_namespace=\"{}\"", namespace.name);
    let (all, kills) = (rows.len() as f64, rows.iter().map(|row| row.kills).sum::<usize>());
    assert_eq!(total(&text, "pure_chaos_kills_total", &[&here]), kills as f64, "kills");
    assert_eq!(total(&text, "pure_chaos_recoveries_total", &[&here]), all, "outcomes");
    for (workload, _, _) in plan.each() {
        let (kind, name) = &workload;
        let labels = [here.clone(), format!("workload_kind=\"{kind}\""), format!("workload=\"{name}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let of: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        let kills = of.iter().map(|row| row.kills).sum::<usize>() as f64;
        assert_eq!(total(&text, "pure_chaos_kills_total", &labels), kills, "kills of {workload:?}");
        let recovered = [&labels[..], &["outcome=\"recovered\""]].concat();
        assert_eq!(
            total(&text, "pure_chaos_recoveries_total", &recovered),
            of.len() as f64,
            "recoveries of {workload:?}"
        );
    }
    for kind in ["Deployment", "StatefulSet", "ReplicaSet", "DaemonSet"] {
        let labels = [here.as_str(), &format!("workload_kind=\"{kind}\"")];
        let of_kind = || rows.iter().filter(|row| row.workload.0 == kind);
        let count = total(&text, "pure_chaos_recovery_seconds_count", &labels);
        assert_eq!(count, of_kind().count() as f64, "measured recoveries of each {kind}");
        let (sum, told) = (
            total(&text, "pure_chaos_recovery_seconds_sum", &labels),
            of_kind().map(|row| row.exported).sum::<f64>(),
        );
        // The two sums differ only because of the order of addition.
        assert!((sum - told).abs() < 1e-6, "{kind}: {sum} s in the metrics, {told} s in the log");
    }
    let status = namespace.record()["status"].take();
    assert_eq!((&status["kills"], &status["outcomes"]["recovered"]), (&json!(kills), &json!(rows.len())));
}
