//! Cuts texts from elsewhere to a size, before the process keeps, logs or sends them.

use std::fmt::{self, Display, Write};

const ELLIPSIS: &str = "…";

/// Cuts a text to at most `most` bytes. A longer text ends with `…`. `most` must be at least 3, the
/// length of `…`.
///
/// The limit counts bytes, as the API server's limits do. An annotation can have 256 KiB, so this
/// function never holds more than `most` bytes of a text.
#[must_use]
pub fn cut(text: impl Display, most: usize) -> String {
    let mut kept = Kept { text: String::new(), most, is_cut: false };
    // Writing fails only if the value itself cannot be shown. Then the part that it has shown is
    // all there is.
    write!(kept, "{text}").ok();
    let Kept { mut text, is_cut, .. } = kept;
    if is_cut {
        text.truncate(text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len())));
        text.push_str(ELLIPSIS);
    }
    text
}

/// Removes the path of each address from a message of the API server. If the API server cannot call
/// a webhook, its message has the webhook's address, whose path is secret.
#[must_use]
pub fn without_paths(message: &str) -> String {
    const SCHEME: &str = "https://";
    let mut parts = message.split(SCHEME);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|end: char| end == '"' || end.is_whitespace()).unwrap_or(part.len());
        let (address, rest) = part.split_at(end);
        kept.push_str(SCHEME);
        match address.split_once('/') {
            Some((host, _)) => kept.extend([host, "/", ELLIPSIS]),
            None => kept.push_str(address),
        }
        kept.push_str(rest);
    }
    kept
}

struct Kept {
    text: String,
    most: usize,
    is_cut: bool,
}

impl Write for Kept {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = part.floor_char_boundary(self.most - self.text.len());
        self.is_cut |= end < part.len();
        // After a part that was cut, nothing more is kept.
        if self.is_cut {
            self.most = self.text.len() + end;
        }
        self.text.push_str(&part[..end]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_host_only() {
        let failed = r#"failed to call webhook: Post "https://webhook.pure-chaos.svc:443/kill/6b08-9fc1?timeout=5s": dial tcp"#;
        let expected = r#"failed to call webhook: Post "https://webhook.pure-chaos.svc:443/…": dial tcp"#;
        assert_eq!(without_paths(failed), expected);
        assert_eq!(without_paths("see https://a/b and https://c d"), "see https://a/… and https://c d");
        assert_eq!(without_paths("no address /at all"), "no address /at all");
    }

    #[test]
    fn what_is_too_long_ends_between_characters() {
        assert_eq!(cut("grüße", 7), "grüße");
        assert_eq!(cut("grüßen", 7), "grü…");
        assert_eq!(cut("grüßen", 6), "gr…");
        assert_eq!(cut("x".repeat(100_000), 100).len(), 100);
        assert_eq!(cut("", 3), "");
        // A text that is shown in parts is cut in the same way.
        assert_eq!(cut(format_args!("{}{}{}", "ab", "éé", "c"), 7), "abééc");
        assert_eq!(cut(format_args!("{}{}{}", "ab", "éé", "cd"), 7), "abé…");
        assert_eq!(cut(format_args!("{}{}{}", "abc", "é", "d"), 4), "a…");
    }
}
