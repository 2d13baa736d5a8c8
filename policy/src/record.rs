//! The record, `OptIn`. In its spec, the webhook tells the agent which namespaces are eligible. In
//! its status, the agent tells people what happens there.
//!
//! Instants are RFC 3339 text. A printer column of type `date` would show `<invalid>` for an
//! instant in the future.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::active_hours::ActiveHours;
use crate::schedule::{Schedule, Timetable};
use crate::settings::{Key, Settings};
use crate::share::Share;

mod status;

pub use status::{
    ACTIVE, BackOff, BrokenSample, HypothesisCounts, Intent, LastBroken, OptInStatus, Pending, Rest,
    STATE_ACTIVE, STATE_DRY_RUN, SampledCheck, ToldRefusal, WorkloadReference,
};

/// What the webhook understood of a namespace's opt-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "purechaos.dev",
    version = "v1alpha1",
    kind = "OptIn",
    plural = "optins",
    singular = "optin",
    shortname = "chaos",
    namespaced,
    status = "OptInStatus",
    derive = "PartialEq",
    doc = "The record of a namespace that opted in to chaos. Pure Chaos writes it from the Namespace's annotations. To change a setting, change the annotation, not this object.",
    printcolumn = r#"{"name":"Opted in by","type":"string","jsonPath":".spec.admission.user"}"#,
    printcolumn = r#"{"name":"Schedule","type":"string","jsonPath":".spec.settings.schedule"}"#,
    printcolumn = r#"{"name":"Next","type":"string","jsonPath":".status.nextSlot"}"#,
    printcolumn = r#"{"name":"Kills","type":"integer","jsonPath":".status.kills"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Mode","type":"string","priority":1,"jsonPath":".spec.settings.mode"}"#,
    printcolumn = r#"{"name":"Limit","type":"string","priority":1,"jsonPath":".spec.settings.limit"}"#,
    printcolumn = r#"{"name":"Dry run","type":"boolean","priority":1,"jsonPath":".spec.settings.dryRun"}"#,
    printcolumn = r#"{"name":"Last","type":"string","priority":1,"jsonPath":".status.lastSlot"}"#,
    printcolumn = r#"{"name":"Pending","type":"integer","priority":1,"jsonPath":".status.pendingCount"}"#,
    printcolumn = r#"{"name":"Recovered","type":"integer","priority":1,"jsonPath":".status.outcomes.recovered"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct OptInSpec {
    /// UID of the Namespace that this record is about.
    pub namespace_uid: String,
    /// Whether the agent may act on this record.
    pub verdict: Verdict,
    /// What is wrong, and what to do about it. The verdict can be `Admitted` here too: then the
    /// agent has no rights in the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The admission of exactly these annotations. Absent if no webhook replica saw one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// The settings as Pure Chaos understands them, with defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RecordedSettings>,
    /// The text of the namespace's own halt. Absent if the namespace is not halted. This field only
    /// informs: the agent reads the Namespace before each kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<String>,
}

/// Whether the agent may act on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Verdict {
    /// The webhook saw and admitted exactly the stored annotations.
    Admitted,
    /// The annotations are valid, but no webhook replica saw the request that set them.
    NotAdmitted,
    /// An annotation can't be parsed, or exceeds a ceiling of the platform.
    NotUnderstood,
}

/// Who opted in, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Admission {
    /// The user who made the request.
    pub user: String,
    /// When the webhook admitted the request, in RFC 3339.
    pub time: String,
    /// [`crate::digest::digest`] of the annotations that were admitted.
    pub digest: String,
    /// Which client set the annotations and when, according to the Namespace's `managedFields`. If
    /// another request sets the same annotations again, they need another admission.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set_by: String,
}

