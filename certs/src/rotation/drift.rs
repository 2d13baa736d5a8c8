//! Detects what somebody else changed in the webhook configuration, apart from `caBundle` and path.

/// The part of the configuration that `certs` does not write, as it was last seen.
#[derive(Debug, Default)]
pub struct Foreign {
    /// `None` until the configuration was there once, because a configuration that comes later than
    /// this process is no change. `Some(None)` while the configuration is gone.
    seen: Option<Option<String>>,
}

impl Foreign {
    /// Takes over the present state. Returns whether somebody changed, deleted or created the
    /// configuration since the last call.
    pub fn observe(&mut self, now: Option<String>) -> bool {
        if self.seen.is_none() && now.is_none() {
            return false;
        }
        let is_changed = self.seen.as_ref().is_some_and(|before| *before != now);
        self.seen = Some(now);
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_from_what_was_seen() {
        let mut foreign = Foreign::default();
        let mut observe = |now: Option<&str>| foreign.observe(now.map(str::to_owned));
        assert!(!observe(None), "not there yet");
        assert!(!observe(Some("a")), "it comes");
        assert!(!observe(Some("a")));
        assert!(observe(Some("b")));
        assert!(!observe(Some("b")), "once");
        assert!(observe(None), "deleted");
        assert!(!observe(None));
        assert!(observe(Some("b")), "made again");
    }
}
