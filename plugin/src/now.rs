//! `now`: one round at once, by the Job that `kubectl create job` would make. It runs `agent once --now` as an account that the locks on a kill
//! hold, under the Lease and the record; whoever asks needs no right on Pods of the namespace, and gets none.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams, PostParams};
use kube::{Api, Client, ResourceExt};
use policy::keys::SYSTEM_NAMESPACE;
use runtime::client::{CallError, call};
use serde_json::{Value, json};

use crate::args::Target;
use crate::change::kubectl;
use crate::{apply, shell};

/// How often the Job is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What gives the account of such Jobs its rights.
const GRANT: &str = "kubectl apply -k manifests/overlays/cronjob";

/// One round, as a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The Job's name.
    pub job: String,
    /// The agent's image.
    pub image: String,
    /// Where the round is.
    pub namespace: String,
}

impl Round {
    fn arguments(&self) -> [&str; 6] {
        ["/agent", "once", "--now", "--wait", "-n", &self.namespace]
    }

    /// What is not as `kubectl create job` makes it: a round that failed is not to be repeated by itself.
    fn amendment() -> Value {
        json!({"spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 3600}})
    }

    /// The Job.
    ///
    /// # Errors
    /// Never, unless the form of a Job is another.
    pub fn manifest(&self) -> serde_json::Result<Job> {
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": self.job, "namespace": SYSTEM_NAMESPACE},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": self.job, "image": self.image, "command": self.arguments()}],
            }}},
        });
        for (key, value) in Self::amendment()["spec"].as_object().into_iter().flatten() {
            job["spec"][key] = value.clone();
        }
        serde_json::from_value(job)
    }

    /// The command that does the same, to be pasted.
    #[must_use]
    pub fn command(&self, target: &Target) -> String {
        let words = |rest: &[&str]| {
            let rest = rest.iter().map(|word| (*word).to_owned());
            shell::command(&kubectl(target).into_iter().chain(rest).collect::<Vec<_>>())
        };
        let image = format!("--image={}", self.image);
        let make = [
            "-n",
            SYSTEM_NAMESPACE,
            "create",
            "job",
            &self.job,
            &image,
            "--dry-run=client",
            "-o",
            "json",
            "--",
        ];
        let make = words(&[&make[..], &self.arguments()].concat());
        let amendment = Self::amendment().to_string();
        let amend = words(&["patch", "--local", "-f", "-", "--type=merge", "-o", "json", "-p", &amendment]);
        format!("{make} | {amend} | {}", words(&["create", "-f", "-"]))
    }
}

/// Plans a round with the agent's own image.
///
/// # Errors
/// When the component that it needs isn't there, or that can't be seen.
pub async fn plan(client: &Client, namespace: &str, suffix: &str) -> anyhow::Result<Round> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let agent = call(deployments.get("agent"))
        .await
        .map_err(|error| lacking(&error, "get deployments.apps"))
        .context("failed to read Deployment agent, for its image")?;
    let spec = agent.spec;
    // The component scales it to 0. Where it runs, it holds the Lease, and a Job could do nothing.
    anyhow::ensure!(
        spec.replicas == Some(0),
        "component cronjob isn't installed: the agent serves the schedules itself, and holds the Lease. Nothing was killed. This installs the \
         component: {GRANT}"
    );
    let containers = spec.template.spec.map(|pod| pod.containers).unwrap_or_default();
    let image = containers.into_iter().find_map(|container| container.image);
    Ok(Round {
        job: format!("chaos-now-{suffix}"),
        image: image.context("Deployment agent has no image")?,
        namespace: namespace.to_owned(),
    })
}

/// Makes the Job, waits until it has ended, and gives its output and whether it succeeded.
///
/// # Errors
/// When a right is missing, or it has not ended in time.
pub async fn run(client: &Client, round: &Round, timeout: Duration) -> anyhow::Result<(String, bool)> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let parameters =
        PostParams { field_manager: Some(apply::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    call(jobs.create(&parameters, &round.manifest()?))
        .await
        .map_err(|error| lacking(&error, "create jobs.batch"))
        .context("failed to create the Job; nothing was killed")?;
    let ended = tokio::time::timeout(timeout, end(&jobs, &round.job)).await;
    let succeeded = match ended {
        Ok(ended) => ended?,
        Err(_) => anyhow::bail!(
            "Job {} in namespace {SYSTEM_NAMESPACE} has not ended within {}; it goes on: kubectl -n {SYSTEM_NAMESPACE} logs -f job/{}",
            round.job,
            policy::durations::print(timeout),
            round.job
        ),
    };
    Ok((output(client, &round.job).await?, succeeded))
}

async fn end(jobs: &Api<Job>, name: &str) -> anyhow::Result<bool> {
    loop {
        let job = call(jobs.get(name)).await.map_err(|error| lacking(&error, "get jobs.batch"))?;
        let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
        let ended = |kind: &str| {
            conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
        };
        if ended("Complete") || ended("Failed") {
            return Ok(ended("Complete"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn output(client: &Client, job: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let listed = call(pods.list(&of_job)).await.map_err(|error| lacking(&error, "list pods"))?;
    let mut lines = String::new();
    for pod in listed {
        let read = call(pods.logs(&pod.name_any(), &LogParams::default())).await;
        lines.push_str(&read.map_err(|error| lacking(&error, "get pods/log"))?);
    }
    Ok(lines)
}

/// An error, with what is missing where it is a right.
fn lacking(error: &CallError, right: &str) -> anyhow::Error {
    if error.code() != Some(403) {
        return anyhow::anyhow!("{error}");
    }
    anyhow::anyhow!(
        "you have no right to {right} in namespace {SYSTEM_NAMESPACE}. Who may make Jobs there is as much as the agent, so its owner has to want it: \
         kubectl -n {SYSTEM_NAMESPACE} create rolebinding chaos-now --clusterrole=edit --user=NAME"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_is_one_try_of_agent_once() {
        let round = Round {
            job: "chaos-now-1".to_owned(),
            image: "r.example/chaos:0.1.0".to_owned(),
            namespace: "a".to_owned(),
        };
        let job = serde_json::to_value(round.manifest().unwrap()).unwrap();
        assert_eq!(job["spec"]["backoffLimit"], 0);
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["containers"][0]["command"], json!(["/agent", "once", "--now", "--wait", "-n", "a"]));
        assert_eq!(
            round.command(&Target::default()),
            "kubectl -n pure-chaos create job chaos-now-1 --image=r.example/chaos:0.1.0 --dry-run=client -o json -- \
             /agent once --now --wait -n a | kubectl patch --local -f - --type=merge -o json -p \
             '{\"spec\":{\"backoffLimit\":0,\"ttlSecondsAfterFinished\":3600}}' | kubectl create -f -"
        );
    }
}