/// The settings in their own forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedSettings {
    /// When rounds are due, for example `every 10m`.
    pub schedule: String,
    /// How Pods are killed: `evict`, `delete` or `force`.
    pub mode: String,
    /// The kinds of round, separated by commas, for example `pod-kill,node-outage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<String>,
    /// The most Pods that one round kills, as a number or as a percentage of the Pods that could be
    /// killed.
    pub limit: IntOrString,
    /// How old a Pod must be before it can be killed, for example `1m`.
    pub min_age: String,
    /// Whether rounds only report what they would kill.
    pub dry_run: bool,
    /// When rounds may take place, for example `Mon-Fri 09:00-17:00 Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_hours: Option<String>,
    /// Days on which there are no rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<String>,
    /// The kinds of workloads whose Pods can be killed, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<String>,
    /// A label selector for the Pods that can be killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
    /// Whether the only Pod of a workload can be killed: `refuse` or `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_replica: Option<String>,
    /// The most Pods of one workload that one round kills, as a number or as a percentage of the
    /// Pods that the workload wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_workload: Option<IntOrString>,
    /// Whether a Pod can be killed whose workload already lacks a Pod: `refuse` or `allow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below_desired: Option<String>,
    /// The grace period of killed Pods, for example `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<String>,
    /// How long a recovery may take before it times out, for example `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_deadline: Option<String>,
    /// The time of one additional round, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also_at: Option<String>,
    /// The checks of the platform's policy that have to hold before a round, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_state: Option<String>,
    /// Whether a check that breaks during a round ends the round. Absent without checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_on_broken: Option<bool>,
    /// When the opt-in expires, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A share in the form in which Kubernetes writes numbers that can be percentages.
fn recorded(share: Share) -> IntOrString {
    match share {
        Share::Number(number) => {
            i32::try_from(number).map_or_else(|_| IntOrString::String(share.to_string()), IntOrString::Int)
        }
        Share::Percent(_) => IntOrString::String(share.to_string()),
    }
}

