//! Compares the annotations and labels of a Namespace before and after a request.

use policy::consent::Consent;
use policy::eligibility;
use policy::settings::{Key, Problem};
use policy::well_known::{self, CHAOS, HALT, SYSTEM_NAMESPACE, YES, is_chaos_key, is_near_halt};

use crate::admission::review::{Metadata, Request};

/// A Namespace's metadata before and after a request.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    namespace: &'a str,
    old: Option<&'a Metadata>,
    new: &'a Metadata,
}

impl<'a> Change<'a> {
    /// Returns the change that a request makes to a Namespace. `new` is the metadata after the
    /// request.
    #[must_use]
    pub fn of(request: &'a Request, new: &'a Metadata) -> Self {
        let old = request.old_object.as_ref().map(|old| &old.metadata);
        let namespace = if new.name.is_empty() { &request.name } else { &new.name };
        Self { namespace, old, new }
    }

    /// Returns the chaos keys that the request sets or changes.
    pub fn set(&self) -> impl Iterator<Item = &'a str> {
        self.all_set().filter(|key| is_chaos_key(key))
    }

    /// Returns whether the request sets or changes an annotation.
    #[must_use]
    pub fn sets(&self, annotation: &str) -> bool {
        self.all_set().any(|key| key == annotation)
    }

    fn all_set(&self) -> impl Iterator<Item = &'a str> {
        let old = self.old.map(|old| &old.annotations);
        let is_new = move |key: &String, value: &String| old.and_then(|old| old.get(key)) != Some(value);
        self.new
            .annotations
            .iter()
            .filter(move |(key, value)| is_new(key, value))
            .map(|(key, _)| key.as_str())
    }

    /// Returns whether the request opts in a namespace that was not opted in before.
    #[must_use]
    pub fn begins(&self) -> bool {
        let says_yes = |metadata: &Metadata| Consent::parse(&metadata.annotations) == Consent::Yes;
        says_yes(self.new) && !self.old.is_some_and(says_yes)
    }

    /// Returns the key that a denial names: `chaos` if the Namespace has it, otherwise the first
    /// chaos key that the request sets.
    #[must_use]
    pub fn subject(&self) -> &'a str {
        if self.new.annotations.contains_key(CHAOS) { CHAOS } else { self.set().next().unwrap_or(CHAOS) }
    }

    /// Returns a problem for each key that the request sets and that can never have an effect.
    ///
    /// A namespace that is not opted in may have settings that wait for an opt-in. But a key that
    /// this version does not know may be a mistyped halt. On namespace `pure-chaos`, every key
    /// except the halt itself may be one.
    #[must_use]
    pub fn without_effect(&self) -> Vec<Problem> {
        let path = |key: &str| format!("metadata.annotations[{key}]");
        let is_known = |key: &str| Key::ALL.iter().any(|known| known.annotation() == key);
        let problem = |key: &'a str| match well_known::word(key) {
            _ if self.namespace == SYSTEM_NAMESPACE => Some(Problem {
                path: path(key),
                message: format!(
                    "Forbidden: `{HALT}` is the only annotation of Pure Chaos that has an effect on \
                     namespace {SYSTEM_NAMESPACE}; to halt all kills: \
                     kubectl annotate namespace {SYSTEM_NAMESPACE} {HALT}=\"why\""
                ),
            }),
            Some(_) if !is_known(key) => Some(eligibility::unknown(key)),
            _ => None,
        };
        self.set().filter_map(problem).collect()
    }

    /// If the request begins an opt-in, returns a line about each setting that was there before,
    /// except about the key `idle`. The opt-in obeys such a setting from now on, even if another
    /// user set it.
    #[must_use]
    pub fn laid_in_wait(&self, idle: Option<&str>) -> Vec<String> {
        let Some(old) = self.old.map(|old| &old.annotations).filter(|_| self.begins()) else {
            return Vec::new();
        };
        let waited = self
            .new
            .annotations
            .iter()
            .filter(|(key, value)| *key != CHAOS && is_chaos_key(key) && old.get(*key) == Some(*value))
            .filter(|(key, _)| Some(key.as_str()) != idle);
        waited
            .map(|(key, value)| format!("this opt-in uses a setting that was there before: {key}={value}"))
            .collect()
    }

    /// Returns the text of a denial if the request sets a key that halts nothing, although its
    /// writer may have meant a halt.
    ///
    /// A halt that is written as a label is denied on every Namespace. On `pure-chaos`, every key
    /// that is nearly a halt is denied, even with a prefix that is not ours. Otherwise nobody would
    /// notice before an incident that the halt does not hold. Near misses among our own annotations
    /// are problems of [`Self::without_effect`].
    #[must_use]
    pub fn halts_nothing(&self) -> Option<String> {
        let is_system = self.namespace == SYSTEM_NAMESPACE;
        let write = format!("kubectl annotate namespace {} {HALT}=\"why\"", self.namespace);
        let label = || {
            let is_meant = |key: &str| key == HALT || (is_system && is_near_halt(key));
            let key = self.new.labels.pairs.keys().find(|key| is_meant(key) && self.sets_label(key))?;
            Some(format!(
                "metadata.labels[{key}]: Forbidden: a label does not halt kills; write an annotation: {write}"
            ))
        };
        let annotation = || {
            // A halt that stands beside it holds; a refusal would take that away.
            let holds = self.new.annotations.contains_key(HALT);
            let is_meant = |key: &&str| !holds && is_near_halt(key) && *key != HALT && !is_chaos_key(key);
            let key = self.all_set().filter(|_| is_system).find(is_meant)?;
            Some(format!(
                "metadata.annotations[{key}]: Forbidden: this annotation does not halt kills; \
                 to halt all kills: {write}"
            ))
        };
        label().or_else(annotation)
    }

    /// Returns a warning if the request sets a label that would opt in if it were an annotation.
    #[must_use]
    pub fn labels_consent(&self) -> Option<String> {
        let is_meant = self.new.labels.pairs.get(CHAOS).is_some_and(|value| value == YES)
            && self.sets_label(CHAOS)
            && !self.new.annotations.contains_key(CHAOS);
        is_meant.then(|| {
            format!(
                "label {CHAOS}={YES} has no effect; to opt in: kubectl annotate namespace {} {CHAOS}={YES}",
                self.namespace
            )
        })
    }

    fn sets_label(&self, key: &str) -> bool {
        let of = |metadata: &'a Metadata| metadata.labels.pairs.get(key);
        of(self.new).is_some() && self.old.and_then(of) != of(self.new)
    }
}
