//! The platform's policy: what the people who run the cluster allow, in one file.
//!
//! ```yaml
//! defaults:            # for each setting that a namespace does not set
//!   schedule: every 10m
//!   mode: evict
//!   limit: 1
//!   min-age: 1m
//!   dry-run: false
//! ceilings:            # what no namespace may exceed
//!   schedule: every 1m # the shortest interval
//!   mode: evict        # the allowed modes, joined with commas
//!   limit: 5
//! protected:           # beside kube-*, pure-chaos and default; `!default` lets default opt in
//!   - prod-*
//! ```

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::eligibility::Protected;
use crate::schedule::Schedule;
use crate::settings::{Key, Mode, NotUnderstood, Problem, Settings};

/// The policy as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformPolicy {
    /// For each setting that a namespace does not set.
    pub defaults: Settings,
    /// What no namespace may exceed.
    pub ceilings: Ceilings,
    /// Namespaces that can never opt in.
    pub protected: Protected,
    /// The first 12 hexadecimal digits of the file's SHA-256; tells whether two processes obey the same policy.
    pub hash: String,
}

/// What no namespace may exceed, at admission and at the kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceilings {
    /// The shortest interval between rounds.
    pub shortest_interval: Duration,
    /// The allowed modes.
    pub modes: Vec<Mode>,
    /// The largest limit.
    pub largest_limit: u32,
}

impl Ceilings {
    /// The built-in ceilings of the specification.
    #[must_use]
    pub fn built_in() -> Self {
        Self { shortest_interval: Duration::from_secs(60), modes: vec![Mode::Evict], largest_limit: 5 }
    }

    /// What of these settings is past a ceiling, as the paths `path(key)` and with the ceiling's name.
    fn exceeded_by(&self, settings: &Settings, path: impl Fn(Key) -> String) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut past = |key: Key, why: String| {
            problems.push(Problem::invalid(path(key), &settings.print(key), why));
        };
        if settings.schedule.interval() < self.shortest_interval {
            let shortest = Schedule::Every(self.shortest_interval);
            past(Key::Schedule, format!("the platform's ceilings.schedule is `{shortest}`"));
        }
        if !self.modes.contains(&settings.mode) {
            past(Key::Mode, format!("the platform's ceilings.mode is `{}`", words(&self.modes)));
        }
        if settings.limit > self.largest_limit {
            past(Key::Limit, format!("the platform's ceilings.limit is `{}`", self.largest_limit));
        }
        problems
    }
}

impl PlatformPolicy {
    /// The policy of an empty file.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            defaults: Settings::BUILT_IN,
            ceilings: Ceilings::built_in(),
            protected: Protected::default(),
            hash: hash(""),
        }
    }

    /// Reads the policy file.
    ///
    /// # Errors
    /// When it isn't understood in full: [`PolicyFileError`] says where and why.
    pub fn parse(yaml: &str) -> Result<Self, PolicyFileError> {
        let is_empty = yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let File { defaults: default_words, ceilings: ceiling_words, protected: globs } = if is_empty {
            File::default()
        } else {
            serde_saphyr::from_str(yaml).map_err(|error| PolicyFileError(error.to_string()))?
        };

        let mut defaults = Settings::BUILT_IN;
        for key in Key::ALL {
            if let Some(Word(value)) = default_words.of(key) {
                defaults
                    .set(key, value)
                    .map_err(|NotUnderstood| wrong("defaults", key, value, key.expected()))?;
            }
        }
        let mut ceilings = Ceilings::built_in();
        let CeilingWords { schedule, mode, limit } = ceiling_words;
        if let Some(Word(value)) = schedule {
            ceilings.shortest_interval = Schedule::parse(&value)
                .ok_or_else(|| wrong("ceilings", Key::Schedule, &value, Key::Schedule.expected()))?
                .interval();
        }
        if let Some(Word(value)) = mode {
            ceilings.modes = value
                .split(',')
                .map(|word| Mode::parse(word.trim()))
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    wrong("ceilings", Key::Mode, &value, "modes joined with commas, such as `evict,delete`")
                })?;
        }
        if let Some(Word(value)) = limit {
            let mut largest = Settings::BUILT_IN;
            largest
                .set(Key::Limit, &value)
                .map_err(|NotUnderstood| wrong("ceilings", Key::Limit, &value, Key::Limit.expected()))?;
            ceilings.largest_limit = largest.limit;
        }
        if let Some(problem) =
            ceilings.exceeded_by(&defaults, |key| format!("defaults.{}", key.word())).first()
        {
            return Err(PolicyFileError(problem.to_string()));
        }
        let protected = Protected::parse(&globs).map_err(PolicyFileError)?;
        Ok(Self { defaults, ceilings, protected, hash: hash(yaml) })
    }

    /// What holds in a namespace with these annotations, defaults and ceilings applied.
    ///
    /// # Errors
    /// Every problem with the settings' keys and values; if there is none, every ceiling that they exceed.
    pub fn settings(
        &self,
        annotations: &std::collections::BTreeMap<String, String>,
    ) -> Result<Settings, Vec<Problem>> {
        let settings = Settings::parse(annotations, &self.defaults)?;
        let past =
            self.ceilings.exceeded_by(&settings, |key| format!("metadata.annotations[{}]", key.annotation()));
        if past.is_empty() { Ok(settings) } else { Err(past) }
    }
}

