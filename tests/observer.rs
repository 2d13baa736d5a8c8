//! `observer KUBECONFIG NAMESPACE` prints what happens to a namespace's Pods, one line of JSON each, until its standard input ends. It
//! only records, by a clock of its own, and shares no code with the agent beyond the Kubernetes client: what is measured elsewhere is
//! held against it.

use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::time::Instant;

use anyhow::{Context, bail};
use futures::TryStreamExt;
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

    // A thread, because the runtime would wait for a read of standard input even after a failure.
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || end.send(std::io::copy(&mut std::io::stdin(), &mut std::io::sink())));
    tokio::select! {
        input = ended => input?.map(|_| ()).context("standard input"),
        failure = record(pods) => failure,
    }
}

async fn record(pods: Api<Pod>) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut events = pin!(watcher(pods, watcher::Config::default()));
    let mut is_listed = false;
    while let Some(event) = events.try_next().await? {
        let at = start.elapsed().as_micros() as f64 / 1e6;
        let line = match event {
            // What happened between two lists would be missing, or have the wrong time.
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
