//! The kinds of round that a namespace allows.

use std::fmt;

use strum::{EnumString, IntoStaticStr, VariantArray};

/// The form of the setting `faults`, with an example.
pub const EXPECTED: &str =
    "`pod-kill`, `node-outage` or `zone-outage`, several joined with commas, such as `pod-kill,node-outage`";

/// What a round does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Fault {
    /// The round kills a few Pods of workloads that it draws.
    PodKill,
    /// The round kills all selected Pods on one node.
    NodeOutage,
    /// The round kills all selected Pods in one zone.
    ZoneOutage,
}

impl Fault {
    /// All faults.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name of the fault, as the setting has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }
}

/// At least one fault, in the order in which they were written. A round draws one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Default for Faults {
    fn default() -> Self {
        Self(vec![Fault::PodKill])
    }
}

impl Faults {
    /// Reads faults joined with commas.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut faults = Vec::new();
        for word in text.split(',') {
            let fault = word.trim().parse().ok()?;
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        Some(Self(faults))
    }

    /// The faults.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.0
    }

    /// Whether one of the faults is not among those that are `allowed`.
    #[must_use]
    pub fn exceed(&self, allowed: &Self) -> bool {
        self.0.iter().any(|fault| !allowed.0.contains(fault))
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|fault| fault.word()).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_of_faults() {
        for (text, printed) in [
            ("pod-kill", "pod-kill"),
            ("node-outage, pod-kill", "node-outage,pod-kill"),
            ("zone-outage,zone-outage", "zone-outage"),
        ] {
            assert_eq!(Faults::parse(text).unwrap().to_string(), printed);
        }
        for text in ["", "pod-kill,", "node", "Pod-Kill", "pod-kill node-outage"] {
            assert_eq!(Faults::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_has_to_be_allowed() {
        let faults = |text| Faults::parse(text).unwrap();
        assert!(!faults("pod-kill").exceed(&faults("node-outage,pod-kill")));
        assert!(faults("pod-kill,zone-outage").exceed(&faults("pod-kill,node-outage")));
        assert!(faults("pod-kill").exceed(&faults("node-outage")));
    }
}
