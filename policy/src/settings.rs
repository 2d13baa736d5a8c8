//! The settings. A namespace's annotations, the platform's policy file and the record all use the
//! same grammar.

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
use crate::active_hours::ActiveHours;
use crate::durations;
use crate::excluded_days::Days;
use crate::faults::Faults;
use crate::pod_selector::Targets;
use crate::schedule::{Schedule, Timetable};
use crate::share::Share;
use crate::steady_state::CheckNames;
use crate::well_known::{self, CHAOS, is_chaos_key};

/// The settings that hold in a namespace: its own, and the platform's defaults for those that it
/// does not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When rounds happen.
    pub schedule: Schedule,
    /// The instant of one more round, in addition to those of the schedule.
    pub also_at: Option<Timestamp>,
    /// The hours outside which nothing is killed. `None` means no limit.
    pub active_hours: Option<ActiveHours>,
    /// The days on which nothing is killed, in the time zone of [`Settings::zone`].
    pub except: Option<Days>,
    /// How a Pod is killed.
    pub mode: Mode,
    /// The kinds of round. Each round draws one of them.
    pub faults: Faults,
    /// The most Pods that a round may kill, as a number or as a percentage of the candidates.
    pub limit: Share,
    /// The most Pods of one workload that a round may kill, as a number or as a percentage of the
    /// Pods that the workload wants.
    pub per_workload: Share,
    /// The kinds of workload whose Pods may be killed.
    pub kinds: Kinds,
    /// A label selector for the Pods that may be killed. `None` selects all Pods.
    pub targets: Option<Targets>,
    /// Whether a Pod may be killed if its workload wants only one Pod.
    pub single_replica: bool,
    /// Whether a Pod may be killed if its workload already has fewer Ready Pods than it wants.
    pub below_desired: bool,
    /// The grace period of each kill. `None` means the Pod's own grace period.
    pub grace_period: Option<Duration>,
    /// The minimum age of a Pod. Younger Pods are left alone.
    pub min_age: Duration,
    /// How long a recovery may take. A recovery that takes longer is `timed_out`.
    pub recovery_deadline: Duration,
    /// The checks of the platform's policy that have to hold before a round, and that are sampled
    /// during its recoveries. `None` means no checks.
    pub steady_state: Option<CheckNames>,
    /// Whether a check that breaks during a round ends the round.
    pub abort_on_broken: bool,
    /// The instant at which the opt-in expires. `None` means never.
    pub expires: Option<Timestamp>,
    /// Whether rounds do everything but the kill. The API server's own dry run takes the place of
    /// each kill.
    pub dry_run: bool,
}

