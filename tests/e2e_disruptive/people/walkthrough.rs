//! Types every command of `docs/walkthrough.md` on the real node. If a tool isn't available here, a
//! stand-in of the same name does what the command needs, and says so. The document names the
//! stand-ins.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::cluster::{eventually, kubeconfig, kubectl, object, run, within};
use tests::manifests::script;
use tests::repository::{read, root};

/// The commands of the document, in their order.
fn commands() -> Vec<String> {
    let document = read("docs/walkthrough.md");
    let blocks = document.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

/// The stand-ins for tools that this machine doesn't have: name and script.
fn stand_ins() -> [(&'static str, String); 2] {
    let root = root().display().to_string();
    [
        ("helm", "echo \"(a stand-in for helm: the cluster has a registry on that port)\"".to_owned()),
        (
            "docker",
            // A build in a container needs an image that can't be pulled here. The stand-in puts
            // ready binaries into the images with the same Dockerfile.
            format!(
                "echo \"(a stand-in for docker $2: all three images are built and pushed once, by buildah)\"\n\
                 [[ -e $STAND_INS/built ]] || REGISTRY=\"$REGISTRY\" TAG=0.1.0 TAG_FILE=\"$STAND_INS/built\" {root}/hack/images.sh"
            ),
        ),
    ]
}

struct Shell {
    stand_ins: PathBuf,
    registry: String,
}

impl Shell {
    fn new() -> Self {
        let stand_ins = std::env::temp_dir().join(format!("walkthrough-{}", std::process::id()));
        std::fs::create_dir_all(&stand_ins).unwrap();
        for (name, script) in self::stand_ins() {
            let file = stand_ins.join(name);
            std::fs::write(&file, format!("#!/usr/bin/env bash\nset -euo pipefail\n{script}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { stand_ins, registry: String::new() }
    }

    /// Types a command, and returns what it printed.
    fn types(&mut self, command: &str) -> String {
        println!("$ {command}");
        let mut path = format!("{}:{}", self.stand_ins.display(), root().join(".cluster/bin").display());
        write!(path, ":{}", std::env::var("PATH").unwrap()).unwrap();
        let mut bash = Command::new("bash");
        // The next command has the variables that a command exports.
        let line =
            format!("set -euo pipefail; {command}; printf '\\n%s' \"$REGISTRY\" >\"$STAND_INS/registry\"");
        bash.current_dir(root()).args(["-c", &line]).env("PATH", path).env("KUBECONFIG", kubeconfig());
        bash.env("STAND_INS", &self.stand_ins).env("REGISTRY", &self.registry);
        for ambient in ["NAME", "CONTEXT", "OVERLAY", "MAKEFLAGS"] {
            bash.env_remove(ambient);
        }
        let printed = run(&mut bash).succeeds();
        std::fs::read_to_string(self.stand_ins.join("registry"))
            .unwrap()
            .trim()
            .clone_into(&mut self.registry);
        print!("{printed}");
        printed
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.stand_ins).ok();
    }
}

#[test]
fn every_command_of_the_walk_through_works_as_typed() {
    let commands = commands();
    assert!(commands.len() > 25, "{commands:?}");
    let outcome = std::panic::catch_unwind(|| walk(&commands));
    kubectl(&["delete", "namespace", "learning-place", "--ignore-not-found"]).succeeds();
    kubectl(&["-n", "pure-chaos", "delete", "cronjob", "chaos-runner", "--ignore-not-found"]);
    // The document's overlay added objects that the usual one would leave.
    script("manifests/undeploy.sh");
    script("manifests/deploy.sh");
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn walk(commands: &[String]) {
    let mut shell = Shell::new();
    let mut printed = String::new();
    for command in commands {
        // What the document promises by this point must have happened.
        if command.starts_with("kubectl describe namespace") {
            eventually("the record", || {
                (object(&["optin", "chaos", "-n", "learning-place"])["spec"]["verdict"] == "Admitted")
                    .then_some(())
            });
        }
        if command.starts_with("stern") {
            within(Duration::from_secs(400), "a kill by the CronJob", || {
                let record = object(&["optin", "chaos", "-n", "learning-place"]);
                (record["status"]["kills"].as_i64()? >= 1).then_some(())
            });
            eventually("the end of that round's Pod", || {
                let jobs = object(&["jobs", "-n", "pure-chaos"]);
                let jobs = jobs["items"].as_array()?;
                (!jobs.is_empty() && jobs.iter().all(|job| job["status"]["succeeded"] == 1)).then_some(())
            });
        }
        printed += &shell.types(command);
        if command.starts_with("kubectl apply -f target/install.yaml") {
            kubectl(&["-n", "pure-chaos", "rollout", "status", "deployment", "webhook", "--timeout=120s"])
                .succeeds();
        }
    }
    for words in [
        "\"repositories\"",
        "random-logger",
        "cronjob.batch/chaos-runner created",
        "learning-place: killed Pod random-logger-",
        "chaos: yes",
        "ChaosOptedIn",
        "ChaosKilled",
        "Terminating",
        "namespace \"learning-place\" deleted",
        "Pure Chaos is gone.",
    ] {
        assert!(printed.contains(words), "{words:?} is missing");
    }
}
