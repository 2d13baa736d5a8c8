//! `agent once`: one round in every eligible namespace that is due, under the same Lease, locks and records as `agent run`. Its lines are made
//! for people.

use std::process::ExitCode;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use policy::keys::{CHAOS, RECORD, SYSTEM_NAMESPACE};
use policy::record::OptIn;
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use runtime::clock::{Clock, SystemClock};
use runtime::logs::{self, LogFormat};
use runtime::process::ended_by_signal;
use tokio_util::sync::CancellationToken;

use crate::args::{OnceArgs, read_policy};
use crate::deps::Deps;
use crate::lease::Candidacy;
use crate::metrics::RoundOutcome;
use crate::namespace::NamespaceTask;
use crate::namespace::once::{Asked, Visit};
use crate::narration::{ended_line, visit_lines};
use crate::observe::list_all;
use crate::recoveries::Ended;
use crate::recovery::Outcome;
use crate::run::{generator, identity};
use crate::{installed_policy, own_rights};

/// Exit code where a recovery missed its deadline.
const MISSED_DEADLINE: u8 = 1;
/// Exit code where not everything that was due could be done. Wrong usage is clap's 2.
const NOT_DONE: u8 = 3;

/// Namespaces that are visited at the same time.
const AT_ONCE: usize = 16;

/// What gives this process its rights.
const GRANT: &str = "kubectl apply -k manifests/overlays/cronjob";

/// Does it, and says how it ended.
pub async fn run(args: OnceArgs) -> ExitCode {
    match once(args).await {
        Ok(tally) if tally.failed => ExitCode::from(NOT_DONE),
        Ok(tally) if tally.timed_out => ExitCode::from(MISSED_DEADLINE),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(NOT_DONE)
        }
    }
}

/// What the exit code is made of.
#[derive(Debug, Default)]
struct Tally {
    timed_out: bool,
    failed: bool,
}

impl Tally {
    fn add(&mut self, ended: &[Ended]) {
        self.timed_out |= ended.iter().any(|ended| ended.outcome == Outcome::TimedOut);
    }
}

async fn once(args: OnceArgs) -> anyhow::Result<Tally> {
    let OnceArgs { namespace, wait, now, dry_run, log_format, kubeconfig, policy } = args;
    logs::start_at(log_format, if log_format == LogFormat::Text { "warn" } else { "info" })?;
    let file = policy.policy_file.is_some().then(|| read_policy(&policy)).transpose()?;
    let end = ended_by_signal()?;
    let client = runtime::client::connect_as_person(kubeconfig.as_deref(), None).await?;
    entitled(&client).await?;
    let reads_nodes = own_rights::reads_nodes(&client).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut rng = generator();
    let (instance, identity) = identity(&mut rng);
    let mut candidacy = Candidacy::new(client.clone(), Arc::clone(&clock), identity);
    candidacy.win_unless_held().await.map_err(|why| {
        anyhow::anyhow!("{why}: nothing was killed. Where the agent runs, it serves the schedules itself")
    })?;
    let policy = match file {
        Some(policy) => Ok(policy),
        None => installed_policy::read(&client).await,
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(why) => {
            candidacy.release().await;
            anyhow::bail!("{why}: nothing was killed. This grants what is needed: {GRANT}");
        }
    };
    // Nobody scrapes a process that is about to end.
    let registry = prometheus::Registry::new();
    let reads_nodes = Arc::new(reads_nodes.into());
    let deps = Deps::new(client, clock, policy, &registry, instance, candidacy.leadership(), reads_nodes)?;
    let events = deps.events.clone();
    // Cancelled by a signal, by the loss of the Lease, and by the end of the work.
    let done = end.child_token();
    let work = async {
        let report = Report { lines: log_format == LogFormat::Text, wait, asked: Asked { now, dry_run } };
        let tally = serve_all(&deps, namespace.as_deref(), report, rng, &done).await;
        done.cancel();
        tally
    };
    let keeping = async {
        let kept = candidacy.keep(&done).await;
        done.cancel();
        kept
    };
    let (tally, kept) = tokio::join!(work, keeping);
    candidacy.release().await;
    events.finish().await;
    kept?;
    let mut tally = tally?;
    // Whoever ended it did not see all of it.
    tally.failed |= end.is_cancelled();
    Ok(tally)
}

