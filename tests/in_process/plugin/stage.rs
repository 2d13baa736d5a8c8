//! A fake API with a namespace, and lines that a user types.

use clap::Parser;
use kubectl_chaos::run::serve;
use kubectl_chaos::{Args, namespace_arg};
use serde_json::{Value, json};
use tests::fake_api::{Api, Call};

pub const NAMESPACE: &str = "/api/v1/namespaces/a";
pub const SYSTEM: &str = "/api/v1/namespaces/pure-chaos";

/// A fake API with namespace `a`, which has these annotations, and `pure-chaos`.
pub fn api(annotations: Value) -> Api {
    let api = Api::default();
    for (path, name, annotations) in [(NAMESPACE, "a", annotations), (SYSTEM, "pure-chaos", json!({}))] {
        let metadata = json!({"name": name, "annotations": annotations});
        api.put(path, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}));
    }
    api
}

/// Types this line, and returns what the plugin printed.
pub async fn type_in(api: &Api, line: &[&str]) -> anyhow::Result<String> {
    let args = Args::try_parse_from(["kubectl-chaos"].iter().chain(line)).unwrap();
    let mut out = Vec::new();
    let place = namespace_arg::of(&args.command, &args.target)?;
    serve(&api.client(), &args.target, &place, args.command, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

/// The one call that would change something.
pub fn change(api: &Api) -> Call {
    let mut changes: Vec<Call> =
        api.calls().into_iter().filter(|call| !["GET", "LIST"].contains(&call.verb.as_str())).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

pub fn annotations(patch: &Value) -> &Value {
    assert_eq!(patch.as_object().unwrap().len(), 1, "{patch}");
    &patch["metadata"]["annotations"]
}

pub const RECORD: &str = "/apis/purechaos.dev/v1alpha1/namespaces/a/optins/chaos";

pub fn put_record(api: &Api, spec: Value) {
    let mut spec = spec;
    spec["namespaceUid"] = json!("u");
    let metadata = json!({"name": "chaos", "namespace": "a"});
    let (version, status) = ("purechaos.dev/v1alpha1", json!({"kills": 1}));
    api.put(
        RECORD,
        json!({"apiVersion": version, "kind": "OptIn", "metadata": metadata, "spec": spec, "status": status}),
    );
}

/// A namespace that opted in and is admitted.
pub fn opted_in() -> Api {
    let api = api(json!({"chaos": "yes"}));
    put_record(&api, json!({"verdict": "Admitted"}));
    api
}

/// The agent does at once what the user asks for, and writes this status. The slot itself is some
/// seconds ahead.
pub fn agent_does(api: &Api, status: impl FnOnce(&str) -> Value + Send + 'static) {
    api.before("PATCH", "/namespaces/a", |api| {
        let asked = change(api).body["metadata"]["annotations"]["purechaos.dev/also-at"].clone();
        api.change(RECORD, |record| record["status"] = status(asked.as_str().unwrap()));
    });
}

/// The error of a line that is refused. The plugin must not have changed anything.
pub async fn refused(api: &Api, line: &[&str]) -> String {
    let error = type_in(api, line).await.unwrap_err().to_string();
    assert!(api.calls().iter().all(|call| call.verb == "GET"), "{:?}", api.calls());
    error
}

/// Shows the platform's policy, as a user sees it who may view namespace `pure-chaos`.
pub fn show_policy(api: &Api, yaml: &str) {
    let volume = json!({"name": "policy", "configMap": {"name": "policy-1"}});
    let template = json!({"spec": {"containers": [], "volumes": [volume]}});
    api.put(
        "/apis/apps/v1/namespaces/pure-chaos/deployments/agent",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "agent"}, "spec": {"selector": {}, "template": template},
        }),
    );
    let data = json!({"policy.yaml": yaml});
    api.put(
        "/api/v1/namespaces/pure-chaos/configmaps/policy-1",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "policy-1"}, "data": data}),
    );
}
