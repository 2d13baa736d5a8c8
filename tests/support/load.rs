//! A steady rate of opt-ins through the API server. The load counts every interruption of
//! admission.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster;

/// The most requests that are under way at once. If there were more, the API server would be far
/// too slow for the rate.
const MOST_AT_ONCE: usize = 400;
/// An API server waits 5 s for a webhook. A request that takes much longer has failed.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How the opt-ins went.
#[derive(Debug, Default)]
pub struct Report {
    /// The number of opt-ins that were admitted.
    pub admitted: usize,
    /// The messages of the opt-ins that were not admitted, and how often each came.
    pub failed: BTreeMap<String, usize>,
    /// The time from the moment an opt-in was due until its answer, for each admitted opt-in, in
    /// ascending order.
    pub latencies: Vec<Duration>,
}

impl Report {
    /// How many opt-ins were not admitted.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    /// The latency that this share of the opt-ins, 0 to 1, did not exceed.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    /// The report in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let [p50, p99] = [0.5, 0.99].map(|share| self.percentile(share).as_secs_f64() * 1e3);
        format!(
            "{} opt-ins admitted, {} failed; p50 {p50:.1} ms, p99 {p99:.1} ms",
            self.admitted,
            self.failures()
        )
    }
}

/// A load that runs until its report is asked for.
pub struct Load {
    end: CancellationToken,
    task: tokio::task::JoinHandle<Report>,
}

impl Load {
    /// Opts the namespaces in, in turn, `rate` times a second, with `dryRun=All`: each opt-in is
    /// reviewed like any other, and never stored.
    pub async fn start(namespaces: Vec<String>, rate: u32) -> Self {
        let kubeconfig = Kubeconfig::read_from(cluster::kubeconfig()).unwrap();
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        // A retry would hide that a request failed.
        config.default_retry = false;
        let api: Api<Namespace> = Api::all(kube::Client::try_from(config).unwrap());
        let end = CancellationToken::new();
        let task = tokio::spawn(drive(api, namespaces, rate, end.clone()));
        Self { end, task }
    }

    /// Ends the load, and waits for the answers that are still due.
    pub async fn stop(self) -> Report {
        self.end.cancel();
        self.task.await.unwrap()
    }
}

async fn drive(api: Api<Namespace>, namespaces: Vec<String>, rate: u32, end: CancellationToken) -> Report {
    let report = Arc::new(Mutex::new(Report::default()));
    let mut requests = JoinSet::new();
    let mut due = Instant::now();
    for name in namespaces.into_iter().cycle() {
        due += Duration::from_secs(1) / rate;
        if end.run_until_cancelled(tokio::time::sleep_until(due.into())).await.is_none() {
            break;
        }
        while requests.len() >= MOST_AT_ONCE {
            requests.join_next().await;
        }
        let (api, report) = (api.clone(), report.clone());
        requests.spawn(async move {
            let patch = json!({"metadata": {"annotations": {"chaos": "yes"}}});
            let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
            let answer =
                tokio::time::timeout(TIMEOUT, api.patch(&name, &parameters, &Patch::Merge(patch))).await;
            // The latency counts from when the request was due and not from when it was sent,
            // because a user also waits before the sending.
            let latency = due.elapsed();
            let mut report = report.lock().unwrap();
            match answer {
                Ok(Ok(_)) => {
                    report.admitted += 1;
                    report.latencies.push(latency);
                }
                Ok(Err(error)) => *report.failed.entry(error.to_string()).or_default() += 1,
                Err(_) => *report.failed.entry(format!("no answer within {TIMEOUT:?}")).or_default() += 1,
            }
        });
    }
    while requests.join_next().await.is_some() {}
    let mut report = std::mem::take(&mut *report.lock().unwrap());
    report.latencies.sort_unstable();
    report
}
