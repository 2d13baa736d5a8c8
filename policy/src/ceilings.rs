//! The ceilings: limits that no namespace may exceed.

use std::time::Duration;

use crate::durations;
use crate::faults::Faults;
use crate::schedule::Schedule;
use crate::settings::{Key, Mode, NotUnderstood, Problem, Settings, permission};
use crate::share::Share;

/// Limits that no namespace may exceed, neither at its admission nor at a kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// The shortest interval between rounds. For `mtbf`, the shortest mean time between the kills
    /// of one workload.
    pub shortest_interval: Duration,
    /// The modes that a namespace may use.
    pub modes: Vec<Mode>,
    /// The faults that a namespace may use.
    pub faults: Faults,
    /// The largest `limit` that a namespace may set.
    pub largest_limit: Share,
    /// The largest `per-workload` that a namespace may set.
    pub largest_per_workload: Share,
    /// Whether a namespace may allow kills in workloads that lack a Pod already.
    pub below_desired: bool,
    /// The longest grace period that a namespace may set.
    pub longest_grace: Duration,
    /// Whether each opt-in must set `expires`.
    pub expires_required: bool,
}

impl Ceilings {
    /// The settings that have a ceiling.
    pub const KEYS: [Key; 8] = [
        Key::Schedule,
        Key::Mode,
        Key::Faults,
        Key::Limit,
        Key::PerWorkload,
        Key::BelowDesired,
        Key::GracePeriod,
        Key::Expires,
    ];

