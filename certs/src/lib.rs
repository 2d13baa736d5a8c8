//! The webhook's CA and serving certificate: issued, stored, made known to the API server, and rotated so that no admission fails.
//!
//! Nothing remembers how far a rotation has come; each tick reads what is there and [`plan`] says the one next act, which makes every
//! act repeatable and a crash between any two harmless. In the order in which [`plan::plan`] looks:
//!
//! | state found | act |
//! | --- | --- |
//! | no CA, a damaged one, or one that ends within the lookahead | issue a CA; what was trusted until now becomes *previous* |
//! | the previous CAs are not those still needed (one has expired, one was lost) | store them again |
//! | `caBundle` of some webhook is not CA + previous CAs | inject the bundle |
//! | no serving certificate, or one that nobody could accept | issue one at once: there is nothing to protect |
//! | the serving certificate is the CA's and ends within the lookahead | issue one at once: the CA is trusted already |
//! | `ca.crt` beside the serving certificate is not the bundle | publish it |
//! | the serving certificate is a previous CA's | wait until the bundle was seen injected for the settle time, then issue |
//! | one of those two, but an endpoint serves something else than the bundle accepts, or does not answer | look again ([`plan::plan`] says for how long) |
//! | all as it should be | rest |
//!
//! A serving certificate never outlives its CA, so a previous CA that has expired can be dropped: nothing it signed is still good. It
//! goes once each endpoint was seen to serve what the rest of the bundle accepts ([`served`]).
//!
//! The CA lives in Secret `certs-ca`, which only this process reads; the webhook mounts `webhook-tls` and takes a new pair over
//! without a restart ([`reload`]). If `certs-ca` is lost, its key is lost, and its successor starts a rotation: the lost CA stays in
//! the bundle until it expires, because replicas still serve under it. The other side of that: to stop trusting a CA at once, because
//! its key has leaked, scale `certs` to 0, delete both Secrets, remove `caBundle` from each webhook, and scale `certs` to 1.
//!
//! Pure: [`certificate`], [`issue`] (but for the randomness of keys), [`bundle`], [`stored`], [`plan`], [`settled`], [`foreign`]. I/O:
//! [`store`], [`inject`], [`served`], [`rotation`], [`reload`], [`mod@run`].

pub mod args;
pub mod bundle;
pub mod certificate;
pub mod foreign;
pub mod health;
pub mod inject;
pub mod issue;
pub mod metrics;
pub mod plan;
pub mod reload;
pub mod rotation;
pub mod run;
pub mod served;
pub mod settled;
pub mod store;
pub mod stored;

pub use args::Args;
pub use metrics::Metrics;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod verify;
