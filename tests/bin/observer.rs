//! `observer KUBECONFIG NAMESPACE` prints what happens to a namespace's Pods, one line of JSON for
//! each change, until its standard input ends. It only records, by a clock of its own. It shares no
//! code with the agent except for the Kubernetes client, because tests compare the agent's
//! measurements with its lines.

use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::time::Instant;

use anyhow::{Context, bail};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kubeconfig, namespace] = arguments.as_slice() else { bail!("usage: observer KUBECONFIG NAMESPACE") };
    rustls::crypto::ring::default_provider().install_default().ok().context("TLS is set up once")?;
    let kubeconfig = Kubeconfig::read_from(Path::new(kubeconfig))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let pods = Api::namespaced(Client::try_from(config)?, namespace);

    // This is a thread, because the runtime would wait for a read of standard input even after a
    // failure.
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || end.send(std::io::copy(&mut std::io::stdin(), &mut std::io::sink())));
    tokio::select! {
        input = ended => input?.map(|_| ()).context("standard input"),
        failure = record(pods) => failure,
    }
}

async fn record(pods: Api<Pod>) -> anyhow::Result<()> {
    // These times can be compared with those of an audit log. If a clock is set meanwhile, none of
    // the times moves.
    let (began, start) = (Timestamp::now().as_microsecond() as f64 / 1e6, Instant::now());
    let mut events = pin!(watcher(pods, watcher::Config::default()));
    let mut is_listed = false;
    while let Some(event) = events.try_next().await? {
        let at = began + start.elapsed().as_secs_f64();
        let line = match event {
            // Events between two lists would be missing, or have the wrong time.
            watcher::Event::Init if is_listed => bail!("the watch was interrupted"),
            watcher::Event::Init => continue,
            watcher::Event::InitApply(pod) => describe(at, "listed", &pod),
            watcher::Event::InitDone => {
                is_listed = true;
                continue;
            }
            watcher::Event::Apply(pod) => describe(at, "applied", &pod),
            watcher::Event::Delete(pod) => describe(at, "deleted", &pod),
        };
        let mut output = std::io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()?;
    }
    bail!("the watch ended")
}

fn describe(at: f64, event: &str, pod: &Pod) -> Value {
    let metadata = &pod.metadata;
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    json!({
        "at": at,
        "event": event,
        "name": metadata.name,
        "uid": metadata.uid,
        "owner": owner.map(|owner| json!({"kind": owner.kind, "name": owner.name, "uid": owner.uid})),
        "node": pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()),
        "ready": conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        "terminating": metadata.deletion_timestamp.is_some(),
    })
}
