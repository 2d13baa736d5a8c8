//! What the binaries export: each series that exists from the start or from the first sight of a
//! workload.

use agent::telemetry::metrics;
use policy::platform::PlatformPolicy;
use policy::record::WorkloadReference;
use prometheus::Registry;

/// The registries of agent, webhook and certs.
pub fn registries() -> [Registry; 3] {
    [agent(), webhook(), certs()]
}

fn agent() -> Registry {
    let registry = runtime::metrics::registry().unwrap();
    metrics::leader(&registry).unwrap();
    let metrics = metrics::Metrics::new(&registry, &PlatformPolicy::built_in()).unwrap();
    metrics.begin("a");
    let web =
        WorkloadReference { kind: "Deployment".to_owned(), name: "web".to_owned(), uid: "u".to_owned() };
    metrics.see("a", &web);
    metrics.begin_hypothesis("a", &web, "web-answers");
    metrics.set_next_slot("a", None);
    registry
}

fn webhook() -> Registry {
    let registry = runtime::metrics::registry().unwrap();
    webhook::metrics::Metrics::new(&registry).unwrap().obeys("hash");
    registry
}

fn certs() -> Registry {
    let registry = runtime::metrics::registry().unwrap();
    certs::metrics::Metrics::register(&registry).unwrap().ca_ends(jiff::Timestamp::UNIX_EPOCH);
    registry
}
