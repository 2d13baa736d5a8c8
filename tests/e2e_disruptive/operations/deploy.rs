//! `make undeploy` removes everything, with opted-in namespaces in the cluster and the webhook
//! dead. `make deploy` brings it back.

use tests::cluster::{Namespace, eventually, kubectl, object};
use tests::manifests::{eventually_nothing_is_ours, script};
use tests::repository::root;

#[test]
fn undeploy_leaves_nothing_and_deploy_brings_it_back() {
    let namespace = Namespace::new("deploy");
    namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);

    // The objects that a component added, and the people's binding in the namespace.
    let nodes = root().join("manifests/components/nodes/rbac.yaml");
    kubectl(&["apply", "-f", nodes.to_str().unwrap()]).succeeds();
    let cronjob = ["create", "cronjob", "chaos-runner", "--image=chaos:0.1.0", "--schedule=0 0 1 1 *"];
    kubectl(&[&["-n", "pure-chaos"], &cronjob[..]].concat()).succeeds();
    let metadata = || object(&["namespace", &namespace.name])["metadata"].clone();
    let before = metadata();
    let dead =
        ["-n", "pure-chaos", "delete", "deployment", "webhook", "--cascade=foreground", "--timeout=60s"];
    kubectl(&dead).succeeds();
    script("manifests/undeploy.sh");
    assert!(!namespace.has_binding());
    eventually_nothing_is_ours();
    let after = metadata();
    for key in ["uid", "annotations", "labels", "finalizers"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    kubectl(&["annotate", "namespace", &namespace.name, "chaos-"]).succeeds();
    // A second run is no error.
    script("manifests/undeploy.sh");

    // The annotation is set while nobody reviews. The webhook knows the opt-in and says so, but
    // gives no rights until it is set again.
    namespace.annotate(&["chaos=yes"]).succeeds();
    script("manifests/deploy.sh");
    let reason = eventually("the verdict on an opt-in that nobody admitted", || {
        let record = namespace.record();
        (record["spec"]["verdict"] == "NotAdmitted")
            .then(|| record["spec"]["reason"].as_str().unwrap_or_default().to_owned())
    });
    assert!(reason.contains("set it again"), "{reason}");
    assert!(!namespace.has_binding());
    namespace.annotate(&["chaos-"]).succeeds();
    namespace.opt_in(&[]);
}
