//! Settings that the Pod template of a workload narrows for its own Pods. A workload can be gentler
//! to itself than its namespace is, and never rougher.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::durations;
use crate::schedule::Schedule;
use crate::settings::{Key, Mode, Settings};
use crate::share::Share;
use crate::well_known;

/// The settings that a Pod template can narrow.
pub const KEYS: [Key; 4] = [Key::Schedule, Key::Mode, Key::PerWorkload, Key::RecoveryDeadline];

/// The setting that an annotation of a Pod narrows. `None` if it narrows none.
#[must_use]
pub fn key(annotation: &str) -> Option<Key> {
    let word = well_known::word(annotation)?;
    KEYS.into_iter().find(|key| key.word() == word && key.annotation() == annotation)
}

/// What the Pod template of a workload asks for. `None` leaves a setting as the namespace has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// When the workload takes part in a round.
    pub schedule: Option<Schedule>,
    /// A gentler mode.
    pub mode: Option<Mode>,
    /// A smaller number of Pods at once.
    pub per_workload: Option<Share>,
    /// A shorter deadline.
    pub recovery_deadline: Option<Duration>,
}

impl Narrowing {
    /// Reads the annotations of a Pod in a namespace with these settings. `None` if they narrow
    /// nothing.
    ///
    /// # Errors
    /// A sentence if an annotation is not understood, or if it asks for more than the namespace
    /// does. The Pod then has to be left alone.
    pub fn of(annotations: &BTreeMap<String, String>, settings: &Settings) -> Result<Option<Self>, String> {
        let mut narrowing = Self::default();
        for (annotation, value) in annotations {
            if let Some(key) = key(annotation) {
                narrowing.read(key, value, settings)?;
            }
        }
        Ok(Some(narrowing).filter(|narrowing| *narrowing != Self::default()))
    }

    fn read(&mut self, key: Key, value: &str, settings: &Settings) -> Result<(), String> {
        let annotation = key.annotation();
        let not_understood =
            || format!("the Pod has {annotation}={value}, which is not understood: {}", key.advice(value));
        let mut own = settings.clone();
        own.set(key, value).map_err(|_| not_understood())?;
        let of_namespace = settings.print(key).unwrap_or_default();
        let wider = |why: &str| {
            Err(format!(
                "the Pod has {annotation}={value}, {why} the namespace's, which is `{of_namespace}`: a Pod \
                 template can only narrow a setting"
            ))
        };
        match key {
            Key::Schedule => match (&settings.schedule, &own.schedule) {
                (Schedule::Every(most), Schedule::Every(own))
                | (Schedule::Mtbf(most), Schedule::Mtbf(own))
                    if own < most =>
                {
                    return wider("which is denser than");
                }
                (Schedule::Every(_), Schedule::Every(_)) | (Schedule::Mtbf(_), Schedule::Mtbf(_)) => {
                    self.schedule = Some(own.schedule);
                }
                _ => {
                    let namespace = &settings.schedule;
                    return Err(format!(
                        "the Pod has {annotation}={value}, but the namespace has `{namespace}`: a Pod template \
                         can narrow `every` to a longer `every`, and `mtbf` to a longer `mtbf`"
                    ));
                }
            },
            Key::Mode if own.mode > settings.mode => return wider("which is rougher than"),
            // The webhook expects an eviction in such a namespace to have no grace period, and does not
            // see the Pod.
            Key::Mode if settings.mode == Mode::Force && own.mode == Mode::Evict => {
                return wider("which is not `delete`, the only mode that narrows");
            }
            Key::Mode => self.mode = Some(own.mode),
            Key::PerWorkload if own.per_workload.exceeds(settings.per_workload) => {
                return wider("which is more than");
            }
            Key::PerWorkload => self.per_workload = Some(own.per_workload),
            Key::RecoveryDeadline if own.recovery_deadline > settings.recovery_deadline => {
                return wider("which is longer than");
            }
            Key::RecoveryDeadline => self.recovery_deadline = Some(own.recovery_deadline),
            // `key` returns no other key.
            _ => return Err(not_understood()),
        }
        Ok(())
    }

    /// The settings of the namespace as they hold for the workload. The number of Pods at once is
    /// not applied, because it is only comparable when the Pods are counted.
    #[must_use]
    pub fn apply(&self, settings: &Settings) -> Settings {
        let mut narrowed = settings.clone();
        if let Some(mode) = self.mode.filter(|mode| *mode != settings.mode) {
            if settings.mode == Mode::Force {
                // Mode `force` has no grace period. The gentler modes leave the Pod its own.
                narrowed.grace_period = None;
            }
            narrowed.mode = mode;
        }
        if let Some(deadline) = self.recovery_deadline {
            narrowed.recovery_deadline = deadline;
        }
        if let Some(schedule) = &self.schedule {
            narrowed.schedule = schedule.clone();
        }
        narrowed
    }

