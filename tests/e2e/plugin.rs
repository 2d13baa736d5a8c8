//! `kubectl chaos`, as people type it and with their rights.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::cluster::{Namespace, Output, eventually, kubectl, object, run};
use tests::repository::root;

const PLUGIN: &str = env!("CARGO_BIN_EXE_kubectl-chaos-process");

/// A kubeconfig of its own, with two contexts: the admin's, and this user's.
struct Person {
    file: PathBuf,
}

impl Person {
    fn new(user: &str) -> Self {
        let text = kubectl(&["config", "view", "--raw", "-o", "json"]).succeeds();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        let mut impersonating = config["users"][0].clone();
        impersonating["name"] = json!(user);
        impersonating["user"]["as"] = json!(user);
        config["users"].as_array_mut().unwrap().push(impersonating);
        let mut context = config["contexts"][0].clone();
        context["name"] = json!(user);
        context["context"]["user"] = json!(user);
        config["contexts"].as_array_mut().unwrap().push(context);
        let file = std::env::temp_dir().join(format!("plugin-{}-{user}.json", std::process::id()));
        std::fs::write(&file, config.to_string()).unwrap();
        Self { file }
    }

    fn chaos(&self, arguments: &[&str]) -> Output {
        run(Command::new(PLUGIN).args(arguments).env("KUBECONFIG", &self.file))
    }

    /// Pastes the command that the plugin printed.
    fn paste(&self, printed: &str) -> Output {
        let command = printed.lines().find(|line| line.starts_with("kubectl ")).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", root().join(".cluster/bin").display());
        run(Command::new("sh").args(["-c", command]).env("KUBECONFIG", &self.file).env("PATH", path))
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.file);
    }
}

fn annotations(namespace: &Namespace) -> Value {
    object(&["namespace", &namespace.name])["metadata"]["annotations"].clone()
}

#[test]
fn a_namespace_goes_through_all_of_it() {
    let namespace = Namespace::new("plugin");
    let name = namespace.name.as_str();
    let person = Person::new("kim");

    // For a misspelt value, the plugin prints the same words as the webhook.
    let here = person.chaos(&["on", name, "--schedule", "hourly"]).fails();
    let there = namespace.annotate(&["chaos=yes", "purechaos.dev/schedule=hourly"]).fails();
    let words = here.trim().trim_start_matches("error: ");
    assert!(words.contains("Invalid value: \"hourly\"") && there.contains(words), "{words}: {there}");

    // Only the webhook knows a ceiling.
    person.chaos(&["on", name, "--limit", "9"]).fails_with("the platform's ceilings.limit is `5`");
    person.chaos(&["--context", "kim", "on", name]).fails_with("kim");

    person.chaos(&["on", name, "--schedule", "every 12h", "--server-dry-run"]).succeeds();
    assert_eq!(annotations(&namespace)["chaos"], Value::Null);
    let on = person.chaos(&["on", name, "--schedule", "every 12h", "--min-age=1s"]).succeeds();
    let opted_in = annotations(&namespace);
    assert_eq!(
        (&opted_in["chaos"], &opted_in["purechaos.dev/schedule"]),
        (&json!("yes"), &json!("every 12h"))
    );
    eventually("the agent to plan", || (!namespace.record()["status"]["nextSlot"].is_null()).then_some(()));

    let table = person.chaos(&["status", "-n", name]).succeeds();
    print!("{on}{table}");
    assert!(table.contains("every 12h") && table.contains("in ") && !table.contains("due now"), "{table}");
    assert!(person.chaos(&["status", "-A"]).succeeds().contains(name));
    let json: Value =
        serde_json::from_str(&person.chaos(&["status", "-n", name, "-o", "json"]).succeeds()).unwrap();
    assert_eq!(json["items"][0]["metadata"]["namespace"], name);
    let explained = person.chaos(&["explain", name]).succeeds();
    assert!(explained.contains("Nothing can be killed here now, because there are no Pods"), "{explained}");

    let halt = person.chaos(&["halt", name, "--reason", "it's $HOME"]).succeeds();
    assert_eq!(annotations(&namespace)["purechaos.dev/halt"], "it's $HOME");
    let resume = person.chaos(&["resume", name]).succeeds();
    assert_eq!(annotations(&namespace)["purechaos.dev/halt"], Value::Null);
    let off = person.chaos(&["off", name]).succeeds();
    assert_eq!(annotations(&namespace)["chaos"], Value::Null);
    assert_eq!(annotations(&namespace)["purechaos.dev/schedule"], Value::Null);

    // Pasting the command has the same result.
    person.paste(&on).succeeds();
    assert_eq!(annotations(&namespace), opted_in);
    person.paste(&halt).succeeds();
    assert_eq!(annotations(&namespace)["purechaos.dev/halt"], "it's $HOME");
    person.paste(&resume).succeeds();
    person.paste(&off).succeeds();
    assert_eq!(annotations(&namespace)["chaos"], Value::Null);
}

