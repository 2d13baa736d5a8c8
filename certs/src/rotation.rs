//! One tick: read, plan, issue, store, inject.

use std::sync::Arc;
use std::time::Duration;

use runtime::clock::Clock;

use crate::bundle;
use crate::certificate::Pair;
use crate::foreign::Foreign;
use crate::inject::{Configuration, Injector};
use crate::issue::{self, IssueError};
use crate::metrics::Metrics;
use crate::plan::{self, Act, Plan, Policy};
use crate::served::{Look, Served};
use crate::settled::Settled;
use crate::store::{CA_SECRET, Failure, Found, SERVING_SECRET, Store, Written};
use crate::stored::{self, Data, Stored};

/// Acts in one tick: a first start or a loss of everything takes five; more means that somebody else keeps changing the same objects.
const MOST_ACTS: usize = 10;

/// A tick that did not reach its end. What it did is done; the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The API server failed.
    #[error(transparent)]
    Api(#[from] Failure),
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Certificates are in order, but there is nowhere to inject the bundle.
    #[error(
        "failed to find ValidatingWebhookConfiguration {0} (apply the manifests; until then nothing asks the webhook)"
    )]
    NoConfiguration(String),
    /// Somebody else keeps writing the same objects.
    #[error(
        "failed to come to rest in {MOST_ACTS} acts (does something else write Secrets {CA_SECRET} and {SERVING_SECRET}, or caBundle?)"
    )]
    Restless,
}

/// The rotation of one webhook's certificates.
pub struct Rotation {
    store: Store,
    injector: Injector,
    endpoints: Box<dyn Look>,
    configuration: String,
    policy: Policy,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    settled: Settled,
    /// The bundle that was in every webhook when this process last looked or wrote; `None` while that isn't known.
    in_place: Option<Vec<u8>>,
    foreign: Foreign,
    /// What was last said of a swap that waits.
    waits_for: Option<String>,
}

/// What one pass has read, to be written back under the versions read.
struct Read {
    ca: Option<Found>,
    serving: Option<Found>,
    configuration: Option<Configuration>,
    stored: Stored,
}

