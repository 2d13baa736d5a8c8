//! Writes commands that you can paste into a shell.

/// Quotes a word for a POSIX shell, if it needs quotes.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Joins words to a command, and quotes those that need it.
#[must_use]
pub fn command(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn plain_words_stay_as_they_are() {
        for word in ["chaos=yes", "purechaos.dev/limit", "2026-12-24T18:00:00Z", "a,b"] {
            assert_eq!(quoted(word), word);
        }
        assert_eq!(quoted("every 10m"), "'every 10m'");
    }

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        for word in ["", "every 10m", "it's", "a;b", "$(id)", "`id`", "\"", "\\", "*", "!x", "a\nb", "é"] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word, "{script}");
        }
    }
}
