//! Turns the events of the watches into names in the queue. Each watch has its own back-off, so a
//! watch that can't be opened does not delay the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use policy::record::OptIn;
use policy::well_known::{AGENT_BINDING, RECORD};

use crate::admission::callers::Callers;
use crate::admission::configuration_watch::ConfigurationWatch;
use crate::admission::pending_admissions::PendingAdmissions;
use crate::metrics::Metrics;
use crate::namespaces::Stored;
use crate::reconcile::queue::Queue;
use crate::reconcile::store::MANAGER;
use crate::reconcile::write_throttle::PATIENCE;

/// The most objects per page, so that a list of 10 000 namespaces is never in memory as a whole.
const PAGE: u32 = 100;
/// Seconds after which a watch is opened again. If a watch dies silently, the webhook notices it 5
/// s later, before a fresh note ends.
const WATCH_SECONDS: u32 = 45;

/// How long after a replica's own write the namespace is reconciled again. One pass is enough for
/// all writes that an opt-in causes.
const SETTLING: Duration = Duration::from_secs(1);

/// The four watches, and the little that they remember.
pub struct Watches {
    queue: Arc<Queue>,
    pending_admissions: Arc<PendingAdmissions>,
    metrics: Metrics,
    known: Mutex<Known>,
    synced: AtomicBool,
    callers: Arc<Callers>,
    guard: Arc<ConfigurationWatch>,
    configuration: String,
}

/// The last version seen of each namespace's record and RoleBinding. A change is a different
/// `Version`.
#[derive(Default)]
struct Known {
    records: BTreeMap<String, Version>,
    bindings: BTreeMap<String, Version>,
}

/// UID and generation of a record, because changes of its status do not matter here. UID and
/// resourceVersion of a RoleBinding.
type Version = (Option<String>, Option<String>);

impl Watches {
    /// Creates the watches. Nothing is known until they run.
    #[must_use]
    pub fn new(
        queue: Arc<Queue>,
        pending_admissions: Arc<PendingAdmissions>,
        metrics: Metrics,
        (callers, guard): (Arc<Callers>, Arc<ConfigurationWatch>),
        configuration: String,
    ) -> Self {
        let (known, synced) = (Mutex::default(), AtomicBool::new(false));
        Self { queue, pending_admissions, metrics, known, synced, callers, guard, configuration }
    }

    /// Returns whether every Namespace has been seen once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Follows Namespaces, records, RoleBindings and the webhook configuration forever. A watch
    /// that fails is opened again.
    pub async fn run(&self, client: &Client) {
        // Select RoleBindings by name, so that the right to read RoleBindings can be limited to
        // this name.
        let ours = format!("metadata.name={AGENT_BINDING}");
        let namespaces = {
            let mut listed = BTreeSet::new();
            follow::<Namespace>("namespaces", client, "", move |event| self.namespace(event, &mut listed))
        };
        let records = {
            let mut listed = BTreeMap::new();
            follow::<OptIn>("optins", client, "", move |event| {
                self.object(
                    event,
                    &mut listed,
                    |known| &mut known.records,
                    |metadata| {
                        // An OptIn with another name is not a record.
                        let version =
                            (metadata.uid.clone(), metadata.generation.map(|number| number.to_string()));
                        (metadata.name.as_deref() == Some(RECORD)).then_some(version)
                    },
                );
                self.metrics.records(self.known.lock().records.len());
            })
        };
        let bindings = {
            let mut listed = BTreeMap::new();
            follow::<RoleBinding>("rolebindings", client, &ours, move |event| {
                self.object(
                    event,
                    &mut listed,
                    |known| &mut known.bindings,
                    |metadata| {
                        let version = (metadata.uid.clone(), metadata.resource_version.clone());
                        (metadata.name.as_deref() == Some(AGENT_BINDING)).then_some(version)
                    },
                );
            })
        };
        tokio::join!(namespaces, records, bindings, self.follow_configuration(client));
    }

