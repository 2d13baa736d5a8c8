//! Builds the parts of the webhook from the flags, and runs them until the process ends.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use certs::api::keyring::{Keyring, keep_keys};
use certs::api::reload::{Serving, keep_loaded};
use kube::Client;
use policy::platform::PlatformPolicy;
use runtime::clock::{Clock, SystemClock};
use runtime::events::{EventWriter, Reporter};
use runtime::http::listen;
use runtime::process::essential;
use runtime::{admin, logs, process};
use tokio_util::sync::CancellationToken;

use crate::admission::callers::Callers;
use crate::admission::configuration_watch::ConfigurationWatch;
use crate::admission::pending_admissions::PendingAdmissions;
use crate::admission::routes::{Reviews, router};
use crate::args::{Config, RunArgs};
use crate::events::REPORTER;
use crate::metrics::Metrics;
use crate::reconcile::queue::Queue;
use crate::reconcile::reconciler::Records;
use crate::reconcile::store::Objects;
use crate::reconcile::watches::Watches;
use crate::reconcile::worker::work;
use crate::reconcile::write_throttle::WriteThrottle;
use crate::server::Server;
use crate::server::body::Budget;

/// After the server has stopped, the process waits at most this long for the last admissions to
/// show in the watch.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// How often the metric of the serving certificate's end is updated.
const CERTIFICATE_TICK: Duration = Duration::from_secs(1);

/// The parts of one replica. The parts share a queue, a clock and the remembered admissions, so
/// [`Parts::new`] makes all of them together.
pub struct Parts {
    /// Answers admission reviews.
    pub reviews: Arc<Reviews>,
    /// Keeps the records and RoleBindings.
    pub records: Records,
    /// Puts the namespaces that are due into the queue.
    pub watches: Watches,
    /// The namespaces that are due.
    pub queue: Arc<Queue>,
    /// The remembered admissions.
    pub pending_admissions: Arc<PendingAdmissions>,
    /// Knows whether the API server asks for a review of every opt-in.
    pub guard: Arc<ConfigurationWatch>,
}

/// What one replica knows about itself and its installation.
pub struct Replica {
    /// The seed for the jitter of retries. Each replica has its own, so that two replicas do not
    /// retry at the same moment.
    pub seed: u64,
    /// Name of this Pod, as people see it in Events.
    pub instance: String,
    /// The ServiceAccounts of namespace `pure-chaos` that get the agent's rights in opted-in
    /// namespaces.
    pub accounts: Vec<String>,
    /// The keys of the secret path, by which the webhook knows the API server.
    pub keys: Arc<Keyring>,
    /// Name of the ValidatingWebhookConfiguration that contains the secret path.
    pub configuration: String,
}

impl Parts {
    /// Makes the parts of one replica.
    #[must_use]
    pub fn new(
        client: &Client,
        policy: PlatformPolicy,
        metrics: &Metrics,
        clock: Arc<dyn Clock>,
        Replica { seed, instance, accounts, keys, configuration }: Replica,
    ) -> Self {
        metrics.obeys(&policy.hash);
        let policy = Arc::new(policy);
        let queue = Arc::new(Queue::new(Arc::clone(&clock), seed));
        let guard = Arc::new(ConfigurationWatch::new(Arc::clone(&clock)));
        let pending_admissions = Arc::new(PendingAdmissions::new(Arc::clone(&guard)));
        let callers = Arc::new(Callers::new(keys, Arc::clone(&clock), metrics.clone()));
        let reviews = Reviews {
            callers: Arc::clone(&callers),
            client: client.clone(),
            policy: Arc::clone(&policy),
            pending_admissions: Arc::clone(&pending_admissions),
            queue: Arc::clone(&queue),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            bodies: Budget::default(),
        };
        let reporter = Reporter { controller: REPORTER, instance: Some(instance) };
        let events = EventWriter::start(client, reporter, Arc::clone(&clock), metrics.events_dropped());
        let records = Records {
            objects: Objects { client: client.clone(), events, accounts },
            policy,
            pending_admissions: Arc::clone(&pending_admissions),
            queue: Arc::clone(&queue),
            clock,
            write_throttle: WriteThrottle::default(),
        };
        let watches = Watches::new(
            Arc::clone(&queue),
            Arc::clone(&pending_admissions),
            metrics.clone(),
            (callers, Arc::clone(&guard)),
            configuration,
        );
        Self { reviews: Arc::new(reviews), records, watches, queue, pending_admissions, guard }
    }
}

