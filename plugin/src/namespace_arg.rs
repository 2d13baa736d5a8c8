//! Which namespace a command is about.

use clap::CommandFactory;
use clap::error::ErrorKind;
use policy::well_known::SYSTEM_NAMESPACE;

use crate::args::{Args, ChangeArgs, Command, ExplainArgs, HaltArgs, NowArgs, OnArgs, Target};

/// The namespace of a command. Empty if `status` names none and so uses the namespace of the
/// context. Also empty for completion, which needs no namespace.
///
/// # Errors
/// Returns an error if the namespace is missing, if two different ones are named, or if the name is
/// not valid.
pub fn of(command: &Command, target: &Target) -> Result<String, clap::Error> {
    match command {
        Command::On(OnArgs { change: ChangeArgs { name, .. }, .. })
        | Command::Off(ChangeArgs { name, .. })
        | Command::Explain(ExplainArgs { name, .. })
        | Command::Now(NowArgs { name, .. }) => {
            // The namespace of the context is a poor guess for a command that leads to kills.
            let missing = || Args::command().error(ErrorKind::MissingRequiredArgument, "name the namespace");
            given(name.as_ref(), target)?.ok_or_else(missing)
        }
        Command::Halt(HaltArgs { change: ChangeArgs { name, .. }, .. })
        | Command::Resume(ChangeArgs { name, .. }) => {
            Ok(given(name.as_ref(), target)?.unwrap_or_else(|| SYSTEM_NAMESPACE.to_owned()))
        }
        Command::Status(_) => Ok(given(None, target)?.unwrap_or_default()),
        Command::Completion { .. } | Command::Complete { .. } => Ok(String::new()),
    }
}

fn given(name: Option<&String>, target: &Target) -> Result<Option<String>, clap::Error> {
    let name = match (name, &target.namespace) {
        (Some(name), Some(other)) if name != other => {
            let wrong = format!("two namespaces are named, {name:?} and {other:?}");
            return Err(Args::command().error(ErrorKind::ArgumentConflict, wrong));
        }
        (name, other) => name.or(other.as_ref()),
    };
    match name {
        Some(name) if !is_label(name) => {
            let wrong = format!(
                "{name:?} is not a valid name of a namespace: a name has at most 63 lowercase letters, \
                 digits and hyphens, and no hyphen at either end"
            );
            Err(Args::command().error(ErrorKind::ValueValidation, wrong))
        }
        name => Ok(name.cloned()),
    }
}

/// Whether a name is a DNS label, as the name of every namespace is. Any other text would become
/// part of a URL's path, or a flag of the printed command.
fn is_label(name: &str) -> bool {
    let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 63
        && name.bytes().all(|byte| is_end(byte) || byte == b'-')
        && name.bytes().next().is_some_and(is_end)
        && name.bytes().last().is_some_and(is_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn place(line: &[&str]) -> Result<String, i32> {
        let args = Args::try_parse_from(["kubectl-chaos"].iter().chain(line)).unwrap();
        of(&args.command, &args.target).map_err(|error| error.exit_code())
    }

    #[test]
    fn what_kills_has_to_be_named_and_once() {
        for line in [&["on", "a"][..], &["on", "-n", "a"], &["on", "a", "-n", "a"], &["status", "-n", "a"]] {
            assert_eq!(place(line), Ok("a".to_owned()), "{line:?}");
        }
        for line in [&["on"][..], &["off"], &["explain"], &["now"], &["on", "a", "-n", "b"]] {
            assert_eq!(place(line), Err(2), "{line:?}");
        }
        assert_eq!(place(&["status"]), Ok(String::new()));
        assert_eq!(place(&["halt", "--reason", "r"]), Ok("pure-chaos".to_owned()));
        assert_eq!(place(&["resume"]), Ok("pure-chaos".to_owned()));
    }

    #[test]
    fn only_a_namespaces_name_is_taken_for_one() {
        let long = "a".repeat(64);
        for name in ["", "a/status", "--all", "-a", "a-", "A", "a b", "a.b", "ä", "../nodes/x", &long] {
            for line in [
                &["on", "--", name][..],
                &["halt", "--reason", "r", "--", name],
                &["resume", "--", name],
                &[&format!("--namespace={name}"), "status"],
            ] {
                assert_eq!(place(line), Err(2), "{line:?}");
            }
        }
        for name in ["a", "0", "a-0", &long[1..]] {
            assert_eq!(place(&["on", name]).as_deref(), Ok(name));
        }
    }
}
