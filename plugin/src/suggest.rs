//! Commands that the plugin suggests. Each is for the same cluster and the same user, and you can
//! paste it into a shell.

use crate::args::Target;
use crate::shell;

/// A `kubectl` command with these words.
#[must_use]
pub fn kubectl(target: &Target, words: &[&str]) -> String {
    command(&["kubectl"], target, words)
}

/// A `kubectl chaos` command with these words. kubectl accepts no flags before the name of a
/// plugin, so the flags follow the name.
#[must_use]
pub fn chaos(target: &Target, words: &[&str]) -> String {
    command(&["kubectl", "chaos"], target, words)
}

fn command(program: &[&str], target: &Target, words: &[&str]) -> String {
    let mut all: Vec<String> = program.iter().map(|word| (*word).to_owned()).collect();
    if let Some(file) = &target.kubeconfig {
        all.extend(["--kubeconfig".to_owned(), file.display().to_string()]);
    }
    if let Some(context) = &target.context {
        all.extend(["--context".to_owned(), context.clone()]);
    }
    all.extend(words.iter().map(|word| (*word).to_owned()));
    shell::command(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_is_named_where_each_program_takes_it() {
        let target = Target {
            kubeconfig: Some("/tmp/my config".into()),
            context: Some("staging".to_owned()),
            namespace: Some("b".to_owned()),
        };
        assert_eq!(
            kubectl(&target, &["cluster-info"]),
            "kubectl --kubeconfig '/tmp/my config' --context staging cluster-info"
        );
        assert_eq!(
            chaos(&target, &["on", "a"]),
            "kubectl chaos --kubeconfig '/tmp/my config' --context staging on a"
        );
        assert_eq!(chaos(&Target::default(), &["on", "a"]), "kubectl chaos on a");
    }
}
