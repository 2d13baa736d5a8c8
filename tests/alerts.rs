//! Each alert by Prometheus' own `promtool`, which `make test` installs before the tests that need a cluster: it fires when it should, and
//! not in the nearest cases where it should not. Series are in promtool's notation: `0x2 5` is 0, 0, 0, 5; `_x2` are two that are missing.

use std::process::Command;

use serde_json::json;
use tests::alert_rules::{groups, rules};
use tests::cluster::run;
use tests::promtool::{Case, Fires, check, fires, silent};

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let file = std::env::temp_dir().join(format!("pure-chaos-rules-{}.json", std::process::id()));
    std::fs::write(&file, json!({"groups": groups()}).to_string()).unwrap();
    let checked =
        run(Command::new("promtool").args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(&file));
    std::fs::remove_file(&file).unwrap();
    checked.succeeds();
}

const TIMED_OUT: &str = r#"pure_chaos_recoveries_total{target_namespace="shop",workload_kind="Deployment",workload="web",outcome="timed_out",instance="a"}"#;
const TIMED_OUT_NEXT: &str = r#"pure_chaos_recoveries_total{target_namespace="shop",workload_kind="Deployment",workload="web",outcome="timed_out",instance="b"}"#;
const RECOVERED: &str = r#"pure_chaos_recoveries_total{target_namespace="shop",workload_kind="Deployment",workload="web",outcome="recovered",instance="a"}"#;

#[test]
fn a_recovery_that_timed_out() {
    let web = &[("target_namespace", "shop"), ("workload_kind", "Deployment"), ("workload", "web")];
    check(
        "PureChaosRecoveryTimedOut",
        "1m",
        &[
            fires("at once", &[(TIMED_OUT, "0x90 1x40")], "91m", web, &[]),
            fires("for a while", &[(TIMED_OUT, "0x90 1x40")], "105m", web, &[]),
            silent("and no longer", &[(TIMED_OUT, "0x90 1x40")], "107m"),
            silent("it recovered", &[(TIMED_OUT, "0x120"), (RECOVERED, "0+1x120")], "100m"),
            silent("the container restarts", &[(TIMED_OUT, "3x90 0x40")], "92m"),
            silent(
                "another agent begins at 0",
                &[(TIMED_OUT, "3x90 stale"), (TIMED_OUT_NEXT, "_x92 0x40")],
                "95m",
            ),
            fires(
                "counted by another agent before its first scrape",
                &[(TIMED_OUT, "0x90 stale"), (TIMED_OUT_NEXT, "_x92 1x40")],
                "92m",
                web,
                &[],
            ),
            silent(
                "an old one, after Prometheus was away for 40 minutes",
                &[(TIMED_OUT, "3x60 _x40 3x30")],
                "102m",
            ),
        ],
    );
}