impl Rotation {
    /// A rotation that has seen nothing yet.
    #[must_use]
    pub fn new(
        client: kube::Client,
        (namespace, configuration): (&str, &str),
        endpoints: Box<dyn Look>,
        policy: Policy,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            store: Store::new(client.clone(), namespace),
            injector: Injector::new(client, configuration),
            endpoints,
            configuration: configuration.to_owned(),
            policy,
            clock,
            metrics,
            settled: Settled::default(),
            in_place: None,
            foreign: Foreign::default(),
            waits_for: None,
        }
    }

    /// Does all there is to do now; in how long there will be more, if that is known.
    ///
    /// # Errors
    /// When something could not be done.
    pub async fn tick(&mut self) -> Result<Option<Duration>, TickError> {
        // Once, because no act of a tick reaches an endpoint within it.
        let served = self.endpoints.look().await;
        for _ in 0..MOST_ACTS {
            let read = self.read(&served).await?;
            let now = self.clock.wall();
            let plan = plan::plan(&read.stored, now, &self.policy);
            self.look_in_place(&read.stored, &plan);
            let unseen = plan::unseen(&read.stored, &plan.bundle, now, &self.policy);
            self.metrics.endpoints_unseen(unseen.len());
            let configured = read.configuration.is_some();
            let due = match plan.act {
                Act::Wait(due) => Some(due),
                Act::Look(at_most) => {
                    // Once for each reason: it may last for days, with a tick every few seconds.
                    let why = unseen.join("; ");
                    if self.waits_for.as_ref() != Some(&why) {
                        tracing::warn!(
                            why,
                            ?at_most,
                            "the swap waits for an endpoint that does not serve what is trusted"
                        );
                        self.waits_for = Some(why);
                    }
                    Some(at_most)
                }
                Act::Rest => {
                    if !unseen.is_empty() {
                        tracing::debug!(why = unseen.join("; "), "not every endpoint serves what is trusted");
                    }
                    None
                }
                _ => {
                    self.carry_out(plan, read).await?;
                    continue;
                }
            };
            return if configured {
                Ok(due)
            } else {
                Err(TickError::NoConfiguration(self.configuration.clone()))
            };
        }
        Err(TickError::Restless)
    }

    /// Reads in the opposite order of writing. Each write is refused if its object changed since it was read, and what a write rests
    /// on was read later than its object: so nobody's newer CA is ever overwritten by a process that has not seen it.
    async fn read(&mut self, served: &Served) -> Result<Read, Failure> {
        let serving = self.store.read(SERVING_SECRET).await?;
        let configuration = self.injector.read().await?;
        self.look_for_other_hands(configuration.as_ref());
        let ca = self.store.read(CA_SECRET).await?;
        let injected = configuration.as_ref().map(Configuration::bundles);
        let mut stored = Stored::read(
            ca.as_ref().map(Found::data),
            serving.as_ref().map(Found::data),
            injected,
            Duration::ZERO,
        );
        let certificate = stored.ca.as_ref().ok().map(Pair::certificate);
        let now = self.clock.monotonic();
        let injected_for = self.settled.observe(certificate, stored.injected.as_deref(), now);
        if let Some(certificate) = certificate {
            self.metrics.ca_ends(certificate.not_after());
        }
        stored.injected_for = injected_for;
        stored.served.clone_from(served);
        Ok(Read { ca, serving, configuration, stored })
    }

    /// Takes note of a configuration that is as it should be, whoever made it so.
    fn look_in_place(&mut self, stored: &Stored, plan: &Plan) {
        let text = bundle::pem(&plan.bundle).into_bytes();
        if stored.injected.as_ref().is_some_and(|bundles| bundles.iter().all(|injected| *injected == text)) {
            self.in_place = Some(text);
        }
    }

    /// Tells of what somebody else changed; to put it back is not this process's business.
    fn look_for_other_hands(&mut self, configuration: Option<&Configuration>) {
        if self.foreign.observe(configuration.map(|read| read.rest().to_owned())) {
            self.metrics.configuration_changed();
            tracing::warn!(
                is_there = configuration.is_some(),
                "somebody changed the webhook configuration, in something else than caBundle"
            );
        }
    }

    async fn carry_out(&mut self, Plan { bundle, act }: Plan, read: Read) -> Result<(), TickError> {
        let Read { ca, serving, configuration, stored } = read;
        let now = self.clock.wall();
        match act {
            Act::IssueCa(reason) => {
                let issued = issue::ca(now, self.policy.ca_lifetime)?;
                let written = self.store_ca(ca, stored::ca_data(&issued, &bundle)).await?;
                let not_after = issued.certificate().not_after();
                report(written, || tracing::info!(reason = reason.label(), %not_after, "issued a CA"));
            }
            Act::StorePrevious(previous) => {
                let data = Data::from([(stored::PREVIOUS.to_owned(), bundle::pem(&previous).into_bytes())]);
                let written = self.store_ca(ca, data).await?;
                report(written, || tracing::info!(count = previous.len(), "stored the previous CAs"));
            }
            Act::Inject => {
                if let Some(configuration) = configuration {
                    let text = bundle::pem(&bundle);
                    // Forgotten until the answer is there: a write whose answer got lost must not look like somebody else's.
                    let before = self.in_place.take();
                    let written = self.injector.inject(&configuration, &text).await?;
                    let is_changed =
                        |known: &Vec<u8>| configuration.bundles().iter().any(|injected| injected != known);
                    let is_foreign = before.as_ref().is_some_and(is_changed);
                    self.in_place = match written {
                        Written::Done => Some(text.into_bytes()),
                        Written::Conflict => before,
                    };
                    if is_foreign && written == Written::Done {
                        self.metrics.bundle_restored();
                        tracing::warn!(
                            "put the bundle back: somebody else had changed the webhook configuration"
                        );
                    }
                    report(written, || tracing::info!(count = bundle.len(), "injected the bundle"));
                }
            }
            Act::IssueServing(reason) => {
                if let Ok(ca) = &stored.ca {
                    let Policy { name, serving_lifetime, .. } = &self.policy;
                    let issued = issue::serving(ca, name, now, *serving_lifetime)?;
                    let written = self.store_serving(serving, stored::serving_data(&issued, &bundle)).await?;
                    let not_after = issued.certificate().not_after();
                    report(written, || {
                        tracing::info!(reason = reason.label(), %not_after, "issued a serving certificate");
                    });
                }
            }
            Act::Publish => {
                let data = Data::from([(stored::BUNDLE.to_owned(), bundle::pem(&bundle).into_bytes())]);
                let written = self.store_serving(serving, data).await?;
                report(written, || tracing::info!(count = bundle.len(), "published the bundle"));
            }
            Act::Wait(_) | Act::Look(_) | Act::Rest => {}
        }
        Ok(())
    }

    async fn store_ca(&self, read: Option<Found>, data: Data) -> Result<Written, Failure> {
        self.store.write(CA_SECRET, "Opaque", read, data).await
    }

    async fn store_serving(&self, read: Option<Found>, data: Data) -> Result<Written, Failure> {
        self.store.write(SERVING_SECRET, "kubernetes.io/tls", read, data).await
    }
}

/// One line for each act; of a conflict only for who looks closely, because the next pass says what became of it.
fn report(written: Written, line: impl FnOnce()) {
    match written {
        Written::Done => line(),
        Written::Conflict => tracing::debug!("somebody else wrote first, planning again"),
    }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
