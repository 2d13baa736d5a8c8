//! The platform's policy: what the people who run the cluster allow, in one file.
//!
//! ```yaml
//! defaults:            # for each setting that a namespace does not set, in the settings' own words
//!   schedule: every 10m
//! ceilings:            # what no namespace may exceed
//!   schedule: every 1m # the shortest interval
//!   mode: evict        # the allowed modes, joined with commas
//!   limit: 5
//!   grace-period: 5m   # the longest
//!   expires: optional  # or `required`
//! protected:           # beside kube-*, pure-chaos and default; `!default` lets default opt in
//!   - prod-*
//! killsPerMinute: 10   # in the whole cluster
//! except: 2026-12-20/2027-01-03
//! adoptExisting: false # whether an opt-in that the webhook did not see counts
//! requirePodDelete: true # whether only who may delete Pods in a namespace may opt it in
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use crate::ceilings::Ceilings;
use crate::days::{self, Days};
use crate::digest::hex;
use crate::protected::Protected;
use crate::settings::{Key, NotUnderstood, Problem, Settings};

/// Kills in the whole cluster in any minute, where the platform says nothing.
const KILLS_PER_MINUTE: u32 = 10;

/// The policy as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformPolicy {
    /// For each setting that a namespace does not set.
    pub defaults: Settings,
    /// What no namespace may exceed.
    pub ceilings: Ceilings,
    /// Namespaces that can never opt in.
    pub protected: Protected,
    /// Kills in the whole cluster in any minute.
    pub kills_per_minute: u32,
    /// Days without chaos in the whole cluster, by the clocks of each namespace.
    pub except: Option<Days>,
    /// Whether an opt-in that the webhook did not see counts.
    pub adopt_existing: bool,
    /// Whether only who may delete Pods in a namespace may opt it in.
    pub require_pod_delete: bool,
    /// The first 12 hexadecimal digits of the file's SHA-256; tells whether two processes obey the same policy.
    pub hash: String,
}

