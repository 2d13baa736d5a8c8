//! `agent once` on a real cluster: what it says if it lacks rights, and, with component cronjob,
//! the CronJob as people type it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tests::audit::{Mark, Request};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, object, within};
use tests::repository::root;

const GRANT: &str = "kubectl apply -k manifests/overlays/cronjob";

/// The agent's image in the cluster.
fn image() -> String {
    let agent = object(&["deployment", "agent", "-n", "pure-chaos"]);
    agent["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

/// Runs `agent once` in a Pod that satisfies the strictest Pod Security, and returns its exit code
/// and its output.
fn once(namespace: &str, account: &str, name: &str, flags: &[&str]) -> (i64, String) {
    let args = [&["once"], flags].concat();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceAccountName": account, "automountServiceAccountToken": true, "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "once", "image": image(), "args": args,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}
            }]
        }
    });
    kubectl_with(&["create"], &pod).succeeds();
    let code = eventually("the end of agent once", || {
        let pod = object(&["pod", name, "-n", namespace]);
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64()
    });
    let output = kubectl(&["logs", name, "-n", namespace]).succeeds();
    kubectl(&["delete", "pod", name, "-n", namespace]).succeeds();
    println!("{account} in {namespace}, once {}: exit code {code}\n{output}", flags.join(" "));
    (code, output)
}

/// Applies overlay test, with or without component cronjob.
fn apply(component: bool) {
    let folder = root().join("target/deploy/cronjob-test");
    std::fs::create_dir_all(&folder).unwrap();
    let image = image();
    let (registry, tag) = image.rsplit_once("/chaos:").unwrap();
    let names = ["chaos", "chaos-webhook", "chaos-certs"];
    let images =
        names.map(|name| json!({"name": name, "newName": format!("{registry}/{name}"), "newTag": tag}));
    let components: &[&str] = if component { &["../../../manifests/components/cronjob"] } else { &[] };
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["../../../manifests/overlays/test"], "components": components, "images": images,
    });
    std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    kubectl(&["apply", "-k", folder.to_str().unwrap()]).succeeds();
    for part in ["webhook", "agent"] {
        let deployment = format!("deployment/{part}");
        kubectl(&["-n", "pure-chaos", "rollout", "status", "--timeout=120s", &deployment]).succeeds();
    }
    // A webhook that still drains gives the rights to its old accounts, which the admission policy
    // no longer allows.
    eventually("the end of the webhooks that were replaced", || {
        let webhooks = object(&["pods", "-n", "pure-chaos", "-l", "app.kubernetes.io/component=webhook"]);
        (webhooks["items"].as_array()?.len() == 2).then_some(())
    });
}

fn kills(namespace: &Namespace) -> i64 {
    namespace.record()["status"]["kills"].as_i64().unwrap_or(0)
}

