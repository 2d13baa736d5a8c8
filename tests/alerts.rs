//! The alerts, by Prometheus' own `promtool`, which `make test` installs before the tests that need a cluster: they are valid, and fire when they should and not otherwise.

use std::process::Command;

use serde_json::{Value, json};
use tests::cluster::run;
use tests::repository::read;

const RULES: &str = "manifests/components/prometheus-operator/rules.yaml";
const DAY: i64 = 86_400;

/// A serving certificate that ends at `end` and a CA that lasts, looked at after half an hour; whether the alert fires.
fn case(end: i64, fires: bool) -> Value {
    let series = "pure_chaos_certificate_not_after_timestamp_seconds";
    let rest = end - 1_800;
    let days = rest / DAY;
    let left = format!("{days}d {}h {}m 0s", rest % DAY / 3_600, rest % 3_600 / 60);
    let alert = json!({
        "exp_labels": {"severity": "warning", "role": "serving"},
        "exp_annotations": {
            "summary": format!("The serving certificate of Pure Chaos ends in {left}."),
            "description": rules()["groups"][0]["rules"][0]["annotations"]["description"],
        },
    });
    json!({
        "interval": "1m",
        "input_series": [
            {"series": format!("{series}{{role=\"serving\",pod=\"a\"}}"), "values": format!("{end}x40")},
            {"series": format!("{series}{{role=\"serving\",pod=\"b\"}}"), "values": format!("{}x40", 30 * DAY)},
            {"series": format!("{series}{{role=\"ca\",pod=\"c\"}}"), "values": format!("{}x40", 300 * DAY)},
        ],
        "alert_rule_test": [{
            "alertname": "PureChaosCertificateExpiring",
            "eval_time": "30m",
            "exp_alerts": if fires { json!([alert]) } else { json!([]) },
        }],
    })
}

fn rules() -> Value {
    serde_saphyr::from_str::<Value>(&read(RULES)).unwrap()["spec"].take()
}

#[test]
fn the_alert_on_certificates_fires_four_days_before_the_end() {
    let folder = std::env::temp_dir().join(format!("pure-chaos-alerts-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (rules_file, tests_file) = (folder.join("rules.json"), folder.join("tests.json"));
    std::fs::write(&rules_file, rules().to_string()).unwrap();
    let cases: Vec<_> = [(4 * DAY + 1_800, false), (4 * DAY + 60, true), (2 * DAY, true), (10 * DAY, false)]
        .map(|(end, fires)| case(end, fires))
        .into();
    let tests = json!({"rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": cases});
    std::fs::write(&tests_file, tests.to_string()).unwrap();
    let checked = run(Command::new("promtool").args(["check", "rules"]).arg(&rules_file));
    let tested = run(Command::new("promtool").args(["test", "rules"]).arg(&tests_file));
    std::fs::remove_dir_all(&folder).unwrap();
    checked.succeeds();
    tested.succeeds();
}
