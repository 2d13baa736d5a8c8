//! The settings: one grammar for a namespace's annotations, the platform's policy file and the record.

mod key;
mod kinds;
mod mode;
mod problem;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::key::Key;
pub use self::kinds::Kinds;
pub use self::mode::Mode;
pub use self::problem::Problem;
use crate::days::Days;
use crate::durations;
use crate::hours::ActiveHours;
use crate::keys::{self, CHAOS, is_chaos_key};
use crate::schedule::{Schedule, Timetable};
use crate::targets::Targets;

/// What holds in a namespace: its own settings, with the platform's defaults for those it does not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When rounds happen.
    pub schedule: Schedule,
    /// One round more than the schedule has, at this instant.
    pub also_at: Option<Timestamp>,
    /// Outside these nothing is killed; `None` is always.
    pub active_hours: Option<ActiveHours>,
    /// On these days nothing is killed, by the clocks of [`Settings::zone`].
    pub except: Option<Days>,
    /// How a victim is killed.
    pub mode: Mode,
    /// Pods killed in one round, at most one per workload.
    pub limit: u32,
    /// The kinds of workloads whose Pods may die.
    pub kinds: Kinds,
    /// Which Pods may die; `None` is all.
    pub targets: Option<Targets>,
    /// Whether a workload with one Pod may lose it.
    pub single_replica: bool,
    /// Instead of the Pod's own grace period.
    pub grace_period: Option<Duration>,
    /// Younger Pods are left alone.
    pub min_age: Duration,
    /// After this time a recovery is `timed_out`.
    pub recovery_deadline: Duration,
    /// When the opt-in ends by itself.
    pub expires: Option<Timestamp>,
    /// Everything but the effect.
    pub dry_run: bool,
}

