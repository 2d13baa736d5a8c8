//! The platform's policy: one file in which the people who run the cluster say what they allow.
//!
//! ```yaml
//! defaults:            # for each setting that a namespace does not set, in the form of the setting
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
//! prometheus: monitoring/prometheus-operated:9090 # see `crate::prometheus_address`
//! steadyState:         # see `crate::steady_state`
//!   no-alert:
//!     prometheus: 'absent(ALERTS{alertstate="firing",namespace="$namespace"})'
//! workloads:           # see `crate::custom_workloads`
//!   - {apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}
//! except: 2026-12-20/2027-01-03
//! adoptExisting: false # whether an opt-in is valid that the webhook did not review
//! requirePodDelete: true # whether a user needs the right to delete Pods to opt a namespace in
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use crate::ceilings::Ceilings;
use crate::custom_workloads::{CustomWorkloads, WorkloadEntry};
use crate::excluded_days::{self, Days};
use crate::prometheus_address::{self, AddressEntry};
use crate::protected::Protected;
use crate::settings::{Key, NotUnderstood, Problem, Settings};
use crate::steady_state::{self, CheckEntry, Checks, Wrong};

/// The default of `killsPerMinute`.
const KILLS_PER_MINUTE: u32 = 10;

/// The platform's policy, with built-in values for everything that the file does not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformPolicy {
    /// The value of each setting that a namespace does not set.
    pub defaults: Settings,
    /// The limits that no namespace may exceed.
    pub ceilings: Ceilings,
    /// The namespaces that cannot opt in.
    pub protected: Protected,
    /// The most kills in the whole cluster in any minute.
    pub kills_per_minute: u32,
    /// The checks of the steady state that a namespace may choose.
    pub steady_state: Checks,
    /// The custom kinds that own Pods, and whose size the agent reads.
    pub workloads: CustomWorkloads,
    /// Days on which nothing is killed in the whole cluster. Each namespace reads them in its own
    /// time zone ([`Settings::zone`]).
    pub except: Option<Days>,
    /// Whether an opt-in is valid that the webhook did not review.
    pub adopt_existing: bool,
    /// Whether a user needs the right to delete Pods in a namespace to opt it in.
    pub require_pod_delete: bool,
    /// The first 12 hexadecimal digits of the file's SHA-256. Two processes with the same hash obey
    /// the same policy.
    pub hash: String,
}

