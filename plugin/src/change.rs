//! Turns arguments into annotations, and annotations into the `kubectl` command that sets them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::settings::Key;
use policy::well_known::{CHAOS, HALT, YES, is_chaos_key};
use serde_json::{Value, json};

use crate::args::Target;
use crate::flags::SettingFlags;
use crate::{shell, suggest};

/// Annotations to set or to remove on one Namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The name of the Namespace.
    pub namespace: String,
    /// The new value of each annotation. `None` removes the annotation.
    pub annotations: BTreeMap<String, Option<String>>,
    /// Whether the API server only checks the change and stores nothing.
    pub dry_run: bool,
}

impl Change {
    fn new(namespace: &str, annotations: BTreeMap<String, Option<String>>) -> Self {
        Self { namespace: namespace.to_owned(), annotations, dry_run: false }
    }

    /// Opts a namespace in, with these settings.
    #[must_use]
    pub fn on(namespace: &str, settings: &SettingFlags) -> Self {
        let settings = settings.0.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
        let consent = (CHAOS.to_owned(), Some(YES.to_owned()));
        Self::new(namespace, settings.chain([consent]).collect())
    }

    /// Opts a namespace out. Of the annotations that are `present`, removes all that belong to Pure
    /// Chaos, except the halt. A halt only ever narrows consent, so it stays.
    #[must_use]
    pub fn off<'a>(namespace: &str, present: impl IntoIterator<Item = &'a str>) -> Self {
        let ours = present.into_iter().filter(|key| is_chaos_key(key));
        Self::new(namespace, ours.map(|key| (key.to_owned(), None)).collect())
    }

    /// Asks for one more round, at the instant `slot`.
    #[must_use]
    pub fn now(namespace: &str, slot: Timestamp) -> Self {
        Self::new(namespace, BTreeMap::from([(Key::AlsoAt.annotation(), Some(slot.to_string()))]))
    }

    /// Withdraws the request for one more round.
    #[must_use]
    pub fn not_now(namespace: &str) -> Self {
        Self::new(namespace, BTreeMap::from([(Key::AlsoAt.annotation(), None)]))
    }

    /// Halts a namespace. On namespace `pure-chaos`, this halts everything.
    #[must_use]
    pub fn halt(namespace: &str, reason: &str) -> Self {
        Self::new(namespace, BTreeMap::from([(HALT.to_owned(), Some(reason.to_owned()))]))
    }

    /// Ends the halt of a namespace.
    #[must_use]
    pub fn resume(namespace: &str) -> Self {
        Self::new(namespace, BTreeMap::from([(HALT.to_owned(), None)]))
    }

    /// The same change, which the API server only checks if `dry_run` is true.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether the change only narrows consent, whatever the annotations were before. This is so if
    /// the change does nothing but set a halt or remove the opt-in with its settings.
    #[must_use]
    pub fn only_narrows(&self) -> bool {
        let is_setting = |key: &str| self.annotations.contains_key(CHAOS) || key == HALT;
        self.annotations.iter().all(|(key, value)| (key == HALT) == value.is_some() && is_setting(key))
    }

    /// The change as a JSON merge patch.
    #[must_use]
    pub fn patch(&self) -> Value {
        json!({"metadata": {"annotations": self.annotations}})
    }

    /// The `kubectl` command that makes the same change. You can paste it into a shell.
    #[must_use]
    pub fn command(&self, target: &Target) -> String {
        let mut words = vec!["annotate"];
        if self.annotations.values().any(Option::is_some) {
            words.push("--overwrite");
        }
        if self.dry_run {
            words.push("--dry-run=server");
        }
        words.extend(["namespace", &self.namespace]);
        let mut command = suggest::kubectl(target, &words);
        for (key, value) in &self.annotations {
            command.push(' ');
            match value {
                Some(value) => command.push_str(&format!("{}={}", shell::quoted(key), shell::quoted(value))),
                None => command.push_str(&format!("{}-", shell::quoted(key))),
            }
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> SettingFlags {
        SettingFlags(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn an_opt_in_is_the_command_of_the_documents() {
        let change = Change::on("learning-place", &settings(&[("purechaos.dev/schedule", "every 10m")]));
        assert_eq!(
            change.command(&Target::default()),
            "kubectl annotate --overwrite namespace learning-place chaos=yes purechaos.dev/schedule='every 10m'"
        );
        assert_eq!(
            change.patch(),
            json!({"metadata": {"annotations": {"chaos": "yes", "purechaos.dev/schedule": "every 10m"}}})
        );
    }

    #[test]
    fn an_opt_out_removes_what_is_ours_in_any_case_and_no_halt() {
        let change = Change::off("a", ["chaos", "team", "PureChaos.dev/limit", "purechaos.dev/halt"]);
        assert_eq!(
            change.command(&Target::default()),
            "kubectl annotate namespace a PureChaos.dev/limit- chaos-"
        );
        assert_eq!(
            change.patch(),
            json!({"metadata": {"annotations": {"chaos": null, "PureChaos.dev/limit": null}}})
        );
        assert!(Change::off("a", ["team"]).annotations.is_empty());
    }

    #[test]
    fn what_only_narrows_is_known() {
        let narrows = [Change::halt("a", "r"), Change::off("a", ["chaos", "purechaos.dev/dry-run"])];
        assert!(narrows.iter().all(Change::only_narrows));
        let now = Change::now("a", "2026-11-23T12:00:10Z".parse().unwrap());
        let widens = [
            Change::on("a", &settings(&[])),
            Change::resume("a"),
            now,
            Change::off("a", ["purechaos.dev/dry-run"]),
        ];
        assert!(!widens.iter().any(Change::only_narrows));
    }

    #[test]
    fn a_halt_keeps_its_reason_and_the_cluster_its_name() {
        let target = Target {
            kubeconfig: Some("/tmp/my config".into()),
            context: Some("prod".to_owned()),
            namespace: None,
        };
        let change = Change::halt("pure-chaos", "it's incident 4711").with_dry_run(true);
        assert_eq!(
            change.command(&target),
            r"kubectl --kubeconfig '/tmp/my config' --context prod annotate --overwrite --dry-run=server namespace pure-chaos purechaos.dev/halt='it'\''s incident 4711'"
        );
        assert_eq!(
            Change::now("a", "2026-11-23T12:00:10Z".parse().unwrap()).command(&Target::default()),
            "kubectl annotate --overwrite namespace a purechaos.dev/also-at=2026-11-23T12:00:10Z"
        );
        assert_eq!(
            Change::resume("a").command(&Target::default()),
            "kubectl annotate namespace a purechaos.dev/halt-"
        );
    }
}
