//! What the accounts of `pure-chaos` may do: on Pods only where consent is, nothing that leads to more, and nothing that they don't do.
//! The last test counts what all cluster tests before it made them ask for, so this file comes after those.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tests::audit::{Mark, Request};
use tests::cluster::{Namespace, eventually, kubeconfig, kubectl, kubectl_with, metrics, object, total};
use tests::excuses::{excuse, is_shown_otherwise};
use tests::repository::read;
use tests::rights::{Right, rights, role};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Pods, and every way to reach into one.
const PODS: [&str; 12] = [
    "pods",
    "pods/attach",
    "pods/binding",
    "pods/ephemeralcontainers",
    "pods/eviction",
    "pods/exec",
    "pods/finalizers",
    "pods/log",
    "pods/portforward",
    "pods/proxy",
    "pods/resize",
    "pods/status",
];

/// All that the agent may do to a Pod where consent is.
const GRANTED: [(&str, &str); 5] =
    [("pods", "delete"), ("pods", "get"), ("pods", "list"), ("pods", "watch"), ("pods/eviction", "create")];

/// A question to the API server: may this account do this? An empty namespace means everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    account: &'static str,
    namespace: String,
    group: &'static str,
    resource: String,
    verb: String,
    name: &'static str,
}

/// Those that are answered with yes.
fn allowed(questions: Vec<Question>) -> BTreeSet<Question> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // Fails where another test of this process has installed it.
        runtime::process::install_tls_provider().ok();
        let client = runtime::client::connect(Some(kubeconfig().as_ref())).await.unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(client);
        let mut allowed = BTreeSet::new();
        for question in questions {
            let Question { account, namespace, group, resource, verb, name } = &question;
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let review = json!({"spec": {
                "user": format!("system:serviceaccount:pure-chaos:{account}"),
                "groups": ["system:serviceaccounts", "system:serviceaccounts:pure-chaos", "system:authenticated"],
                "resourceAttributes": {
                    "namespace": namespace, "group": group, "resource": resource, "subresource": subresource,
                    "verb": verb, "name": name
                }
            }});
            let review = serde_json::from_value(review).unwrap();
            let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
            if answer.status.unwrap().allowed {
                allowed.insert(question);
            }
        }
        allowed
    })
}

fn on_pods(account: &'static str, namespace: &str) -> Vec<Question> {
    let question = |resource: &str, verb: &str| Question {
        account,
        namespace: namespace.to_owned(),
        group: "",
        resource: resource.to_owned(),
        verb: verb.to_owned(),
        name: "",
    };
    PODS.iter().flat_map(|resource| VERBS.map(|verb| question(resource, verb))).collect()
}

/// Asks as people do.
fn can_i(verb: &str, namespace: &str) -> bool {
    let account = "--as=system:serviceaccount:pure-chaos:agent";
    let output = kubectl(&["auth", "can-i", verb, "pods", "-n", namespace, account]);
    output.ok && output.stdout.trim() == "yes"
}

#[test]
fn rights_on_pods_come_with_consent_and_go_with_it() {
    let (never, eligible, left) =
        (Namespace::new("never"), Namespace::new("eligible"), Namespace::new("left"));
    for namespace in [&eligible, &left] {
        namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);
    }
    left.annotate(&["chaos-"]).succeeds();
    eventually("the end of the rights", || (!left.has_binding()).then_some(()));

    let mut questions = Vec::new();
    let elsewhere = [&never.name, &left.name, "kube-system", "pure-chaos", "default", ""];
    for namespace in elsewhere.into_iter().chain([eligible.name.as_str()]) {
        for account in ["agent", "webhook", "certs", "default"] {
            questions.extend(on_pods(account, namespace));
        }
    }
    let asked = questions.len();
    let answers = allowed(questions);
    let granted: BTreeSet<_> = answers
        .iter()
        .map(|yes| (yes.account, yes.namespace.as_str(), yes.resource.as_str(), yes.verb.as_str()))
        .collect();
    let expected: BTreeSet<_> =
        GRANTED.iter().map(|(resource, verb)| ("agent", eligible.name.as_str(), *resource, *verb)).collect();
    assert_eq!(granted, expected);

    for verb in VERBS {
        let expected = GRANTED.contains(&("pods", verb));
        assert_eq!(can_i(verb, &eligible.name), expected, "{verb} where consent is");
        for namespace in [never.name.as_str(), left.name.as_str(), "kube-system", "pure-chaos"] {
            assert!(!can_i(verb, namespace), "{verb} pods in {namespace}");
        }
    }
    println!("{asked} questions, {} times yes", granted.len());
}

