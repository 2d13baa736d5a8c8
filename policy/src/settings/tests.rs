use super::*;
use crate::well_known::PREFIX;
use proptest::prelude::*;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
}

fn parse(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    Settings::parse(&annotations(pairs), &Settings::built_in())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// One value for each setting that differs from its default.
const EXAMPLES: [(Key, &str); 19] = [
    (Key::Schedule, "cron 0 9-17 * * Mon-Fri"),
    (Key::AlsoAt, "2026-12-01T18:00:00Z"),
    (Key::ActiveHours, "Mon-Fri 09:00-17:00 Europe/Berlin"),
    (Key::Except, "2026-12-20/2027-01-03"),
    (Key::Mode, "delete"),
    (Key::Faults, "pod-kill,node-outage"),
    (Key::Limit, "2"),
    (Key::PerWorkload, "25%"),
    (Key::Kinds, "Deployment,DaemonSet"),
    (Key::Targets, "app=web,!legacy"),
    (Key::SingleReplica, "allow"),
    (Key::BelowDesired, "allow"),
    (Key::GracePeriod, "10s"),
    (Key::MinAge, "2m"),
    (Key::RecoveryDeadline, "10m"),
    (Key::SteadyState, "checkout-slo,no-alert"),
    (Key::AbortOnBroken, "false"),
    (Key::Expires, "2026-12-24T18:00:00Z"),
    (Key::DryRun, "true"),
];

#[test]
fn what_is_not_set_is_the_default() {
    let settings = parse(&[("limit", "3"), ("dry-run", "true")]).unwrap();
    assert_eq!(settings, Settings { limit: Share::Number(3), dry_run: true, ..Settings::built_in() });
    assert_eq!(parse(&[]).unwrap(), Settings::built_in());
}

#[test]
fn each_setting_is_read_and_printed() {
    assert_eq!(EXAMPLES.map(|(key, _)| key), Key::ALL);
    for (key, value) in EXAMPLES {
        let settings = parse(&[(key.word(), value)]).unwrap();
        assert_ne!(settings, Settings::built_in(), "{value}");
        assert_eq!(settings.print(key).as_deref(), Some(value));
        for &other in Key::ALL.iter().filter(|other| **other != key) {
            assert_eq!(settings.print(other), Settings::built_in().print(other), "{value}");
        }
    }
}

#[test]
fn the_example_of_each_message_is_understood() {
    for &key in Key::ALL {
        let quoted: Vec<&str> = key.expected().split('`').skip(1).step_by(2).collect();
        let mut understood = quoted.iter().filter(|example| Settings::built_in().set(key, example).is_ok());
        assert!(understood.next().is_some(), "{}", key.expected());
    }
}

#[test]
fn all_problems_come_together_with_path_value_and_example() {
    let problems =
        parse(&[("limit", "none"), ("mode", "Evict"), ("min-age", "0s"), ("kinds", "Job")]).unwrap_err();
    assert_eq!(
        problems,
        [
            "metadata.annotations[purechaos.dev/kinds]: Invalid value: \"Job\": expected kinds of workloads joined with commas, such as \
             `Deployment,StatefulSet`; `Job` is not allowed, because its Pods run to completion",
            "metadata.annotations[purechaos.dev/limit]: Invalid value: \"none\": expected a whole number of Pods per \
             round, at least 1, such as `1`, or a percentage of the Pods that could be killed, such as `10%`",
            "metadata.annotations[purechaos.dev/min-age]: Invalid value: \"0s\": expected a duration, such as `1m`",
            "metadata.annotations[purechaos.dev/mode]: Invalid value: \"Evict\": expected `evict`, `delete` or `force`",
        ]
    );
}

#[test]
fn what_is_nearly_right_is_told_what_to_write() {
    for (key, value, advice) in [
        ("kinds", "Deploymnet", "`Deploymnet` is not known; did you mean `Deployment`?; expected kinds"),
        ("kinds", "Pods", "`Pods` is not a kind of workload; expected kinds"),
        (
            "schedule",
            "cron 0 0 31 4,6,9,11 *",
            "this schedule never fires: its months have no such day; expected",
        ),
        (
            "schedule",
            "cron CRON_TZ=UTC 0 9 * * *",
            "write the zone last, as in `cron 0 9 * * * Europe/Berlin`; expected",
        ),
        ("schedule", "TZ=UTC 0 9 * * *", "write the zone last, as in"),
        ("schedule", "0 9 * * *", "write `cron 0 9 * * *`; expected"),
        ("schedule", "@daily", "write `cron @daily`; expected"),
        ("schedule", "cron @every 10m", "write `every 10m`; expected"),
        ("schedule", "hourly", "expected `every 10m`"),
    ] {
        let problems = parse(&[(key, value)]).unwrap_err();
        assert!(problems[0].contains(&format!("{value:?}: {advice}")), "{problems:?}");
    }
}

#[test]
fn cron_goes_by_its_own_zone_or_by_that_of_the_hours() {
    let next = |schedule: &str| {
        let settings =
            parse(&[("schedule", schedule), ("active-hours", "Mon-Sun 00:00-24:00 Europe/Berlin")]).unwrap();
        assert_eq!(settings.print(Key::Schedule).as_deref(), Some(schedule));
        let timetable = settings.timetable(Duration::from_secs(60));
        timetable.next_after("u", "2026-11-23T00:00:00Z".parse().unwrap()).unwrap().to_string()
    };
    assert_eq!(next("cron 0 9 * * *"), "2026-11-23T08:00:00Z");
    assert_eq!(next("cron 0 9 * * * America/New_York"), "2026-11-23T14:00:00Z");
    assert_eq!(next("cron @daily Asia/Tokyo"), "2026-11-23T15:00:00Z");
}

#[test]
fn a_misspelt_dry_run_is_refused_with_the_right_name() {
    for misspelt in ["dryrun", "dry_run", "dry-runs", "dyr-run", "Dry-Run"] {
        let problems = parse(&[(misspelt, "true")]).unwrap_err();
        assert!(
            problems[0].ends_with("Unknown setting: did you mean `purechaos.dev/dry-run`?"),
            "{problems:?}"
        );
    }
    let problems = parse(&[("frequency", "1h")]).unwrap_err();
    assert!(
        problems[0].contains("this version knows `schedule`, `also-at`, `active-hours`, "),
        "{problems:?}"
    );
}

#[test]
fn a_key_of_another_case_is_refused_with_the_right_one() {
    for (key, nearest) in [
        ("PureChaos.dev/dry-run", "purechaos.dev/dry-run"),
        ("purechaos.dev/Dry-Run", "purechaos.dev/dry-run"),
        ("PURECHAOS.DEV/LIMIT", "purechaos.dev/limit"),
        ("purechaos.dev/Halt", "purechaos.dev/halt"),
        ("Chaos", "chaos"),
        ("pure-chaos.dev/dry-run", "purechaos.dev/dry-run"),
        ("purechaos.io/dryrun", "purechaos.dev/dry-run"),
        ("purechaos.dev/halted", "purechaos.dev/halt"),
        ("purechaos.dev.halt", "purechaos.dev/halt"),
    ] {
        let annotations = BTreeMap::from([(key.to_owned(), "true".to_owned())]);
        let problems = Settings::parse(&annotations, &Settings::built_in()).unwrap_err();
        let expected = format!("metadata.annotations[{key}]: Unknown setting: did you mean `{nearest}`?");
        assert_eq!(problems[0].to_string(), expected);
    }
}

#[test]
fn a_pods_key_is_no_setting() {
    assert!(parse(&[("exclude", "true")]).is_err());
}

#[test]
fn halt_is_no_setting() {
    assert_eq!(parse(&[("halt", "incident 4711")]).unwrap(), Settings::built_in());
}

#[test]
fn values_that_are_nearly_right() {
    for (key, wrong) in [
        ("limit", "0"),
        ("limit", "-1"),
        ("limit", "+1"),
        ("limit", "1.0"),
        ("limit", ""),
        ("limit", " 1"),
        ("limit", "99999999999"),
        ("single-replica", "true"),
        ("kinds", ""),
        ("kinds", "deployment"),
        ("kinds", "Deployment,"),
        ("kinds", "Deployment,Job"),
        ("expires", "2026-12-24"),
        ("expires", "2026-12-24T18:00:00"),
        ("expires", "tomorrow"),
        ("grace-period", "0"),
        ("dry-run", "True"),
        ("dry-run", "yes"),
    ] {
        assert!(parse(&[(key, wrong)]).is_err(), "{key} {wrong:?}");
    }
}

#[test]
fn no_grace_is_for_force_only() {
    assert!(parse(&[("grace-period", "0s"), ("mode", "force")]).is_ok());
    for contradiction in [
        &[("grace-period", "0s")][..],
        &[("grace-period", "0s"), ("mode", "delete")],
        &[("grace-period", "10s"), ("mode", "force")],
    ] {
        let problems = parse(contradiction).unwrap_err();
        assert!(
            problems[0].starts_with("metadata.annotations[purechaos.dev/grace-period]: Invalid value"),
            "{problems:?}"
        );
    }
}

#[test]
fn an_offset_is_printed_as_utc() {
    let settings = parse(&[("expires", "2026-12-24T18:00:00+01:00")]).unwrap();
    assert_eq!(settings.print(Key::Expires).as_deref(), Some("2026-12-24T17:00:00Z"));
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let duration = || (1..=durations::LONGEST.as_secs()).prop_map(Duration::from_secs);
    let schedule = prop_oneof![
        duration().prop_map(Schedule::Every),
        duration().prop_map(Schedule::Mtbf),
        (0..60_u8, 0..24_u8)
            .prop_map(|(minute, hour)| Schedule::parse(&format!("cron {minute} {hour} * * *")).unwrap()),
    ];
    let example =
        |key: Key| prop::option::of(Just(EXAMPLES.into_iter().find(|(known, _)| *known == key).unwrap().1));
    let texts = (example(Key::ActiveHours), example(Key::Except), example(Key::Targets), example(Key::Kinds));
    let numbers = (1..=u32::MAX, prop::option::of(duration()), duration(), duration());
    let instant = || prop::option::of(0..4_000_000_000_i64);
    let flags = (any::<bool>(), any::<bool>(), 0..2_usize, instant(), instant());
    (schedule, texts, numbers, flags).prop_map(|(schedule, texts, numbers, flags)| {
        let (limit, grace_period, min_age, recovery_deadline) = numbers;
        let (single_replica, dry_run, mode, also_at, expires) = flags;
        let mut settings = Settings {
            schedule,
            mode: Mode::ALL[mode],
            limit: Share::Number(limit),
            single_replica,
            grace_period,
            min_age,
            recovery_deadline,
            also_at: also_at.map(|second| Timestamp::from_second(second).unwrap()),
            expires: expires.map(|second| Timestamp::from_second(second).unwrap()),
            dry_run,
            ..Settings::built_in()
        };
        let (hours, except, targets, kinds) = texts;
        let keys = [Key::ActiveHours, Key::Except, Key::Targets, Key::Kinds];
        for (key, text) in keys.into_iter().zip([hours, except, targets, kinds]) {
            text.iter().for_each(|text| settings.set(key, text).unwrap());
        }
        settings
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(settings in any_settings()) {
        let printed: BTreeMap<_, _> =
            Key::ALL.iter().filter_map(|key| Some((key.annotation(), settings.print(*key)?))).collect();
        prop_assert_eq!(Settings::parse(&printed, &Settings::built_in()), Ok(settings));
    }

    #[test]
    fn nothing_panics_and_nothing_unknown_passes(key in "[a-z-]{1,12}", value in "\\PC{0,20}") {
        let known = Key::of(&key).is_some();
        let outcome = parse(&[(&key, &value)]);
        prop_assert!(known || key == "halt" || outcome.is_err());
    }

    #[test]
    fn what_is_understood_is_printed_so_that_it_is_understood_again(key in prop::sample::select(Key::ALL.to_vec()), value in "\\PC{0,20}") {
        let mut settings = Settings::built_in();
        if settings.set(key, &value).is_ok() {
            let printed = settings.print(key).unwrap();
            let mut again = Settings::built_in();
            prop_assert_eq!(again.set(key, &printed), Ok(()));
            prop_assert_eq!(again, settings);
        }
    }
}
