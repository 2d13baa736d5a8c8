//! The modes in which a Pod can be killed.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// How a Pod is killed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Mode {
    /// Through the eviction API, which respects PodDisruptionBudgets.
    Evict,
    /// By a DELETE request, which ignores PodDisruptionBudgets.
    Delete,
    /// By a DELETE request with grace period 0. A Pod of a StatefulSet is never killed this way.
    Force,
}

impl Mode {
    /// All modes, from gentle to rough.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name of the mode in annotations, in the policy file and in metric labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Reads the name of a mode.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}
