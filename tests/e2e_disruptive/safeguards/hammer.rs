//! What the locks hold alone: a process with the agent's own token deletes Pods without a pause and
//! without checking consent, through two API servers. The test prints the distribution, and asserts
//! that the deletions end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::Request as HttpRequest;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Patch, PatchParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Value, json};
use tests::audit::Mark;
use tests::cluster::{PATIENCE, kubeconfig, kubectl};
use tests::fake_node::{self, FakeNode};
use tests::lateness::{OptOut, find};
use tests::second_api_server::{Second, client};
use tokio::task::JoinSet;

/// The number of namespaces that are hammered at the same time, and how often each opts out.
const NAMESPACES: usize = 3;
const OPT_OUTS_EACH: usize = 8;

/// The pause between two tries on a namespace through one API server.
const PAUSE: Duration = Duration::from_millis(30);

/// How long the process goes on after an opt-out.
const AFTER: Duration = Duration::from_millis(1_500);

/// After this long no API server may accept a deletion any more, however busy the machine is.
const END: Duration = Duration::from_secs(1);

/// The names of the existing Pods, by namespace.
type Pods = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// A client with the agent's token and nothing else.
async fn as_agent(kubeconfig: &str, token: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Tries one deletion. Returns whether the API server accepted it.
async fn strike(client: &Client, namespace: &str, pod: &str, query: &str) -> bool {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}{query}");
    let request = HttpRequest::delete(path).body(Vec::new()).unwrap();
    client.request::<Value>(request).await.is_ok()
}

async fn annotate(api: &Api<Namespace>, name: &str, annotations: Value) {
    let patch = json!({"metadata": {"annotations": annotations}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Opts in, lets the process delete Pods, and opts out meanwhile.
async fn under_the_hammer(
    api: Api<Namespace>,
    hammers: Vec<Client>,
    pods: Pods,
    name: String,
    query: String,
    mut rng: ChaCha8Rng,
) -> Vec<OptOut> {
    let mut opt_outs = Vec::new();
    for _ in 0..OPT_OUTS_EACH {
        annotate(
            &api,
            &name,
            json!({"chaos": "yes", "purechaos.dev/schedule": "every 12h", "purechaos.dev/mode": "delete"}),
        )
        .await;
        let mut blows = JoinSet::new();
        for hammer in hammers.clone() {
            let (pods, name, query) = (pods.clone(), name.clone(), query.clone());
            blows.spawn(async move {
                loop {
                    let pod = pods.lock().unwrap().get(&name).and_then(|pods| pods.first().cloned());
                    if let Some(pod) = pod
                        && strike(&hammer, &name, &pod, &query).await
                    {
                        pods.lock().unwrap().get_mut(&name).map(|pods| pods.remove(&pod));
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(800..1_600))).await;
        annotate(&api, &name, json!({"chaos": null})).await;
        let answered = Timestamp::now();
        tokio::time::sleep(AFTER).await;
        let until = Timestamp::now();
        blows.shutdown().await;
        opt_outs.push(OptOut { namespace: name.clone(), answered, until });
    }
    opt_outs
}

#[test]
fn the_locks_alone_end_the_hammering() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let second = Second::start();
    let token = kubectl(&["-n", "pure-chaos", "create", "token", "agent", "--duration=1h"]).succeeds();
    // Such as `?timeout=100ms`, to see what a deadline of the API server does.
    let query = std::env::var("PURE_CHAOS_HAMMER_QUERY").unwrap_or_default();
    let mut rng = ChaCha8Rng::seed_from_u64(rand::rng().next_u64());
    let (opt_outs, requests) = runtime.block_on(async {
        let (one, two) = (client(&kubeconfig()).await, client(&Second::kubeconfig()).await);
        let mark = Mark::now();
        let hammers = vec![
            as_agent(&kubeconfig(), token.trim()).await,
            as_agent(&Second::kubeconfig(), token.trim()).await,
        ];
        let pods = Pods::default();
        let seen = pods.clone();
        let witness = move |pod: &Pod, gone: bool| {
            let mut seen = seen.lock().unwrap();
            let names = seen.entry(pod.namespace().unwrap()).or_default();
            if gone {
                names.remove(&pod.name_any())
            } else {
                names.insert(pod.name_any())
            };
        };
        let node = FakeNode::start(&one, Arc::new(witness)).await;
        let uids = fake_node::namespaces(&one, "hammer", NAMESPACES, 4).await;
        let mut all = JoinSet::new();
        for (number, name) in uids.keys().enumerate() {
            let api = Api::all(if number % 2 == 0 { one.clone() } else { two.clone() });
            let rng = ChaCha8Rng::seed_from_u64(rng.next_u64());
            all.spawn(under_the_hammer(api, hammers.clone(), pods.clone(), name.clone(), query.clone(), rng));
        }
        let mut opt_outs = Vec::new();
        while let Some(ended) = tokio::time::timeout(PATIENCE * 2, all.join_next()).await.unwrap() {
            opt_outs.extend(ended.unwrap());
        }
        let requests = mark.requests();
        fake_node::remove_namespaces(&one, uids.keys()).await;
        node.remove().await;
        (opt_outs, requests)
    });
    drop(second);
    let findings = find(&opt_outs, &requests);
    findings.print(opt_outs.len());
    assert!(findings.in_time >= opt_outs.len() * 3 / 4, "the hammer hardly hit: {}", findings.in_time);
    assert!(!findings.refused.is_empty(), "no lock was asked");
    let most = findings.evictions.most().max(findings.deletions.most());
    assert!(most < END, "kills went on: {most:?}");
}
