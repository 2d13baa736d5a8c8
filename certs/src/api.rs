//! What the process reads and writes outside itself: Secrets, the webhook configuration, mounted
//! files, and the certificate of each endpoint. The webhook uses [`keyring`] and [`reload`].

pub mod inject;
pub mod keyring;
pub mod probe;
pub mod reload;
pub mod secrets;