impl PlatformPolicy {
    /// The policy of an empty file.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            defaults: Settings::built_in(),
            ceilings: Ceilings::built_in(),
            protected: Protected::default(),
            kills_per_minute: KILLS_PER_MINUTE,
            except: None,
            adopt_existing: false,
            require_pod_delete: true,
            hash: hash(""),
        }
    }

    /// Reads the policy file.
    ///
    /// # Errors
    /// When it isn't understood in full: [`PolicyFileError`] says where and why.
    pub fn parse(yaml: &str) -> Result<Self, PolicyFileError> {
        let is_empty = yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let file = if is_empty {
            File::default()
        } else {
            serde_saphyr::from_str(yaml).map_err(|error| PolicyFileError(error.to_string()))?
        };
        let mut policy = Self { hash: hash(yaml), ..Self::built_in() };

        let defaults = known("defaults", file.defaults, &Key::ALL)?;
        for (key, word) in &defaults {
            policy.defaults.set(*key, &word.value.0).map_err(|NotUnderstood| {
                wrong(word, format!("defaults.{}", key.word()), &format!("expected {}", key.expected()))
            })?;
        }
        for (key, word) in known("ceilings", file.ceilings, &Ceilings::KEYS)? {
            policy.ceilings.set(key, &word.value.0).map_err(|NotUnderstood| {
                wrong(
                    &word,
                    format!("ceilings.{}", key.word()),
                    &format!("expected {}", Ceilings::expected(key)),
                )
            })?;
        }
        if let Some(why) = policy.defaults.contradiction() {
            return Err(PolicyFileError(format!("defaults.{}: {why}", Key::GracePeriod.word())));
        }
        // That the defaults have no end is no fault of theirs: then each opt-in has to name one.
        let past = policy.ceilings.exceeded_by(&policy.defaults).into_iter().find(|key| *key != Key::Expires);
        if let Some(key) = past {
            let problem = policy.ceilings.problem(key, format!("defaults.{}", key.word()), &policy.defaults);
            let place = defaults.iter().find(|(known, _)| *known == key).map(|(_, word)| place(word));
            return Err(PolicyFileError(format!("{}{problem}", place.unwrap_or_default())));
        }
        for entry in file.protected.unwrap_or_default() {
            policy
                .protected
                .add(&entry.value)
                .map_err(|why| PolicyFileError(format!("{}protected: {why}", place(&entry))))?;
        }
        if let Some(kills) = file.kills_per_minute {
            if kills.value == 0 {
                let why =
                    "expected at least 1; to stop all kills set purechaos.dev/halt on namespace pure-chaos";
                return Err(PolicyFileError(format!("{}killsPerMinute: {why}", place(&kills))));
            }
            policy.kills_per_minute = kills.value;
        }
        if let Some(word) = file.except {
            let days = Days::parse(&word.value.0);
            policy.except =
                Some(days.ok_or_else(|| {
                    wrong(&word, "except".to_owned(), &format!("expected {}", days::EXPECTED))
                })?);
        }
        policy.adopt_existing = file.adopt_existing.unwrap_or(policy.adopt_existing);
        policy.require_pod_delete = file.require_pod_delete.unwrap_or(policy.require_pod_delete);
        Ok(policy)
    }

    /// What holds in a namespace with these annotations, defaults and ceilings applied.
    ///
    /// # Errors
    /// Every problem with the settings' keys and values; if there is none, every ceiling that they exceed.
    pub fn settings(&self, annotations: &BTreeMap<String, String>) -> Result<Settings, Vec<Problem>> {
        let settings = Settings::parse(annotations, &self.defaults)?;
        let path = |key: Key| format!("metadata.annotations[{}]", key.annotation());
        let past: Vec<Problem> = self
            .ceilings
            .exceeded_by(&settings)
            .into_iter()
            .map(|key| self.ceilings.problem(key, path(key), &settings))
            .collect();
        if past.is_empty() { Ok(settings) } else { Err(past) }
    }
}

/// A policy file that isn't understood: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to understand the policy file: {0}")]
pub struct PolicyFileError(String);

/// Words of one part of the file, by their settings.
type Words = BTreeMap<String, Spanned<Word>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct File {
    defaults: Option<Words>,
    ceilings: Option<Words>,
    protected: Option<Vec<Spanned<String>>>,
    kills_per_minute: Option<Spanned<u32>>,
    except: Option<Spanned<Word>>,
    adopt_existing: Option<bool>,
    require_pod_delete: Option<bool>,
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

/// The words of a part as settings, all of which may stand there.
fn known(
    part: &str,
    words: Option<Words>,
    allowed: &[Key],
) -> Result<Vec<(Key, Spanned<Word>)>, PolicyFileError> {
    words
        .unwrap_or_default()
        .into_iter()
        .map(|(name, word)| match Key::of(&name).filter(|key| allowed.contains(key)) {
            Some(key) => Ok((key, word)),
            None => {
                let names =
                    allowed.iter().map(|key| format!("`{}`", key.word())).collect::<Vec<_>>().join(", ");
                let why = format!("{}{part}.{name}: not one of {names}", place(&word));
                Err(PolicyFileError(why))
            }
        })
        .collect()
}

fn wrong(word: &Spanned<Word>, path: String, why: &str) -> PolicyFileError {
    let problem = Problem::invalid(path, &word.value.0, why.to_owned());
    PolicyFileError(format!("{}{problem}", place(word)))
}

/// Where a value stands in the file, as the beginning of a sentence.
fn place<T>(value: &Spanned<T>) -> String {
    format!("line {}: ", value.referenced.line())
}

fn hash(yaml: &str) -> String {
    hex(&Sha256::digest(yaml.as_bytes()))[..12].to_owned()
}

#[cfg(test)]
#[path = "platform_tests.rs"]
mod tests;
