//! The kinds of workloads whose Pods may die.

use std::fmt;

/// Kinds in the order in which they were written, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(Vec<String>);

impl Kinds {
    /// Reads kinds joined with commas. Not `Job`: its Pods are work, and killing one measures nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut kinds = Vec::new();
        for kind in text.split(',').map(str::trim) {
            let is_kind = kind.len() <= 63
                && kind.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase())
                && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !is_kind || kind == "Job" {
                return None;
            }
            if kinds.iter().all(|known| known != kind) {
                kinds.push(kind.to_owned());
            }
        }
        Some(Self(kinds))
    }

    /// Whether `kind` is one of them.
    #[must_use]
    pub fn contain(&self, kind: &str) -> bool {
        self.0.iter().any(|known| known == kind)
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self(["Deployment", "StatefulSet", "ReplicaSet"].map(str::to_owned).to_vec())
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}