/// A policy file that isn't understood: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to understand the policy file: {0}")]
pub struct PolicyFileError(String);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    defaults: DefaultWords,
    ceilings: CeilingWords,
    protected: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct DefaultWords {
    schedule: Option<Word>,
    mode: Option<Word>,
    limit: Option<Word>,
    min_age: Option<Word>,
    dry_run: Option<Word>,
}

impl DefaultWords {
    fn of(&self, key: Key) -> Option<&Word> {
        match key {
            Key::Schedule => self.schedule.as_ref(),
            Key::Mode => self.mode.as_ref(),
            Key::Limit => self.limit.as_ref(),
            Key::MinAge => self.min_age.as_ref(),
            Key::DryRun => self.dry_run.as_ref(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CeilingWords {
    schedule: Option<Word>,
    mode: Option<Word>,
    limit: Option<Word>,
}

/// A scalar in the settings' own form; YAML reads `1` and `false` as something other than text.
#[derive(Debug)]
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl serde::de::Visitor<'_> for Scalar {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a setting's value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Word, E> {
                Ok(Word(value.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

fn wrong(part: &str, key: Key, value: &str, expected: &str) -> PolicyFileError {
    let path = format!("{part}.{}", key.word());
    PolicyFileError(Problem::invalid(path, value, format!("expected {expected}")).to_string())
}

fn words(modes: &[Mode]) -> String {
    modes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn hash(yaml: &str) -> String {
    hex(&Sha256::digest(yaml.as_bytes()))[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const WHOLE: &str = "
defaults:
  schedule: every 5m
  mode: delete
  limit: 2
  min-age: 30s
  dry-run: true
ceilings:
  schedule: every 10s
  mode: evict, delete
  limit: 3
protected: [prod-*, '!default']
";

    fn refused(yaml: &str) -> String {
        PlatformPolicy::parse(yaml).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_the_built_in_policy() {
        assert_eq!(PlatformPolicy::parse("").unwrap(), PlatformPolicy::built_in());
        assert_eq!(PlatformPolicy::parse("# nothing yet\n").unwrap().ceilings, Ceilings::built_in());
    }

    #[test]
    fn a_whole_file() {
        let policy = PlatformPolicy::parse(WHOLE).unwrap();
        assert_eq!(policy.defaults.schedule.to_string(), "every 5m");
        assert_eq!(
            (policy.defaults.mode, policy.defaults.limit, policy.defaults.dry_run),
            (Mode::Delete, 2, true)
        );
        assert_eq!(policy.defaults.min_age, Duration::from_secs(30));
        assert_eq!(policy.ceilings.modes, [Mode::Evict, Mode::Delete]);
        assert_eq!((policy.ceilings.largest_limit, policy.ceilings.shortest_interval.as_secs()), (3, 10));
        assert!(policy.protected.covers("prod-eu") && !policy.protected.covers("default"));
        assert_eq!(policy.hash.len(), 12);
    }

    #[test]
    fn a_bad_file_is_refused_with_the_place() {
        let message = refused("defaults:\n  limit: 1\n  speed: 3\n");
        assert!(message.contains("speed") && message.contains("line 3"), "{message}");
        assert!(refused("defaults:\n  limit: many\n").contains("defaults.limit: Invalid value: \"many\""));
        assert!(refused("ceilings:\n  mode: shout\n").contains("ceilings.mode"));
        assert!(refused("ceilings:\n  schedule: 1m\n").contains("ceilings.schedule"));
        assert!(refused("killsPerMinute: 3\n").contains("killsPerMinute"));
        assert!(refused("protected: ['!kube-system']\n").contains("!kube-system"));
        assert!(refused("[").contains("failed to understand the policy file"));
    }

    #[test]
    fn defaults_past_the_ceilings_are_refused() {
        assert!(
            refused("defaults:\n  limit: 9\n")
                .contains("defaults.limit: Invalid value: \"9\": the platform's ceilings.limit is `5`")
        );
    }

    #[test]
    fn ceilings_hold_and_are_named() {
        let policy = PlatformPolicy::built_in();
        let annotations: BTreeMap<String, String> =
            [(Key::Schedule, "every 30s"), (Key::Mode, "force"), (Key::Limit, "6")]
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
}