#[test]
fn no_leader() {
    let leader = r#"pure_chaos_leader{instance="a"}"#;
    let other = r#"pure_chaos_leader{instance="b"}"#;
    let alert = |about, series: &[(&'static str, &str)]| fires(about, series, "21m", &[], &[]);
    check(
        "PureChaosNoLeader",
        "1m",
        &[
            alert("the agent is gone", &[(leader, "1x10 stale")]),
            alert("a standby that doesn't take over", &[(leader, "1x10 stale"), (other, "0x40")]),
            silent("it has been gone for less than ten minutes", &[(leader, "1x10 stale")], "20m"),
            silent("a lost node's Pod comes back", &[(leader, "1x10 stale _x7 1x20")], "21m"),
            silent("another takes over", &[(leader, "1x10 stale"), (other, "0x15 1x20")], "21m"),
        ],
    );
}

#[test]
fn a_halt_that_lasts() {
    let halted = r#"pure_chaos_halted{instance="a"}"#;
    let next = r#"pure_chaos_halted{instance="b"}"#;
    check(
        "PureChaosHaltedTooLong",
        "5m",
        &[
            fires("for a day", &[(halted, "0x12 1x400")], "25h5m", &[], &[]),
            fires(
                "the agent is replaced meanwhile",
                &[(halted, "1x150 stale"), (next, "_x152 0 1x250")],
                "25h",
                &[],
                &[],
            ),
            silent("less than a day", &[(halted, "0x12 1x400")], "25h"),
            silent("it ended after 23 hours", &[(halted, "1x276 0x60")], "25h"),
            silent("one after another", &[(halted, "1x150 0 1x200")], "25h"),
        ],
    );
}

#[test]
fn an_agent_that_sees_fewer_records_than_the_webhook() {
    let webhook = r#"pure_chaos_opt_ins{job="j",instance="w"}"#;
    let other = r#"pure_chaos_opt_ins{job="j",instance="x"}"#;
    let agent = r#"pure_chaos_opt_ins{job="j",instance="a"}"#;
    let leader = r#"pure_chaos_leader{job="j",instance="a"}"#;
    let standby = r#"pure_chaos_leader{job="j",instance="b"}"#;
    let value: &[(&str, &str)] = &[("{{ $value }}", "3")];
    let leads = (leader, "1x60");
    let case = |about, series: &[(&'static str, &str)]| silent(about, series, "30m");
    check(
        "PureChaosAgentSeesTooLittle",
        "1m",
        &[
            fires("none", &[(webhook, "3x60"), (agent, "0x60"), leads], "30m", &[], value),
            fires("not all", &[(webhook, "2x10 3x60"), (agent, "2x60"), leads], "30m", &[], value),
            case("all", &[(webhook, "3x60"), (agent, "3x60"), leads, (standby, "0x60")]),
            silent("it lists them anew", &[(webhook, "3x60"), (agent, "3x19 0x8 3x30"), leads], "28m"),
            fires(
                "nor does one of the webhooks",
                &[(webhook, "3x60"), (other, "0x60"), (agent, "0x60"), leads],
                "30m",
                &[],
                value,
            ),
            case(
                "a webhook that has just begun",
                &[(webhook, "3x60"), (other, "0x60"), (agent, "3x60"), leads],
            ),
            case("nobody opted in", &[(webhook, "0x60"), (agent, "0x60"), leads]),
            case("no agent leads, which is another alert", &[(webhook, "3x60"), (standby, "0x60")]),
        ],
    );
}

const KILLED: &str = r#"pure_chaos_rounds_total{target_namespace="shop",outcome="killed",instance="a"}"#;
const REFUSED: &str = r#"pure_chaos_rounds_total{target_namespace="shop",outcome="refused",instance="a"}"#;
const NO_CANDIDATE: &str =
    r#"pure_chaos_rounds_total{target_namespace="shop",outcome="no_candidate",instance="a"}"#;
const DRY_RUN: &str = r#"pure_chaos_rounds_total{target_namespace="shop",outcome="dry_run",instance="a"}"#;
const FAILED: &str = r#"pure_chaos_rounds_total{target_namespace="shop",outcome="failed",instance="a"}"#;
const FAILED_NEXT: &str = r#"pure_chaos_rounds_total{target_namespace="shop",outcome="failed",instance="b"}"#;

#[test]
fn rounds_that_all_fail() {
    let shop = &[("target_namespace", "shop")];
    let no_rights = r#"pure_chaos_refusals_total{target_namespace="shop",reason="no_rights",instance="a"}"#;
    let halted = r#"pure_chaos_refusals_total{target_namespace="shop",reason="halted",instance="a"}"#;
    let (good, with_rights) = ((KILLED, "5x60"), (no_rights, "0x60"));
    let twice = "0x20 1x5 2x20";
    let alert = |about, series: &[(&'static str, &str)]| fires(about, series, "3h", shop, &[]);
    let case = |about, series: &[(&'static str, &str)]| silent(about, series, "3h");
    check(
        "PureChaosRoundsFail",
        "5m",
        &[
            alert("two of two", &[(FAILED, twice), good, with_rights]),
            alert(
                "before and after a restart",
                &[(FAILED, "0x20 1x5 stale"), (FAILED_NEXT, "_x27 0x2 1x20"), good, with_rights],
            ),
            alert("no rights", &[(FAILED, "0x60"), (REFUSED, twice), (no_rights, twice), good]),
            case(
                "refused for another reason",
                &[(FAILED, "0x60"), (REFUSED, twice), (halted, twice), with_rights],
            ),
            case("one", &[(FAILED, "0x20 1x25"), good, with_rights]),
            case("a round in between kills", &[(FAILED, twice), (KILLED, "5x23 6x25"), with_rights]),
            case(
                "a round in between has no candidate",
                &[(FAILED, twice), (NO_CANDIDATE, "0x23 1x25"), with_rights],
            ),
            case("a round in between is a dry run", &[(FAILED, twice), (DRY_RUN, "0x23 1x25"), with_rights]),
            case("the agent restarts", &[(FAILED, "7x25 0x20"), good, with_rights]),
        ],
    );
}

#[test]
fn kills_that_stopped() {
    let shop: &[(&str, &str)] = &[("target_namespace", "shop")];
    let value: &[(&str, &str)] = &[(r#"{{ $value | printf "%.0f" }}"#, "24")];
    // Nine days with a kill in each hour, and what comes after.
    let killed = (KILLED, "0+1x216 216x50");
    let none = (NO_CANDIDATE, "0x216 1+1x50");
    let case = |about, series: &[(&'static str, &str)]| silent(about, series, "10d3h");
    check(
        "PureChaosKillsStopped",
        "1h",
        &[
            fires("no candidate for a day", &[killed, none], "10d3h", shop, value),
            fires("all fail", &[killed, (FAILED, "0x216 1+1x50")], "10d3h", shop, value),
            silent("for twenty hours", &[killed, none], "9d20h"),
            case("outside active hours, or halted", &[killed, (REFUSED, "0x216 1+1x50")]),
            case("a dry run", &[killed, (DRY_RUN, "0x216 1+1x50")]),
            case("opted out", &[(KILLED, "0+1x216 stale"), (NO_CANDIDATE, "0x216 stale")]),
            case("it never killed", &[(KILLED, "0x266"), (NO_CANDIDATE, "0+1x266")]),
            case(
                "mtbf, eight kills a day, of which six are missing",
                &[(KILLED, &one_in(3)), (NO_CANDIDATE, "0+1x266")],
            ),
            fires(
                "mtbf, twelve kills a day",
                &[(KILLED, &one_in(2)), (NO_CANDIDATE, "0+1x266")],
                "10d3h",
                shop,
                &[(value[0].0, "8")],
            ),
            case("the agent restarts", &[(KILLED, "0+1x216 0+1x50"), (NO_CANDIDATE, "0x266")]),
        ],
    );
}

/// Nine days with a kill in so many hours, then none.
fn one_in(hours: usize) -> String {
    let days: Vec<String> = (0..216 / hours).map(|kills| format!("{kills}x{}", hours - 1)).collect();
    format!("{} {}x50", days.join(" "), 216 / hours)
}

const DAY: i64 = 86_400;

#[test]
fn a_certificate_four_days_before_its_end() {
    let name = |role: &str, pod: &str| {
        format!("pure_chaos_certificate_not_after_timestamp_seconds{{role=\"{role}\",pod=\"{pod}\"}}")
    };
    let names = [name("serving", "a"), name("serving", "b"), name("ca", "c")];
    let labels: &[(&str, &str)] = &[("role", "serving")];
    let rule = rules().into_iter().find(|rule| rule.name == "PureChaosCertificateExpiring").unwrap();
    let description = &rule.annotations["description"];
    let template = &description[description.find("{{ if").unwrap()..description.find(". Once").unwrap()];
    let ended = [(template, "has ended, or there is none")];
    let soon = [(template, "ends in 3d 23h 31m 0s")];
    let case = |about, ends: [i64; 3], said| {
        let series = names.iter().zip(ends);
        Case {
            about,
            series: series.map(|(name, end)| (name.as_str(), format!("{end}x40"))).collect(),
            at: "30m",
            fires: said,
        }
    };
    let (month, year) = (30 * DAY, 300 * DAY);
    check(
        "PureChaosCertificateExpiring",
        "1m",
        &[
            case("of one replica", [4 * DAY + 60, month, year], Some(Fires { labels, said: &soon })),
            case("it has ended", [1_000, month, year], Some(Fires { labels, said: &ended })),
            case("there is none", [0, month, year], Some(Fires { labels, said: &ended })),
            case("four days and no second less", [4 * DAY + 1_800, month, year], None),
            case("renewal is about to begin", [10 * DAY, month, year], None),
            Case { at: "9m", ..case("a first certificate that takes long", [0, month, year], None) },
        ],
    );
}

const ERRORS: &str = r#"pure_chaos_admissions_total{rule="opt-in",decision="error",instance="a"}"#;
const ERRORS_OTHER: &str = r#"pure_chaos_admissions_total{rule="opt-in",decision="error",instance="b"}"#;
const ERRORS_KILL: &str = r#"pure_chaos_admissions_total{rule="kill",decision="error",instance="a"}"#;
const DENIALS: &str = r#"pure_chaos_admissions_total{rule="opt-in",decision="deny",instance="a"}"#;

#[test]
fn reviews_that_fail() {
    let branches = r#"{{ if eq $labels.rule "opt-in" }}Who opted in, or changed a setting, was sent away.{{ else }}Kills that were due were refused.{{ end }}"#;
    let value = (r#"{{ $value | printf "%.0f" }}"#, "3");
    let (opt_in, kill) = (&[("rule", "opt-in")], &[("rule", "kill")]);
    let said_of_opt_in = [value, (branches, "Who opted in, or changed a setting, was sent away.")];
    let said_of_kill = [value, (branches, "Kills that were due were refused.")];
    check(
        "PureChaosReviewErrors",
        "1m",
        &[
            fires("three", &[(ERRORS, "0x90 1 2 3x40")], "94m", opt_in, &said_of_opt_in),
            fires("of kills", &[(ERRORS_KILL, "0x90 1 2 3x40")], "94m", kill, &said_of_kill),
            fires(
                "by two replicas",
                &[(ERRORS, "0x90 2x40"), (ERRORS_OTHER, "0x90 1x40")],
                "94m",
                opt_in,
                &said_of_opt_in,
            ),
            fires("before the first scrape", &[(ERRORS, "_x90 3x40")], "91m", opt_in, &said_of_opt_in),
            silent("two", &[(ERRORS, "0x90 1 2x40")], "94m"),
            silent("long ago", &[(ERRORS, "0x90 1 2 3x60")], "110m"),
            silent("one of each rule", &[(ERRORS, "0x90 2x40"), (ERRORS_KILL, "0x90 1x40")], "94m"),
            silent("denials", &[(DENIALS, "0+9x120"), (ERRORS, "0x120")], "94m"),
            silent("a replica restarts", &[(ERRORS, "9x90 0x40")], "94m"),
        ],
    );
}

#[test]
fn no_webhook() {
    let one = r#"pure_chaos_admissions_total{rule="opt-in",decision="allow",instance="a"}"#;
    let other = r#"pure_chaos_admissions_total{rule="opt-in",decision="allow",instance="b"}"#;
    check(
        "PureChaosWebhookAbsent",
        "1m",
        &[
            fires("both are gone", &[(one, "0x10 stale"), (other, "0x8 stale")], "21m", &[], &[]),
            silent("one is left", &[(one, "0x10 stale"), (other, "0x40")], "21m"),
            silent("both are back soon", &[(one, "0x10 stale"), (other, "_x21 0x20")], "20m"),
        ],
    );
}

#[test]
fn a_webhook_configuration_that_somebody_changed() {
    let restored = r#"pure_chaos_certificate_bundles_restored_total{instance="a"}"#;
    let next = r#"pure_chaos_certificate_bundles_restored_total{instance="b"}"#;
    check(
        "PureChaosWebhookConfigurationChanged",
        "1m",
        &[
            fires("once", &[(restored, "0x150 1x90")], "200m", &[], &[]),
            fires(
                "before the first scrape",
                &[(restored, "0x150 stale"), (next, "_x152 1x90")],
                "153m",
                &[],
                &[],
            ),
            silent("an hour ago", &[(restored, "0x150 1x90")], "213m"),
            silent("certs restarts", &[(restored, "2x150 0x90")], "160m"),
            silent("another certs begins", &[(restored, "2x150 stale"), (next, "_x152 0x90")], "160m"),
        ],
    );
}
