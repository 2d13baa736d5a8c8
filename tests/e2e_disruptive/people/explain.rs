//! `agent explain`, as people type it and with their rights.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, metrics, object, run, within};
use tests::repository::root;

/// The binary that the images are made of.
fn agent() -> PathBuf {
    root().join("target/static/amd64/agent")
}

/// The user of the test's own kubeconfig.
const ADMIN: &str = "kubernetes-admin";

/// Explains a namespace as this user.
fn explain(user: &str, arguments: &[&str]) -> Output {
    let mut config = object_of(&kubectl(&["config", "view", "--raw", "-o", "json"]).succeeds());
    if user != ADMIN {
        config["users"][0]["user"]["as"] = json!(user);
    }
    let file = std::env::temp_dir().join(format!("explain-{}-{user}.json", std::process::id()));
    std::fs::write(&file, config.to_string()).unwrap();
    let output = run(Command::new(agent()).arg("explain").args(arguments).env("KUBECONFIG", &file));
    std::fs::remove_file(file).unwrap();
    output
}

fn object_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn verdict_of<'a>(explanation: &'a Value, workload: &str) -> &'a Value {
    let pods = explanation["pods"].as_array().unwrap();
    pods.iter()
        .find(|pod| pod["workload"] == workload)
        .unwrap_or_else(|| panic!("no {workload}: {explanation}"))
}

#[test]
fn an_owner_sees_why_and_what_is_hidden() {
    let namespace = Namespace::new("explain");
    let name = namespace.name.as_str();
    let other = Namespace::new("silent");
    for namespace in [name, &other.name] {
        kubectl(&["-n", namespace, "create", "rolebinding", "mara", "--clusterrole=edit", "--user=mara"])
            .succeeds();
    }
    namespace.deployment("web", 2);
    namespace.deployment("one", 1);
    namespace.opt_in(&["purechaos.dev/schedule=every 12h", "purechaos.dev/min-age=1s"]);
    eventually("the agent to plan", || (!namespace.record()["status"]["nextSlot"].is_null()).then_some(()));

    let ready = || {
        let explanation = object_of(&explain("mara", &[name, "-o", "json"]).succeeds());
        let is_old_enough = verdict_of(&explanation, "Deployment/web")["mayKill"] == true
            && verdict_of(&explanation, "Deployment/one")["reason"] != "too_young";
        is_old_enough.then_some(explanation)
    };
    let explanation = eventually("a Pod that could die", ready);
    assert_eq!((&explanation["namespace"], &explanation["verdict"]["mayKill"]), (&json!(name), &json!(true)));
    assert_eq!(verdict_of(&explanation, "Deployment/one")["reason"], "single_replica");
    assert_eq!(explanation["settings"]["schedule"], "every 12h");
    assert_eq!(explanation["unseen"][0]["right"], "get namespaces pure-chaos");

    let text = explain("mara", &[name]).succeeds();
    print!("{text}");
    for words in [
        "A round may kill here now",
        "Next round: ",
        "could die",
        "single_replica: the workload wants only one Pod, so a kill would leave none",
        "get namespaces pure-chaos: whether everything is halted",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }

    namespace.annotate(&["purechaos.dev/halt=a look"]).succeeds();
    let text = explain("mara", &[name]).succeeds();
    assert!(text.contains("Nothing is killed: halted: ") && text.contains("a look"), "{text}");
    let text = explain("mara", &[&other.name]).succeeds();
    assert!(text.contains(&format!("kubectl annotate namespace {} chaos=yes", other.name)), "{text}");

    // Without a right, `explain` guesses nothing and names the right.
    let text = explain("nobody", &[name]).succeeds();
    for right in [
        format!("get namespaces {name}: "),
        format!("get optins in namespace {name}: "),
        format!("list pods in namespace {name}: "),
        format!("list poddisruptionbudgets in namespace {name}: "),
    ] {
        assert!(text.contains(&right), "{right}: {text}");
    }
    explain("mara", &["no-such-namespace"]).succeeds();
    explain(ADMIN, &["no-such-namespace"]).fails_with("error: there is no namespace no-such-namespace");
}

