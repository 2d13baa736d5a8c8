//! What the components do. `tests/e2e/manifests.rs` tests that the API server accepts them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Namespace, kubectl, object, within};
use tests::dashboard::FILE;
use tests::manifests::with_component;
use tests::repository::{read, root};
use tests::rights::{Right, rights};

/// The objects of base and component, and those of them that belong to this group.
fn built(component: &str, group: &str) -> (Vec<Value>, Vec<Value>) {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&with_component(component)).unwrap();
    let of_group = |object: &&Value| object["apiVersion"].as_str().unwrap().starts_with(group);
    let foreign = objects.iter().filter(of_group).cloned().collect();
    (objects, foreign)
}

#[test]
fn cert_manager_takes_the_certificates_and_leaves_the_path_to_certs() {
    let (objects, issued) = built("cert-manager", "cert-manager.io/");
    let of = |kind: &str, name: &str| {
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    };
    let certs = of("Deployment", "certs").unwrap();
    assert_eq!(certs["spec"]["template"]["spec"]["containers"][0]["args"], json!(["run", "--only-path"]));
    let rights = &of("Role", "certs").unwrap()["rules"];
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"]});
    let (mut create, mut named) = (secrets.clone(), secrets);
    create["verbs"] = json!(["create"]);
    named["verbs"] = json!(["get", "update"]);
    named["resourceNames"] = json!(["webhook-path"]);
    assert_eq!(*rights, json!([create, named]), "it reads no certificate");
    let policy = of("ValidatingAdmissionPolicy", "secrets.purechaos.dev").unwrap();
    assert_eq!(policy["spec"]["variables"][0]["expression"], "{'webhook-path': 'Opaque'}");
    assert!(of("NetworkPolicy", "certs-to-webhook").is_none());
    let configuration = of("ValidatingWebhookConfiguration", "pure-chaos").unwrap();
    assert!(configuration["webhooks"][0]["clientConfig"]["service"]["path"].is_null(), "certs' alone");
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
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/part-of"], "pure-chaos", "{name}");
        object["spec"].clone()
    };
    assert_eq!(issued.len(), 4);
    let (ca, leaf) = (get("Certificate", "ca"), get("Certificate", "webhook"));
    assert_eq!(get("Issuer", "self-signed"), json!({"selfSigned": {}}));
    assert_eq!((&ca["isCA"], &ca["issuerRef"]["name"]), (&json!(true), &json!("self-signed")));
    assert_eq!(get("Issuer", "ca")["ca"]["secretName"], ca["secretName"]);
    assert_eq!(leaf["issuerRef"], json!({"kind": "Issuer", "name": "ca"}));
    // The Secret that the webhook mounts, and the name by which the API server calls the webhook.
    assert_eq!(leaf["secretName"], "webhook-tls");
    assert_eq!(leaf["dnsNames"], json!(["webhook.pure-chaos.svc"]));
}

#[test]
fn component_delete_adds_the_right_to_delete_pods_and_nothing_else() {
    let roles = |yaml: &str| -> BTreeSet<Right> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
        objects.iter().filter(|object| object["kind"] == "ClusterRole").flat_map(rights).collect()
    };
    let base = kubectl(&["kustomize", root().join("manifests/base").to_str().unwrap()]).succeeds();
    let (base, with) = (roles(&base), roles(&with_component("delete")));
    let added: Vec<_> =
        with.difference(&base).map(|right| (&right.role[..], &right.resource[..], &right.verb[..])).collect();
    assert_eq!(added, [("pure-chaos-agent", "pods", "delete")]);
    assert!(base.is_subset(&with));
}

#[test]
fn prometheus_operator_gets_its_monitors_and_rules() {
    let (_, objects) = built("prometheus-operator", "monitoring.coreos.com/");
    let mut names: Vec<String> = objects
        .iter()
        .map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', ""))
        .collect();
    names.sort_unstable();
    let rules = ["PrometheusRule pure-chaos-agent", "PrometheusRule pure-chaos-webhook"];
    assert_eq!(names, [&["PodMonitor agent", "PodMonitor certs", "PodMonitor webhook"], &rules[..]].concat());
}

#[test]
fn a_sidecar_of_grafana_gets_the_dashboard_that_people_import() {
    let (_, core) = built("grafana", "v1");
    let made = core.iter().find(|object| object["metadata"]["labels"]["grafana_dashboard"] == "1").unwrap();
    assert_eq!(made["metadata"]["name"], "grafana-dashboard", "a hash would leave the old one behind");
    assert_eq!(made["data"], json!({"pure-chaos.json": read(FILE)}));
    // The component works beside the base and alone.
    let alone = root().join(FILE);
    let alone = kubectl(&["kustomize", alone.parent().unwrap().to_str().unwrap()]).succeeds();
    assert_eq!(serde_saphyr::from_str::<Value>(&alone).unwrap(), *made);
}

#[test]
fn with_component_nodes_pods_of_cordoned_nodes_are_left_alone() {
    let folder = root().join("manifests/components/nodes");
    let rights = folder.join("rbac.yaml");
    let rights = ["-f", rights.to_str().unwrap()];
    let namespace = Namespace::new("cordoned");
    namespace.deployment("web", 2);
    namespace.opt_in(&[
        "purechaos.dev/schedule=every 1s",
        "purechaos.dev/min-age=1s",
        "purechaos.dev/mode=delete",
    ]);
    let nodes = object(&["nodes"]);
    let node = nodes["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    kubectl(&[&["apply"], &rights[..]].concat()).succeeds();
    kubectl(&["cordon", &node]).succeeds();
    // The agent asks once a minute whether it may read nodes.
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
    assert!(text.contains("node_cordoned: the Pod's node is cordoned"), "{text}");
    // Without the right the agent kills as before. It notices that after at most a minute, and
    // kills nothing until then.
    let kills = || namespace.record()["status"]["kills"].as_i64().unwrap_or(0);
    let before = kills();
    within(Duration::from_secs(90), "a kill", || (kills() > before).then_some(()));
}
