//! The settings: one grammar for a namespace's annotations, the platform's policy file and the record.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::durations;
use crate::keys::{HALT, PREFIX};
use crate::schedule::{self, Schedule};

/// The settings that this version understands; any other key of ours is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// When rounds happen.
    Schedule,
    /// How a victim is killed.
    Mode,
    /// Pods killed in one round.
    Limit,
    /// Younger Pods are left alone.
    MinAge,
    /// Everything but the effect.
    DryRun,
}

impl Key {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 5] = [Self::Schedule, Self::Mode, Self::Limit, Self::MinAge, Self::DryRun];

    /// The word after the prefix; the same in the policy file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Mode => "mode",
            Self::Limit => "limit",
            Self::MinAge => "min-age",
            Self::DryRun => "dry-run",
        }
    }

    /// The whole annotation key.
    #[must_use]
    pub fn annotation(self) -> String {
        format!("{PREFIX}{}", self.word())
    }

    /// What a value must look like, with an example.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Schedule => schedule::EXPECTED,
            Self::Mode => "`evict`, `delete` or `force`",
            Self::Limit => "a whole number of Pods per round, at least 1, such as `1`",
            Self::MinAge => "a duration, such as `1m`",
            Self::DryRun => "`true` or `false`",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.word() == word)
    }
}

/// How a victim is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Through the eviction API, which respects PodDisruptionBudgets.
    Evict,
    /// By a DELETE, which does not.
    Delete,
    /// By a DELETE with grace 0; never a StatefulSet's Pod.
    Force,
}

impl Mode {
    /// All of them, from gentle to rough.
    pub const ALL: [Self; 3] = [Self::Evict, Self::Delete, Self::Force];

    /// The word of the grammar, and the metric label.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Evict => "evict",
            Self::Delete => "delete",
            Self::Force => "force",
        }
    }

    /// Reads one word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == text)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What holds in a namespace: its own settings, with the platform's defaults for those it does not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When rounds happen.
    pub schedule: Schedule,
    /// How a victim is killed.
    pub mode: Mode,
    /// Pods killed in one round, at most one per workload.
    pub limit: u32,
    /// Younger Pods are left alone.
    pub min_age: Duration,
    /// Everything but the effect.
    pub dry_run: bool,
}

impl Settings {
    /// The built-in defaults of the specification, where the platform sets none.
    pub const BUILT_IN: Self = Self {
        schedule: Schedule::Every(Duration::from_secs(600)),
        mode: Mode::Evict,
        limit: 1,
        min_age: Duration::from_secs(60),
        dry_run: false,
    };

    /// The value of one setting, in the form that parses to it.
    #[must_use]
    pub fn print(&self, key: Key) -> String {
        match key {
            Key::Schedule => self.schedule.to_string(),
            Key::Mode => self.mode.to_string(),
            Key::Limit => self.limit.to_string(),
            Key::MinAge => durations::print(self.min_age),
            Key::DryRun => self.dry_run.to_string(),
        }
    }

    /// Sets one setting from its text.
    ///
    /// # Errors
    /// [`NotUnderstood`] when the text isn't of the setting's form.
    pub fn set(&mut self, key: Key, text: &str) -> Result<(), NotUnderstood> {
        match key {
            Key::Schedule => self.schedule = Schedule::parse(text).ok_or(NotUnderstood)?,
            Key::Mode => self.mode = Mode::parse(text).ok_or(NotUnderstood)?,
            Key::Limit => self.limit = parse_limit(text).ok_or(NotUnderstood)?,
            Key::MinAge => self.min_age = durations::parse(text).ok_or(NotUnderstood)?,
            Key::DryRun => self.dry_run = text.parse().map_err(|_| NotUnderstood)?,
        }
        Ok(())
    }