/// Runs `webhook run` until a signal or a failure.
///
/// # Errors
/// Returns an error if something that is needed at the start is missing, or if a part fails.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let config = args.check()?;
    process::install_tls_provider()?;
    logs::start(config.common.log_format)?;
    let end = process::ended_by_signal()?;
    let client = runtime::client::connect(config.common.kubeconfig.as_deref()).await?;
    serve(config, client, end).await
}

/// Runs all parts until `end` is cancelled.
///
/// # Errors
/// Returns an error if the process can't listen on an address, or if a part fails.
pub async fn serve(config: Config, client: Client, end: CancellationToken) -> anyhow::Result<()> {
    let Config {
        common,
        policy,
        address,
        certificate_directory,
        client_cas,
        webhook_configuration,
        drain,
        agent_accounts,
    } = config;
    let keys = Arc::new(Keyring::default());
    let serving = Arc::new(Serving::default());
    let registry = runtime::metrics::registry()?;
    let metrics = Metrics::new(&registry)?;
    let seed = RandomState::new().build_hasher().finish();
    let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| "webhook".to_owned());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let replica = Replica {
        seed,
        instance,
        accounts: agent_accounts,
        keys: Arc::clone(&keys),
        configuration: webhook_configuration,
    };
    let Parts { reviews, records, watches, queue, pending_admissions, .. } =
        Parts::new(&client, policy, &metrics, Arc::clone(&clock), replica);
    let watches = Arc::new(watches);

    let listener = listen(address).await?;
    let admin_listener = listen(common.metrics_address).await?;
    tracing::info!(%address, metrics_address = %common.metrics_address, version = runtime::VERSION, "started");

    // The server stops before the other parts: only this replica knows the admissions of the drain,
    // and it still has to record them.
    let all = CancellationToken::new();
    let readiness = readiness((&serving, &keys), &watches, &clock, &end);
    let server = Server {
        listener,
        certificates: Arc::clone(&serving) as _,
        client_cas,
        router: router(reviews),
        drain,
    };
    let serving_task = async {
        let outcome = essential("server", end.clone(), server.serve(end.clone())).await;
        let until = clock.monotonic() + LAST_RECORDS;
        while pending_admissions.is_waiting(clock.monotonic()) && clock.monotonic() < until {
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
        records.objects.events.finish().await;
        anyhow::Ok(())
    };
    let admin_task = admin::serve(admin_listener, admin::router(registry, readiness), all.clone());
    let loading_keys = keep_keys(Arc::clone(&keys), certificate_directory.clone(), all.clone());
    let loading = keep_loaded(Arc::clone(&serving), certificate_directory, all.clone());
    let (served, loaded, known, kept, administered) = tokio::join!(
        serving_task,
        essential("certificate", end.clone(), loading),
        essential("path", end.clone(), loading_keys),
        essential("records", end.clone(), keeping),
        essential("admin", end.clone(), admin_task)
    );
    served.and(loaded).and(known).and(kept).and(administered)
}

fn readiness(
    (serving, keys): (&Arc<Serving>, &Arc<Keyring>),
    watches: &Arc<Watches>,
    clock: &Arc<dyn Clock>,
    end: &CancellationToken,
) -> admin::Readiness {
    let (serving, keys) = (Arc::clone(serving), Arc::clone(keys));
    let (watches, clock, end) = (Arc::clone(watches), Arc::clone(clock), end.clone());
    Arc::new(move || {
        if end.is_cancelled() {
            Err("ending".to_owned())
        } else if !serving.is_loaded() {
            Err("there is no serving certificate yet".to_owned())
        } else if keys.keys().is_none() {
            Err("there are no keys of the path yet (does certs run?)".to_owned())
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
mod tests;
