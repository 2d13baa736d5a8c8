//! Shows people that the whole cluster is halted. Kills don't depend on this task: each kill reads
//! the halt from the API server.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, core::PartialObjectMeta};
use policy::kill_gate::halt;
use policy::well_known::SYSTEM_NAMESPACE;
use runtime::text::cut;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::live_consent::namespace_view;
use crate::cluster::pods;
use crate::context::Context;
use crate::telemetry::activity::Halt;
use crate::telemetry::fact::Fact;

/// After this many seconds the API server ends the watch. The agent then notices a dead connection
/// soon.
const WATCH_SECONDS: u32 = 60;

/// The most bytes of a halt's text in the state of a namespace.
const LONGEST_TEXT: usize = 1_000;

/// Sets the metric `pure_chaos_halted` and writes the Events `ChaosHalted` and `ChaosResumed`,
/// until `end`.
///
/// # Errors
/// Never. The other tasks have the same return type.
pub async fn observe_halt(context: Context, end: CancellationToken) -> anyhow::Result<()> {
    let client = context.watches.take();
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.client());
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={SYSTEM_NAMESPACE}"))
        .timeout(WATCH_SECONDS);
    let mut events = watcher(namespaces, config).default_backoff().boxed();
    let mut before: Option<String> = None;
    // The halt that Events have told of. It stays as it is while the namespace can't be read.
    let mut told: Option<String> = None;
    let mut listed = None;
    loop {
        let event = tokio::select! {
            () = end.cancelled() => return Ok(()),
            event = events.next() => event,
        };
        let unreadable = |why: &str| Err(format!("namespace {SYSTEM_NAMESPACE} can't be read: {why}"));
        let system = match event {
            None => return Ok(()),
            Some(Err(error)) => unreadable(&pods::words(error)),
            Some(Ok(watcher::Event::Init)) => {
                listed = None;
                continue;
            }
            Some(Ok(watcher::Event::InitApply(system))) => {
                listed = Some(system);
                continue;
            }
            Some(Ok(watcher::Event::InitDone)) => {
                listed.take().ok_or(()).or_else(|()| unreadable("the namespace does not exist"))
            }
            Some(Ok(watcher::Event::Apply(system))) => Ok(system),
            Some(Ok(watcher::Event::Delete(_))) => unreadable("the namespace was deleted"),
        };
        let (now, untold) = match system {
            Ok(system) => {
                let system = namespace_view(system.metadata);
                let halt = halt(&system);
                show(&context.halt, halt.as_deref());
                let untold = (told != halt).then_some(system.uid);
                told.clone_from(&halt);
                (halt, untold)
            }
            Err(why) => (Some(why), None),
        };
        context.metrics.set_halted(now.is_some());
        context.activity_log.set_halt(now.as_deref());
        if now != before {
            let untold = untold.as_deref();
            let fact = match &now {
                Some(text) => Fact::Halted { text, untold },
                None => Fact::HaltEnded { untold },
            };
            context.tell(SYSTEM_NAMESPACE, &fact);
            before = now;
        }
    }
}

/// Passes the halt on to the tasks of the namespaces, if it has changed.
fn show(shown: &watch::Sender<Halt>, text: Option<&str>) {
    // Cuts the text, because it goes into the record of each namespace.
    let halt = text.map_or(Halt::No, |text| Halt::Yes(cut(text.to_owned(), LONGEST_TEXT)));
    shown.send_if_modified(|known| {
        let is_changed = *known != halt;
        *known = halt;
        is_changed
    });
}
