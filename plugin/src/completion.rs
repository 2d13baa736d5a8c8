//! Shell completion. One function answers all questions. kubectl asks plugins in this form, and the
//! scripts for bash and zsh do the same.

use clap::{Arg, Command, ValueHint};
use policy::settings::Key;

use crate::args::{Shell, Target};
use crate::flags;

const FOR_BASH: &str = include_str!("completion/bash.sh");
const FOR_ZSH: &str = include_str!("completion/zsh.zsh");
/// The executable `kubectl_complete-chaos`, which kubectl looks for on the path to complete a
/// plugin's line.
const FOR_KUBECTL: &str = "#!/bin/sh\nexec kubectl-chaos __complete -- \"$@\"\n";

/// Tells the shell to offer files.
const FILES: &str = ":0";
/// Tells the shell to offer no files.
const NO_FILES: &str = ":4";

/// The completion script for a shell.
#[must_use]
pub fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => FOR_BASH,
        Shell::Zsh => FOR_ZSH,
        Shell::Kubectl => FOR_KUBECTL,
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// What the last word can be.
    pub wanted: Wanted,
    /// The part of the last word that is typed already. In `--flag=value`, the part after `=`.
    pub typed: String,
    /// The cluster that the line names.
    pub target: Target,
}

/// What a word can be.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The name of a file.
    File,
    /// One of these words. If the list is empty, no word is known.
    Words(Vec<String>),
    /// The name of a context.
    Context,
    /// The name of a namespace.
    Namespace,
}

/// Reads the words of a line. The last word is unfinished.
#[must_use]
pub fn asked(mut command: Command, words: &[String]) -> Asked {
    // Gives each subcommand the global flags.
    command.build();
    let (last, before) = words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let (mut command, mut awaited, mut places, mut target) = (&command, None, 0, Target::default());
    for word in before {
        if let Some(flag) = awaited.take() {
            // This word is the value of the flag before it, whatever it looks like.
            note(flag, word, &mut target);
            continue;
        }
        match flag(command, word) {
            Some((flag, Some(value))) => note(flag, value, &mut target),
            Some((flag, None)) => awaited = Some(flag).filter(|flag| takes_a_word(flag)),
            None if word.starts_with('-') => {}
            None => match command.find_subcommand(word) {
                Some(known) => command = known,
                None => places += 1,
            },
        }
    }
    let nothing = Wanted::Words(Vec::new());
    let (wanted, typed) = match (awaited, flag(command, last)) {
        _ if words.is_empty() => (nothing, ""),
        (Some(awaited), _) => (values(awaited), last),
        (None, Some((flag, Some(typed)))) => (values(flag), typed),
        _ if last.starts_with('-') => {
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            let flags = shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
            (Wanted::Words(flags.collect()), last)
        }
        _ if command.has_subcommands() => {
            let shown = command.get_subcommands().filter(|known| !known.is_hide_set());
            (Wanted::Words(shown.map(|known| known.get_name().to_owned()).collect()), last)
        }
        _ => (command.get_positionals().nth(places).map_or(nothing, values), last),
    };
    Asked { wanted, typed: typed.to_owned(), target }
}

/// The answer in the form that kubectl expects: one candidate in each line, and a last line that
/// says whether a file can follow.
#[must_use]
pub fn answer(asked: &Asked, candidates: Vec<String>) -> String {
    let fitting = candidates.into_iter().filter(|candidate| candidate.starts_with(&asked.typed));
    let end = if asked.wanted == Wanted::File { FILES } else { NO_FILES };
    fitting.chain([end.to_owned()]).map(|line| format!("{line}\n")).collect()
}

fn note(flag: &Arg, value: &str, target: &mut Target) {
    match flag.get_id().as_str() {
        "kubeconfig" => target.kubeconfig = Some(value.into()),
        "context" => target.context = Some(value.to_owned()),
        _ => {}
    }
}

/// The flag in a word, and its value if the word contains `=`. `None` if the word is not a known
/// flag.
fn flag<'a, 'w>(command: &'a Command, word: &'w str) -> Option<(&'a Arg, Option<&'w str>)> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let flag = command.get_arguments().find(|argument| {
        let is_short = argument.get_short().is_some_and(|short| name == format!("-{short}"));
        is_short || argument.get_long().is_some_and(|long| name == format!("--{long}"))
    })?;
    Some((flag, value))
}

