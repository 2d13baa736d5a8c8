//! What the accounts of `pure-chaos` may do: they have rights on Pods only in namespaces that
//! consent, no right that leads to more, and no right that they don't use. The last test counts the
//! requests that all cluster tests before it caused, on all clusters, so this file runs after those.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tests::audit::{Mark, Request, requests_by_cluster};
use tests::cluster::{Namespace, eventually, kubeconfig, kubectl, kubectl_with, metrics, object, total};
use tests::excuses::{excuse, is_shown_otherwise};
use tests::repository::read;
use tests::rights::{Right, rights, role};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Pods, and every way to reach into a Pod.
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

/// Everything that the agent may do to a Pod in a namespace that consents.
const GRANTED: [(&str, &str); 5] =
    [("pods", "delete"), ("pods", "get"), ("pods", "list"), ("pods", "watch"), ("pods/eviction", "create")];

/// A question to the API server: may this account do this? An empty namespace means all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    account: &'static str,
    namespace: String,
    group: &'static str,
    resource: String,
    verb: String,
    name: &'static str,
}

/// The questions that the API server answers with yes.
fn allowed(questions: Vec<Question>) -> BTreeSet<Question> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // This fails if another test of this process has installed it.
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

/// Asks with `kubectl auth can-i`, as people do.
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

/// Rights that would lead to more rights, past the locks, or to the cluster's other secrets.
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
        // RBAC can't restrict the name in a create. The API server's check of `bind`, below, limits
        // which binding it may be.
        "webhook may create rolebindings in \"\"",
        "webhook may create rolebindings in \"its own\"",
        "webhook may create rolebindings in \"kube-system\"",
        "webhook may create rolebindings in \"pure-chaos\"",
        // These Secrets hold the keys. RBAC can't restrict the names of new Secrets either.
        "certs may create secrets in \"pure-chaos\"",
    ];
    assert_eq!(yes, expected.iter().map(|text| (*text).to_owned()).collect());

    // The webhook may bind the agent's role, and no role whose rights it doesn't have itself.
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

/// Makes the agent use rights that only some workloads need: one workload of each kind that may be
/// killed, and Events that are reported twice.
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
    // The webhook corrects a changed RoleBinding.
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
    // The Event is about a refusal or a kill.
    eventually("an Event that is told", || told("create", name));
    namespace.annotate(&["chaos-"]).succeeds();

    // The Event about a halt of everything is in `pure-chaos`.
    let halt = |text: &str| kubectl(&["annotate", "--overwrite", "namespace", "pure-chaos", text]).succeeds();
    halt("purechaos.dev/halt=a test");
    let told =
        std::panic::catch_unwind(|| eventually("a halt that is told", || told("create", "pure-chaos")));
    halt("purechaos.dev/halt-");
    told.unwrap();
}

/// What the requests of our accounts show about the rights that they have.
#[derive(Default)]
struct Findings<'a> {
    /// How many requests each right allowed.
    used: BTreeMap<&'a Right, usize>,
    /// How many refusals each excuse explains.
    excuses: BTreeMap<&'static str, usize>,
    /// Refusals without an excuse, and requests that no role of ours allowed.
    wrong: BTreeSet<String>,
}

impl<'a> Findings<'a> {
    /// Counts the requests of one cluster.
    fn count(&mut self, requests: &[Request], granted: &'a BTreeSet<Right>, lent: &BTreeSet<Right>) {
        let mut changes: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
        for request in requests {
            let is_change = matches!(request.resource.as_str(), "optins" | "rolebindings")
                && matches!(request.verb.as_str(), "create" | "patch" | "delete");
            // When a namespace is deleted, no part of Pure Chaos deletes its RoleBinding. So the last
            // use of the rights shows when they ended.
            let is_use = request.allowed && role(request) == Some("pure-chaos-agent");
            if is_use || (is_change && request.account == "webhook" && request.is_accepted()) {
                changes.entry(&request.namespace).or_default().push(request);
            }
        }
        // A test forged some records, so this also counts the requests in which the agent wrote a
        // status.
        let recorded: BTreeSet<&str> = requests
            .iter()
            .filter(|request| request.resource.starts_with("optins") && request.is_accepted())
            .map(|request| request.namespace.as_str())
            .collect();

        for request in requests {
            let Request { account, verb, uri, .. } = request;
            if request.code == 403 {
                match excuse(request, &changes, &recorded, lent) {
                    Some(excuse) => *self.excuses.entry(excuse).or_default() += 1,
                    None => {
                        self.wrong.insert(format!("refused: {account} {verb} {uri}"));
                    }
                }
            }
            if !request.allowed {
                continue;
            }
            let rights: Vec<&Right> = granted.iter().filter(|right| right.is_used_by(request)).collect();
            for right in &rights {
                *self.used.entry(right).or_default() += 1;
            }
            // A test lends an account these rights, to try the other locks alone.
            let is_lent_by_a_test = role(request) == Some("cluster-admin");
            // A test grants this one, as docs/steady-state.md tells the platform to.
            let is_platforms = role(request) == Some("steady-state");
            // Everybody may ask who they are and what they may do.
            let is_everybodys = role(request) == Some("system:basic-user");
            if rights.is_empty() && !is_lent_by_a_test && !is_platforms && !is_everybodys {
                self.wrong.insert(format!("allowed by {:?}: {account} {verb} {uri}", request.reason));
            }
        }
    }
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
    // Another test installs this component and removes it again.
    let nodes = serde_saphyr::from_multiple::<Value>(&read("manifests/components/nodes/rbac.yaml")).unwrap();
    granted.extend(nodes.iter().flat_map(rights));
    // This role is for people and not for an account.
    granted.retain(|right| right.role != "pure-chaos-view");
    let lent: BTreeSet<Right> =
        granted.iter().filter(|right| right.role == "pure-chaos-agent").cloned().collect();
    assert!(granted.len() > 40 && lent.len() > 10, "{granted:?}");

    let mut clusters = requests_by_cluster();
    for requests in &mut clusters {
        requests.retain(|request| request.by_pod);
    }
    let mut findings = Findings::default();
    for requests in &clusters {
        findings.count(requests, &granted, &lent);
    }
    let Findings { used, excuses, wrong } = findings;
    println!("{:?} requests, {} rights", clusters.iter().map(Vec::len).collect::<Vec<_>>(), granted.len());
    for right in &granted {
        let Right { role, group, resource, verb, name } = right;
        let count = used.get(right).copied().unwrap_or(0);
        println!("{count:>8} × {role}: {verb} {resource} {name} {group}");
    }
    for (excuse, count) in &excuses {
        println!("{count:>8} × refused because {excuse}");
    }
    let all = clusters.concat();
    let unused: Vec<&Right> = granted
        .iter()
        .filter(|right| !used.contains_key(right) && !is_shown_otherwise(right, &all))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(unused.is_empty(), "granted, and never used: {unused:#?}");
}
