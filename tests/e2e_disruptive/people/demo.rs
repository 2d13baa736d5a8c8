//! `make demo` on a cluster that is known only by its context's name, as if it were a user's own
//! cluster.

use std::process::Command;

use tests::cluster::{kubeconfig, run};
use tests::manifests::registry;
use tests::repository::root;

/// A kubeconfig that contains the cluster and selects no context, so that a command which forgets
/// the context fails.
fn ambient() -> std::path::PathBuf {
    let file = root().join("target/demo-kubeconfig");
    std::fs::copy(kubeconfig(), &file).unwrap();
    let kubectl = root().join(".cluster/bin/kubectl");
    run(Command::new(kubectl).arg("--kubeconfig").arg(&file).args(["config", "unset", "current-context"]))
        .succeeds();
    file
}

fn make(arguments: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.current_dir(root()).args(["--no-print-directory"]).args(arguments);
    make.env_remove("MAKEFLAGS").env_remove("NAME").env_remove("REGISTRY").env_remove("OVERLAY");
    make.env("KUBECONFIG", ambient());
    // With cargo's variables for a test, the build inside would start from nothing.
    let of_cargo = |key: &String| {
        (key.starts_with("CARGO") && key != "CARGO_HOME")
            || (key.starts_with("RUST") && key != "RUSTUP_HOME")
            || key == "LD_LIBRARY_PATH"
    };
    for (key, _) in std::env::vars().filter(|(key, _)| of_cargo(key)) {
        make.env_remove(key);
    }
    make
}

#[test]
fn the_demo_ends_well_in_a_foreign_cluster() {
    let context = run(Command::new(root().join(".cluster/bin/kubectl")).args([
        "--kubeconfig",
        &kubeconfig(),
        "config",
        "current-context",
    ]));
    let context = format!("CONTEXT={}", context.succeeds().trim());
    let registry = format!("REGISTRY={}", registry());

    let output = run(&mut make(&["deploy", &context]));
    output.fails_with("also needs REGISTRY");
    run(&mut make(&["undeploy", "NAME=nowhere"])).fails_with("There is no local cluster nowhere");

    let story = run(&mut make(&["demo", &context, &registry])).succeeds();
    for part in [
        "$ kubectl",
        "annotate namespace learning-place chaos=yes",
        "ChaosKilled",
        "ChaosRecovered",
        "median recovery",
        "blocked_by_pdb: a PodDisruptionBudget allows no eviction",
        "front-answers: held ",
        "Check `front-answers` broke ",
        "create deployment restless --image=chentex/random-logger -- sh -c 'sleep 3; exit 1'\n",
        // The line for the workload that crashes. No other line has 0 kills.
        "kills                    0\n",
        "10/10",
    ] {
        assert!(story.contains(part), "{part:?} is missing in:\n{story}");
    }
    println!("{story}");

    // The page and the Prometheus that the demonstration leaves running still answer.
    let told = |what: &str| story.lines().find_map(|line| line.strip_prefix(what)).expect(what);
    let (page, end) = told("The agent's own page: ").split_once(", until kill ").unwrap();
    let answer =
        run(Command::new("curl").args(["--silent", "--show-error", "--max-time", "10", page])).succeeds();
    // The demonstration has checked what the page says about kills. The agent that is left may have
    // led for no kill.
    assert!(answer.contains("Namespaces that opted in"), "{answer}");
    run(Command::new("kill").arg(end.split(' ').next().unwrap())).succeeds();
    let (address, _) = told("Prometheus: ").split_once(',').unwrap();
    // The query covers both agents: the agent that led first is gone, and so is its current series.
    let query = "sum by (target_namespace, workload) (max_over_time(pure_chaos_kills_total[15m])) >= 3";
    let answer = run(Command::new("promtool").args(["query", "instant", address, query])).succeeds();
    assert!(answer.contains(r#"{target_namespace="learning-place", workload="random-logger"}"#), "{answer}");
    // No label was renamed, because none of our labels is one that a scrape sets.
    let clash = run(Command::new("promtool").args([
        "query",
        "instant",
        address,
        "{__name__=~\"pure_chaos_.*\",exported_namespace!=\"\"}",
    ]));
    assert_eq!(clash.succeeds().trim(), "");
    let wrong = tests::dashboard::unanswered(address, jiff::Timestamp::now().as_second());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut stop = Command::new(root().join("hack/prometheus.sh"));
    stop.arg("stop").env("KUBECONFIG", kubeconfig());
    stop.env("CONTEXT", context.trim_start_matches("CONTEXT="));
    run(&mut stop).succeeds();
    run(Command::new("promtool").args(["query", "instant", address, "up"])).fails();
}