/// What would lead to more rights, or past the locks, or into the cluster's other secrets.
const LEVERS: [(&str, &str, &[&str]); 14] = [
    ("rbac.authorization.k8s.io", "rolebindings", &["create", "update", "patch", "delete"]),
    ("rbac.authorization.k8s.io", "clusterrolebindings", &["create", "update", "patch", "delete"]),
    ("rbac.authorization.k8s.io", "roles", &["create", "update", "patch", "bind", "escalate"]),
    ("rbac.authorization.k8s.io", "clusterroles", &["create", "update", "patch", "bind", "escalate"]),
    ("", "users", &["impersonate"]),
    ("", "groups", &["impersonate"]),
    ("", "serviceaccounts", &["impersonate", "create", "update", "patch"]),
    ("", "serviceaccounts/token", &["create"]),
    ("", "secrets", &["get", "list", "watch", "create", "update", "patch", "delete"]),
    ("", "namespaces", &["create", "update", "patch", "delete"]),
    ("", "namespaces/finalize", &["update"]),
    ("apps", "deployments", &["create", "update", "patch", "delete"]),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        &["create", "update", "patch", "delete"],
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        &["create", "update", "patch", "delete"],
    ),
];

#[test]
fn no_account_can_raise_itself() {
    let namespace = Namespace::new("raise");
    namespace.opt_in(&["purechaos.dev/schedule=every 12h"]);
    let mut questions = Vec::new();
    for account in ["agent", "webhook", "certs", "default"] {
        for place in [namespace.name.as_str(), "kube-system", "pure-chaos", ""] {
            for (group, resource, verbs) in LEVERS {
                for verb in verbs {
                    let (namespace, resource, verb) =
                        (place.to_owned(), resource.to_owned(), (*verb).to_owned());
                    questions.push(Question { account, namespace, group, resource, verb, name: "" });
                }
            }
        }
    }
    let yes: BTreeSet<String> = allowed(questions)
        .iter()
        .map(|yes| {
            let place = if yes.namespace == namespace.name { "its own" } else { &yes.namespace };
            format!("{} may {} {} in {place:?}", yes.account, yes.verb, yes.resource)
        })
        .collect();
    let expected = [
        // Its name can't be demanded of a create: which binding it may be is held by the API server's check on `bind`, below.
        "webhook may create rolebindings in \"\"",
        "webhook may create rolebindings in \"its own\"",
        "webhook may create rolebindings in \"kube-system\"",
        "webhook may create rolebindings in \"pure-chaos\"",
        // Its keys; nor can the names of new Secrets be demanded.
        "certs may create secrets in \"pure-chaos\"",
    ];
    assert_eq!(yes, expected.iter().map(|text| (*text).to_owned()).collect());

    // The webhook hands out the agent's role, and none whose rights it doesn't have itself.
    let as_webhook = "--as=system:serviceaccount:pure-chaos:webhook";
    for role in ["cluster-admin", "edit", "view", "pure-chaos-agent-records", "pure-chaos-certs"] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "raise", "namespace": namespace.name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "webhook", "namespace": "pure-chaos"}]
        });
        let message = kubectl_with(&["create", as_webhook], &binding).fails();
        assert!(message.contains("forbidden"), "{role}: {message}");
    }
}

