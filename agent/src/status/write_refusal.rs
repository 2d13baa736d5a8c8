//! Whether the API server refuses the writes of a record's status.

use super::store::StoreError;

/// Whether the API server refuses this process's writes, for a reason that is not temporary.
#[derive(Debug, Default)]
pub(super) struct WriteRefusal {
    /// Whether a write was refused since the last write that succeeded.
    is_known: bool,
    /// The message of the API server, until a caller takes it in order to report it.
    untold: Option<String>,
}

impl WriteRefusal {
    pub(super) fn note(&mut self, written: &Result<(), StoreError>) {
        match written {
            Ok(()) => *self = Self::default(),
            Err(StoreError::Call(error)) if is_definite(error.code()) => {
                if !self.is_known {
                    *self = Self { is_known: true, untold: Some(error.to_string()) };
                }
            }
            Err(_) => {}
        }
    }

    /// The message of the API server, once.
    pub(super) fn take(&mut self) -> Option<String> {
        self.untold.take()
    }
}

/// Whether this answer to a write is a refusal that lasts until somebody acts. A record that is
/// gone or has changed is not such a refusal.
fn is_definite(code: Option<u16>) -> bool {
    code.is_some_and(|code| (400..500).contains(&code) && !matches!(code, 401 | 404 | 408 | 409 | 429))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_pass_is_a_refusal_of_a_write() {
        for code in [400, 403, 413, 422] {
            assert!(is_definite(Some(code)), "{code}");
        }
        for code in
            [None, Some(200), Some(401), Some(404), Some(408), Some(409), Some(429), Some(500), Some(504)]
        {
            assert!(!is_definite(code), "{code:?}");
        }
    }
}
