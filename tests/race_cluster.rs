//! Opt-outs at random moments against a fast schedule, through two API servers on one etcd, each with caches of its own: no kill is
//! accepted later than a moment after the opt-out's answer. What the API servers wrote into their audit logs is what counts.

use std::collections::{BTreeMap, VecDeque};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use policy::schedule::{Schedule, Timetable};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Value, json};
use tests::audit::{Mark, Request, folder};
use tests::cluster::{kubeconfig, kubectl, object, run};
use tests::hollow::{self, HollowNode};
use tests::repository::root;
use tokio::sync::Notify;

/// Opt-outs in all, half of them with the agent at the second API server, half with it at the first. They go to the other one.
const OPT_OUTS: usize = 1_000;

/// Namespaces that opt in and out at the same time.
const NAMESPACES: usize = 24;

/// No kill may be accepted later than this after the opt-out was answered.
const LATEST: Duration = Duration::from_millis(100);

/// How long nothing is done after an opt-out, so that a late kill is seen as what it is.
const QUIET: Duration = Duration::from_millis(700);

/// How far from the moment when a kill is expected the opt-out comes, in most rounds.
const NEAR: i64 = 150;

/// After this long without a kill the namespace opts out all the same.
const STALLED: Duration = Duration::from_secs(8);

/// A namespace that took its consent back.
struct OptOut {
    namespace: String,
    answered: Timestamp,
    /// When it was opted in again: later kills are none of its business.
    until: Timestamp,
}

/// What the Pods' ends tell while it goes on: where kills happen, and how long after their slots.
#[derive(Default)]
struct Ends {
    by_namespace: Mutex<BTreeMap<String, (usize, Arc<Notify>)>>,
    uids: Mutex<BTreeMap<String, String>>,
    /// Milliseconds from slot to end, of the last kills.
    lags: Mutex<VecDeque<i64>>,
}

impl Ends {
    fn end(&self, pod: &Pod) {
        let namespace = pod.namespace().unwrap();
        let now = Timestamp::now();
        if let Some(uid) = self.uids.lock().unwrap().get(&namespace) {
            let earlier = now.checked_sub(Duration::from_secs(2)).unwrap();
            if let Some(slot) = every_second().newest_in(uid, earlier, now) {
                let mut lags = self.lags.lock().unwrap();
                lags.push_back(now.as_millisecond() - slot.as_millisecond());
                if lags.len() > 101 {
                    lags.pop_front();
                }
            }
        }
        if let Some((count, changed)) = self.by_namespace.lock().unwrap().get_mut(&namespace) {
            *count += 1;
            changed.notify_waiters();
        }
    }

    /// The median.
    fn lag(&self) -> i64 {
        let mut lags: Vec<i64> = self.lags.lock().unwrap().iter().copied().collect();
        lags.sort_unstable();
        lags.get(lags.len() / 2).copied().unwrap_or(0)
    }
}

fn every_second() -> Timetable {
    Timetable {
        schedule: Schedule::parse("every 1s").unwrap(),
        zone: TimeZone::UTC,
        shortest_interval: Duration::from_secs(1),
    }
}

/// The test's own ends and means.
struct Stage {
    /// The API server that the agent doesn't use.
    api: Api<Namespace>,
    ends: Arc<Ends>,
    left: AtomicUsize,
    done: Mutex<Vec<OptOut>>,
}

async fn sleep_until(moment: Timestamp) {
    let left = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
    tokio::time::sleep(left).await;
}

fn after(moment: Timestamp, milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(moment.as_millisecond() + milliseconds).unwrap()
}

