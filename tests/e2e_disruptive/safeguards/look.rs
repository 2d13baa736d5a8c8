//! The agent's own look as the only lock: the agent has every right, no policy and no webhook
//! refuses a kill, and the records are forged.

use serde_json::{Value, json};
use tests::cluster::{Namespace, eventually, kubectl, kubectl_with, metrics, object, total};
use tests::disruption::{
    Away, WithoutWebhook, all_rights, until_opt_ins_are_reviewed, without_webhook_configuration,
};

/// How many rounds each namespace has to let pass.
const ROUNDS: f64 = 4.0;

/// The opt-in that every record here describes.
const CONSENT: [&str; 4] =
    ["chaos=yes", "purechaos.dev/schedule=every 1s", "purechaos.dev/min-age=1s", "purechaos.dev/mode=delete"];

/// A namespace whose record tells the agent that it may kill.
struct Trap {
    namespace: Namespace,
    /// The state that the agent should report instead; empty if it may kill.
    state: &'static str,
    alive: Value,
}

impl Trap {
    fn new(kind: &str, state: &'static str) -> Self {
        let namespace = Namespace::new(kind);
        let name = &namespace.name;
        let image = "--image=chentex/random-logger";
        kubectl(&["-n", name, "create", "deployment", "web", image, "--replicas=2"]).succeeds();
        Self { namespace, state, alive: Value::Null }
    }

    /// Forges a record that says all is well, except for `change`.
    fn record(&self, change: impl FnOnce(&mut Value)) {
        let pairs = CONSENT.map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        });
        let mut record = json!({
            "apiVersion": "purechaos.dev/v1alpha1", "kind": "OptIn",
            "metadata": {"name": "chaos", "namespace": self.namespace.name},
            "spec": {
                "namespaceUid": self.uid(), "verdict": "Admitted",
                "admission": {
                    "user": "mara", "time": "2026-11-23T11:00:00Z", "digest": policy::digest::digest(&pairs.into())
                },
                "settings": {"schedule": "every 1s", "mode": "delete", "limit": 1, "minAge": "1s", "dryRun": false}
            }
        });
        change(&mut record);
        kubectl_with(&["create"], &record).succeeds();
    }

    fn uid(&self) -> Value {
        object(&["namespace", &self.namespace.name])["metadata"]["uid"].clone()
    }

    fn pods(&self) -> Value {
        let pods = object(&["pods", "-n", &self.namespace.name]);
        let pods = pods["items"].as_array().unwrap().iter();
        pods.map(|pod| json!([pod["metadata"]["uid"], pod["metadata"]["deletionTimestamp"]])).collect()
    }

    fn rounds(&self, outcome: &str) -> f64 {
        let labels =
            [&*format!("target_namespace=\"{}\"", self.namespace.name), &*format!("outcome=\"{outcome}\"")];
        total(&metrics(), "pure_chaos_rounds_total", &labels)
    }
}

#[test]
fn the_agents_own_look_alone_stops_every_kill() {
    {
        let _rights = all_rights("agent");
        let _policies = ["kill.purechaos.dev", "halt.purechaos.dev", "record.purechaos.dev"]
            .map(|name| Away::taken("validatingadmissionpolicybinding", name));
        let _webhook = WithoutWebhook::new();
        let _configuration = without_webhook_configuration();
        let mut traps = set();
        for trap in &traps {
            let rollout = ["rollout", "status", "deployment", "web", "--timeout=60s"];
            kubectl(&[&["-n", &trap.namespace.name], &rollout[..]].concat()).succeeds();
        }
        for trap in &mut traps {
            trap.alive = trap.pods();
        }
        arm(&traps);

        // The kills in the open namespace show that the other locks are open.
        let (open, closed) = traps.split_first().unwrap();
        eventually("kills where nothing is wrong", || (open.rounds("killed") >= 2.0).then_some(()));
        assert_ne!(open.pods(), open.alive);
        for trap in closed {
            let name = &trap.namespace.name;
            eventually("some refused rounds", || (trap.rounds("refused") >= ROUNDS).then_some(()));
            let status = trap.namespace.record()["status"].clone();
            println!("{name}: {}", status["conditions"][0]["message"]);
            assert_eq!(status["state"], trap.state, "{name}: {status}");
            assert_eq!(trap.rounds("killed"), 0.0, "{name}");
            assert_eq!(trap.pods(), trap.alive, "something died in {name}");
        }

        let _halt = Away::changed("namespace", "pure-chaos", |system| {
            system["metadata"]["annotations"]["purechaos.dev/halt"] = json!("incident 4712");
        });
        eventually("the halt of everything", || {
            (open.namespace.record()["status"]["state"] == "halted").then_some(())
        });
        let (killed, refused) = (open.rounds("killed"), open.rounds("refused"));
        eventually("some halted rounds", || (open.rounds("refused") >= refused + ROUNDS).then_some(()));
        assert_eq!(open.rounds("killed"), killed);
    }
    until_opt_ins_are_reviewed();
}

/// The open namespace comes first. Nobody reviews these annotations, and nobody corrects a record.
fn set() -> Vec<Trap> {
    let traps = vec![
        Trap::new("look-open", ""),
        Trap::new("look-differs", "not_admitted"),
        Trap::new("look-halted", "halted"),
        Trap::new("look-out", "not_admitted"),
        Trap::new("kube-look", "not_admitted"),
        Trap::new("look-unadmitted", "not_admitted"),
        Trap::new("look-unseen", "not_admitted"),
        again(),
    ];
    for trap in &traps {
        trap.namespace.annotate(&CONSENT).succeeds();
    }
    traps[1].namespace.annotate(&["purechaos.dev/limit=2"]).succeeds();
    traps[2].namespace.annotate(&["purechaos.dev/halt=incident 4711"]).succeeds();
    traps[3].namespace.annotate(&["chaos-"]).succeeds();
    traps
}

fn arm(traps: &[Trap]) {
    for trap in traps {
        trap.record(|record| match trap.namespace.name.split(char::is_numeric).next().unwrap() {
            "look-unadmitted-" => record["spec"]["verdict"] = json!("NotAdmitted"),
            "look-unseen-" => drop(record["spec"].as_object_mut().unwrap().remove("admission")),
            // The UID of the earlier namespace with the same name.
            "look-again-" => {
                let earlier = object(&["configmap", "earlier", "-n", &trap.namespace.name]);
                record["spec"]["namespaceUid"] = earlier["data"]["uid"].clone();
            }
            _ => {}
        });
    }
}

/// A namespace that was deleted and made again under its name. It remembers its earlier UID.
fn again() -> Trap {
    let trap = Trap::new("look-again", "not_admitted");
    let name = trap.namespace.name.clone();
    let earlier = format!("--from-literal=uid={}", trap.uid().as_str().unwrap());
    kubectl(&["delete", "namespace", &name, "--timeout=60s"]).succeeds();
    // The earlier namespace is gone already. The new one has the same name, and is removed at the
    // end.
    std::mem::forget(trap);
    let trap = Trap::new("look-again", "not_admitted");
    kubectl(&["-n", &name, "create", "configmap", "earlier", &earlier]).succeeds();
    trap
}