impl Settings {
    /// The built-in defaults of the specification, where the platform sets none.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            schedule: Schedule::Every(Duration::from_secs(600)),
            also_at: None,
            active_hours: None,
            except: None,
            mode: Mode::Evict,
            limit: 1,
            kinds: Kinds::default(),
            targets: None,
            single_replica: false,
            grace_period: None,
            min_age: Duration::from_secs(60),
            recovery_deadline: Duration::from_secs(300),
            expires: None,
            dry_run: false,
        }
    }

    /// The value of one setting, in the form that parses to it; `None` where it isn't set.
    #[must_use]
    pub fn print(&self, key: Key) -> Option<String> {
        match key {
            Key::Schedule => Some(self.schedule.to_string()),
            Key::AlsoAt => self.also_at.as_ref().map(ToString::to_string),
            Key::ActiveHours => self.active_hours.as_ref().map(ToString::to_string),
            Key::Except => self.except.as_ref().map(ToString::to_string),
            Key::Mode => Some(self.mode.to_string()),
            Key::Limit => Some(self.limit.to_string()),
            Key::Kinds => Some(self.kinds.to_string()),
            Key::Targets => self.targets.as_ref().map(ToString::to_string),
            Key::SingleReplica => Some(if self.single_replica { "allow" } else { "refuse" }.to_owned()),
            Key::GracePeriod => self.grace_period.map(durations::print),
            Key::MinAge => Some(durations::print(self.min_age)),
            Key::RecoveryDeadline => Some(durations::print(self.recovery_deadline)),
            Key::Expires => self.expires.as_ref().map(ToString::to_string),
            Key::DryRun => Some(self.dry_run.to_string()),
        }
    }

    /// Sets one setting from its text.
    ///
    /// # Errors
    /// [`NotUnderstood`] when the text isn't of the setting's form.
    pub fn set(&mut self, key: Key, text: &str) -> Result<(), NotUnderstood> {
        match key {
            Key::Schedule => self.schedule = Schedule::parse(text).ok_or(NotUnderstood)?,
            Key::AlsoAt => self.also_at = Some(text.parse().map_err(|_| NotUnderstood)?),
            Key::ActiveHours => self.active_hours = Some(ActiveHours::parse(text).ok_or(NotUnderstood)?),
            Key::Except => self.except = Some(Days::parse(text).ok_or(NotUnderstood)?),
            Key::Mode => self.mode = Mode::parse(text).ok_or(NotUnderstood)?,
            Key::Limit => self.limit = parse_limit(text).ok_or(NotUnderstood)?,
            Key::Kinds => self.kinds = Kinds::parse(text).ok_or(NotUnderstood)?,
            Key::Targets => self.targets = Some(Targets::parse(text).ok_or(NotUnderstood)?),
            Key::SingleReplica => {
                self.single_replica = match text {
                    "refuse" => false,
                    "allow" => true,
                    _ => return Err(NotUnderstood),
                }
            }
            Key::GracePeriod => self.grace_period = Some(parse_grace(text).ok_or(NotUnderstood)?),
            Key::MinAge => self.min_age = durations::parse(text).ok_or(NotUnderstood)?,
            Key::RecoveryDeadline => self.recovery_deadline = durations::parse(text).ok_or(NotUnderstood)?,
            Key::Expires => self.expires = Some(text.parse().map_err(|_| NotUnderstood)?),
            Key::DryRun => self.dry_run = text.parse().map_err(|_| NotUnderstood)?,
        }
        Ok(())
    }

    /// Reads a namespace's annotations over the platform's defaults. All problems are reported together.
    ///
    /// # Errors
    /// One [`Problem`] for each unknown key, each value that isn't understood, and each that contradicts another.
    pub fn parse(annotations: &BTreeMap<String, String>, defaults: &Self) -> Result<Self, Vec<Problem>> {
        let mut settings = defaults.clone();
        let mut problems = Vec::new();
        for (annotation, value) in annotations {
            if annotation == CHAOS || !is_chaos_key(annotation) {
                continue;
            }
            let path = format!("metadata.annotations[{annotation}]");
            let word = keys::word(annotation).unwrap_or(annotation);
            match Key::of(word).filter(|key| *annotation == key.annotation()) {
                None => problems.push(Problem::unknown(path, word)),
                Some(key) if settings.set(key, value).is_err() => {
                    problems.push(Problem::invalid(path, value, format!("expected {}", key.expected())));
                }
                Some(_) => {}
            }
        }
        if let Some(why) = settings.contradiction().filter(|_| problems.is_empty()) {
            let key = Key::GracePeriod;
            let path = format!("metadata.annotations[{}]", key.annotation());
            problems.push(Problem::invalid(path, &settings.print(key).unwrap_or_default(), why.to_owned()));
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// What of the grace period contradicts the mode.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        let grace = self.grace_period?;
        match self.mode {
            Mode::Force if !grace.is_zero() => Some("mode `force` kills without grace: leave this out"),
            Mode::Evict | Mode::Delete if grace.is_zero() => {
                Some("no grace is for mode `force` only; write a duration, such as `10s`")
            }
            Mode::Evict | Mode::Delete | Mode::Force => None,
        }
    }

    /// Whose clocks `cron` and `except` go by: those of the active hours, else UTC.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        self.active_hours.as_ref().map_or(TimeZone::UTC, |hours| hours.zone().clone())
    }

    /// What this namespace's slots are computed from.
    #[must_use]
    pub fn timetable(&self, shortest_interval: Duration) -> Timetable {
        let (schedule, also_at) = (self.schedule.clone(), self.also_at);
        Timetable { schedule, also_at, zone: self.zone(), shortest_interval }
    }
}

/// A value that isn't of its setting's form; [`Key::expected`] says what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUnderstood;

fn parse_limit(text: &str) -> Option<u32> {
    // `parse` alone would take `+1`.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
        .filter(|limit| *limit > 0)
}

fn parse_grace(text: &str) -> Option<Duration> {
    if text == "0s" { Some(Duration::ZERO) } else { durations::parse(text) }
}

#[cfg(test)]
mod tests;
