//! Each alert under Prometheus's own `promtool`, which `make test` installs before the tests that
//! need a cluster. Each alert fires when it should, and is silent in the nearest cases in which it
//! should be. Series use promtool's notation: `0x2 5` is 0, 0, 0, 5; `_x2` are two missing values.

use std::process::Command;

use serde_json::json;
use tests::alert_rules::groups;
use tests::cluster::run;
use tests::promtool::{check, fires, silent};

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
const NO_RIGHTS: &str =
    r#"pure_chaos_refusals_total{target_namespace="shop",reason="no_rights",instance="a"}"#;
const FAILED_NEXT: &str = r#"pure_chaos_rounds_total{target_namespace="shop",outcome="failed",instance="b"}"#;

#[test]
fn rounds_that_all_fail() {
    let shop = &[("target_namespace", "shop")];
    let no_rights = NO_RIGHTS;
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
            case(
                "a round in between is refused, as by a halt",
                &[(FAILED, twice), (REFUSED, "0x23 1x25"), (halted, "0x23 1x25"), with_rights],
            ),
            case("a round in between is a dry run", &[(FAILED, twice), (DRY_RUN, "0x23 1x25"), with_rights]),
            case("the agent restarts", &[(FAILED, "7x25 0x20"), good, with_rights]),
        ],
    );
    // A round every six hours: one round in two hours proves nothing, but all rounds of a day do.
    let rare = "0x72 1x72 2x72 3x144";
    let at = |about, series: &[(&'static str, &str)], time| silent(about, series, time);
    check(
        "PureChaosRoundsFail",
        "5m",
        &[
            fires(
                "every six hours, two fail",
                &[(FAILED, rare), (KILLED, "5x360"), with_rights_long()],
                "14h",
                shop,
                &[],
            ),
            at("every six hours, one fails", &[(FAILED, rare), (KILLED, "5x360"), with_rights_long()], "8h"),
            at(
                "every six hours, one between them kills",
                &[(FAILED, rare), (KILLED, "5x100 6x260"), with_rights_long()],
                "14h",
            ),
            at("more than a day ago", &[(FAILED, rare), (KILLED, "5x720"), (NO_RIGHTS, "0x720")], "49h"),
        ],
    );
}

fn with_rights_long() -> (&'static str, &'static str) {
    (NO_RIGHTS, "0x360")
}

#[test]
fn slots_that_pass_unserved() {
    let next = |instance: &str| {
        format!(r#"pure_chaos_next_slot_timestamp_seconds{{target_namespace="shop",instance="{instance}"}}"#)
    };
    let (agent, other) = (next("a"), next("b"));
    let (agent, other) = (agent.as_str(), other.as_str());
    let shop: &[(&str, &str)] = &[("target_namespace", "shop")];
    let said: &[(&str, &str)] = &[("{{ $value | humanizeDuration }}", "11m 0s")];
    check(
        "PureChaosSlotsPass",
        "1m",
        &[
            fires("the agent stands still", &[(agent, "600x40")], "21m", shop, said),
            silent("for ten minutes", &[(agent, "600x40")], "20m"),
            silent("each is served or skipped", &[(agent, "600x9 1200x9 1800x9 2400x20")], "29m"),
            silent("none is due", &[(agent, "0x40")], "30m"),
            silent("it is far ahead", &[(agent, "90000x40")], "30m"),
            silent("another agent goes on", &[(agent, "600x40"), (other, "2400x40")], "30m"),
            silent("no agent is left, which is another alert", &[(agent, "600x9 stale")], "30m"),
        ],
    );
}

#[test]
fn kills_that_stopped() {
    let shop: &[(&str, &str)] = &[("target_namespace", "shop")];
    let value: &[(&str, &str)] = &[(r#"{{ $value | printf "%.0f" }}"#, "24")];
    // Nine days with a kill in each hour, and the time after them.
    let killed = (KILLED, "0+1x216 216x50");
    let none = (NO_CANDIDATE, "0x216 1+1x50");
    let refused = (REFUSED, "0x216 1+1x50");
    let reason =
        |word: &str| format!(r#"pure_chaos_refusals_total{{target_namespace="shop",reason="{word}"}}"#);
    let [not_admitted, spent, halted, unasked, not_steady] =
        ["not_admitted", "budget_spent", "halted", "steady_state_unknown", "not_steady"].map(reason);
    let (not_admitted, spent, halted) = (not_admitted.as_str(), spent.as_str(), halted.as_str());
    let (unasked, not_steady) = (unasked.as_str(), not_steady.as_str());
    // The series exists from the start, like that of every reason.
    let quiet = (not_admitted, "0x266");
    let since = "0x216 1+1x50";
    let case = |about, series: &[(&'static str, &str)]| {
        silent(about, &[series, &[(NO_RIGHTS, "0x266")]].concat(), "10d3h")
    };
    let alert = |about, series: &[(&'static str, &str)], said| {
        fires(about, &[series, &[(NO_RIGHTS, "0x266")]].concat(), "10d3h", shop, said)
    };
    check(
        "PureChaosKillsStopped",
        "1h",
        &[
            alert("no candidate for a day", &[killed, none], value),
            alert("all fail", &[killed, (FAILED, since)], value),
            fires("not admitted any more", &[killed, refused, (not_admitted, since)], "10d3h", shop, value),
            fires("the cluster's kills are spent", &[killed, refused, (spent, since)], "10d3h", shop, value),
            fires("a check has no answer", &[killed, refused, (unasked, since)], "10d3h", shop, value),
            silent("a check does not hold", &[killed, refused, (not_steady, since), quiet], "10d3h"),
            silent("for twenty hours", &[killed, none, quiet], "9d20h"),
            silent("outside active hours, or halted", &[killed, refused, (halted, since), quiet], "10d3h"),
            case("a dry run", &[killed, (DRY_RUN, since)]),
            case("opted out", &[(KILLED, "0+1x216 stale"), (NO_CANDIDATE, "0x216 stale")]),
            case("it never killed", &[(KILLED, "0x266"), (NO_CANDIDATE, "0+1x266")]),
            case(
                "mtbf, eight kills a day, of which six are missing",
                &[(KILLED, &one_in(3)), (NO_CANDIDATE, "0+1x266")],
            ),
            alert(
                "mtbf, twelve kills a day",
                &[(KILLED, &one_in(2)), (NO_CANDIDATE, "0+1x266")],
                &[(value[0].0, "8")],
            ),
            case("the agent restarts", &[(KILLED, "0+1x216 0+1x50"), (NO_CANDIDATE, "0x266")]),
        ],
    );
}

/// Nine days with one kill in this many hours, then none.
fn one_in(hours: usize) -> String {
    let days: Vec<String> = (0..216 / hours).map(|kills| format!("{kills}x{}", hours - 1)).collect();
    format!("{} {}x50", days.join(" "), 216 / hours)
}