async fn annotate(api: &Api<Namespace>, name: &str, annotations: &Value) {
    let patch = json!({"metadata": {"annotations": annotations}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Opts a namespace in and out until there were enough opt-outs in all.
async fn churn(stage: Arc<Stage>, name: String, mode: &'static str, mut rng: ChaCha8Rng) {
    let uid = stage.ends.uids.lock().unwrap()[&name].clone();
    let take = |left: usize| left.checked_sub(1);
    while stage.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let changed = Arc::new(Notify::new());
        stage.ends.by_namespace.lock().unwrap().insert(name.clone(), (0, changed.clone()));
        let opt_in = json!({
            "chaos": "yes", "purechaos.dev/schedule": "every 1s", "purechaos.dev/min-age": "1s", "purechaos.dev/mode": mode
        });
        let first_kill = changed.notified();
        annotate(&stage.api, &name, &opt_in).await;
        tokio::time::timeout(STALLED, first_kill).await.ok();

        let soon = after(Timestamp::now(), NEAR);
        let slot = every_second().next_after(&uid, soon).unwrap();
        let moment = if rng.random_bool(0.8) {
            after(slot, stage.ends.lag() + rng.random_range(-NEAR..=NEAR))
        } else {
            after(slot, rng.random_range(0..1_000))
        };
        sleep_until(moment).await;
        annotate(&stage.api, &name, &json!({"chaos": null})).await;
        let answered = Timestamp::now();
        tokio::time::sleep(QUIET).await;
        stage.done.lock().unwrap().push(OptOut {
            namespace: name.clone(),
            answered,
            until: Timestamp::now(),
        });
    }
}

/// Runs the script that starts and stops the second API server.
fn second_api_server(act: &str) {
    let name = folder().file_name().unwrap().to_string_lossy().into_owned();
    let mut script = Command::new(root().join("tests/cluster/second-apiserver.sh"));
    let output = run(script.arg(act).env("NAME", name));
    print!("{}", output.succeeds());
}

/// The second API server, and the agent's way back from it whatever happens.
struct Second;

impl Second {
    fn start() -> Self {
        second_api_server("start");
        Self
    }

    fn kubeconfig() -> String {
        folder().join("kubeconfig-second").to_string_lossy().into_owned()
    }

    /// Makes the agent use this API server.
    fn takes_the_agent(&self) {
        let address =
            object(&["node", "node"])["status"]["addresses"][0]["address"].as_str().unwrap().to_owned();
        Self::set_agent(&[&format!("KUBERNETES_SERVICE_HOST={address}"), "KUBERNETES_SERVICE_PORT=6444"])
            .succeeds();
        Self::agent_is_rolled_out();
    }

    fn gives_the_agent_back(&self) {
        Self::set_agent(&["KUBERNETES_SERVICE_HOST-", "KUBERNETES_SERVICE_PORT-"]).succeeds();
        Self::agent_is_rolled_out();
    }

    fn set_agent(variables: &[&str]) -> tests::cluster::Output {
        kubectl(&[&["-n", "pure-chaos", "set", "env", "deployment/agent"], variables].concat())
    }

    fn agent_is_rolled_out() {
        kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment/agent", "--timeout=60s"]).succeeds();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let back = Self::set_agent(&["KUBERNETES_SERVICE_HOST-", "KUBERNETES_SERVICE_PORT-"]);
        if !back.ok {
            eprintln!("the agent still uses the second API server: {}", back.stderr);
        }
        second_api_server("stop");
    }
}

fn client(kubeconfig: &str) -> impl Future<Output = Client> {
    let kubeconfig = kubeconfig.to_owned();
    async move { runtime::client::connect(Some(kubeconfig.as_ref())).await.unwrap() }
}

async fn with_namespaces(
    client: &Client,
    prefix: &str,
    replicas: u32,
) -> (Vec<String>, BTreeMap<String, String>) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut names = Vec::new();
    let mut uids = BTreeMap::new();
    for number in 0..NAMESPACES {
        let name = format!("{prefix}-{}-{number}", std::process::id());
        let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let made =
            namespaces.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
        hollow::deployment(client, &name, replicas).await;
        uids.insert(name.clone(), made.uid().unwrap());
        names.push(name);
    }
    (names, uids)
}

/// What became of the kills around the opt-outs.
#[derive(Default)]
struct Findings {
    /// Opt-outs with an accepted kill in the second before.
    in_time: usize,
    /// Accepted kills in all.
    kills: usize,
    /// Attempts that came after an opt-out and were refused.
    refused: BTreeMap<String, usize>,
    /// From the opt-out's answer to the answer to a kill, of kills that were accepted after it.
    late: Vec<Duration>,
    /// Of these, how many the API server had even received later.
    received_late: usize,
}

fn find(opt_outs: &[OptOut], requests: &[Request]) -> Findings {
    let mut by_namespace: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.is_kill()) {
        by_namespace.entry(&request.namespace).or_default().push(request);
    }
    let mut findings = Findings::default();
    let accepted = |request: &&&Request| request.is_accepted();
    findings.kills = by_namespace.values().flatten().filter(accepted).count();
    for OptOut { namespace, answered, until } in opt_outs {
        let kills = by_namespace.get(namespace.as_str()).map(Vec::as_slice).unwrap_or_default();
        let second_before = answered.checked_sub(Duration::from_secs(1)).unwrap();
        let before = |kill: &&&Request| kill.answered > second_before && kill.answered <= *answered;
        findings.in_time += usize::from(kills.iter().filter(accepted).any(|kill| before(&kill)));
        for kill in kills.iter().filter(|kill| kill.answered > *answered && kill.answered < *until) {
            if kill.is_accepted() {
                findings.late.push(Duration::try_from(kill.answered.duration_since(*answered)).unwrap());
                findings.received_late += usize::from(kill.received > *answered);
            } else {
                let words = kill.message.replace(namespace, "…");
                *findings.refused.entry(format!("{} {words}", kill.code)).or_default() += 1;
            }
        }
    }
    findings
}

