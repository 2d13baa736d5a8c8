//! Namespaces with very many annotations: how much time our rules add to a write of one, according
//! to the API server, and which rules still hold.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, kubectl_with, object};
use tests::disruption::{Away, until_opt_ins_are_reviewed};

/// The number of annotations of a large namespace.
const MANY: usize = 5_000;
/// How many times more an action may cost with [`MANY`] annotations than without any. The real
/// factor is about 2. A CEL walk over the annotations, whose time grows with the square of their
/// number, takes thousands of times as long.
const TIMES: f64 = 500.0;

fn annotations(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|number| (format!("a{number}"), String::new())).collect()
}

fn manifest(name: &str, annotations: &BTreeMap<String, String>) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}})
}

fn namespace(prefix: &str, count: usize) -> Namespace {
    let name = format!("{prefix}-{}", std::process::id());
    kubectl_with(&["create"], &manifest(&name, &annotations(count))).succeeds();
    Namespace { name }
}

/// Seconds that the API server has spent on our rules until now: a webhook's match condition, or an
/// admission policy.
fn spent(on: &str) -> f64 {
    let metrics = kubectl(&["get", "--raw", "/metrics"]).succeeds();
    let series = [
        format!("apiserver_admission_match_condition_evaluation_seconds_sum{{kind=\"webhook\",name=\"{on}\""),
        format!("apiserver_admission_match_condition_evaluation_seconds_sum{{kind=\"policy\",name=\"{on}\""),
        "apiserver_validating_admission_policy_check_duration_seconds_sum{".to_owned(),
    ];
    let policy = format!("policy=\"{on}\"");
    let ours = |line: &&str| {
        line.starts_with(&series[0])
            || line.starts_with(&series[1])
            || (line.starts_with(&series[2]) && line.contains(&policy))
    };
    metrics.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The cost in both namespaces, and the ratio.
#[track_caller]
fn compared(rule: &str, what: &str, mut act: impl FnMut(usize)) {
    let mut cost = |count| {
        let before = spent(rule);
        act(count);
        spent(rule) - before
    };
    let (none, many) = (cost(0), cost(MANY));
    let ratio = many / none;
    println!(
        "{rule}, {what}: {:.3} ms, with {MANY} annotations {:.3} ms, {ratio:.0} times",
        none * 1e3,
        many * 1e3
    );
    assert!(none > 0.0, "{rule} was not asked about {what}");
    assert!(ratio < TIMES, "{what}: {ratio} times");
}

fn patch(name: &str, flags: &[&str], patch: &Value) -> Output {
    let patch = patch.to_string();
    kubectl(&[&["patch", "namespace", name, "--type=merge", "-p", &patch], flags].concat())
}

#[test]
fn whoever_writes_a_large_namespace_does_not_wait_for_our_rules() {
    let rule = "opt-in.purechaos.dev";
    let names: BTreeMap<usize, Namespace> =
        [0, MANY].into_iter().map(|count| (count, namespace(&format!("large-{count}"), count))).collect();
    let name = |count: usize| names[&count].name.as_str();

    compared(rule, "create", |count| {
        let new = manifest(&format!("{}-dry", name(count)), &annotations(count));
        kubectl_with(&["create", "--dry-run=server"], &new).succeeds();
    });
    compared(rule, "label", |count| {
        patch(name(count), &[], &json!({"metadata": {"labels": {"team": "a"}}})).succeeds();
    });
    compared(rule, "annotate", |count| {
        patch(name(count), &[], &json!({"metadata": {"annotations": {"team": "a"}}})).succeeds();
    });
    compared(rule, "status", |count| {
        let conditions =
            json!([{"type": "Test", "status": "True", "lastTransitionTime": "2026-11-23T12:00:00Z"}]);
        patch(name(count), &["--subresource=status"], &json!({"status": {"conditions": conditions}}))
            .succeeds();
    });
    compared(rule, "finalize", |count| {
        let mut whole = object(&["namespace", name(count)]);
        whole["spec"]["finalizers"] = json!(["kubernetes", "purechaos.dev/test"]);
        let path = format!("/api/v1/namespaces/{}/finalize", name(count));
        kubectl_with(&["replace", "--raw", &path], &whole).succeeds();
        whole["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        whole["spec"]["finalizers"] = json!(["kubernetes"]);
        kubectl_with(&["replace", "--raw", &path], &whole).succeeds();
    });

    for count in [0, MANY] {
        let place = &names[&count];
        place.unscheduled_pod("victim");
    }
    compared("kill.purechaos.dev", "a kill", |count| {
        let group = ["--as-group=system:serviceaccounts:pure-chaos", "--as-group=system:masters"];
        let delete = ["--as=somebody", "-n", name(count), "delete", "pod", "victim", "--dry-run=server"];
        kubectl(&[&group[..], &delete].concat()).fails_with("is not opted in");
    });
    compared("binding.purechaos.dev", "a RoleBinding", |count| {
        let webhook = "--as=system:serviceaccount:pure-chaos:webhook";
        let binding = [
            "create",
            "rolebinding",
            "pure-chaos-agent",
            "--clusterrole=pure-chaos-agent",
            "--dry-run=server",
        ];
        let subject = "--serviceaccount=pure-chaos:agent";
        kubectl(&[&["-n", name(count), webhook, subject], &binding[..]].concat())
            .fails_with("is not opted in");
    });
    compared("record.purechaos.dev", "a record", |count| {
        let record = json!({"apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn",
            "metadata": {"name": "chaos", "namespace": name(count)}, "spec": {"namespaceUid": "u", "verdict": "NotAdmitted"}});
        kubectl_with(&["create", "--dry-run=server"], &record)
            .fails_with("only Pure Chaos writes the spec of a record");
    });

    compared(rule, "delete", |count| {
        kubectl(&["delete", "namespace", name(count), "--timeout=60s"]).succeeds();
    });
}

/// Makes the webhook unreachable until the result is dropped.
fn with_the_webhook_out_of_reach() -> Away {
    let away = Away::changed("validatingwebhookconfiguration", "pure-chaos", |configuration| {
        configuration["webhooks"][0]["clientConfig"]["service"]["name"] = json!("nowhere");
    });
    eventually("the webhook to be out of reach", || {
        let asked = kubectl(&["annotate", "namespace", "kube-public", "chaos=yes", "--dry-run=server"]);
        asked.stderr.contains("failed calling webhook").then_some(())
    });
    away
}

#[test]
fn a_large_namespace_is_reviewed_like_any_other_and_left_without_the_webhook() {
    let place = namespace("large-held", 300);
    let annotate = |flags: &[&str]| place.annotate(&[&["--overwrite"], flags].concat());
    let dry = |change: &str| annotate(&[change, "--dry-run=server"]);
    // Writes to a namespace that has not opted in don't depend on the webhook, except for writes
    // that could consent.
    {
        let _away = with_the_webhook_out_of_reach();
        let asked = "failed calling webhook";
        for (change, is_asked) in [
            ("team=a", false),
            ("purechaos.dev/halt=incident 4711", false),
            ("chaos=yes", true),
            ("purechaos.dev/limit=5", true),
            ("purechaos.dev/dry-run=true", true),
        ] {
            let output = dry(change);
            assert_eq!(output.ok, !is_asked, "{change}: {}", output.stderr);
            assert!(!is_asked || output.stderr.contains(asked), "{change}: {}", output.stderr);
        }
        let created = |annotation: &str| {
            let mut new = annotations(300);
            new.insert(annotation.to_owned(), "yes".to_owned());
            kubectl_with(&["create", "--dry-run=server"], &manifest(&format!("{}-new", place.name), &new))
        };
        created("team").succeeds();
        created("chaos").fails_with(asked);
    }
    until_opt_ins_are_reviewed();
    dry("chaos=Yes").fails_with("write `yes` to opt in");
    dry("purechaos.dev/limit=5").succeeds();
    annotate(&["chaos=yes", "purechaos.dev/schedule=every 12h", "purechaos.dev/dry-run=true"]).succeeds();
    dry("purechaos.dev/dryrun=true").fails_with("did you mean `purechaos.dev/dry-run`?");
    dry("PureChaos.dev/limit=1").fails_with("did you mean");
    dry("purechaos.dev/limit=99").fails_with("ceilings.limit");
    {
        let _away = with_the_webhook_out_of_reach();
        dry("purechaos.dev/dry-run-").fails_with("failed calling webhook");
        dry("purechaos.dev/halt=incident 4711").succeeds();
        dry("chaos-").succeeds();
        annotate(&["purechaos.dev/halt=incident 4711"]).succeeds();
        annotate(&["purechaos.dev/halt-"]).succeeds();
        kubectl(&["label", "namespace", &place.name, "team=a"]).succeeds();
        annotate(&["chaos-"]).succeeds();
    }
    until_opt_ins_are_reviewed();
}
