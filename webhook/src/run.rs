//! The wiring: what is made of the flags, and what runs until the end.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use certs::reload::{Serving, keep_loaded};
use kube::Client;
use policy::platform::PlatformPolicy;
use runtime::clock::{Clock, SystemClock};
use runtime::process::essential;
use runtime::{admin, logs, process};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::args::{Config, RunArgs};
use crate::body::Budget;
use crate::metrics::Metrics;
use crate::notes::Notes;
use crate::objects::Objects;
use crate::pace::Pace;
use crate::queue::Queue;
use crate::records::Records;
use crate::routes::{Reviews, router};
use crate::server::Server;
use crate::watches::Watches;
use crate::worker::work;

/// How long after the last review its admission may still become visible in the watch.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// How often the end of the certificate in use is exported anew.
const CERTIFICATE_TICK: Duration = Duration::from_secs(1);

/// The parts of one replica, made for each other.
pub struct Parts {
    /// Answers reviews.
    pub reviews: Arc<Reviews>,
    /// Keeps the records.
    pub records: Records,
    /// Shows what is due.
    pub watches: Watches,
    /// What is due.
    pub queue: Arc<Queue>,
    /// Remembered admissions.
    pub notes: Arc<Notes>,
}

/// What tells one process from another.
pub struct Replica {
    /// For jitter.
    pub seed: u64,
    /// For people: the Pod's name.
    pub instance: String,
    /// The ServiceAccounts of `pure-chaos` that it gives the agent's rights.
    pub accounts: Vec<String>,
}

impl Parts {
    /// Makes them, for this replica.
    #[must_use]
    pub fn new(
        client: &Client,
        policy: PlatformPolicy,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
        Replica { seed, instance, accounts }: Replica,
    ) -> Self {
        metrics.obeys(&policy.hash);
        let policy = Arc::new(policy);
        let queue = Arc::new(Queue::new(Arc::clone(&clock), seed));
        let notes = Arc::new(Notes::default());
        let reviews = Reviews {
            client: client.clone(),
            policy: Arc::clone(&policy),
            notes: Arc::clone(&notes),
            queue: Arc::clone(&queue),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            bodies: Budget::default(),
        };
        let records = Records {
            objects: Objects { client: client.clone(), clock: Arc::clone(&clock), instance, accounts },
            policy,
            notes: Arc::clone(&notes),
            queue: Arc::clone(&queue),
            clock,
            pace: Pace::default(),
        };
        let watches = Watches::new(Arc::clone(&queue), Arc::clone(&notes), metrics.clone());
        Self { reviews: Arc::new(reviews), records, watches, queue, notes }
    }
}

/// `webhook run`: until a signal or a failure.
///
/// # Errors
/// When something needed at the start is missing, or a part fails.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = args.check()?;
    process::install_tls_provider()?;
    logs::start(config.common.log_format)?;
    let end = process::ended_by_signal()?;
    let client = runtime::client::connect(config.common.kubeconfig.as_deref()).await?;
    serve(config, client, end).await
}

/// Runs everything until `end`.
///
/// # Errors
/// When an address can't be listened on, or a part fails.
pub async fn serve(config: Config, client: Client, end: CancellationToken) -> anyhow::Result<()> {
    let Config { common, policy, address, certificate_directory, drain, agent_accounts: accounts } = config;
    let serving = Arc::new(Serving::default());
    let registry = runtime::metrics::registry()?;
    let metrics = Metrics::new(&registry)?;
    let seed = RandomState::new().build_hasher().finish();
    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| "webhook".to_owned());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Parts { reviews, records, watches, queue, notes } =
        Parts::new(&client, policy, &metrics, Arc::clone(&clock), Replica { seed, instance, accounts });
    let watches = Arc::new(watches);

    let listener = listen(address).await?;
    let admin_listener = listen(common.metrics_address).await?;
    tracing::info!(%address, metrics_address = %common.metrics_address, version = runtime::VERSION, "started");

    // What was admitted during the drain still has to be recorded: only this replica knows of it. So the server ends first.
    let all = CancellationToken::new();
    let readiness = readiness(&serving, &watches, &clock, &end);
    let server = Server { listener, certificates: Arc::clone(&serving) as _, router: router(reviews), drain };
    let serving_task = async {
        let outcome = essential("server", end.clone(), server.serve(end.clone())).await;
        let until = clock.monotonic() + LAST_RECORDS;
        while notes.is_waiting(clock.monotonic()) && clock.monotonic() < until {
            tokio::time::sleep(LAST_RECORDS / 20).await;
        }
        all.cancel();
        outcome
    };
    let keeping = async {
        tokio::select! {
            () = all.cancelled() => {}
            () = watches.run(&client) => {}
            () = work(&records, &queue) => {}
            () = export(&serving, &metrics) => {}
        }
        anyhow::Ok(())
    };
    let admin_task = admin::serve(admin_listener, admin::router(registry, readiness), all.clone());
    let loading = keep_loaded(Arc::clone(&serving), certificate_directory, all.clone());
    let (served, loaded, kept, administered) = tokio::join!(
        serving_task,
        essential("certificate", end.clone(), loading),
        essential("records", end.clone(), keeping),
        essential("admin", end.clone(), admin_task)
    );
    served.and(loaded).and(kept).and(administered)
}

async fn listen(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))
}

fn readiness(
    serving: &Arc<Serving>,
    watches: &Arc<Watches>,
    clock: &Arc<dyn Clock>,
    end: &CancellationToken,
) -> admin::Readiness {
    let (serving, watches, clock, end) =
        (Arc::clone(serving), Arc::clone(watches), Arc::clone(clock), end.clone());
    Arc::new(move || {
        if end.is_cancelled() {
            Err("ending".to_owned())
        } else if !serving.is_loaded() {
            Err("there is no serving certificate yet".to_owned())
        } else if let Some(ended) = serving.not_after().filter(|end| clock.wall() > *end) {
            Err(format!("the serving certificate has expired at {ended} (does certs run?)"))
        } else if !watches.is_synced() {
            Err("the namespaces have not been read yet".to_owned())
        } else {
            Ok(())
        }
    })
}

async fn export(serving: &Serving, metrics: &Metrics) {
    let mut tick = tokio::time::interval(CERTIFICATE_TICK);
    loop {
        tick.tick().await;
        if let Some(end) = serving.not_after() {
            metrics.certificate_ends(end.as_second());
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
