//! Completion. One rule answers all: kubectl's own completion asks plugins for it, and the scripts for shells ask as kubectl does.

use clap::{Arg, Command, ValueHint};

use crate::args::Shell;

const FOR_BASH: &str = include_str!("completion/bash.sh");
const FOR_ZSH: &str = include_str!("completion/zsh.zsh");
/// Where kubectl looks for a plugin's completion: an executable `kubectl_complete-chaos` on the path.
const FOR_KUBECTL: &str = "#!/bin/sh\nexec kubectl-chaos __complete -- \"$@\"\n";

/// What tells the asking shell to offer files.
const FILES: &str = ":0";
/// What tells it to offer no files.
const NO_FILES: &str = ":4";

/// A completion script.
#[must_use]
pub fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => FOR_BASH,
        Shell::Zsh => FOR_ZSH,
        Shell::Kubectl => FOR_KUBECTL,
    }
}

/// What could stand for the last of these words, one in each line, and in the last whether a file could; as kubectl wants it.
#[must_use]
pub fn answer(mut command: Command, words: &[String]) -> String {
    // So that the flags of all commands are with each.
    command.build();
    let (candidates, files) = candidates(&command, words);
    let lines = candidates.into_iter().chain([files.to_owned()]);
    lines.map(|line| format!("{line}\n")).collect()
}

fn candidates(root: &Command, words: &[String]) -> (Vec<String>, &'static str) {
    let Some((last, before)) = words.split_last() else {
        return (Vec::new(), NO_FILES);
    };
    let (mut command, mut awaited) = (root, None);
    for word in before {
        awaited = match (awaited, flag(command, word)) {
            (None, Some(flag)) => Some(flag).filter(|flag| takes_a_word(flag)),
            (None, None) => {
                command = command.find_subcommand(word).unwrap_or(command);
                None
            }
            // The value of the flag before it, whatever it looks like.
            (Some(_), _) => None,
        };
    }
    let all: Vec<String> = if let Some(awaited) = awaited {
        if awaited.get_value_hint() == ValueHint::AnyPath {
            return (Vec::new(), FILES);
        }
        values(awaited)
    } else if last.starts_with('-') {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
    } else if command.has_subcommands() {
        let shown = command.get_subcommands().filter(|known| !known.is_hide_set());
        shown.map(|known| known.get_name().to_owned()).collect()
    } else {
        command.get_positionals().flat_map(values).collect()
    };
    (all.into_iter().filter(|candidate| candidate.starts_with(last.as_str())).collect(), NO_FILES)
}

fn flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| {
        let is_short = argument.get_short().is_some_and(|short| word == format!("-{short}"));
        is_short || argument.get_long().is_some_and(|long| word == format!("--{long}"))
    })
}

/// Whether its value is the next word, and not behind `=` only.
fn takes_a_word(flag: &Arg) -> bool {
    flag.get_action().takes_values() && !flag.is_require_equals_set()
}

fn values(argument: &Arg) -> Vec<String> {
    let values = argument.get_possible_values();
    values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Args;
    use clap::CommandFactory;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let answer = answer(Args::command(), &words);
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
        // No value is known, and the namespace is none of the commands.
        assert!(completed(&["on", "--schedule", ""]).is_empty());
        assert!(completed(&["on", "--dry-run", ""]).is_empty());
        // Nor is a flag's value a command.
        assert_eq!(completed(&["-n", "on", "stat"]), ["status"]);
    }

    #[test]
    fn files_are_offered_only_where_one_is_meant() {
        let ask = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            answer(Args::command(), &words)
        };
        assert_eq!(ask(&["on", "--kubeconfig", ""]), ":0\n");
        assert_eq!(ask(&["on", "--context", ""]), ":4\n");
        assert_eq!(ask(&[]), ":4\n");
    }
}