/// Whether this process is one that the locks hold, and has its rights.
async fn entitled(client: &Client) -> anyhow::Result<()> {
    if let Some(user) = own_rights::stranger(client).await? {
        anyhow::bail!(
            "this is {user}, and the locks on a kill hold only accounts of namespace {SYSTEM_NAMESPACE}: nothing was killed. Run it there: \
             kubectl -n {SYSTEM_NAMESPACE} create job chaos-now --image=$REGISTRY/chaos:{}",
            runtime::VERSION
        );
    }
    let missing = own_rights::missing(client).await?;
    if let Some(first) = missing.first() {
        let more =
            if missing.len() > 1 { format!(", nor {} more", missing.len() - 1) } else { String::new() };
        anyhow::bail!(
            "this account has no right to {first}{more}: nothing was killed. This grants it: {GRANT}"
        );
    }
    Ok(())
}

/// How a run was asked for.
#[derive(Debug, Clone, Copy)]
struct Report {
    /// Lines for people on standard output.
    lines: bool,
    wait: bool,
    asked: Asked,
}

impl Report {
    fn print(self, lines: impl IntoIterator<Item = String>) {
        if self.lines {
            lines.into_iter().for_each(|line| println!("{line}"));
        }
    }
}

async fn serve_all(
    deps: &Deps,
    namespace: Option<&str>,
    report: Report,
    mut rng: ChaCha8Rng,
    end: &CancellationToken,
) -> anyhow::Result<Tally> {
    let records = records(&deps.client, namespace).await?;
    if records.is_empty() {
        match namespace {
            Some(name) => {
                anyhow::bail!(
                    "namespace {name} is not opted in; its owner can run: kubectl annotate namespace {name} {CHAOS}=yes"
                )
            }
            None => report.print(["no namespace is opted in".to_owned()]),
        }
    }
    let mut tally = Tally::default();
    let visits = records.into_iter().map(|record| {
        let rng = ChaCha8Rng::seed_from_u64(rng.next_u64());
        let name = record.namespace().unwrap_or_default();
        let mut task = NamespaceTask::new(deps.clone(), name, Arc::new(record), rng, end.clone());
        async move {
            let (visit, ended) = task.visit(report.asked).await;
            report.print(ended.iter().map(|ended| ended_line(task.name(), ended)));
            report.print(visit_lines(task.name(), &visit));
            let failed = matches!(&visit, Visit::Round(round) if round.outcome == RoundOutcome::Failed);
            (task, ended, failed)
        }
    });
    let mut visits = futures::stream::iter(visits.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    let mut tasks = Vec::new();
    while let Some((task, ended, failed)) = visits.next().await {
        tally.add(&ended);
        tally.failed |= failed;
        tasks.push(task);
    }
    if report.wait {
        let waits = tasks.into_iter().map(|mut task| async move {
            let ended = task.wait(end).await;
            report.print(ended.iter().map(|ended| ended_line(task.name(), ended)));
            ended
        });
        for ended in futures::future::join_all(waits).await {
            tally.add(&ended);
        }
    }
    Ok(tally)
}

/// The records there are, of one namespace or of all, by the namespace's name.
async fn records(client: &Client, namespace: Option<&str>) -> anyhow::Result<Vec<OptIn>> {
    let api = match namespace {
        Some(name) => Api::namespaced(client.clone(), name),
        None => Api::all(client.clone()),
    };
    let mut records: Vec<OptIn> = list_all(&api, ListParams::default()).await?;
    records.retain(|record| record.name_any() == RECORD);
    records.sort_by_key(ResourceExt::namespace);
    Ok(records)
}
