//! Issues and rotates the webhook's CA and serving certificate, stores them, and makes the CA known
//! to the API server, so that no admission review fails.
//!
//! Nothing remembers how far a rotation has come. Each tick reads the present state, and
//! [`rotation::plan`] returns the one next act. So every act can be repeated, and a crash between
//! two acts does no harm. [`rotation::plan::plan`] checks the states in this order:
//!
//! | state found | act |
//! | --- | --- |
//! | the CA is missing, damaged, revoked, expired or not yet valid, or ends within the lookahead | issue a CA; the CAs that were trusted until now become *previous*, unless they are revoked |
//! | the stored previous CAs are not the ones that are still needed (one has expired, one was lost) | store them again |
//! | the `caBundle` of some webhook is not the CA and the previous CAs | inject the bundle |
//! | the serving certificate is missing, or no API server could accept it | issue one at once: there is nothing to protect |
//! | the CA signed the serving certificate, which ends within the lookahead | issue one at once: the CA is trusted already |
//! | `ca.crt` beside the serving certificate is not the bundle | publish the bundle |
//! | a previous CA signed the serving certificate | wait until the bundle was seen injected for the settle time, then issue one |
//! | one of the two states above in which a good certificate is replaced, but an endpoint serves a certificate that the bundle does not accept, or does not answer | look again ([`rotation::plan::plan`] says for how long) |
//! | everything is as it should be | rest |
//!
//! A serving certificate never outlives its CA. So when a CA has expired, nothing that it signed is
//! still valid, and the CA can be dropped. The CA leaves the bundle once each endpoint was seen to
//! serve a certificate that the rest of the bundle accepts ([`api::probe`]).
//!
//! The CA is in Secret `certs-ca`, which only this process reads. The webhook mounts Secret
//! `webhook-tls`, and loads a new pair without a restart ([`api::reload`]).
//!
//! If Secret `certs-ca` is lost, the CA's key is lost, and a new CA starts a rotation. The lost CA
//! stays in the bundle until it expires, because replicas still serve certificates that the lost CA
//! signed.
//!
//! If a key has leaked, you can stop trusting all CAs at once: annotate Secret `certs-ca` with
//! `purechaos.dev/revoke=true`. The next tick issues a CA that has no previous one, and stores in
//! the same Secret which CAs are never trusted again. Until each replica has its new certificate,
//! reviews fail.
//!
//! The module [`path`] is independent of the certificates, and keeps the secret segment of the path
//! by which the webhook knows the API server.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`rotation`] | carries out one act at a time; [`rotation::plan`] and the other submodules choose the act, and are pure |
//! | [`x509`] | reads, issues and bundles certificates; pure except for random keys and serial numbers |
//! | [`path`] | makes and rotates the secret segment; [`path::segment`] is pure |
//! | [`api`] | reads and writes Secrets and the webhook configuration, reads mounted files, and asks each endpoint for its certificate |

pub mod api;
pub mod args;
pub mod health;
pub mod metrics;
pub mod path;
pub mod rotation;
pub mod run;
pub mod x509;

pub use args::Args;
pub use metrics::Metrics;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod verify;