#[test]
fn who_may_not_delete_pods_is_refused_in_the_webhooks_words() {
    let namespace = Namespace::new("plugin-kim");
    let name = namespace.name.as_str();
    let role = format!("annotates-{name}");
    kubectl(&["create", "clusterrole", &role, "--verb=get,patch", "--resource=namespaces"]).succeeds();
    kubectl(&["-n", name, "create", "rolebinding", "kim", &format!("--clusterrole={role}"), "--user=kim"])
        .succeeds();
    let person = Person::new("kim");
    let refused = person.chaos(&["--context", "kim", "on", name]).fails();
    kubectl(&["delete", "clusterrole", &role]).succeeds();
    assert!(refused.contains(&format!("user kim may not opt in namespace {name}: ")), "{refused}");
    assert_eq!(annotations(&namespace)["chaos"], Value::Null);
}

#[test]
fn kubectls_own_completion_knows_the_plugin() {
    let folder = std::env::temp_dir().join(format!("plugin-path-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = run(Command::new(PLUGIN).args(["completion", "kubectl"])).succeeds();
    for (name, is_script) in [("kubectl-chaos", false), ("kubectl_complete-chaos", true)] {
        let file = folder.join(name);
        if is_script {
            std::fs::write(&file, &script).unwrap();
        } else {
            std::fs::copy(PLUGIN, &file).unwrap();
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", folder.display(), root().join(".cluster/bin").display());
    let ask = |words: &[&str]| {
        run(Command::new("kubectl").args(["__complete", "chaos"]).args(words).env("PATH", &path)).succeeds()
    };
    let answers = [ask(&["sta"]), ask(&["on", "a", "--lim"]), ask(&["status", "-o", "j"])];
    std::fs::remove_dir_all(&folder).unwrap();
    for (answer, word) in answers.iter().zip(["status\n:4", "--limit\n:4", "json\n:4"]) {
        assert!(answer.starts_with(word), "{answer}");
    }
}

#[test]
fn a_round_at_once_goes_through_the_same_guards() {
    let namespace = Namespace::new("plugin-now");
    let name = namespace.name.as_str();
    let person = Person::new("kim");
    person.chaos(&["now", name]).fails_with("has not opted in; to opt it in, run: kubectl chaos on");
    namespace.deployment("web", 2);
    person.chaos(&["on", name, "--schedule", "every 12h", "--min-age", "1h"]).succeeds();
    eventually("the agent to plan", || (!namespace.record()["status"]["nextSlot"].is_null()).then_some(()));

    let refused = person.chaos(&["now", name]).succeeds();
    assert!(
        refused.contains("nothing was killed: too_young: no Pod could be killed: 2 too_young"),
        "{refused}"
    );
    person.chaos(&["on", name, "--min-age", "1s"]).succeeds();
    let killed = person.chaos(&["now", name]).succeeds();
    print!("{killed}");
    assert!(killed.ends_with("1 Pod was killed\n"), "{killed}");
    assert_eq!(namespace.record()["status"]["kills"], 1);

    // `now` needs the same rights as a change of settings.
    let refused = person.chaos(&["now", name, "--context", "kim"]).fails();
    assert!(refused.contains("kim"), "{refused}");
}
