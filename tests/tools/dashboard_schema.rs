//! Checks the dashboard against Grafana's own types, with a Go program, because those types are not
//! available for Rust.

use std::process::Command;

use tests::cluster::{Output, run};
use tests::dashboard::FILE;
use tests::repository::{read, root};

fn check(text: &str) -> Output {
    let file = std::env::temp_dir().join(format!("pure-chaos-dashboard-{}.json", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let output =
        run(Command::new("go").current_dir(root().join("tests/grafana")).args(["run", "."]).arg(&file));
    std::fs::remove_file(&file).unwrap();
    output
}

#[test]
fn it_fits_and_what_is_misspelt_does_not() {
    let dashboard = read(FILE);
    check(&dashboard).succeeds();
    for (right, wrong, place) in [
        ("\"graphMode\"", "\"graphMood\"", "panels[1].options"),
        ("\"spanNulls\"", "\"spansNulls\"", "fieldConfig.defaults.custom"),
        ("\"noValue\"", "\"nonValue\"", "panels[1]: defaults"),
        ("\"custom.lineWidth\"", "\"custom.lineWith\"", "panels[9]: overrides[0]"),
        ("\"legendFormat\"", "\"legend\"", "panels[1].targets[0]"),
        ("\"heatmap\"", "\"heatmaps\"", "\"heatmaps\""),
        ("\"allValue\"", "\"everyValue\"", "templating.list[1]"),
    ] {
        let broken = dashboard.replace(right, wrong);
        assert_ne!(broken, dashboard, "{right} is nowhere");
        check(&broken).fails_with(place);
    }
}
