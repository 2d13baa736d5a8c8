//! What the watches show, turned into names in the queue. Each watch has its own back-off, so that one that can't be opened keeps
//! no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use policy::keys::{AGENT_BINDING, RECORD};
use policy::record::OptIn;

use crate::metrics::Metrics;
use crate::namespaces::Stored;
use crate::notes::Notes;
use crate::queue::Queue;

/// Objects a page: a list of 10 000 namespaces is never in memory as a whole.
const PAGE: u32 = 100;
/// Seconds after which a watch is opened anew; one that died silently is noticed 5 s later, before a fresh note has ended.
const WATCH_SECONDS: u32 = 45;

/// The three watches, and the little that is known from them.
pub struct Watches {
    queue: Arc<Queue>,
    notes: Arc<Notes>,
    metrics: Metrics,
    known: Mutex<Known>,
    synced: AtomicBool,
}

/// By namespace: what a record or a binding was when it was last seen. What a change of it looks like is in `Version`.
#[derive(Default)]
struct Known {
    records: BTreeMap<String, Version>,
    bindings: BTreeMap<String, Version>,
}

/// UID and generation of a record, whose status may change as it likes; UID and resourceVersion of a binding.
type Version = (Option<String>, Option<String>);

impl Watches {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(queue: Arc<Queue>, notes: Arc<Notes>, metrics: Metrics) -> Self {
        Self { queue, notes, metrics, known: Mutex::default(), synced: AtomicBool::new(false) }
    }

    /// Whether every Namespace has been seen once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Follows Namespaces, records and RoleBindings for ever; what fails is tried again.
    pub async fn run(&self, client: &Client) {
        // By name, so that the right to read RoleBindings can be limited to this one.
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
                        // Others may have other names; they are nobody's.
                        let version =
                            (metadata.uid.clone(), metadata.generation.map(|number| number.to_string()));
                        (metadata.name.as_deref() == Some(RECORD)).then_some(version)
                    },
                );
                self.metrics.records(self.known().records.len());
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
        tokio::join!(namespaces, records, bindings);
    }

    fn namespace(&self, event: Event<ObjectMeta>, listed: &mut BTreeSet<String>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(metadata) => {
                let seen = Stored::of(metadata);
                self.notes.listed(&seen);
                self.look_if_ours(&seen);
                listed.insert(seen.view.name);
            }
            Event::InitDone => {
                self.notes.only(listed);
                listed.clear();
                self.synced.store(true, Ordering::Release);
            }
            Event::Apply(metadata) => {
                let seen = Stored::of(metadata);
                self.notes.changed(&seen);
                self.look_if_ours(&seen);
            }
            // Its record and its binding go with it.
            Event::Delete(metadata) => self.notes.gone(&metadata.name.unwrap_or_default()),
        }
    }

    /// Most namespaces of a cluster have nothing to do with us; those cost no read.
    fn look_if_ours(&self, seen: &Stored) {
        let name = &seen.view.name;
        let is_known = {
            let known = self.known();
            known.records.contains_key(name) || known.bindings.contains_key(name)
        };
        if is_known || seen.says_something() {
            self.queue.add(name);
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
                // All of them, those that vanished unseen too: a list is the time to put everything right.
                let before = std::mem::replace(kind(&mut self.known()), std::mem::take(listed));
                let now: Vec<String> = kind(&mut self.known()).keys().cloned().collect();
                before.into_keys().chain(now).for_each(|namespace| self.queue.add(&namespace));
            }
            Event::Apply(metadata) => {
                if let (Some(version), Some(namespace)) = (version(&metadata), metadata.namespace) {
                    let before = kind(&mut self.known()).insert(namespace.clone(), version.clone());
                    if before != Some(version) {
                        self.queue.add(&namespace);
                    }
                }
            }
            Event::Delete(metadata) => {
                if let (Some(_), Some(namespace)) = (version(&metadata), metadata.namespace) {
                    kind(&mut self.known()).remove(&namespace);
                    self.queue.add(&namespace);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows all objects of a kind by their metadata, in all namespaces.
async fn follow<K>(kind: &'static str, client: &Client, fields: &str, mut show: impl FnMut(Event<ObjectMeta>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    if !fields.is_empty() {
        config = config.fields(fields);
    }
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let mut events = pin!(kube::runtime::watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => show(metadata_of(event)),
            Err(error) => {
                tracing::warn!(kind, error = error.to_string(), "a watch was interrupted, it is tried again")
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
