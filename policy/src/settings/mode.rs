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
    /// By a DELETE request with grace period 0. Only some Pods are killed this way: see
    /// [`Mode::spares`].
    Force,
}

/// The kinds of controllers whose Pods have no identity of their own.
const ANONYMOUS: [&str; 3] = ["ReplicaSet", "DaemonSet", "ReplicationController"];

impl Mode {
    /// All modes, from gentle to rough.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name of the mode in annotations, in the policy file and in metric labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Whether this mode never kills a Pod of a controller of this kind. A forced deletion does not
    /// wait for the node. If the controller gives the replacement the same name, as a StatefulSet
    /// does, two Pods with the same identity could run. Nobody knows what a custom kind does.
    #[must_use]
    pub fn spares(self, controller: &str) -> bool {
        self == Self::Force && !ANONYMOUS.contains(&controller)
    }

    /// Reads the name of a mode.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}