/// The text of a share, as the setting has it.
#[must_use]
pub fn share(recorded: &IntOrString) -> String {
    match recorded {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

impl From<&Settings> for RecordedSettings {
    fn from(settings: &Settings) -> Self {
        let print = |key| settings.print(key);
        let always = |key| settings.print(key).unwrap_or_default();
        Self {
            schedule: always(Key::Schedule),
            mode: always(Key::Mode),
            faults: print(Key::Faults),
            limit: recorded(settings.limit),
            per_workload: Some(recorded(settings.per_workload)),
            below_desired: print(Key::BelowDesired),
            min_age: always(Key::MinAge),
            dry_run: settings.dry_run,
            active_hours: print(Key::ActiveHours),
            except: print(Key::Except),
            kinds: print(Key::Kinds),
            targets: print(Key::Targets),
            single_replica: print(Key::SingleReplica),
            grace_period: print(Key::GracePeriod),
            recovery_deadline: print(Key::RecoveryDeadline),
            also_at: print(Key::AlsoAt),
            steady_state: print(Key::SteadyState),
            abort_on_broken: settings.steady_state.as_ref().map(|_| settings.abort_on_broken),
            expires: print(Key::Expires),
        }
    }
}

impl RecordedSettings {
    /// The settings that the record holds. `None` if any of them is not understood.
    #[must_use]
    pub fn understood(&self) -> Option<Settings> {
        let mut settings = Settings::built_in();
        let (limit, dry_run) = (share(&self.limit), self.dry_run.to_string());
        let per_workload = self.per_workload.as_ref().map(share);
        let abort_on_broken = self.abort_on_broken.map(|abort| abort.to_string());
        let pairs = [
            (Key::Schedule, Some(&self.schedule)),
            (Key::Mode, Some(&self.mode)),
            (Key::Limit, Some(&limit)),
            (Key::MinAge, Some(&self.min_age)),
            (Key::DryRun, Some(&dry_run)),
            (Key::ActiveHours, self.active_hours.as_ref()),
            (Key::Except, self.except.as_ref()),
            (Key::Kinds, self.kinds.as_ref()),
            (Key::Targets, self.targets.as_ref()),
            (Key::SingleReplica, self.single_replica.as_ref()),
            (Key::Faults, self.faults.as_ref()),
            (Key::PerWorkload, per_workload.as_ref()),
            (Key::BelowDesired, self.below_desired.as_ref()),
            (Key::GracePeriod, self.grace_period.as_ref()),
            (Key::RecoveryDeadline, self.recovery_deadline.as_ref()),
            (Key::AlsoAt, self.also_at.as_ref()),
            (Key::SteadyState, self.steady_state.as_ref()),
            (Key::AbortOnBroken, abort_on_broken.as_ref()),
            (Key::Expires, self.expires.as_ref()),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                settings.set(key, value).ok()?;
            }
        }
        Some(settings)
    }

    /// The schedule of the namespace with everything else that its slots depend on, except the
    /// namespace's UID. `None` if the schedule, the active hours or `also-at` are not understood.
    #[must_use]
    pub fn timetable(&self, shortest_interval: Duration) -> Option<Timetable> {
        let hours = match &self.active_hours {
            Some(hours) => Some(ActiveHours::parse(hours)?),
            None => None,
        };
        let also_at = match &self.also_at {
            Some(instant) => Some(instant.parse().ok()?),
            None => None,
        };
        Some(Timetable::new(Schedule::parse(&self.schedule)?, also_at, hours.as_ref(), shortest_interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;

    #[test]
    fn names() {
        let crd = OptIn::crd();
        assert_eq!(crd.metadata.name.as_deref(), Some("optins.purechaos.dev"));
        assert_eq!(crd.spec.names.short_names, Some(vec!["chaos".to_owned()]));
    }

    #[test]
    fn settings_survive_the_record() {
        let recorded = RecordedSettings::from(&Settings::built_in());
        let json = serde_json::to_value(&recorded).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "schedule": "every 10m", "mode": "evict", "limit": 1, "minAge": "1m", "dryRun": false,
                "kinds": "Deployment,StatefulSet,ReplicaSet", "singleReplica": "refuse", "recoveryDeadline": "5m", "perWorkload": 1, "faults": "pod-kill", "belowDesired": "refuse"
            })
        );
    }

    #[test]
    fn what_was_recorded_is_understood_as_it_was() {
        let mut settings = Settings::built_in();
        for (key, value) in [
            (Key::Schedule, "mtbf 8h"),
            (Key::ActiveHours, "Mon-Fri 09:00-17:00 Europe/Berlin"),
            (Key::Except, "2026-12-20/2027-01-03"),
            (Key::Mode, "delete"),
            (Key::Faults, "node-outage"),
            (Key::Limit, "3"),
            (Key::PerWorkload, "25%"),
            (Key::Kinds, "DaemonSet"),
            (Key::Targets, "app=web"),
            (Key::SingleReplica, "allow"),
            (Key::BelowDesired, "allow"),
            (Key::GracePeriod, "10s"),
            (Key::MinAge, "2m"),
            (Key::RecoveryDeadline, "10m"),
            (Key::AlsoAt, "2026-12-01T18:00:00Z"),
            (Key::SteadyState, "checkout-slo,no-alert"),
            (Key::AbortOnBroken, "false"),
            (Key::Expires, "2026-12-24T18:00:00Z"),
            (Key::DryRun, "true"),
        ] {
            settings.set(key, value).unwrap();
        }
        assert_eq!(RecordedSettings::from(&settings).understood(), Some(settings));
    }

    #[test]
    fn slots_are_the_same_from_the_record_and_from_the_namespace() {
        let berlin = "Mon-Fri 09:00-17:00 Europe/Berlin";
        let cases = [
            ("every 10m", None, "UTC"),
            ("cron 0 9 * * *", None, "UTC"),
            ("cron 0 9 * * *", Some(berlin), "Europe/Berlin"),
            ("cron 0 9 * * * Asia/Tokyo", None, "Asia/Tokyo"),
            ("cron 0 9 * * * Asia/Tokyo", Some(berlin), "Asia/Tokyo"),
        ];
        for (schedule, hours, zone) in cases {
            let mut settings = Settings::built_in();
            settings.set(Key::Schedule, schedule).unwrap();
            if let Some(hours) = hours {
                settings.set(Key::ActiveHours, hours).unwrap();
            }
            settings.set(Key::AlsoAt, "2026-12-24T18:00:00Z").unwrap();
            let shortest = Duration::from_secs(60);
            let timetable = settings.timetable(shortest);
            assert_eq!(timetable.zone.iana_name(), Some(zone), "{schedule} {hours:?}");
            assert_eq!(
                RecordedSettings::from(&settings).timetable(shortest),
                Some(timetable),
                "{schedule} {hours:?}"
            );
        }
    }
}