/// What only some workloads make the agent ask for: one of each kind that may be killed, and Events that are told twice.
fn provoke_the_rare() {
    let namespace = Namespace::new("rare");
    let name = namespace.name.as_str();
    let workload = |kind: &str, replicas: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": kind.to_lowercase(), "namespace": name},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": kind}},
                "template": {"metadata": {"labels": {"app": kind}}, "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "main", "image": "chentex/random-logger"}]
                }}
            }
        })
    };
    kubectl_with(&["create"], &workload("ReplicaSet", json!(2))).succeeds();
    kubectl_with(&["create"], &workload("StatefulSet", json!(2))).succeeds();
    let mut daemons = workload("DaemonSet", Value::Null);
    daemons["spec"].as_object_mut().unwrap().remove("replicas");
    kubectl_with(&["create"], &daemons).succeeds();
    namespace.opt_in(&[
        "purechaos.dev/schedule=every 1s",
        "purechaos.dev/min-age=1s",
        "purechaos.dev/mode=delete",
        "purechaos.dev/limit=5",
        "purechaos.dev/kinds=ReplicaSet,StatefulSet,DaemonSet",
        "purechaos.dev/single-replica=allow",
    ]);
    for kind in ["ReplicaSet", "StatefulSet", "DaemonSet"] {
        let labels = [&format!("target_namespace=\"{name}\"")[..], &format!("workload_kind=\"{kind}\"")];
        eventually(&format!("a recovery of a {kind}"), || {
            (total(&metrics(), "pure_chaos_recoveries_total", &labels) > 0.0).then_some(())
        });
    }
    // What somebody changed in the RoleBinding is put right.
    let binding = ["rolebinding", "pure-chaos-agent", "-n", name];
    kubectl(&[&["patch"][..], &binding, &["--type=merge", "-p", r#"{"subjects": null}"#]].concat())
        .succeeds();
    eventually("the RoleBinding as it was", || (!object(&binding)["subjects"].is_null()).then_some(()));

    let mark = Mark::now();
    let told = |verb: &str, place: &str| {
        let is_told = |request: &Request| {
            request.resource == "events" && request.verb == verb && request.namespace == place
        };
        mark.requests().iter().any(is_told).then_some(())
    };
    // The same refusal again within minutes changes the first Event.
    eventually("an Event that is told again", || told("patch", name));
    namespace.annotate(&["chaos-"]).succeeds();

    // A halt of everything is told at home.
    let halt = |text: &str| kubectl(&["annotate", "--overwrite", "namespace", "pure-chaos", text]).succeeds();
    halt("purechaos.dev/halt=a test");
    let told =
        std::panic::catch_unwind(|| eventually("a halt that is told", || told("create", "pure-chaos")));
    halt("purechaos.dev/halt-");
    told.unwrap();
}

#[test]
fn what_is_granted_is_used_and_what_is_asked_for_is_granted() {
    provoke_the_rare();

    let selector = ["-l", "app.kubernetes.io/name=pure-chaos"];
    let mut granted = BTreeSet::new();
    for kind in ["clusterroles", "roles"] {
        let roles = object(&[&[kind, "--all-namespaces"][..], &selector].concat());
        granted.extend(roles["items"].as_array().unwrap().iter().flat_map(rights));
    }
    // Installed and removed again by its own test.
    let nodes = serde_saphyr::from_multiple::<Value>(&read("manifests/components/nodes/rbac.yaml")).unwrap();
    granted.extend(nodes.iter().flat_map(rights));
    // People's, not an account's.
    granted.retain(|right| right.role != "pure-chaos-view");
    let lent: BTreeSet<Right> =
        granted.iter().filter(|right| right.role == "pure-chaos-agent").cloned().collect();
    assert!(granted.len() > 40 && lent.len() > 10, "{granted:?}");

    let requests: Vec<Request> =
        Mark::start().requests().into_iter().filter(|request| request.by_pod).collect();
    let mut changes: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
    for request in &requests {
        let is_change = matches!(request.resource.as_str(), "optins" | "rolebindings")
            && matches!(request.verb.as_str(), "create" | "patch" | "delete");
        // Where a namespace is deleted nothing of ours takes its RoleBinding away, so the rights' last use tells of their end.
        let is_use = request.allowed && role(request) == Some("pure-chaos-agent");
        if is_use || (is_change && request.account == "webhook" && request.is_accepted()) {
            changes.entry(&request.namespace).or_default().push(request);
        }
    }

    // Some were forged by a test, so what the agent noted in them tells of them, too.
    let recorded: BTreeSet<&str> = requests
        .iter()
        .filter(|request| request.resource.starts_with("optins") && request.is_accepted())
        .map(|request| request.namespace.as_str())
        .collect();

    let mut used: BTreeMap<&Right, usize> = BTreeMap::new();
    let mut excuses: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for request in &requests {
        if request.code == 403 {
            match excuse(request, &changes, &recorded, &lent) {
                Some(excuse) => *excuses.entry(excuse).or_default() += 1,
                None => {
                    wrong.insert(format!("refused: {} {} {}", request.account, request.verb, request.uri));
                }
            }
        }
        if !request.allowed {
            continue;
        }
        let rights: Vec<&Right> = granted.iter().filter(|right| right.is_used_by(request)).collect();
        for right in &rights {
            *used.entry(right).or_default() += 1;
        }
        // What a test lends an account to look at the other locks alone.
        let is_lent_by_a_test = role(request) == Some("cluster-admin");
        // Who one is, and what one may.
        let is_everybodys = role(request) == Some("system:basic-user");
        if rights.is_empty() && !is_lent_by_a_test && !is_everybodys {
            wrong.insert(format!(
                "allowed by {:?}: {} {} {}",
                request.reason, request.account, request.verb, request.uri
            ));
        }
    }
    println!("{} requests, {} rights", requests.len(), granted.len());
    for right in &granted {
        let Right { role, group, resource, verb, name } = right;
        let count = used.get(right).copied().unwrap_or(0);
        println!("{count:>8} × {role}: {verb} {resource} {name} {group}");
    }
    for (excuse, count) in &excuses {
        println!("{count:>8} × refused because {excuse}");
    }
    let unused: Vec<&Right> = granted
        .iter()
        .filter(|right| !used.contains_key(right) && !is_shown_otherwise(right, &requests))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(unused.is_empty(), "granted, and never used: {unused:#?}");
}
