//! The secret segment of the webhook's path, `/opt-in/SEGMENT`, by which the webhook knows the API
//! server. This module is pure.
//!
//! A segment contains the second in which it was made, and an HMAC of that second and of the route.
//! So a process that has the keys can recognise a segment that somebody made up, a segment of one
//! route is not valid for another route, and each segment expires by its own time. [`crate::path`]
//! makes and injects segments. The webhook reads the keys from a file ([`crate::api::keyring`]), so
//! nobody has to tell the webhook about a new segment.

use jiff::Timestamp;
use ring::hmac;

/// Key of Secret `webhook-path`, and name of the mounted file, that holds the keys.
pub const KEYS: &str = "path-keys";

/// Bytes of a key, and of the HMAC that a key makes.
const BYTES: usize = 32;
/// The most keys: the previous, the current and the next one.
const MOST: usize = 3;

/// Two or three keys, the oldest first. The second to last key is the current one, and makes
/// segments. The last key becomes current at the next rotation, when every replica has it. Segments
/// of all keys are valid.
#[derive(Clone)]
pub struct Keys {
    lines: Vec<String>,
    macs: Vec<hmac::Key>,
}

impl Keys {
    /// Creates the first two keys.
    #[must_use]
    pub fn of(current: [u8; BYTES], next: [u8; BYTES]) -> Self {
        let macs = [current, next].map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Self { lines: [current, next].map(hex::encode).into(), macs: macs.into() }
    }

    /// Reads keys in the form of [`Self::text`]: one key a line, the oldest first. Returns `None`
    /// if the text has another form.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let lines: Vec<String> = std::str::from_utf8(text).ok()?.lines().map(str::to_owned).collect();
        let keys: Option<Vec<_>> = lines.iter().map(|line| unhex(line)).collect();
        let macs: Vec<_> = keys?.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect();
        (2..=MOST).contains(&macs.len()).then_some(Self { lines, macs })
    }

    /// Returns the keys in the form in which they are stored.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Returns the keys after a rotation. The next key becomes the current one; every replica has
    /// had it since the last rotation. `next` becomes the next key.
    #[must_use]
    pub fn rotated(&self, next: [u8; BYTES]) -> Self {
        let mut rotated = self.clone();
        rotated.lines.push(hex::encode(next));
        rotated.macs.push(hmac::Key::new(hmac::HMAC_SHA256, &next));
        if rotated.macs.len() > MOST {
            rotated.lines.remove(0);
            rotated.macs.remove(0);
        }
        rotated
    }

    /// Returns the path for a route such as `opt-in`, with a segment made at `now`.
    #[must_use]
    pub fn path(&self, route: &str, now: Timestamp) -> String {
        let made = format!("{:x}", now.as_second());
        let tag = self.current().map(|key| hmac::sign(key, message(route, &made).as_bytes()));
        format!("/{route}/{made}-{}", tag.map(hex::encode).unwrap_or_default())
    }

    /// Returns when a segment of this route was made, or `None` if none of the keys made it. The
    /// HMAC is compared in constant time.
    #[must_use]
    pub fn made(&self, route: &str, segment: &str) -> Option<Timestamp> {
        self.made_by(&self.macs, route, segment)
    }

    /// Returns when a segment of this route was made, or `None` if the current key did not make it.
    #[must_use]
    pub fn made_by_current(&self, route: &str, segment: &str) -> Option<Timestamp> {
        self.made_by(self.current().map(std::slice::from_ref)?, route, segment)
    }

    fn made_by(&self, keys: &[hmac::Key], route: &str, segment: &str) -> Option<Timestamp> {
        let (made, tag) = segment.split_once('-')?;
        let (tag, message) = (unhex(tag)?, message(route, made));
        let is_ours = keys.iter().rev().any(|key| hmac::verify(key, message.as_bytes(), &tag).is_ok());
        let second = i64::from_str_radix(made, 16).ok().filter(|_| is_ours)?;
        Timestamp::from_second(second).ok()
    }

    fn current(&self) -> Option<&hmac::Key> {
        self.macs.get(self.macs.len().checked_sub(2)?)
    }
}

/// Leaves out the keys.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("count", &self.macs.len()).finish_non_exhaustive()
    }
}

fn message(route: &str, made: &str) -> String {
    format!("{route}\n{made}")
}

/// Reads the hexadecimal form of exactly [`BYTES`] bytes.
fn unhex(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::issue::tests::{START, at};
    use proptest::prelude::*;

    fn keys() -> Keys {
        Keys::of([1; BYTES], [2; BYTES])
    }

    fn segment(keys: &Keys, route: &str) -> String {
        keys.path(route, at(START)).strip_prefix(&format!("/{route}/")).unwrap().to_owned()
    }

    #[test]
    fn a_segment_is_known_by_its_keys_for_its_route_and_says_when_it_was_made() {
        let (keys, segment) = (keys(), segment(&keys(), "opt-in"));
        assert_eq!(keys.made("opt-in", &segment), Some(at(START)));
        assert_eq!(keys.made("kill", &segment), None, "of another route");
        assert_eq!(Keys::of([3; BYTES], [4; BYTES]).made("opt-in", &segment), None, "of other keys");
        let (made, tag) = segment.split_once('-').unwrap();
        let later = format!("{:x}-{tag}", START + 1);
        for wrong in
            ["", "-", made, tag, &later, &format!("+{segment}"), &format!("{segment}0"), &segment[1..]]
        {
            assert_eq!(keys.made("opt-in", wrong), None, "{wrong}");
        }
        assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{segment}");
    }

    #[test]
    fn a_key_is_known_one_rotation_before_it_is_used_and_one_after() {
        let first = keys();
        let second = first.rotated([3; BYTES]);
        let third = second.rotated([4; BYTES]);
        // One replica's file is a whole rotation old, and another replica already has the next
        // keys.
        for (maker, replicas) in [(&first, [&first, &second]), (&second, [&first, &third])] {
            for replica in replicas {
                assert!(replica.made("kill", &segment(maker, "kill")).is_some());
            }
        }
        assert!(third.made_by_current("kill", &segment(&second, "kill")).is_none(), "it is made anew");
        let fourth = third.rotated([5; BYTES]);
        assert!(fourth.made("kill", &segment(&first, "kill")).is_none(), "gone");
        assert_eq!(fourth.macs.len(), MOST);
    }

    #[test]
    fn what_is_stored_is_read_back_and_nothing_else() {
        let keys = keys().rotated([3; BYTES]);
        let read = Keys::parse(keys.text().as_bytes()).unwrap();
        assert_eq!(read.text(), keys.text());
        assert_eq!(segment(&read, "kill"), segment(&keys, "kill"));
        assert!(!format!("{keys:?}").contains("0303"));
        let line = hex::encode([1; BYTES]);
        for wrong in [
            String::new(),
            line.clone(),
            format!("{line}\n{}", &line[1..]),
            line.repeat(2),
            format!("{line}\n").repeat(4),
        ] {
            assert!(Keys::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(Keys::parse(&[0xff]).is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_presented_is_no_panic(segment in ".*") {
            prop_assert_eq!(keys().made("opt-in", &segment), None);
        }
    }
}
