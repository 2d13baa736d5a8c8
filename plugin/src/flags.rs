//! One flag for each setting, made from [`Key::ALL`].

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use policy::settings::{Key, Problem, Settings};

/// The settings that you gave as flags, by their annotation keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingFlags(pub BTreeMap<String, String>);

impl SettingFlags {
    /// Reads the values with the webhook's own grammar, so that the plugin reports a mistake before
    /// it sends anything. Only the webhook knows the ceilings.
    ///
    /// # Errors
    /// Returns each problem, in the webhook's words.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        let mut known = Settings::built_in();
        // `0s` is valid only with mode `force`, which the namespace may have already.
        if self.0.get(&Key::GracePeriod.annotation()).is_some_and(|grace| grace == "0s") {
            known.mode = policy::settings::Mode::Force;
        }
        Settings::parse(&self.0, &known).map(drop)
    }
}

/// The only values of a setting. Empty if the setting takes other values.
#[must_use]
pub fn words(key: Key) -> &'static [&'static str] {
    match key {
        Key::Mode => &["evict", "delete", "force"],
        Key::SingleReplica | Key::BelowDesired => &["refuse", "allow"],
        Key::AbortOnBroken | Key::DryRun => &["true", "false"],
        _ => &[],
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        Key::ALL.iter().fold(command, |command, key| {
            let flag = Arg::new(key.word()).long(key.word()).value_name("VALUE").help_heading("Settings");
            let flag = flag.help(format!("{}: {}", key.annotation(), key.expected()));
            command.arg(match key {
                // The value must follow `=`. Otherwise the flag would take the namespace as its
                // value.
                Key::DryRun => flag.num_args(0..=1).require_equals(true).default_missing_value("true"),
                _ => flag,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &Key| Some((key.annotation(), matches.get_one::<String>(key.word())?.to_owned()));
        Ok(Self(Key::ALL.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> SettingFlags {
        SettingFlags(
            pairs.iter().map(|(key, value)| (format!("purechaos.dev/{key}"), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn what_is_not_understood_is_said_in_the_webhooks_words() {
        let problems = given(&[("schedule", "hourly"), ("limit", "0")]).check().unwrap_err();
        let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            ["metadata.annotations[purechaos.dev/limit]", "metadata.annotations[purechaos.dev/schedule]"]
        );
        assert!(problems[0].message.starts_with("Invalid value: \"0\": expected "), "{problems:?}");
    }

    #[test]
    fn words_that_are_offered_are_understood() {
        for &key in Key::ALL {
            for word in words(key) {
                assert_eq!(given(&[(key.word(), word)]).check(), Ok(()), "{key:?} {word}");
                assert!(key.expected().contains(&format!("`{word}`")), "{key:?} {word}");
            }
            let is_choice = key.expected().contains("` or `") && !key.expected().contains("such as");
            assert_eq!(!words(key).is_empty(), is_choice, "{key:?}: {}", key.expected());
        }
    }

    #[test]
    fn no_grace_may_fit_the_mode_that_the_namespace_has() {
        assert_eq!(given(&[("grace-period", "0s")]).check(), Ok(()));
        assert!(given(&[("grace-period", "0s"), ("mode", "evict")]).check().is_err());
        assert!(given(&[("grace-period", "10s"), ("mode", "force")]).check().is_err());
    }
}
