//! Completion: scripts for shells, and the answers that kubectl's own completion asks a plugin for.

use clap::{Arg, Command};
use clap_complete::aot::{Bash, Zsh, generate};

use crate::args::Shell;

/// Where kubectl looks for a plugin's completion: an executable `kubectl_complete-chaos` on the path.
const FOR_KUBECTL: &str = "#!/bin/sh\nexec kubectl-chaos __complete -- \"$@\"\n";

/// What tells kubectl's completion to offer no files.
const NO_FILES: &str = ":4";

/// A completion script.
#[must_use]
pub fn script(mut command: Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut command, "kubectl-chaos", &mut script),
        Shell::Zsh => generate(Zsh, &mut command, "kubectl-chaos", &mut script),
        Shell::Kubectl => script.extend_from_slice(FOR_KUBECTL.as_bytes()),
    }
    script
}

/// What could stand for the last of these words, one in each line, as kubectl wants it.
#[must_use]
pub fn answer(mut command: Command, words: &[String]) -> String {
    // So that the flags of all commands are with each.
    command.build();
    let lines = candidates(&command, words).into_iter().chain([NO_FILES.to_owned()]);
    lines.map(|line| format!("{line}\n")).collect()
}

fn candidates(root: &Command, words: &[String]) -> Vec<String> {
    let Some((last, before)) = words.split_last() else {
        return Vec::new();
    };
    let found = before.iter().find_map(|word| root.find_subcommand(word));
    let command = found.unwrap_or(root);
    let awaited = before.last().and_then(|word| flag(command, word)).filter(|flag| takes_a_word(flag));
    let all: Vec<String> = if let Some(awaited) = awaited {
        values(awaited)
    } else if last.starts_with('-') {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        shown.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
    } else if found.is_none() {
        let shown = root.get_subcommands().filter(|known| !known.is_hide_set());
        shown.map(|known| known.get_name().to_owned()).collect()
    } else {
        command.get_positionals().flat_map(values).collect()
    };
    all.into_iter().filter(|candidate| candidate.starts_with(last.as_str())).collect()
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
    }

    #[test]
    fn scripts_are_for_the_plugin() {
        for (shell, words) in [
            (Shell::Bash, "complete -F _kubectl__chaos"),
            (Shell::Zsh, "#compdef kubectl-chaos"),
            (Shell::Kubectl, "kubectl-chaos __complete"),
        ] {
            let script = String::from_utf8(script(Args::command(), shell)).unwrap();
            assert!(script.contains(words), "{shell:?}: {script}");
        }
    }
}
