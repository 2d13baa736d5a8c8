//! The dashboard's queries under Prometheus's own `promtool`, which `make test` installs before the
//! tests that need a cluster.

use std::process::Command;

use serde_json::{Value, json};
use tests::cluster::run;
use tests::dashboard::queries;

/// promtool's verdict on queries, which the test passes as recording rules.
fn check(name: &str, exprs: &[String]) -> tests::cluster::Output {
    let rules: Vec<Value> = exprs.iter().map(|expr| json!({"record": "checked", "expr": expr})).collect();
    // promtool treats rules of one name as duplicates, unless they are in different groups.
    let groups: Vec<Value> = rules
        .into_iter()
        .enumerate()
        .map(|(number, rule)| json!({"name": number.to_string(), "rules": [rule]}))
        .collect();
    let file = std::env::temp_dir().join(format!("pure-chaos-{name}-{}.json", std::process::id()));
    std::fs::write(&file, json!({"groups": groups}).to_string()).unwrap();
    let output = run(Command::new("promtool").args(["check", "rules", "--lint=none"]).arg(&file));
    std::fs::remove_file(&file).unwrap();
    output
}

#[test]
fn every_query_of_the_dashboard_is_understood() {
    let exprs: Vec<String> = queries().iter().map(tests::dashboard::Query::substituted).collect();
    assert!(exprs.len() > 30, "{}", exprs.len());
    let said = check("queries", &exprs).succeeds();
    assert!(said.contains(&format!("{} rules found", exprs.len())), "{said}");
    check("misspelt", &["sum by (rate(pure_chaos_kills_total[1m])".to_owned()]).fails();
}
