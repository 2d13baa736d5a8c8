//! The settings of a namespace in one line.

use policy::record::{RecordedSettings, share};

/// The settings by the names of their annotations.
pub fn settings_line(settings: &RecordedSettings) -> String {
    let RecordedSettings {
        schedule,
        mode,
        faults,
        limit,
        min_age,
        dry_run,
        active_hours,
        except,
        kinds,
        targets,
        single_replica,
        per_workload,
        below_desired,
        grace_period,
        recovery_deadline,
        also_at,
        steady_state,
        abort_on_broken,
        expires,
    } = settings;
    let always = [
        ("schedule", Some(schedule.clone())),
        ("also-at", also_at.clone()),
        ("active-hours", active_hours.clone()),
        ("except", except.clone()),
        ("mode", Some(mode.clone())),
        ("faults", faults.clone()),
        ("limit", Some(share(limit))),
        ("per-workload", per_workload.as_ref().map(share)),
        ("kinds", kinds.clone()),
        ("targets", targets.clone()),
        ("single-replica", single_replica.clone()),
        ("below-desired", below_desired.clone()),
        ("grace-period", grace_period.clone()),
        ("min-age", Some(min_age.clone())),
        ("recovery-deadline", recovery_deadline.clone()),
        ("steady-state", steady_state.clone()),
        ("abort-on-broken", abort_on_broken.map(|abort| abort.to_string())),
        ("expires", expires.clone()),
        ("dry-run", Some(dry_run.to_string())),
    ];
    let pairs = always.into_iter().filter_map(|(key, value)| Some(format!("{key} {}", value?)));
    pairs.collect::<Vec<_>>().join(", ")
}
