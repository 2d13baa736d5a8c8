//! The identity of this process, and its source of randomness.

use rand::Rng;
use rand::rngs::ChaCha8Rng;

/// The name of this Pod, if it is known, and an identity that no other process has.
pub(crate) fn identity(rng: &mut impl Rng) -> (Option<String>, String) {
    let instance = std::env::var("HOSTNAME").ok();
    // The name of the Pod is not enough: a container that restarts would take the Lease of its
    // predecessor for its own.
    let identity = format!("{}_{:08x}", instance.as_deref().unwrap_or("agent"), rng.next_u32());
    (instance, identity)
}

/// A random generator with a seed from the operating system.
#[expect(clippy::disallowed_methods, reason = "the one source of randomness")]
pub(crate) fn generator() -> ChaCha8Rng {
    rand::make_rng()
}
