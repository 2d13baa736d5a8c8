//! The alerts about the webhook and certs.

use tests::alert_rules::rules;
use tests::promtool::{Case, Fires, check, fires, silent};

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
fn reviews_that_never_reach_the_webhook() {
    let rejected = |name: &str, kind: &str| {
        format!(
            r#"apiserver_admission_webhook_rejection_count{{error_type="{kind}",name="{name}",job="apiserver",instance="a"}}"#
        )
    };
    let opt_in = rejected("opt-in.purechaos.dev", "calling_webhook_error");
    let kill = rejected("kill.purechaos.dev", "calling_webhook_error");
    let denied = rejected("opt-in.purechaos.dev", "no_error");
    let foreign = rejected("other.example.com", "calling_webhook_error");
    let up = (r#"up{job="apiserver",instance="a"}"#, "1x120");
    let of = |name| [("name", name)];
    let (of_opt_in, of_kill) = (of("opt-in.purechaos.dev"), of("kill.purechaos.dev"));
    let branches = r#"{{ if eq $labels.name "opt-in.purechaos.dev" }}Who opted in, or changed a setting, was sent away.{{ else }}Kills that were due were refused.{{ end }}"#;
    let value = r#"{{ $value | printf "%.0f" }}"#;
    let said_of_opt_in = [(value, "1"), (branches, "Who opted in, or changed a setting, was sent away.")];
    let said_of_kill = [(value, "2"), (branches, "Kills that were due were refused.")];
    check(
        "PureChaosWebhookUnreachable",
        "1m",
        &[
            fires("the first of all", &[(&opt_in, "_x60 1x60"), up], "62m", &of_opt_in, &said_of_opt_in),
            fires("two kills more", &[(&kill, "3x60 4 5x60"), up], "64m", &of_kill, &said_of_kill),
            silent("a quarter of an hour ago", &[(&opt_in, "_x60 1x60"), up], "80m"),
            silent("Prometheus has just begun", &[(&opt_in, "_x60 9x60"), (up.0, "_x60 1x60")], "62m"),
            silent("the webhook denies", &[(&denied, "0x60 9x60"), up], "62m"),
            silent("somebody else's webhook", &[(&foreign, "0x60 9x60"), up], "62m"),
            silent("the API server isn't scraped", &[(up.0, "1x120")], "62m"),
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
    let changes = r#"pure_chaos_webhook_configuration_changes_total{instance="a"}"#;
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
            fires("in something else", &[(restored, "0x240"), (changes, "0x150 1x90")], "200m", &[], &[]),
            fires("in both", &[(restored, "0x150 1x90"), (changes, "0x150 1x90")], "200m", &[], &[]),
            fires(
                "in something else before the first scrape",
                &[(restored, "_x152 0x90"), (changes, "_x152 1x90")],
                "153m",
                &[],
                &[],
            ),
            silent("not at all", &[(restored, "0x240"), (changes, "0x240")], "200m"),
            silent("an hour ago", &[(restored, "0x150 1x90"), (changes, "0x150 1x90")], "213m"),
            silent("certs restarts", &[(restored, "2x150 0x90")], "160m"),
            silent("another certs begins", &[(restored, "2x150 stale"), (next, "_x152 0x90")], "160m"),
        ],
    );
}

#[test]
fn callers_who_do_not_know_the_path() {
    let one = r#"pure_chaos_unauthenticated_requests_total{instance="a"}"#;
    let other = r#"pure_chaos_unauthenticated_requests_total{instance="b"}"#;
    let value = r#"{{ $value | printf "%.0f" }}"#;
    check(
        "PureChaosUnauthenticatedRequests",
        "1m",
        &[
            fires("all at once", &[(one, "0x90 45x40")], "94m", &[], &[(value, "45")]),
            fires("three a minute", &[(one, "0+3x120")], "60m", &[], &[(value, "45")]),
            fires("of both replicas", &[(one, "0+2x120"), (other, "0+2x120")], "60m", &[], &[(value, "60")]),
            fires(
                "before the first scrape",
                &[(one, "0x90 stale"), (other, "_x92 45x40")],
                "93m",
                &[],
                &[(value, "45")],
            ),
            silent(
                "a key made anew: the 20 kills of two minutes, and opt-ins",
                &[(one, "0x90 14x60"), (other, "0x90 15x60")],
                "94m",
            ),
            silent("two a minute", &[(one, "0+1x120"), (other, "0+1x120")], "60m"),
            silent("one at each change of the path", &[(one, "0x9 1x9 2x9 3x9 4x9 5x9 6x60")], "60m"),
            silent("long ago", &[(one, "0x90 45x60")], "110m"),
            silent("a replica restarts", &[(one, "90x90 0x40")], "94m"),
        ],
    );
}