    /// The built-in ceilings, which hold where the platform's policy sets none.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            shortest_interval: Duration::from_secs(60),
            modes: vec![Mode::Evict],
            faults: Faults::default(),
            largest_limit: Share::Number(5),
            largest_per_workload: Share::Number(1),
            below_desired: false,
            longest_grace: Duration::from_secs(300),
            expires_required: false,
        }
    }

    /// The form that the value of a ceiling must have, with an example.
    #[must_use]
    pub fn expected(key: Key) -> &'static str {
        match key {
            Key::Schedule => "the shortest interval, such as `every 1m`",
            Key::Mode => "the allowed modes joined with commas, such as `evict,delete`",
            Key::Expires => "`required` or `optional`",
            other => other.expected(),
        }
    }

    /// Sets one ceiling from its text.
    ///
    /// # Errors
    /// Returns [`NotUnderstood`] if the text does not have the form of the ceiling, or if the
    /// setting has no ceiling.
    pub fn set(&mut self, key: Key, text: &str) -> Result<(), NotUnderstood> {
        let mut settings = Settings::built_in();
        match key {
            Key::Schedule => match Schedule::parse(text) {
                Some(Schedule::Every(interval)) => self.shortest_interval = interval,
                Some(Schedule::Cron(_) | Schedule::Mtbf(_)) | None => return Err(NotUnderstood),
            },
            Key::Mode => {
                let modes: Option<Vec<Mode>> = text.split(',').map(|word| Mode::parse(word.trim())).collect();
                self.modes = modes.ok_or(NotUnderstood)?;
            }
            Key::Faults => self.faults = Faults::parse(text).ok_or(NotUnderstood)?,
            Key::Limit => {
                settings.set(key, text)?;
                self.largest_limit = settings.limit;
            }
            Key::PerWorkload => {
                settings.set(key, text)?;
                self.largest_per_workload = settings.per_workload;
            }
            Key::BelowDesired => {
                settings.set(key, text)?;
                self.below_desired = settings.below_desired;
            }
            Key::GracePeriod => self.longest_grace = durations::parse(text).ok_or(NotUnderstood)?,
            Key::Expires => {
                self.expires_required = match text {
                    "required" => true,
                    "optional" => false,
                    _ => return Err(NotUnderstood),
                }
            }
            _ => return Err(NotUnderstood),
        }
        Ok(())
    }

    /// Prints one ceiling in the form that [`Ceilings::set`] reads. `None` if the setting has no
    /// ceiling.
    #[must_use]
    pub fn print(&self, key: Key) -> Option<String> {
        match key {
            Key::Schedule => Some(Schedule::Every(self.shortest_interval).to_string()),
            Key::Mode => Some(self.modes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
            Key::Faults => Some(self.faults.to_string()),
            Key::Limit => Some(self.largest_limit.to_string()),
            Key::PerWorkload => Some(self.largest_per_workload.to_string()),
            Key::BelowDesired => Some(permission(self.below_desired).to_owned()),
            Key::GracePeriod => Some(durations::print(self.longest_grace)),
            Key::Expires => Some(if self.expires_required { "required" } else { "optional" }.to_owned()),
            _ => None,
        }
    }

    /// The settings that exceed their ceilings.
    #[must_use]
    pub fn exceeded_by(&self, settings: &Settings) -> Vec<Key> {
        let is_past = |key: &Key| match key {
            Key::Schedule => settings.schedule.is_denser_than(self.shortest_interval),
            Key::Mode => !self.modes.contains(&settings.mode),
            Key::Faults => settings.faults.exceed(&self.faults),
            Key::Limit => settings.limit.exceeds(self.largest_limit),
            Key::PerWorkload => settings.per_workload.exceeds(self.largest_per_workload),
            Key::BelowDesired => settings.below_desired && !self.below_desired,
            Key::GracePeriod => settings.grace_period.is_some_and(|grace| grace > self.longest_grace),
            Key::Expires => self.expires_required && settings.expires.is_none(),
            _ => false,
        };
        Self::KEYS.into_iter().filter(is_past).collect()
    }

    /// The most Pods that a round may kill, if `candidates` Pods could be killed. If the setting is
    /// a number and the ceiling a percentage, or the other way round, the smaller result counts.
    #[must_use]
    pub fn most_of_round(&self, settings: &Settings, candidates: usize) -> usize {
        settings.limit.of(candidates).min(self.largest_limit.of(candidates))
    }

    /// The most Pods of one workload that a round may kill, if the workload wants `desired` Pods and
    /// `ready` of them are Ready. At least one Ready Pod stays, unless `single-replica` is `allow`.
    #[must_use]
    pub fn most_of_workload(&self, settings: &Settings, desired: usize, ready: usize) -> usize {
        let most = settings.per_workload.of(desired).min(self.largest_per_workload.of(desired));
        let spared = usize::from(!settings.single_replica);
        most.min(ready.saturating_sub(spared))
    }

    /// The problem to report for a setting at `path` that exceeds its ceiling.
    #[must_use]
    pub fn problem(&self, key: Key, path: String, settings: &Settings) -> Problem {
        let ceiling = self.print(key).unwrap_or_default();
        let why = format!("the platform's ceilings.{} is `{ceiling}`", key.word());
        match settings.print(key) {
            Some(value) => Problem::invalid(path, &value, why),
            None => Problem::required(path, format!("{why}; write {}", key.expected())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_ceiling_is_read_and_printed() {
        for (key, value) in Ceilings::KEYS.into_iter().zip([
            "every 5m",
            "evict,delete",
            "pod-kill,zone-outage",
            "7",
            "25%",
            "allow",
            "30s",
            "required",
        ]) {
            let mut ceilings = Ceilings::built_in();
            ceilings.set(key, value).unwrap();
            assert_ne!(ceilings, Ceilings::built_in(), "{value}");
            assert_eq!(ceilings.print(key).as_deref(), Some(value));
        }
        for (key, wrong) in [
            (Key::Schedule, "1m"),
            (Key::Schedule, "mtbf 8h"),
            (Key::Schedule, "cron * * * * *"),
            (Key::Mode, "shout"),
            (Key::Mode, ""),
            (Key::Limit, "0"),
            (Key::PerWorkload, "101%"),
            (Key::BelowDesired, "true"),
            (Key::GracePeriod, "0s"),
            (Key::Expires, "true"),
            (Key::DryRun, "true"),
        ] {
            assert_eq!(Ceilings::built_in().set(key, wrong), Err(NotUnderstood), "{wrong}");
        }
    }

    #[test]
    fn what_is_at_the_ceiling_is_allowed_and_what_is_past_it_is_not() {
        let mut ceilings = Ceilings::built_in();
        ceilings.expires_required = true;
        for (key, allowed, past) in [
            (Key::Schedule, "every 1m", "every 59s"),
            (Key::Schedule, "mtbf 1m", "mtbf 59s"),
            (Key::Schedule, "cron * * * * *", "every 1s"),
            (Key::Mode, "evict", "delete"),
            (Key::Faults, "pod-kill", "pod-kill,node-outage"),
            (Key::Limit, "5", "6"),
            (Key::PerWorkload, "1", "2"),
            (Key::BelowDesired, "refuse", "allow"),
            (Key::GracePeriod, "5m", "5m1s"),
        ] {
            let with = |text: &str| {
                let mut settings = Settings::built_in();
                settings.set(Key::Expires, "2027-01-01T00:00:00Z").unwrap();
                settings.set(key, text).unwrap();
                ceilings.exceeded_by(&settings)
            };
            assert_eq!((with(allowed), with(past)), (vec![], vec![key]), "{allowed} {past}");
        }
        assert_eq!(ceilings.exceeded_by(&Settings::built_in()), [Key::Expires]);
        assert_eq!(
            ceilings.problem(Key::Expires, "here".to_owned(), &Settings::built_in()).to_string(),
            "here: Required value: the platform's ceilings.expires is `required`; write an instant, such as `2026-12-24T18:00:00Z`"
        );
    }

    #[test]
    fn a_cron_expression_has_to_keep_the_interval() {
        let mut ceilings = Ceilings::built_in();
        ceilings.set(Key::Schedule, "every 1h").unwrap();
        let mut settings = Settings::built_in();
        settings.set(Key::Schedule, "cron 0 * * * *").unwrap();
        assert_eq!(ceilings.exceeded_by(&settings), []);
        settings.set(Key::Schedule, "cron 0,30 9 * * *").unwrap();
        assert_eq!(ceilings.exceeded_by(&settings), [Key::Schedule]);
    }

    proptest! {
        #[test]
        fn nothing_panics(key in prop::sample::select(Key::ALL.to_vec()), text in "\\PC{0,20}") {
            let mut ceilings = Ceilings::built_in();
            if ceilings.set(key, &text).is_ok() {
                let mut again = Ceilings::built_in();
                prop_assert_eq!(again.set(key, &ceilings.print(key).unwrap()), Ok(()));
                prop_assert_eq!(again, ceilings);
            }
        }
    }
}