    /// What is narrowed, by the names of the settings.
    #[must_use]
    pub fn print(&self) -> String {
        let pairs = [
            (Key::Schedule, self.schedule.as_ref().map(ToString::to_string)),
            (Key::Mode, self.mode.map(|mode| mode.to_string())),
            (Key::PerWorkload, self.per_workload.map(|share| share.to_string())),
            (Key::RecoveryDeadline, self.recovery_deadline.map(durations::print)),
        ];
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{} {}", key.word(), value?)));
        pairs.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::well_known::PREFIX;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::parse(&annotations(pairs), &Settings::built_in()).unwrap()
    }

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
    }

    fn of(namespace: &[(&str, &str)], pod: &[(&str, &str)]) -> Result<String, String> {
        let narrowing = Narrowing::of(&annotations(pod), &settings(namespace))?;
        Ok(narrowing.map(|narrowing| narrowing.print()).unwrap_or_default())
    }

    #[test]
    fn what_is_gentler_holds() {
        for (key, namespace, pod) in [
            ("schedule", "every 10m", "every 1h"),
            ("schedule", "every 10m", "every 10m"),
            ("schedule", "mtbf 8h", "mtbf 2d"),
            ("mode", "delete", "evict"),
            ("mode", "force", "delete"),
            ("per-workload", "3", "2"),
            ("per-workload", "50%", "25%"),
            ("per-workload", "3", "25%"),
            ("recovery-deadline", "5m", "30s"),
        ] {
            assert_eq!(of(&[(key, namespace)], &[(key, pod)]), Ok(format!("{key} {pod}")));
        }
        assert_eq!(of(&[("mode", "delete")], &[]), Ok(String::new()));
        assert_eq!(of(&[], &[("exclude", "false")]), Ok(String::new()), "no setting");
    }

    #[test]
    fn what_is_rougher_or_not_understood_is_told() {
        for (key, namespace, pod, why) in [
            ("schedule", "every 10m", "every 9m", "is denser than the namespace's, which is `every 10m`"),
            ("schedule", "mtbf 8h", "mtbf 7h", "is denser than"),
            ("schedule", "every 10m", "mtbf 8h", "but the namespace has `every 10m`"),
            ("schedule", "cron 0 9 * * *", "cron 0 9 * * Mon", "but the namespace has `cron 0 9 * * *`"),
            ("schedule", "every 10m", "hourly", "is not understood: expected `every 10m`"),
            ("mode", "evict", "delete", "is rougher than"),
            ("mode", "delete", "force", "is rougher than"),
            ("mode", "delete", "Evict", "is not understood"),
            ("mode", "force", "evict", "is not `delete`, the only mode that narrows the namespace's"),
            ("per-workload", "1", "2", "is more than"),
            ("per-workload", "25%", "50%", "is more than"),
            ("per-workload", "3", "0", "is not understood"),
            ("recovery-deadline", "5m", "6m", "is longer than"),
        ] {
            let sentence = of(&[(key, namespace)], &[(key, pod)]).unwrap_err();
            assert!(sentence.starts_with(&format!("the Pod has purechaos.dev/{key}={pod}, ")), "{sentence}");
            assert!(sentence.contains(why), "{sentence}");
        }
    }

    #[test]
    fn only_these_keys_in_these_letters_narrow() {
        assert_eq!(key("purechaos.dev/mode"), Some(Key::Mode));
        for other in ["purechaos.dev/limit", "purechaos.dev/Mode", "PureChaos.dev/mode", "mode", "chaos"] {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn a_gentler_mode_than_force_leaves_the_pod_its_grace() {
        let force = settings(&[("mode", "force"), ("grace-period", "0s")]);
        let narrowing = Narrowing { mode: Some(Mode::Delete), ..Narrowing::default() };
        let narrowed = narrowing.apply(&force);
        assert_eq!((narrowed.mode, narrowed.grace_period), (Mode::Delete, None));
        let delete = settings(&[("mode", "delete"), ("grace-period", "10s")]);
        let narrowing = Narrowing { mode: Some(Mode::Evict), ..Narrowing::default() };
        assert_eq!(narrowing.apply(&delete).grace_period, Some(Duration::from_secs(10)));
    }
}
