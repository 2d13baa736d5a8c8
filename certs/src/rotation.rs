//! Runs one tick: reads, plans, issues, stores and injects.

pub mod drift;
pub mod observed;
pub mod plan;
pub mod propagation;
pub mod revocation;

use std::sync::Arc;
use std::time::Duration;

use runtime::clock::Clock;

use crate::api::inject::{Configuration, Injector};
use crate::api::probe::{Look, Served};
use crate::api::secrets::{CA_SECRET, Failure, Found, PATH_SECRET, SERVING_SECRET, Store, Written};
use crate::metrics::Metrics;
use crate::rotation::drift::Foreign;
use crate::rotation::observed::{Data, Stored};
use crate::rotation::plan::{Act, Plan, Policy, Reason};
use crate::rotation::propagation::Settled;
use crate::rotation::revocation::REVOKE;
use crate::x509::bundle;
use crate::x509::certificate::Pair;
use crate::x509::issue::{self, IssueError};

/// The most acts in one tick. A first start takes three. If ten are not enough, somebody else keeps
/// changing the same objects.
const MOST_ACTS: usize = 10;

/// Why a tick did not reach its end. The acts that it did are done, and the next tick goes on from
/// there.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// A call to the API server failed.
    #[error(transparent)]
    Api(#[from] Failure),
    /// A certificate or a key could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The certificates are in order, but there is no configuration to inject the bundle into.
    #[error(
        "failed to find ValidatingWebhookConfiguration {0} (apply the manifests; \
         until then the API server does not call the webhook)"
    )]
    NoConfiguration(String),
    /// Somebody else keeps writing the same objects.
    #[error(
        "failed to finish in {MOST_ACTS} acts (does something else write Secrets {CA_SECRET}, \
         {SERVING_SECRET} and {PATH_SECRET}, or the webhook configuration?)"
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
    /// The bundle that was in every webhook when this process last looked or wrote; `None` while
    /// that is not known.
    in_place: Option<Vec<u8>>,
    foreign: Foreign,
    /// What was last logged about a swap that waits.
    waits_for: Option<String>,
    /// What was last logged about an annotation that revokes nothing.
    revocation_told: revocation::Told,
}

/// What one pass has read. Writes refer to the versions that were read.
struct Read {
    ca: Option<Found>,
    serving: Option<Found>,
    configuration: Option<Configuration>,
    stored: Stored,
}

impl Rotation {
    /// Creates a rotation that has seen nothing yet.
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
            revocation_told: revocation::Told::default(),
        }
    }

    /// Does all acts that are due. Returns in how long the next one is due, if that is known.
    ///
    /// # Errors
    /// Returns an error if an act failed, if there is no webhook configuration, or if somebody else
    /// keeps changing the same objects.
    pub async fn tick(&mut self) -> Result<Option<Duration>, TickError> {
        // Ask the endpoints once, because no act reaches an endpoint within the same tick.
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
                    // Log each reason once, because the wait may last for days, with a tick every
                    // few seconds.
                    let why = unseen.join("; ");
                    if self.waits_for.as_ref() != Some(&why) {
                        tracing::warn!(
                            why,
                            ?at_most,
                            "not issuing a serving certificate until every endpoint serves a certificate that the bundle accepts"
                        );
                        self.waits_for = Some(why);
                    }
                    Some(at_most)
                }
                Act::Rest => {
                    if !unseen.is_empty() {
                        tracing::debug!(
                            why = unseen.join("; "),
                            "not every endpoint serves a certificate that the bundle accepts"
                        );
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

    /// Reads in the opposite order of writing. The API server refuses a write if its object has
    /// changed since the read, and everything that a write is based on is read later than its
    /// object. So a process never overwrites a newer CA that it has not seen.
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
        let revoke = ca.as_ref().and_then(|ca| ca.annotation(REVOKE));
        stored.is_revoked = revocation::is_asked(revoke);
        if let Some(advice) = self.revocation_told.advice(self.store.namespace(), revoke) {
            tracing::warn!("{advice}");
        }
        stored.served.clone_from(served);
        Ok(Read { ca, serving, configuration, stored })
    }

    /// Notes that every webhook has the planned bundle, even if another process injected it.
    fn look_in_place(&mut self, stored: &Stored, plan: &Plan) {
        let text = bundle::pem(&plan.bundle).into_bytes();
        if stored.injected.as_ref().is_some_and(|bundles| bundles.iter().all(|injected| *injected == text)) {
            self.in_place = Some(text);
        }
    }

    /// Reports what somebody else changed in the rest of the configuration. `certs` does not undo
    /// such a change.
    fn look_for_other_hands(&mut self, configuration: Option<&Configuration>) {
        if self.foreign.observe(configuration.map(|read| read.rest().to_owned())) {
            self.metrics.configuration_changed();
            tracing::warn!(
                is_there = configuration.is_some(),
                "somebody changed the webhook configuration outside caBundle and path"
            );
        }
    }

    async fn carry_out(&mut self, Plan { bundle, act }: Plan, read: Read) -> Result<(), TickError> {
        let Read { ca, serving, configuration, stored } = read;
        let now = self.clock.wall();
        match act {
            Act::IssueCa(reason) => {
                let issued = issue::ca(now, self.policy.ca_lifetime)?;
                let mut data = observed::ca_data(&issued, &bundle);
                let mut ca = ca;
                if reason == Reason::Revoked {
                    // The revoked CAs and their successor are in one write, so no crash in between
                    // brings back what was revoked.
                    ca = ca.map(|ca| ca.without_annotation(REVOKE));
                    let revoked = bundle::pem(&stored.all_cas(now)).into_bytes();
                    data.insert(observed::REVOKED.to_owned(), revoked);
                }
                let written = self.store_ca(ca, data).await?;
                let not_after = issued.certificate().not_after();
                report(written, || tracing::info!(reason = reason.label(), %not_after, "issued a CA"));
            }
            Act::StorePrevious(previous) => {
                let data = Data::from([(observed::PREVIOUS.to_owned(), bundle::pem(&previous).into_bytes())]);
                let written = self.store_ca(ca, data).await?;
                report(written, || tracing::info!(count = previous.len(), "stored the previous CAs"));
            }
            Act::Inject => {
                if let Some(configuration) = configuration {
                    let text = bundle::pem(&bundle);
                    // Forget the bundle until the answer is there. Otherwise a write whose answer
                    // got lost would look like a change by somebody else.
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
                            "restored the bundle that somebody else changed in the webhook configuration"
                        );
                    }
                    report(written, || tracing::info!(count = bundle.len(), "injected the bundle"));
                }
            }
            Act::IssueServing(reason) => {
                if let Ok(ca) = &stored.ca {
                    let Policy { name, serving_lifetime, .. } = &self.policy;
                    let issued = issue::serving(ca, name, now, *serving_lifetime)?;
                    let written =
                        self.store_serving(serving, observed::serving_data(&issued, &bundle)).await?;
                    let not_after = issued.certificate().not_after();
                    report(written, || {
                        tracing::info!(reason = reason.label(), %not_after, "issued a serving certificate");
                    });
                }
            }
            Act::Publish => {
                let data = Data::from([(observed::BUNDLE.to_owned(), bundle::pem(&bundle).into_bytes())]);
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

/// Logs one line for each act. A conflict is logged at debug level only, because the next pass
/// shows the result.
fn report(written: Written, line: impl FnOnce()) {
    match written {
        Written::Done => line(),
        Written::Conflict => tracing::debug!("somebody else wrote first, planning again"),
    }
}

#[cfg(test)]
mod tests;
