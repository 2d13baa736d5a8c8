//! The names of the settings.

use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::durations;
use crate::schedule::Schedule;
use crate::settings::Kinds;
use crate::well_known::PREFIX;
use crate::{active_hours, excluded_days, faults, pod_selector, schedule, steady_state};

/// The settings that this version understands. Any other key of this project on a namespace is
/// refused, except `chaos` and the halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Key {
    /// When rounds happen.
    Schedule,
    /// The instant of one more round.
    AlsoAt,
    /// The hours outside which nothing is killed.
    ActiveHours,
    /// Days on which nothing is killed.
    Except,
    /// How a Pod is killed.
    Mode,
    /// The kinds of round.
    Faults,
    /// The most Pods that a round may kill.
    Limit,
    /// The most Pods of one workload that a round may kill.
    PerWorkload,
    /// The kinds of workload whose Pods may be killed.
    Kinds,
    /// A label selector for the Pods that may be killed.
    Targets,
    /// Whether a Pod may be killed if its workload wants only one Pod.
    SingleReplica,
    /// Whether a Pod may be killed if its workload already has fewer Ready Pods than it wants.
    BelowDesired,
    /// The grace period of each kill, instead of the Pod's own.
    GracePeriod,
    /// The minimum age of a Pod. Younger Pods are left alone.
    MinAge,
    /// How long a recovery may take. A recovery that takes longer is `timed_out`.
    RecoveryDeadline,
    /// The checks that have to hold before a round, and that are sampled during its recoveries.
    SteadyState,
    /// Whether a check that breaks during a round ends the round.
    AbortOnBroken,
    /// The instant at which the opt-in expires.
    Expires,
    /// Whether rounds do everything but the kill.
    DryRun,
}

impl Key {
    /// All settings, in the order in which the documentation lists them.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name of the setting: the part of the annotation key after the prefix, and the key in the
    /// policy file.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// The annotation key of the setting, with the prefix.
    #[must_use]
    pub fn annotation(self) -> String {
        format!("{PREFIX}{}", self.word())
    }

    /// The form that a value must have, with an example.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Schedule => schedule::EXPECTED,
            Self::AlsoAt | Self::Expires => "an instant, such as `2026-12-24T18:00:00Z`",
            Self::ActiveHours => active_hours::EXPECTED,
            Self::Except => excluded_days::EXPECTED,
            Self::Mode => "`evict`, `delete` or `force`",
            Self::Faults => faults::EXPECTED,
            Self::Limit => {
                "a whole number of Pods per round, at least 1, such as `1`, or a percentage of the \
                 Pods that could be killed, such as `10%`"
            }
            Self::PerWorkload => {
                "a whole number of Pods of one workload, at least 1, such as `1`, or a percentage of \
                 the Pods that it wants, such as `25%`"
            }
            Self::Kinds => {
                "kinds of workloads joined with commas, such as `Deployment,StatefulSet`; \
                 `Job` is not allowed, because its Pods run to completion"
            }
            Self::Targets => pod_selector::EXPECTED,
            Self::SingleReplica | Self::BelowDesired => "`refuse` or `allow`",
            Self::GracePeriod => "a duration, such as `10s`; `0s` only with mode `force`",
            Self::MinAge => durations::EXPECTED,
            Self::SteadyState => steady_state::EXPECTED,
            Self::RecoveryDeadline => "a duration, such as `5m`",
            Self::AbortOnBroken | Self::DryRun => "`true` or `false`",
        }
    }

    /// What to write instead of a value that is not understood.
    #[must_use]
    pub fn advice(self, value: &str) -> String {
        let advice = match self {
            Self::Kinds => Kinds::advice(value),
            Self::Schedule => Schedule::advice(value),
            _ => None,
        };
        let expected = format!("expected {}", self.expected());
        advice.map_or(expected.clone(), |advice| format!("{advice}; {expected}"))
    }

    /// Finds the setting with this name.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}