#[test]
fn the_agents_own_view_is_one_command_away() {
    let namespace = Namespace::new("inside");
    namespace.deployment("web", 2);
    namespace.opt_in(&["purechaos.dev/schedule=every 12h", "purechaos.dev/min-age=1s"]);
    let inside = || {
        let command =
            ["-n", "pure-chaos", "exec", "deploy/agent", "--", "/agent", "explain", &namespace.name];
        Some(kubectl(&command).succeeds()).filter(|text| text.contains("could die"))
    };
    let text = eventually("a Pod that could die", inside);
    assert!(!text.contains("Could not check"), "{text}");
    assert_eq!(object(&["namespace", &namespace.name])["metadata"]["annotations"]["chaos"], "yes");
}

#[test]
fn a_halt_of_everything_shows_within_a_second() {
    let namespace = Namespace::new("halting");
    namespace.deployment("web", 2);
    namespace.opt_in(&["purechaos.dev/schedule=every 12h", "purechaos.dev/min-age=1s"]);
    let halted = |value: u8| metrics().lines().any(|line| line == format!("pure_chaos_halted {value}"));
    kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt=incident 4713"]).succeeds();
    let begun = Instant::now();
    let told = std::panic::catch_unwind(|| {
        eventually("the metric", || halted(1).then_some(()));
        println!("the metric showed the halt after {:.1?}", begun.elapsed());
        // The agent looks each second. The rest of the time is kubectl's own.
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let text = explain(ADMIN, &[&namespace.name]).succeeds();
        assert!(text.contains("Nothing is killed: halted: ") && text.contains("incident 4713"), "{text}");
        let is_told = |event: &&Value| {
            event["reason"] == "ChaosHalted"
                && event["note"].as_str().unwrap_or_default().contains("incident 4713")
        };
        eventually("the Event", || {
            let events = object(&["events.events.k8s.io", "-n", "pure-chaos"]);
            events["items"].as_array()?.iter().find(is_told).map(|_| ())
        });
    });
    kubectl(&["annotate", "namespace", "pure-chaos", "purechaos.dev/halt-"]).succeeds();
    told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    eventually("the end of the halt", || halted(0).then_some(()));
}

/// The agent's right to create Events, which nothing needs meanwhile. It comes back with the drop.
struct NoEvents {
    place: usize,
}

impl NoEvents {
    fn take() -> Self {
        let before = object(&["role", "agent", "-n", "pure-chaos"]);
        let is_events = |rule: &Value| rule["apiGroups"] == json!(["events.k8s.io"]);
        let place = before["rules"].as_array().unwrap().iter().position(is_events);
        let taken = Self { place: place.expect("the rule about Events") };
        taken.set("get");
        taken
    }

    fn set(&self, verb: &str) {
        let path = format!("/rules/{}/verbs", self.place);
        let patch = json!([{"op": "replace", "path": path, "value": [verb]}]).to_string();
        kubectl(&["patch", "role", "agent", "-n", "pure-chaos", "--type=json", "-p", &patch]).succeeds();
    }
}

impl Drop for NoEvents {
    fn drop(&mut self) {
        self.set("create");
    }
}

#[test]
fn readiness_names_the_right_that_the_agent_lacks() {
    let ready =
        || kubectl(&["get", "--raw", "/api/v1/namespaces/pure-chaos/services/agent:metrics/proxy/readyz"]);
    assert_eq!(ready().stdout, "ok\n");
    let taken = NoEvents::take();
    // A process asks for its rights when it starts, and then every five minutes.
    kubectl(&["-n", "pure-chaos", "delete", "pod", "-l", "app.kubernetes.io/component=agent"]).succeeds();
    let told = within(Duration::from_secs(90), "an agent that isn't ready", || {
        let agent = object(&["pods", "-n", "pure-chaos", "-l", "app.kubernetes.io/component=agent"]);
        let conditions = agent["items"][0]["status"]["conditions"].as_array()?;
        let is_unready =
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "False");
        // The readiness page says the same, but kubectl doesn't show the text of a 503.
        // A container that is being created has no log yet.
        let log = kubectl(&["-n", "pure-chaos", "logs", "deploy/agent", "--tail=50"]).stdout;
        let words = "no right to create events.events.k8s.io in namespace pure-chaos; to grant it, run: ";
        log.lines().find(|line| is_unready && line.contains(words)).map(str::to_owned)
    });
    drop(taken);
    println!("{told}");
    eventually("an agent that is ready again", || (ready().stdout == "ok\n").then_some(()));
}