impl Settings {
    /// The built-in defaults, which hold where the platform's policy sets none.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            schedule: Schedule::Every(Duration::from_secs(600)),
            also_at: None,
            active_hours: None,
            except: None,
            mode: Mode::Evict,
            faults: Faults::default(),
            limit: Share::Number(1),
            per_workload: Share::Number(1),
            kinds: Kinds::default(),
            targets: None,
            single_replica: false,
            below_desired: false,
            grace_period: None,
            min_age: Duration::from_secs(60),
            recovery_deadline: Duration::from_secs(300),
            steady_state: None,
            abort_on_broken: true,
            expires: None,
            dry_run: false,
        }
    }

    /// The value of one setting, in the form that [`Settings::set`] reads. `None` if the setting
    /// has no value.
    #[must_use]
    pub fn print(&self, key: Key) -> Option<String> {
        match key {
            Key::Schedule => Some(self.schedule.to_string()),
            Key::AlsoAt => self.also_at.as_ref().map(ToString::to_string),
            Key::ActiveHours => self.active_hours.as_ref().map(ToString::to_string),
            Key::Except => self.except.as_ref().map(ToString::to_string),
            Key::Mode => Some(self.mode.to_string()),
            Key::Faults => Some(self.faults.to_string()),
            Key::Limit => Some(self.limit.to_string()),
            Key::Kinds => Some(self.kinds.to_string()),
            Key::Targets => self.targets.as_ref().map(ToString::to_string),
            Key::PerWorkload => Some(self.per_workload.to_string()),
            Key::SingleReplica => Some(permission(self.single_replica).to_owned()),
            Key::BelowDesired => Some(permission(self.below_desired).to_owned()),
            Key::GracePeriod => self.grace_period.map(durations::print),
            Key::MinAge => Some(durations::print(self.min_age)),
            Key::RecoveryDeadline => Some(durations::print(self.recovery_deadline)),
            Key::SteadyState => self.steady_state.as_ref().map(ToString::to_string),
            Key::AbortOnBroken => Some(self.abort_on_broken.to_string()),
            Key::Expires => self.expires.as_ref().map(ToString::to_string),
            Key::DryRun => Some(self.dry_run.to_string()),
        }
    }

    /// Sets one setting from its text.
    ///
    /// # Errors
    /// Returns [`NotUnderstood`] if the text does not have the form of the setting.
    pub fn set(&mut self, key: Key, text: &str) -> Result<(), NotUnderstood> {
        match key {
            Key::Schedule => self.schedule = Schedule::parse(text).ok_or(NotUnderstood)?,
            Key::AlsoAt => self.also_at = Some(text.parse().map_err(|_| NotUnderstood)?),
            Key::ActiveHours => self.active_hours = Some(ActiveHours::parse(text).ok_or(NotUnderstood)?),
            Key::Except => self.except = Some(Days::parse(text).ok_or(NotUnderstood)?),
            Key::Mode => self.mode = Mode::parse(text).ok_or(NotUnderstood)?,
            Key::Faults => self.faults = Faults::parse(text).ok_or(NotUnderstood)?,
            Key::Limit => self.limit = Share::parse(text).ok_or(NotUnderstood)?,
            Key::PerWorkload => self.per_workload = Share::parse(text).ok_or(NotUnderstood)?,
            Key::Kinds => self.kinds = Kinds::parse(text).ok_or(NotUnderstood)?,
            Key::Targets => self.targets = Some(Targets::parse(text).ok_or(NotUnderstood)?),
            Key::SingleReplica => self.single_replica = parse_permission(text).ok_or(NotUnderstood)?,
            Key::BelowDesired => self.below_desired = parse_permission(text).ok_or(NotUnderstood)?,
            Key::GracePeriod => self.grace_period = Some(parse_grace(text).ok_or(NotUnderstood)?),
            Key::MinAge => self.min_age = durations::parse(text).ok_or(NotUnderstood)?,
            Key::RecoveryDeadline => self.recovery_deadline = durations::parse(text).ok_or(NotUnderstood)?,
            Key::SteadyState => self.steady_state = Some(CheckNames::parse(text).ok_or(NotUnderstood)?),
            Key::AbortOnBroken => self.abort_on_broken = text.parse().map_err(|_| NotUnderstood)?,
            Key::Expires => self.expires = Some(text.parse().map_err(|_| NotUnderstood)?),
            Key::DryRun => self.dry_run = text.parse().map_err(|_| NotUnderstood)?,
        }
        Ok(())
    }

    /// Reads a namespace's annotations. The platform's `defaults` hold for settings that are not
    /// set. All problems are reported together.
    ///
    /// # Errors
    /// Returns one [`Problem`] for each unknown key and for each value that is not understood. If
    /// there are none, returns one for a grace period that contradicts the mode.
    pub fn parse(annotations: &BTreeMap<String, String>, defaults: &Self) -> Result<Self, Vec<Problem>> {
        let mut settings = defaults.clone();
        let mut problems = Vec::new();
        for (annotation, value) in annotations {
            if annotation == CHAOS || !is_chaos_key(annotation) {
                continue;
            }
            let path = format!("metadata.annotations[{annotation}]");
            let word = well_known::word(annotation).unwrap_or(annotation);
            match Key::of(word).filter(|key| *annotation == key.annotation()) {
                None => problems.push(Problem::unknown(path, word)),
                Some(key) if settings.set(key, value).is_err() => {
                    problems.push(Problem::invalid(path, value, key.advice(value)));
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

    /// Why the grace period contradicts the mode. `None` if it does not.
    #[must_use]
    pub fn contradiction(&self) -> Option<&'static str> {
        let grace = self.grace_period?;
        match self.mode {
            Mode::Force if !grace.is_zero() => {
                Some("mode `force` kills without a grace period; remove this setting")
            }
            Mode::Evict | Mode::Delete if grace.is_zero() => {
                Some("a grace period of `0s` needs mode `force`; write a longer one, such as `10s`")
            }
            Mode::Evict | Mode::Delete | Mode::Force => None,
        }
    }

    /// The time zone that `except` follows, and `cron` if it names no time zone. This is the time
    /// zone of the active hours, or UTC if there are none.
    #[must_use]
    pub fn zone(&self) -> TimeZone {
        self.active_hours.as_ref().map_or(TimeZone::UTC, |hours| hours.zone().clone())
    }

    /// The schedule of this namespace with everything else that its slots depend on, except the
    /// namespace's UID.
    #[must_use]
    pub fn timetable(&self, shortest_interval: Duration) -> Timetable {
        Timetable::new(self.schedule.clone(), self.also_at, self.active_hours.as_ref(), shortest_interval)
    }
}

/// The error for a value that does not have the form of its setting. [`Key::expected`] describes
/// the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUnderstood;

pub(crate) fn permission(is_allowed: bool) -> &'static str {
    if is_allowed { "allow" } else { "refuse" }
}

fn parse_permission(text: &str) -> Option<bool> {
    match text {
        "refuse" => Some(false),
        "allow" => Some(true),
        _ => None,
    }
}

fn parse_grace(text: &str) -> Option<Duration> {
    if text == "0s" { Some(Duration::ZERO) } else { durations::parse(text) }
}

#[cfg(test)]
mod tests;