impl Findings {
    fn print(&self, opt_outs: usize) {
        println!(
            "{opt_outs} opt-outs, {} kills; in the second before an opt-out there was one {} times",
            self.kills, self.in_time
        );
        println!("kills accepted after the opt-out's answer: {}", self.late.len());
        let mut from = 0;
        for to in [10, 25, 50, 100, u64::MAX] {
            let within = |late: &&Duration| (from..to).contains(&u64::try_from(late.as_millis()).unwrap());
            let label = if to == u64::MAX { format!("over {from} ms") } else { format!("{from} to {to} ms") };
            println!("  {label:>14}: {}", self.late.iter().filter(within).count());
            from = to;
        }
        println!(
            "  at most {:?}; {} were received after the answer",
            self.late.iter().max(),
            self.received_late
        );
        for (refusal, count) in &self.refused {
            println!("refused after the opt-out: {count} × {refusal}");
        }
    }
}

#[test]
fn no_kill_is_accepted_after_an_opt_out() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let seed: u64 = std::env::var("PURE_CHAOS_RACE_SEED")
        .map_or_else(|_| rand::rng().next_u64(), |seed| seed.parse().unwrap());
    let opt_outs: usize =
        std::env::var("PURE_CHAOS_RACE_OPT_OUTS").map_or(OPT_OUTS, |count| count.parse().unwrap());
    println!("seed {seed}");
    let second = Second::start();
    second.takes_the_agent();
    let begun = std::time::Instant::now();
    let (done, requests) = runtime.block_on(async {
        runtime::process::install_tls_provider().unwrap();
        let (one, two) = (client(&kubeconfig()).await, client(&Second::kubeconfig()).await);
        let mark = Mark::now();
        let ends = Arc::new(Ends::default());
        let witness = ends.clone();
        let node = HollowNode::start(
            &one,
            Arc::new(move |pod, gone| {
                if gone {
                    witness.end(pod)
                }
            }),
        )
        .await;
        let (names, uids) = with_namespaces(&one, "race", 3).await;
        *ends.uids.lock().unwrap() = uids;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut done = Vec::new();
        for (half, client) in [&one, &two].into_iter().enumerate() {
            if half == 1 {
                second.gives_the_agent_back();
            }
            let stage = Arc::new(Stage {
                api: Api::all(client.clone()),
                ends: ends.clone(),
                left: AtomicUsize::new((opt_outs + half) / 2),
                done: Mutex::default(),
            });
            let mut churns = tokio::task::JoinSet::new();
            for (number, name) in names.iter().enumerate() {
                let mode = if number % 2 == 0 { "evict" } else { "delete" };
                churns.spawn(churn(
                    stage.clone(),
                    name.clone(),
                    mode,
                    ChaCha8Rng::seed_from_u64(rng.next_u64()),
                ));
            }
            while let Some(ended) = churns.join_next().await {
                ended.unwrap();
            }
            done.append(&mut stage.done.lock().unwrap());
            println!(
                "after {:.0?}: {} opt-outs, a kill takes {} ms from its slot",
                begun.elapsed(),
                done.len(),
                ends.lag()
            );
        }
        let requests = mark.requests();
        let namespaces: Api<Namespace> = Api::all(one.clone());
        for name in &names {
            namespaces.delete(name, &DeleteParams::default()).await.unwrap();
        }
        for name in &names {
            while namespaces.get_opt(name).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        node.remove().await;
        (done, requests)
    });
    drop(second);
    let findings = find(&done, &requests);
    findings.print(done.len());
    assert_eq!(done.len(), opt_outs);
    assert!(
        findings.kills >= opt_outs,
        "{} kills are too few for {opt_outs} opt-outs to meet one",
        findings.kills
    );
    assert!(
        findings.in_time >= opt_outs / 2,
        "only {} opt-outs came within a second of a kill",
        findings.in_time
    );
    let late: Vec<_> = findings.late.iter().filter(|late| **late > LATEST).collect();
    assert!(late.is_empty(), "kills were accepted after the opt-out: {late:?}");
}
