use super::*;
use crate::settings::Mode;
use crate::share::Share;
use std::time::Duration;

const WHOLE: &str = "
defaults:
  schedule: every 5m
  mode: delete
  limit: 2
  min-age: 30s
  dry-run: true
  kinds: Deployment
ceilings:
  schedule: every 10s
  mode: evict, delete
  limit: 3
  grace-period: 1m
  expires: required
protected: [prod-*, '!default']
killsPerMinute: 3
except: 2026-12-24/2026-12-26
adoptExisting: true
requirePodDelete: false
";

fn refused(yaml: &str) -> String {
    PlatformPolicy::parse(yaml).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_built_in_policy() {
    assert_eq!(PlatformPolicy::parse("").unwrap(), PlatformPolicy::built_in());
    assert_eq!(PlatformPolicy::parse("# nothing yet\n").unwrap().ceilings, Ceilings::built_in());
    let empty_parts = PlatformPolicy::parse("defaults:\nceilings:\nprotected:\n").unwrap();
    assert_eq!(empty_parts.defaults, Settings::built_in());
}

#[test]
fn a_whole_file() {
    let policy = PlatformPolicy::parse(WHOLE).unwrap();
    let Settings { schedule, mode, limit, min_age, dry_run, kinds, .. } = &policy.defaults;
    assert_eq!((schedule.to_string().as_str(), *mode, *limit), ("every 5m", Mode::Delete, Share::Number(2)));
    assert_eq!(
        (*min_age, *dry_run, kinds.to_string().as_str()),
        (Duration::from_secs(30), true, "Deployment")
    );
    assert_eq!(policy.ceilings.modes, [Mode::Evict, Mode::Delete]);
    assert_eq!(
        (policy.ceilings.largest_limit, policy.ceilings.shortest_interval.as_secs()),
        (Share::Number(3), 10)
    );
    assert_eq!((policy.ceilings.longest_grace.as_secs(), policy.ceilings.expires_required), (60, true));
    assert!(policy.protected.covers("prod-eu") && !policy.protected.covers("default"));
    assert_eq!((policy.kills_per_minute, policy.adopt_existing, policy.require_pod_delete), (3, true, false));
    assert_eq!(policy.except.unwrap().to_string(), "2026-12-24/2026-12-26");
    assert_eq!(policy.hash.len(), 12);
}

#[test]
fn a_bad_file_is_refused_with_line_and_reason() {
    for (yaml, line, reason) in [
        ("defaults:\n  limit: 1\n  speed: 3\n", 3, "defaults.speed: unknown key; expected one of `schedule`"),
        ("defaults:\n  limit: many\n", 2, "defaults.limit: Invalid value: \"many\": expected a whole number"),
        (
            "defaults:\n\n  dry-run: 3\n",
            3,
            "defaults.dry-run: Invalid value: \"3\": expected `true` or `false`",
        ),
        ("defaults:\n  limit: 1.5\n", 2, "a setting's value"),
        ("defaults:\n  limit: [1]\n", 2, "a setting's value"),
        (
            "ceilings:\n  mode: shout\n",
            2,
            "ceilings.mode: Invalid value: \"shout\": expected the allowed modes",
        ),
        ("ceilings:\n  schedule: 1m\n", 2, "ceilings.schedule"),
        (
            "ceilings:\n  dry-run: true\n",
            2,
            "ceilings.dry-run: unknown key; expected one of \
             `schedule`, `mode`, `faults`, `limit`, `per-workload`, `below-desired`, `grace-period`, `expires`",
        ),
        ("killsPerHour: 3\n", 1, "killsPerHour"),
        ("killsPerMinute: 0\n", 1, "killsPerMinute: expected at least 1"),
        ("killsPerMinute: -1\n", 1, "killsPerMinute"),
        ("except: soon\n", 1, "except: Invalid value: \"soon\": expected days"),
        ("adoptExisting: maybe\n", 1, "adoptExisting"),
        ("protected:\n  - a\n  - '!kube-system'\n", 3, "!kube-system"),
        (
            "defaults:\n  limit: 9\n",
            2,
            "defaults.limit: Invalid value: \"9\": the platform's ceilings.limit is `5`",
        ),
        ("adoptExisting: true\nadoptExisting: false\n", 2, "adoptExisting"),
    ] {
        let message = refused(yaml);
        assert!(message.starts_with("failed to understand the policy file: "), "{message}");
        assert!(message.contains(reason), "{yaml:?}: {message}");
        assert!(message.contains(&format!("line {line}")), "{yaml:?}: {message}");
    }
    assert!(refused("[").starts_with("failed to understand the policy file: "));
    assert!(
        refused("defaults:\n  mode: force\n  grace-period: 5s\nceilings:\n  mode: force\n")
            .contains("defaults.grace-period: ")
    );
}

#[test]
fn ceilings_hold_and_are_named() {
    let policy = PlatformPolicy::built_in();
    let annotations: BTreeMap<String, String> =
        [(Key::Schedule, "every 30s"), (Key::Mode, "force"), (Key::Limit, "6"), (Key::GracePeriod, "0s")]
            .into_iter()
            .map(|(key, value)| (key.annotation(), value.to_owned()))
            .collect();
    let problems: Vec<String> =
        policy.settings(&annotations).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "metadata.annotations[purechaos.dev/schedule]: Invalid value: \"every 30s\": the platform's ceilings.schedule is `every 1m`",
            "metadata.annotations[purechaos.dev/mode]: Invalid value: \"force\": the platform's ceilings.mode is `evict`",
            "metadata.annotations[purechaos.dev/limit]: Invalid value: \"6\": the platform's ceilings.limit is `5`",
        ]
    );
}