    /// Reads a namespace's annotations over the platform's defaults. All problems are reported together.
    ///
    /// # Errors
    /// One [`Problem`] for each unknown key and each value that isn't understood.
    pub fn parse(annotations: &BTreeMap<String, String>, defaults: &Self) -> Result<Self, Vec<Problem>> {
        let mut settings = defaults.clone();
        let mut problems = Vec::new();
        for (annotation, value) in annotations {
            let Some(word) = annotation.strip_prefix(PREFIX).filter(|_| annotation != HALT) else {
                continue;
            };
            let path = format!("metadata.annotations[{annotation}]");
            match Key::of(word) {
                None => problems.push(Problem::unknown(path, word)),
                Some(key) if settings.set(key, value).is_err() => {
                    problems.push(Problem::invalid(path, value, format!("expected {}", key.expected())));
                }
                Some(_) => {}
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

/// A value that isn't of its setting's form; [`Key::expected`] says what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUnderstood;

/// One thing wrong with a namespace's annotations, in the words of Kubernetes' own validation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `metadata.annotations[purechaos.dev/limit]`.
    pub path: String,
    /// What, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A value that isn't allowed at `path`.
    #[must_use]
    pub fn invalid(path: String, value: &str, why: String) -> Self {
        Self { path, message: format!("Invalid value: {value:?}: {why}") }
    }

    fn unknown(path: String, word: &str) -> Self {
        let known = Key::ALL.map(Key::word);
        let nearest = known.into_iter().map(|key| (strsim::damerau_levenshtein(word, key), key)).min();
        let advice = match nearest {
            // Farther than half of the word, a guess only misleads.
            Some((distance, key)) if distance * 2 <= key.len() => format!("did you mean `{PREFIX}{key}`?"),
            _ => format!("this version knows {}", known.map(|key| format!("`{key}`")).join(", ")),
        };
        Self { path, message: format!("Unknown setting: {advice}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

fn parse_limit(text: &str) -> Option<u32> {
    // `parse` alone would take `+1`.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|limit| *limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned())).collect()
    }

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        Settings::parse(&annotations(pairs), &Settings::BUILT_IN)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_not_set_is_the_default() {
        let settings = parse(&[("limit", "3"), ("dry-run", "true")]).unwrap();
        assert_eq!(settings, Settings { limit: 3, dry_run: true, ..Settings::BUILT_IN });
        assert_eq!(parse(&[]).unwrap(), Settings::BUILT_IN);
    }

    #[test]
    fn all_problems_come_together_with_path_value_and_example() {
        let problems = parse(&[("limit", "none"), ("mode", "Evict"), ("min-age", "0s")]).unwrap_err();
        assert_eq!(
            problems,
            [
                "metadata.annotations[purechaos.dev/limit]: Invalid value: \"none\": expected a whole number of Pods per \
                 round, at least 1, such as `1`",
                "metadata.annotations[purechaos.dev/min-age]: Invalid value: \"0s\": expected a duration, such as `1m`",
                "metadata.annotations[purechaos.dev/mode]: Invalid value: \"Evict\": expected `evict`, `delete` or `force`",
            ]
        );
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
            problems[0].ends_with("this version knows `schedule`, `mode`, `limit`, `min-age`, `dry-run`")
        );
    }

    #[test]
    fn a_setting_of_a_later_version_is_unknown() {
        for later in ["active-hours", "expires", "kinds", "exclude"] {
            assert!(parse(&[(later, "x")]).is_err(), "{later}");
        }
    }

    #[test]
    fn halt_is_no_setting() {
        assert_eq!(parse(&[("halt", "incident 4711")]).unwrap(), Settings::BUILT_IN);
    }

    #[test]
    fn limits() {
        for wrong in ["0", "-1", "+1", "1.0", "", " 1", "99999999999"] {
            assert!(parse(&[("limit", wrong)]).is_err(), "{wrong:?}");
        }
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        let duration = || (1..=durations::LONGEST.as_secs()).prop_map(Duration::from_secs);
        (duration(), 0..Mode::ALL.len(), 1..=u32::MAX, duration(), any::<bool>()).prop_map(
            |(interval, mode, limit, min_age, dry_run)| Settings {
                schedule: Schedule::Every(interval),
                mode: Mode::ALL[mode],
                limit,
                min_age,
                dry_run,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(settings in any_settings()) {
            let printed: BTreeMap<_, _> = Key::ALL.iter().map(|key| (key.annotation(), settings.print(*key))).collect();
            prop_assert_eq!(Settings::parse(&printed, &Settings::BUILT_IN), Ok(settings));
        }

        #[test]
        fn nothing_panics_and_nothing_unknown_passes(key in "[a-z-]{1,12}", value in "\\PC{0,20}") {
            let known = Key::ALL.iter().any(|known| known.word() == key);
            let outcome = parse(&[(&key, &value)]);
            prop_assert!(known || key == "halt" || outcome.is_err());
        }
    }
}
