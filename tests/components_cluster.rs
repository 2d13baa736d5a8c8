//! What the components are for. That the API server takes them is in `manifests_cluster.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Namespace, kubectl, object, within};
use tests::manifests::with_component;
use tests::repository::root;

/// The objects of base and component, and those of them that are of this group.
fn built(component: &str, group: &str) -> (Vec<Value>, Vec<Value>) {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&with_component(component)).unwrap();
    let of_group = |object: &&Value| object["apiVersion"].as_str().unwrap().starts_with(group);
    let foreign = objects.iter().filter(of_group).cloned().collect();
    (objects, foreign)
}

#[test]
fn cert_manager_takes_the_place_of_certs() {
    let (objects, issued) = built("cert-manager", "cert-manager.io/");
    for object in &objects {
        let name = object["metadata"]["name"].as_str().unwrap();
        assert!(!["certs", "pure-chaos-certs", "certs-to-webhook"].contains(&name), "{object}");
    }
    let configuration =
        objects.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap().clone();
    assert_eq!(
        configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"],
        "pure-chaos/webhook"
    );
    assert_eq!(configuration["webhooks"].as_array().unwrap().len(), 2, "the patch adds and takes nothing");

    let get = |kind: &str, name: &str| {
        let found = issued.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        let object = found.unwrap_or_else(|| panic!("{kind} {name}"));
        assert_eq!(
            (&object["apiVersion"], &object["metadata"]["namespace"]),
            (&json!("cert-manager.io/v1"), &json!("pure-chaos"))
        );
        object["spec"].clone()
    };
    assert_eq!(issued.len(), 4);
    let (ca, leaf) = (get("Certificate", "ca"), get("Certificate", "webhook"));
    assert_eq!(get("Issuer", "self-signed"), json!({"selfSigned": {}}));
    assert_eq!((&ca["isCA"], &ca["issuerRef"]["name"]), (&json!(true), &json!("self-signed")));
    assert_eq!(get("Issuer", "ca")["ca"]["secretName"], ca["secretName"]);
    assert_eq!(leaf["issuerRef"], json!({"kind": "Issuer", "name": "ca"}));
    // What the webhook mounts, and what the API server calls it by.
    assert_eq!(leaf["secretName"], "webhook-tls");
    assert_eq!(leaf["dnsNames"], json!(["webhook.pure-chaos.svc"]));
}

#[test]
fn prometheus_operator_gets_its_rules() {
    let (_, rules) = built("prometheus-operator", "monitoring.coreos.com/");
    let names: Vec<_> =
        rules.iter().map(|object| (object["kind"].as_str(), object["metadata"]["name"].as_str())).collect();
    assert_eq!(names, [(Some("PrometheusRule"), Some("pure-chaos"))]);
}

#[test]
fn with_component_nodes_pods_of_cordoned_nodes_are_left_alone() {
    let folder = root().join("manifests/components/nodes");
    let rights = folder.join("rbac.yaml");
    let rights = ["-f", rights.to_str().unwrap()];
    let namespace = Namespace::new("cordoned");
    namespace.deployment("web", 2);
    namespace.opt_in(&["purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s"]);
    let nodes = object(&["nodes"]);
    let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    kubectl(&[&["apply"], &rights[..]].concat()).succeeds();
    kubectl(&["cordon", &node]).succeeds();
    // The agent asks once a minute what it may.
    let noticed = std::panic::catch_unwind(|| {
        within(Duration::from_secs(90), "the guard", || {
            let record = namespace.record();
            record["status"]["state"].as_str()?.contains("node_cordoned").then_some(())
        });
        let explain =
            ["-n", "pure-chaos", "exec", "deploy/agent", "--", "/agent", "explain", &namespace.name];
        kubectl(&explain).succeeds()
    });
    kubectl(&["uncordon", &node]).succeeds();
    kubectl(&[&["delete"], &rights[..]].concat()).succeeds();
    let text = noticed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    assert!(text.contains("node_cordoned: its node is cordoned"), "{text}");
    // Without the right it is as before; it takes a minute to be noticed, and until then nothing is killed.
    let kills = || namespace.record()["status"]["kills"].as_i64().unwrap_or(0);
    let before = kills();
    within(Duration::from_secs(90), "a kill", || (kills() > before).then_some(()));
}
