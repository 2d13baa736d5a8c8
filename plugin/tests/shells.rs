//! The completion scripts in the shells that they are for: what a Tab makes of a line.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of its own, with the plugin on a path and its scripts.
struct Installed {
    folder: PathBuf,
}

impl Installed {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("kubectl-chaos-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kubectl-chaos"), folder.join("kubectl-chaos"))
            .unwrap();
        let contexts = ["staging", "arn:aws:eks:one"].map(|name| format!("{{name: '{name}'}}")).join(", ");
        std::fs::write(folder.join("config"), format!("contexts: [{contexts}]\n")).unwrap();
        Self { folder }
    }

    /// The script of this shell, as a file.
    fn script(&self, shell: &str) -> PathBuf {
        let output =
            Command::new(self.folder.join("kubectl-chaos")).args(["completion", shell]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let file = self.folder.join(format!("_{shell}"));
        std::fs::write(&file, output.stdout).unwrap();
        file
    }

    /// With the plugin on the path, and a kubeconfig that has contexts and no cluster.
    fn in_place(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", self.path()).env("KUBECONFIG", self.folder.join("config"));
        command
    }

    fn path(&self) -> String {
        format!("{}:{}", self.folder.display(), std::env::var("PATH").unwrap_or_default())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

fn has(shell: &str) -> bool {
    let found =
        Command::new(shell).args(["-c", "exit 0"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        // Not by a macro, whose output a passing test doesn't show.
        let skipped = format!(
            "SKIPPED: there is no {shell} here; hack/cluster/packages.sh {shell} installs it on Debian\n"
        );
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    }
    found
}

/// What bash offers for the last of these words, without any package of completions.
fn bash_offers(installed: &Installed, script: &Path, words: &[&str]) -> Vec<String> {
    let list: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let ask = format!(
        "source '{}'\nCOMP_WORDS=({})\nCOMP_CWORD={}\nCOMP_LINE=\"${{COMP_WORDS[*]}}\"\nCOMP_POINT=${{#COMP_LINE}}\n\
         declared=$(complete -p kubectl-chaos); [[ $declared =~ -F\\ ([^ ]+) ]] || exit 3\n\
         \"${{BASH_REMATCH[1]}}\" kubectl-chaos \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        list.join(" "),
        words.len() - 1
    );
    let output = installed.in_place("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    if !has("bash") {
        return;
    }
    let installed = Installed::new("bash");
    let script = installed.script("bash");
    assert_eq!(bash_offers(&installed, &script, &["kubectl-chaos", "o"]), ["on", "off"]);
    assert_eq!(bash_offers(&installed, &script, &["kubectl-chaos", "on", "a", "--sched"]), ["--schedule"]);
    assert_eq!(
        bash_offers(&installed, &script, &["kubectl-chaos", "status", "--output", ""]),
        ["text", "json"]
    );
    assert_eq!(
        bash_offers(&installed, &script, &["kubectl-chaos", "on", ""]),
        [""],
        "no cluster tells the names of namespaces"
    );
    // As bash breaks the words.
    for (words, offered) in [
        (&["kubectl-chaos", "status", "--output", "=", "j"][..], &["json"][..]),
        (&["kubectl-chaos", "status", "--output", "="], &["text", "json"]),
        (&["kubectl-chaos", "on", "--context", "st"], &["staging"]),
        (&["kubectl-chaos", "on", "--context", "arn", ":", "aws", ":", "e"], &["eks:one"]),
        (&["kubectl-chaos", "on", "--context", "=", "arn", ":"], &["aws:eks:one"]),
    ] {
        assert_eq!(bash_offers(&installed, &script, words), offered, "{words:?}");
    }
    let all = bash_offers(&installed, &script, &["kubectl-chaos", ""]);
    assert!(all.contains(&"resume".to_owned()) && !all.contains(&"__complete".to_owned()), "{all:?}");
}

/// What a line has become in an interactive zsh after a Tab.
fn zsh_makes(installed: &Installed, script: &Path, typed: &str) -> String {
    let seen = installed.folder.join("seen");
    let _none = std::fs::remove_file(&seen);
    let setup = installed.folder.join("setup.zsh");
    let text = format!(
        "PS1=\nautoload -Uz compinit\ncompinit -u -D\nsource '{}'\n\
         tell() {{ print -r -- \"$BUFFER\" > '{}'; exit }}\nzle -N tell\nbindkey '^X' tell\nprint ready\n",
        script.display(),
        seen.display()
    );
    std::fs::write(&setup, text).unwrap();
    // A terminal of its own for the interactive shell, which is the only one that completes. `zpty
    // -r` gives up where nothing comes.
    let drive = format!(
        "zmodload zsh/zpty\nzpty shell zsh -f -i\nzpty -w shell 'source {}'\nzpty -r shell said '*ready*' || exit 3\n\
         zpty -w -n shell $'{typed}\\t\\x18'\nwhile zpty -r shell said; do :; done\ntrue",
        setup.display()
    );
    let output = installed
        .in_place("timeout")
        .args(["30", "zsh", "-f", "-c", &drive])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let line = std::fs::read_to_string(&seen).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    line.trim_end_matches('\n').to_owned()
}

#[test]
fn zsh_completes_commands_flags_and_values() {
    if !has("zsh") {
        return;
    }
    let installed = Installed::new("zsh");
    let script = installed.script("zsh");
    for (typed, expected) in [
        ("kubectl-chaos stat", "kubectl-chaos status "),
        ("kubectl-chaos on a --sched", "kubectl-chaos on a --schedule "),
        ("kubectl-chaos status --output j", "kubectl-chaos status --output json "),
        ("kubectl-chaos status --output=j", "kubectl-chaos status --output=json "),
        ("kubectl-chaos on --context=st", "kubectl-chaos on --context=staging "),
        ("kubectl-chaos __comp", "kubectl-chaos __comp"),
    ] {
        assert_eq!(zsh_makes(&installed, &script, typed), expected);
    }
}

#[test]
fn kubectl_is_answered_in_its_own_form() {
    let installed = Installed::new("kubectl");
    let script = installed.script("kubectl");
    // As kubectl calls it: the words after `kubectl chaos`, the last one unfinished.
    for (words, expected) in [
        (&["o"][..], "on\noff\n:4\n"),
        (&["on", "a", "--sched"], "--schedule\n:4\n"),
        (&["status", "-o", "j"], "json\n:4\n"),
        (&["status", "-o=j"], "json\n:4\n"),
        (&["on", "--context", ""], "staging\narn:aws:eks:one\n:4\n"),
        (&["on", "--kubeconfig", ""], ":0\n"),
        (&["on", ""], ":4\n"),
        (&["nothing", "x"], ":4\n"),
    ] {
        let output = installed.in_place("sh").arg(&script).args(words).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "{words:?}");
    }
}
