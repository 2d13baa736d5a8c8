//! What GitOps tools see: after certificates have changed, applying the manifests again differs in
//! nothing and reverts nothing.

use std::process::Command;

use k8s_openapi::ByteString;
use tests::cluster::{Namespace, Output, eventually, kubectl, object, run};
use tests::manifests::cluster_name;
use tests::repository::root;

/// The kustomization that `make deploy` applied.
fn installed() -> String {
    root().join("target/deploy").join(cluster_name()).display().to_string()
}

/// The CAs by which the API server knows the webhook, as PEM.
fn authorities() -> String {
    let configuration = object(&["validatingwebhookconfiguration", "pure-chaos"]);
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].clone();
    String::from_utf8(serde_json::from_value::<ByteString>(bundle).unwrap().0).unwrap()
}

/// The current CA, as PEM. There is none for a moment after the Secret was deleted.
fn certificate() -> Option<String> {
    let secret = object(&["secret", "certs-ca", "-n", "pure-chaos"]);
    let data = secret["data"].get("ca.crt")?.clone();
    let data = serde_json::from_value::<ByteString>(data).ok()?;
    String::from_utf8(data.0).ok()
}

/// The flags of a GitOps tool that applies on the server, under its own name.
const SERVER_SIDE: [&str; 3] = ["--server-side", "--force-conflicts", "--field-manager=gitops"];

/// Every object of ours that only an installer writes, with its version.
fn versions() -> Vec<String> {
    let namespaced = "networkpolicies,roles,rolebindings,services,serviceaccounts,configmaps";
    let cluster_wide = "clusterroles,clusterrolebindings,priorityclasses,validatingadmissionpolicies,\
                        validatingadmissionpolicybindings,namespaces";
    let mut versions = Vec::new();
    for (kinds, version) in [
        (namespaced, "resourceVersion"),
        (cluster_wide, "resourceVersion"),
        // Others write the status of these objects.
        ("deployments,customresourcedefinitions", "generation"),
    ] {
        let ours = object(&[kinds, "-n", "pure-chaos", "-l", "app.kubernetes.io/part-of=pure-chaos"]);
        for item in ours["items"].as_array().unwrap() {
            let metadata = &item["metadata"];
            assert!(!metadata[version].is_null(), "{item}");
            versions.push(format!("{} {} {}", item["kind"], metadata["name"], metadata[version]));
        }
    }
    assert!(versions.len() > 25, "{versions:?}");
    versions
}

fn same(arguments: &[&str]) {
    let output: Output = kubectl(&[&["diff"], arguments].concat());
    assert!(output.ok, "{arguments:?} differs:\n{}{}", output.stdout, output.stderr);
}

#[test]
fn nothing_differs_after_certificates_have_changed() {
    // kubectl compares with the command `diff`.
    run(Command::new("diff").arg("--version")).succeeds();
    let folder = installed();
    let apply = ["-k", &folder];
    same(&apply);

    let change_authority = || {
        let before = certificate();
        kubectl(&["-n", "pure-chaos", "delete", "secret", "certs-ca", "webhook-tls"]).succeeds();
        // The new CA comes beside those that stay trusted until they end.
        eventually("another CA", || {
            let now = certificate().filter(|now| before.as_ref() != Some(now))?;
            authorities().contains(now.trim()).then_some(())
        });
    };
    change_authority();
    same(&apply);
    let before = authorities();
    let known = versions();
    kubectl(&[&["apply"], &apply[..]].concat()).succeeds();
    assert_eq!(authorities(), before);
    assert_eq!(versions(), known, "applied again, all is as it was");

    let on_server = [&SERVER_SIDE[..], &apply[..]].concat();
    kubectl(&[&["apply"], &on_server[..]].concat()).succeeds();
    same(&on_server);
    assert_eq!(authorities(), before);
    change_authority();
    same(&on_server);
    kubectl(&[&["apply"], &on_server[..]].concat()).succeeds();
    same(&on_server);

    // Opt-ins still work, also after kubectl's usual way of applying.
    kubectl(&[&["apply"], &apply[..]].concat()).succeeds();
    same(&apply);
    let namespace = Namespace::new("drift");
    namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);
    applied_again_a_halt_stays(&folder);
}

/// Ends the halt of everything when it goes out of scope, also if the test fails.
struct HaltEnds;

impl Drop for HaltEnds {
    fn drop(&mut self) {
        kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt-"]);
    }
}

/// This runs after everything else, because the owners of fields differ once both ways have
/// applied.
fn applied_again_a_halt_stays(folder: &str) {
    kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt=incident 4711"]).succeeds();
    let _ended = HaltEnds;
    for how in [&SERVER_SIDE[..], &[]] {
        kubectl(&[&["apply"], how, &["-k", folder]].concat()).succeeds();
        let annotations = object(&["namespace", "pure-chaos"])["metadata"]["annotations"].clone();
        assert_eq!(annotations["purechaos.dev/halt"], "incident 4711");
        // Flux would first take over the fields that kubectl set, and then remove them. This
        // annotation prevents that.
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/ssa"], "Merge");
    }
}