/// Whether the flag takes its value from the next word, and not only after `=`.
fn takes_a_word(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

fn values(argument: &Arg) -> Wanted {
    let name = argument.get_value_names().and_then(|names| names.first()).map(|name| name.as_str());
    match name {
        _ if argument.get_value_hint() == ValueHint::AnyPath => Wanted::File,
        Some("CONTEXT") => Wanted::Context,
        Some("NAMESPACE") => Wanted::Namespace,
        _ => {
            let setting = Key::of(argument.get_id().as_str()).map(flags::words).unwrap_or_default();
            let values = argument.get_possible_values();
            let shown = values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name());
            Wanted::Words(setting.iter().copied().chain(shown).map(str::to_owned).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Args;
    use clap::CommandFactory;

    fn ask(words: &[&str]) -> Asked {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        asked(Args::command(), &words)
    }

    fn completed(words: &[&str]) -> Vec<String> {
        let asked = ask(words);
        let Wanted::Words(candidates) = &asked.wanted else { panic!("{words:?}: {asked:?}") };
        let answer = answer(&asked, candidates.clone());
        let mut lines: Vec<String> = answer.lines().map(str::to_owned).collect();
        assert_eq!(lines.pop().as_deref(), Some(NO_FILES));
        lines
    }

    #[test]
    fn kubectl_is_told_commands_flags_and_values() {
        assert_eq!(completed(&["o"]), ["on", "off"]);
        assert!(!completed(&[""]).contains(&"__complete".to_owned()));
        assert_eq!(completed(&["on", "a", "--sched"]), ["--schedule"]);
        assert_eq!(completed(&["off", "--cont"]), ["--context"]);
        assert_eq!(completed(&["status", "-o", ""]), ["text", "json"]);
        assert_eq!(completed(&["completion", "b"]), ["bash"]);
        // No value is known for `--schedule`, and `on` takes only one namespace.
        assert!(completed(&["on", "--schedule", ""]).is_empty());
        assert!(completed(&["on", "a", ""]).is_empty(), "a second namespace");
        // The value of a flag is not taken for a command.
        assert_eq!(completed(&["-n", "on", "stat"]), ["status"]);
        assert_eq!(completed(&["-n=on", "stat"]), ["status"]);
    }

    #[test]
    fn values_are_completed_behind_the_equals_sign_as_well() {
        assert_eq!(completed(&["status", "--output=j"]), ["json"]);
        assert_eq!(completed(&["status", "-o="]), ["text", "json"]);
        assert_eq!(completed(&["on", "--mode="]), ["evict", "delete", "force"]);
        assert_eq!(completed(&["on", "a", "--mode", "d"]), ["delete"]);
        assert_eq!(completed(&["on", "a", "--dry-run=t"]), ["true"]);
        assert!(completed(&["on", "--nothing=j"]).is_empty());
    }

    #[test]
    fn files_are_offered_only_where_one_is_meant() {
        for words in [&["on", "--kubeconfig", ""][..], &["on", "--kubeconfig=/et"]] {
            assert_eq!(answer(&ask(words), Vec::new()), ":0\n");
        }
        assert_eq!(answer(&ask(&[]), Vec::new()), ":4\n");
    }

    #[test]
    fn names_are_asked_for_where_one_is_meant_and_of_the_cluster_that_is() {
        for (words, wanted, typed) in [
            (&["on", ""][..], Wanted::Namespace, ""),
            (&["halt", "--reason", "r", "le"], Wanted::Namespace, "le"),
            (&["status", "-n", "le"], Wanted::Namespace, "le"),
            (&["status", "--namespace=le"], Wanted::Namespace, "le"),
            (&["--context", ""], Wanted::Context, ""),
            (&["on", "a", "--context=st"], Wanted::Context, "st"),
        ] {
            assert_eq!(ask(words), Asked { wanted, typed: typed.to_owned(), target: Target::default() });
        }
        let target = ask(&["--context=staging", "on", "--kubeconfig", "/f", ""]).target;
        assert_eq!(target.context.as_deref(), Some("staging"));
        assert_eq!(target.kubeconfig, Some("/f".into()));
    }
}