#[test]
fn once_kills_where_it_is_installed_to_and_says_elsewhere_what_is_missing() {
    let namespace = Namespace::new("once");
    namespace.deployment("web", 2);
    // The schedule is so rare that the agent's own rounds don't interfere. The mode is `delete`,
    // because after an eviction that met a change the workload rests for two minutes.
    let settings =
        ["purechaos.dev/schedule=every 24h", "purechaos.dev/min-age=1s", "purechaos.dev/mode=delete"];
    namespace.opt_in(&settings);
    let survivors = namespace.pods();

    let (code, output) = once(&namespace.name, "default", "stranger", &[]);
    assert_eq!(code, 3);
    assert!(
        output.contains(&format!("this account is system:serviceaccount:{}:default", namespace.name)),
        "{output}"
    );
    assert!(output.contains("apply only to accounts of namespace pure-chaos"), "{output}");
    let (code, output) = once("pure-chaos", "default", "no-rights", &[]);
    assert_eq!(code, 3);
    assert!(output.contains("this account has no right to get optins.purechaos.dev everywhere"), "{output}");
    assert!(output.contains(GRANT), "{output}");
    let holder = object(&["lease", "agent", "-n", "pure-chaos"]);
    let holder = holder["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    let (code, output) = once("pure-chaos", "agent", "beside", &["--now"]);
    assert_eq!(code, 3);
    assert!(output.contains(&format!("{holder} holds Lease agent in namespace pure-chaos")), "{output}");
    assert_eq!((kills(&namespace), namespace.pods()), (0, survivors));

    apply(true);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| by_cronjob(&namespace)));
    kubectl(&["-n", "pure-chaos", "delete", "cronjob", "chaos-runner", "--ignore-not-found"]).succeeds();
    apply(false);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn by_cronjob(namespace: &Namespace) {
    let mark = Mark::now();
    let name = &namespace.name;
    let subjects = |binding: &Value| binding["subjects"].as_array().map_or(0, Vec::len);
    let binding = ["rolebinding", "pure-chaos-agent", "-n", name];
    eventually("the account's rights", || (subjects(&object(&binding)) == 2).then_some(()));

    // The namespace's own schedule has no slot in the next minutes, so nothing is due.
    let (code, output) = once("pure-chaos", "default", "not-due", &["-n", name]);
    assert_eq!((code, kills(namespace)), (0, 0));
    assert!(output.contains(&format!("{name}: no round is due before ")), "{output}");
    let (code, output) = once("pure-chaos", "default", "dry", &["-n", name, "--now", "--dry-run"]);
    assert_eq!((code, kills(namespace)), (0, 0));
    assert!(output.contains(&format!("{name}: dry run: would have killed Pod web-")), "{output}");
    let (code, output) = once("pure-chaos", "default", "waits", &["-n", name, "--now", "--wait"]);
    assert_eq!((code, kills(namespace)), (0, 1));
    assert!(output.contains(&format!("{name}: killed Pod web-")), "{output}");
    assert!(output.contains(&format!("{name}: recovered Deployment web ")), "{output}");
    let (code, output) = once("pure-chaos", "default", "nobody", &["-n", "default", "--now"]);
    assert_eq!(code, 3);
    assert!(output.contains("kubectl annotate namespace default chaos=yes"), "{output}");
    let (code, output) =
        once("pure-chaos", "default", "json", &["-n", name, "--log-format=json", "--dry-run", "--now"]);
    assert_eq!(code, 0);
    let messages: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        messages.iter().any(|line| line["message"].as_str().unwrap().contains("would have killed")),
        "{output}"
    );

    // Without a schedule of its own the namespace is due at each run. These commands are those of
    // the walk-through.
    namespace.annotate(&["purechaos.dev/schedule-"]).succeeds();
    eventually("the record to follow", || {
        (namespace.record()["spec"]["settings"]["schedule"] != "every 24h").then_some(())
    });
    let image = format!("--image={}", image());
    let typed = ["-n", "pure-chaos", "create", "cronjob", "chaos-runner", &image, "--schedule=*/1 * * * *"];
    let created = kubectl(&typed);
    // Pod Security warns about what `restricted` demands, and enforces `baseline`.
    let warned = created.stderr.starts_with("Warning: would violate PodSecurity \"restricted:");
    assert!(created.ok && warned, "{created:?}");
    let finished = || {
        let jobs = object(&["jobs", "-n", "pure-chaos"]);
        let done = jobs["items"].as_array()?.iter().find(|job| job["status"]["succeeded"] == 1)?;
        done["metadata"]["name"].as_str().map(str::to_owned)
    };
    // The next full minute comes within a minute, and the Pod needs some time.
    let job = within(Duration::from_secs(120), "a Job of the CronJob", finished);
    let output = kubectl(&["-n", "pure-chaos", "logs", &format!("job/{job}")]).succeeds();
    println!("{output}");
    assert!(output.contains(&format!("{name}: killed Pod web-")), "{output}");
    assert!(kills(namespace) >= 2);
    kubectl(&["-n", "pure-chaos", "delete", "cronjob", "chaos-runner"]).succeeds();

    // A workload that doesn't recover in time.
    let slow = json!({"spec": {"template": {"spec": {"containers": [{"name": "random-logger",
        "readinessProbe": {"httpGet": {"host": "127.0.0.1", "port": 10248, "path": "/healthz"}, "initialDelaySeconds": 12, "periodSeconds": 1}}]}}}});
    kubectl(&["-n", name, "patch", "deployment", "web", "-p", &slow.to_string()]).succeeds();
    kubectl(&["-n", name, "rollout", "status", "deployment", "web", "--timeout=90s"]).succeeds();
    namespace.annotate(&["purechaos.dev/recovery-deadline=5s"]).succeeds();
    eventually("the record to follow", || {
        (namespace.record()["spec"]["settings"]["recoveryDeadline"] == "5s").then_some(())
    });
    eventually("a killing round", || {
        let (code, output) = once("pure-chaos", "default", "late", &["-n", name, "--wait"]);
        (code == 1)
            .then(|| assert!(output.contains(&format!("{name}: timed_out Deployment web ")), "{output}"))
    });

    // After the opt-out, `once` kills nothing.
    namespace.annotate(&["chaos-", "purechaos.dev/recovery-deadline-", "purechaos.dev/min-age-"]).succeeds();
    eventually("the end of the record", || (namespace.record() == Value::Null).then_some(()));
    let survivors = namespace.pods();
    let (code, _) = once("pure-chaos", "default", "over", &["-n", name, "--now"]);
    assert_eq!((code, namespace.pods()), (3, survivors));

    let is_ours = |kill: &Request| kill.is_kill() && kill.namespace == *name && kill.is_accepted();
    let killers: BTreeSet<String> =
        mark.requests().into_iter().filter(is_ours).map(|kill| kill.account).collect();
    assert_eq!(killers, BTreeSet::from(["default".to_owned()]));
}