    /// Follows the webhook configuration. The watch selects it by name, because the webhook's right
    /// to read is limited to this name. The watch reads the whole object, because the metadata is
    /// not enough.
    async fn follow_configuration(&self, client: &Client) {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.configuration))
            .timeout(WATCH_SECONDS);
        let mut listed = None;
        let show = |configuration: Option<&ValidatingWebhookConfiguration>| {
            self.callers.configuration(configuration);
            self.guard.configuration(configuration);
        };
        follow_events("validatingwebhookconfigurations", api, config, |event| match event {
            Event::Init => listed = None,
            Event::InitApply(object) => listed = Some(object),
            Event::InitDone => show(listed.take().as_ref()),
            Event::Apply(object) => show(Some(&object)),
            Event::Delete(_) => show(None),
        })
        .await;
    }

    fn namespace(&self, event: Event<ObjectMeta>, listed: &mut BTreeSet<String>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(metadata) => {
                let seen = Stored::of(metadata);
                self.pending_admissions.listed(&seen);
                self.look_if_ours(&seen, Duration::ZERO);
                listed.insert(seen.view.name);
            }
            Event::InitDone => {
                self.pending_admissions.only(listed);
                listed.clear();
                self.synced.store(true, Ordering::Release);
            }
            Event::Apply(metadata) => {
                let seen = Stored::of(metadata);
                self.pending_admissions.changed(&seen);
                // The replica that admitted the opt-in writes first. This replica waits, and then
                // finds nothing to do.
                let is_elsewhere = seen.opts_in() && !self.pending_admissions.holds(&seen);
                self.look_if_ours(&seen, if is_elsewhere { PATIENCE } else { Duration::ZERO });
            }
            // Kubernetes deletes the record and the RoleBinding together with the namespace.
            Event::Delete(metadata) => self.pending_admissions.gone(&metadata.name.unwrap_or_default()),
        }
    }

    /// Adds a namespace to the queue if it has to do with Pure Chaos. Most namespaces of a cluster
    /// do not, and so they cost no read.
    fn look_if_ours(&self, seen: &Stored, delay: Duration) {
        let name = &seen.view.name;
        let is_known = {
            let known = self.known.lock();
            known.records.contains_key(name) || known.bindings.contains_key(name)
        };
        if is_known || seen.says_something() {
            self.queue.add_after(name, delay);
        }
    }

    fn object(
        &self,
        event: Event<ObjectMeta>,
        listed: &mut BTreeMap<String, Version>,
        kind: impl Fn(&mut Known) -> &mut BTreeMap<String, Version>,
        version: impl Fn(&ObjectMeta) -> Option<Version>,
    ) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(metadata) => {
                if let (Some(version), Some(namespace)) = (version(&metadata), metadata.namespace) {
                    listed.insert(namespace, version);
                }
            }
            Event::InitDone => {
                // Queue all of them, including those that vanished unseen: after a list, everything
                // is put right.
                let before = std::mem::replace(kind(&mut self.known.lock()), std::mem::take(listed));
                let now: Vec<String> = kind(&mut self.known.lock()).keys().cloned().collect();
                before.into_keys().chain(now).for_each(|namespace| self.queue.add(&namespace));
            }
            Event::Apply(metadata) => {
                let delay = if is_written_by_us(&metadata) { SETTLING } else { Duration::ZERO };
                if let (Some(version), Some(namespace)) = (version(&metadata), metadata.namespace) {
                    let before = kind(&mut self.known.lock()).insert(namespace.clone(), version.clone());
                    if before != Some(version) {
                        self.queue.add_after(&namespace, delay);
                    }
                }
            }
            Event::Delete(metadata) => {
                if let (Some(_), Some(namespace)) = (version(&metadata), metadata.namespace) {
                    kind(&mut self.known.lock()).remove(&namespace);
                    self.queue.add(&namespace);
                }
            }
        }
    }
}

/// Returns whether only replicas of this webhook wrote an object, apart from its status.
fn is_written_by_us(metadata: &ObjectMeta) -> bool {
    let mut managers = metadata.managed_fields.iter().flatten().filter(|entry| entry.subresource.is_none());
    managers.all(|entry| entry.manager.as_deref() == Some(MANAGER))
}

/// Follows the metadata of all objects of a kind, in all namespaces.
async fn follow<K>(kind: &'static str, client: &Client, fields: &str, mut show: impl FnMut(Event<ObjectMeta>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    if !fields.is_empty() {
        config = config.fields(fields);
    }
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    follow_events(kind, api, config, |event| show(metadata_of(event))).await;
}

async fn follow_events<K>(
    kind: &'static str,
    api: Api<K>,
    config: watcher::Config,
    mut show: impl FnMut(Event<K>),
) where
    K: Resource + Clone + Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = pin!(kube::runtime::watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => show(event),
            Err(error) => {
                tracing::warn!(kind, error = error.to_string(), "a watch was interrupted, retrying")
            }
        }
    }
}

fn metadata_of<K>(event: Event<PartialObjectMeta<K>>) -> Event<ObjectMeta> {
    match event {
        Event::Apply(object) => Event::Apply(object.metadata),
        Event::Delete(object) => Event::Delete(object.metadata),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.metadata),
        Event::InitDone => Event::InitDone,
    }
}