impl PlatformPolicy {
    /// The policy that an empty file gives.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            defaults: Settings::built_in(),
            ceilings: Ceilings::built_in(),
            protected: Protected::default(),
            kills_per_minute: KILLS_PER_MINUTE,
            steady_state: Checks::default(),
            workloads: CustomWorkloads::default(),
            except: None,
            adopt_existing: false,
            require_pod_delete: true,
            hash: hash(""),
        }
    }

    /// Reads the policy file from its YAML text.
    ///
    /// # Errors
    /// Returns [`PolicyFileError`] if any part of the file is not understood, or if the defaults
    /// contradict each other or exceed a ceiling.
    pub fn parse(yaml: &str) -> Result<Self, PolicyFileError> {
        let is_empty = yaml.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let file = if is_empty {
            File::default()
        } else {
            serde_saphyr::from_str(yaml).map_err(|error| PolicyFileError(error.to_string()))?
        };
        let mut policy = Self { hash: hash(yaml), ..Self::built_in() };
        let at = |(line, why): Wrong| PolicyFileError(format!("line {line}: {why}"));
        let prometheus = file.prometheus.map(prometheus_address::read).transpose().map_err(at)?;
        let at = |(line, why): (u64, String)| PolicyFileError(format!("line {line}: {why}"));
        policy.steady_state =
            steady_state::checks(file.steady_state.unwrap_or_default(), prometheus.as_ref()).map_err(at)?;
        policy.workloads = CustomWorkloads::read(file.workloads.unwrap_or_default()).map_err(at)?;

        let defaults = known("defaults", file.defaults, Key::ALL)?;
        for (key, word) in &defaults {
            policy.defaults.set(*key, &word.value.0).map_err(|NotUnderstood| {
                wrong(word, format!("defaults.{}", key.word()), &key.advice(&word.value.0))
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
        if let Some((key, why)) = policy.unknown_check(&policy.defaults) {
            return Err(PolicyFileError(format!("defaults.{}: {why}", key.word())));
        }
        if let Some(why) = policy.defaults.contradiction() {
            return Err(PolicyFileError(format!("defaults.{}: {why}", Key::GracePeriod.word())));
        }
        // `ceilings.expires: required` does not apply to the defaults: each opt-in has to set its
        // own expiry.
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
            policy.except = Some(days.ok_or_else(|| {
                wrong(&word, "except".to_owned(), &format!("expected {}", excluded_days::EXPECTED))
            })?);
        }
        policy.adopt_existing = file.adopt_existing.unwrap_or(policy.adopt_existing);
        policy.require_pod_delete = file.require_pod_delete.unwrap_or(policy.require_pod_delete);
        Ok(policy)
    }

    /// The settings that hold in a namespace with these annotations, after defaults and ceilings
    /// are applied.
    ///
    /// # Errors
    /// Returns every problem with the keys and the values of the settings. If there are none,
    /// returns every ceiling that the settings exceed, and the first check that the policy does not
    /// define.
    pub fn settings(&self, annotations: &BTreeMap<String, String>) -> Result<Settings, Vec<Problem>> {
        let settings = Settings::parse(annotations, &self.defaults)?;
        let path = |key: Key| format!("metadata.annotations[{}]", key.annotation());
        let mut past: Vec<Problem> = self
            .ceilings
            .exceeded_by(&settings)
            .into_iter()
            .map(|key| self.ceilings.problem(key, path(key), &settings))
            .collect();
        if let Some((key, why)) = self.unknown_check(&settings) {
            past.push(Problem::invalid(path(key), &settings.print(key).unwrap_or_default(), why));
        }
        if past.is_empty() { Ok(settings) } else { Err(past) }
    }

    /// Why the settings choose a check that the policy does not define, and in which setting.
    fn unknown_check(&self, settings: &Settings) -> Option<(Key, String)> {
        Some((Key::SteadyState, self.steady_state.problem(settings.steady_state.as_ref()?)?))
    }
}

/// The error for a policy file that is not understood. The message says where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to understand the policy file: {0}")]
pub struct PolicyFileError(String);

/// The values in one part of the file, by the names of their settings.
type Words = BTreeMap<String, Spanned<Word>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct File {
    defaults: Option<Words>,
    ceilings: Option<Words>,
    protected: Option<Vec<Spanned<String>>>,
    kills_per_minute: Option<Spanned<u32>>,
    prometheus: Option<Spanned<AddressEntry>>,
    steady_state: Option<BTreeMap<String, Spanned<CheckEntry>>>,
    workloads: Option<Vec<Spanned<WorkloadEntry>>>,
    except: Option<Spanned<Word>>,
    adopt_existing: Option<bool>,
    require_pod_delete: Option<bool>,
}

/// A scalar as text, in the form of a setting's value. YAML reads `1` and `false` as a number and a
/// boolean, not as text.
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

/// Pairs each value in a part of the file with its setting. Returns an error for the first key that
/// is not in `allowed`.
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
                let why = format!("{}{part}.{name}: unknown key; expected one of {names}", place(&word));
                Err(PolicyFileError(why))
            }
        })
        .collect()
}

fn wrong(word: &Spanned<Word>, path: String, why: &str) -> PolicyFileError {
    let problem = Problem::invalid(path, &word.value.0, why.to_owned());
    PolicyFileError(format!("{}{problem}", place(word)))
}

/// The line of a value in the file, as the beginning of an error message.
fn place<T>(value: &Spanned<T>) -> String {
    format!("line {}: ", value.referenced.line())
}

fn hash(yaml: &str) -> String {
    hex::encode(Sha256::digest(yaml.as_bytes()))[..12].to_owned()
}

#[cfg(test)]
mod tests;
