//! The command `agent once`: one round in each eligible namespace in which one is due. It uses the
//! same Lease, locks and records as `agent run`. It prints lines for people.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use policy::record::OptIn;
use policy::well_known::{CHAOS, RECORD, SYSTEM_NAMESPACE};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use runtime::clock::{Clock, SystemClock};
use runtime::logs::{self, LogFormat};
use runtime::output::StandardOutput;
use runtime::process::ended_by_signal;
use tokio_util::sync::CancellationToken;

use crate::args::{OnceArgs, read_policy_file};
use crate::cluster::list::list_all;
use crate::cluster::{access, policy_config_map};
use crate::context::{Context, ROUNDS_AT_ONCE};
use crate::controller::namespace::NamespaceTask;
use crate::controller::namespace::visit::{Asked, Visit};
use crate::identity::{generator, identity};
use crate::leader_election::lease::LeaderElector;
use crate::once::output::{ended_line, visit_lines};
use crate::recovery::RecoveryOutcome;
use crate::recovery::tracker::Ended;
use crate::telemetry::metrics::RoundOutcome;

pub mod output;

/// The exit code if a recovery missed its deadline.
const MISSED_DEADLINE: u8 = 1;
/// The exit code if the agent could not do everything that was due. Wrong usage gives 2, from clap.
const NOT_DONE: u8 = 3;

/// The command that grants the rights for this process.
const GRANT: &str = "kubectl apply -k manifests/overlays/cronjob";

/// Runs the command and returns its exit code.
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

/// What decides the exit code.
#[derive(Debug, Default)]
struct Tally {
    timed_out: bool,
    failed: bool,
}

impl Tally {
    fn add(&mut self, ended: &[Ended]) {
        self.timed_out |= ended.iter().any(|ended| ended.outcome == RecoveryOutcome::TimedOut);
    }
}

async fn once(args: OnceArgs) -> anyhow::Result<Tally> {
    let OnceArgs { namespace, wait, now, dry_run, log_format, kubeconfig, policy_file } = args;
    logs::start_at(log_format, if log_format == LogFormat::Text { "warn" } else { "info" })?;
    let file = policy_file.as_deref().map(read_policy_file).transpose()?;
    let end = ended_by_signal()?;
    let client = runtime::client::connect_as_person(kubeconfig.as_deref(), None).await?;
    entitled(&client).await?;
    let reads_nodes = access::reads_nodes(&client).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut rng = generator();
    let (instance, identity) = identity(&mut rng);
    let mut elector = LeaderElector::new(client.clone(), Arc::clone(&clock), identity);
    elector.win_unless_held().await.map_err(|why| {
        anyhow::anyhow!("{why}: nothing was killed. If the agent runs, it serves the schedules itself")
    })?;
    let policy = match file {
        Some(policy) => Ok(policy),
        None => policy_config_map::read(&client).await,
    };
    let policy = match policy {
        Ok(policy) => policy,
        Err(why) => {
            elector.release().await;
            anyhow::bail!("{why}: nothing was killed. To grant what is needed, run: {GRANT}");
        }
    };
    // Nobody scrapes the metrics of a process that ends soon.
    let registry = prometheus::Registry::new();
    let reads_nodes = Arc::new(reads_nodes.into());
    let context =
        Context::new(client, clock, policy, &registry, instance, elector.leadership(), reads_nodes)?;
    let events = context.events.clone();
    // Cancelled by a signal, by the loss of the Lease, and at the end of the work.
    let done = end.child_token();
    let work = async {
        let report = Report { lines: log_format == LogFormat::Text, wait, asked: Asked { now, dry_run } };
        let tally = serve_all(&context, namespace.as_deref(), report, rng, &done).await;
        done.cancel();
        tally
    };
    let keeping = async {
        let kept = elector.keep(&done).await;
        done.cancel();
        kept
    };
    let (tally, kept) = tokio::join!(work, keeping);
    elector.release().await;
    events.finish().await;
    kept?;
    let mut tally = tally?;
    // A signal ended the process before its work was complete.
    tally.failed |= end.is_cancelled();
    Ok(tally)
}

/// Checks that the locks apply to this account and that it has its rights.
///
/// # Errors
/// When the account is not one of namespace `pure-chaos`, or a right is missing.
async fn entitled(client: &Client) -> anyhow::Result<()> {
    if let Some(user) = access::stranger(client).await? {
        anyhow::bail!(
            "this account is {user}, but the locks on a kill apply only to accounts of namespace \
             {SYSTEM_NAMESPACE}: nothing was killed. Run the command there: kubectl -n {SYSTEM_NAMESPACE} \
             create job chaos-now --image=$REGISTRY/chaos:{}",
            runtime::VERSION
        );
    }
    let missing = access::missing(client).await?;
    if let Some(first) = missing.first() {
        let count = missing.len();
        let more = if count > 1 { format!(" ({count} rights are missing)") } else { String::new() };
        anyhow::bail!(
            "this account has no right to {first}{more}: nothing was killed. To grant what is needed, \
             run: {GRANT}"
        );
    }
    Ok(())
}

/// The options of a run.
#[derive(Debug, Clone, Copy)]
struct Report {
    /// Whether to print lines for people to standard output.
    lines: bool,
    wait: bool,
    asked: Asked,
}

impl Report {
    fn print(self, lines: impl IntoIterator<Item = String>) {
        if !self.lines {
            return;
        }
        let mut out = StandardOutput::of_process();
        // Ignores an error, because the work continues even if nobody reads the output.
        if let Err(error) = lines.into_iter().try_for_each(|line| writeln!(out, "{line}")) {
            tracing::debug!(error = error.to_string(), "failed to write to standard output");
        }
    }
}

async fn serve_all(
    context: &Context,
    namespace: Option<&str>,
    report: Report,
    mut rng: ChaCha8Rng,
    end: &CancellationToken,
) -> anyhow::Result<Tally> {
    let records = records(&context.client, namespace).await?;
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
    context.carry_over(&records);
    let mut tally = Tally::default();
    let visits = records.into_iter().map(|record| {
        let rng = ChaCha8Rng::seed_from_u64(rng.next_u64());
        let name = record.namespace().unwrap_or_default();
        let mut task = NamespaceTask::new(context.clone(), name, Arc::new(record), rng, end.clone());
        async move {
            let (visit, ended) = task.visit(report.asked).await;
            report.print(ended.iter().map(|ended| ended_line(task.name(), ended)));
            report.print(visit_lines(task.name(), &visit));
            let failed = matches!(&visit, Visit::Round(round) if round.outcome == RoundOutcome::Failed);
            (task, ended, failed)
        }
    });
    let mut visits = futures::stream::iter(visits.collect::<Vec<_>>()).buffer_unordered(ROUNDS_AT_ONCE);
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

/// The records of one namespace or of all namespaces, sorted by the name of the namespace.
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
