//! The command `agent print-role`: the rights that the agent needs for a platform's policy, as a
//! patch of the role that it gets in each namespace that opted in.

use std::io::Write;

use policy::agent_role::{Rule, rules};
use policy::platform::PlatformPolicy;
use policy::steady_state::ServiceAddress;
use runtime::output::StandardOutput;

use crate::args::{PrintRoleArgs, read_policy_file};

/// The first line of the patch.
const HEAD: &str =
    "# A patch of ClusterRole pure-chaos-agent, which `agent print-role` made from the platform's policy.\n";

/// Prints the patch.
///
/// # Errors
/// When the policy file can't be read or parsed, or the output can't be written.
pub fn run(args: &PrintRoleArgs) -> anyhow::Result<()> {
    let policy = read_policy_file(&args.policy_file)?;
    Ok(StandardOutput::of_process().write_all(patch(&policy).as_bytes())?)
}

/// The patch as YAML.
#[must_use]
pub fn patch(policy: &PlatformPolicy) -> String {
    let rules: String = rules(policy).iter().map(operation).collect();
    let head = match policy.steady_state.prometheus() {
        Some(ServiceAddress { namespace, service }) => format!(
            "{HEAD}# Checks with `prometheus` also need a Role in namespace {namespace}: get services/proxy \
             {service}.\n"
        ),
        None => HEAD.to_owned(),
    };
    if rules.is_empty() {
        return format!("{head}[] # The role needs no further rights.\n");
    }
    format!("{head}{rules}")
}

/// The operation that adds a rule to the role.
fn operation(Rule { group, resources, names }: &Rule) -> String {
    // No name needs an escape, but YAML takes some words for other things than text.
    let list =
        |words: &[String]| words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let names =
        if names.is_empty() { String::new() } else { format!("    resourceNames: [{}]\n", list(names)) };
    format!(
        "- op: add\n  path: /rules/-\n  value:\n    apiGroups: [\"{group}\"]\n    resources: [{}]\n{names}    verbs: [get]\n",
        list(resources)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_adds_a_rule_for_each_group_and_one_for_services() {
        let printed = |file: &str| patch(&PlatformPolicy::parse(file).unwrap());
        let file = "steadyState: {web: {http: {service: web, port: 80}}}\n\
                    workloads: [{apiVersion: apps.kruise.io/v1alpha1, kind: CloneSet, resource: clonesets}]";
        let expected = r#"- op: add
  path: /rules/-
  value:
    apiGroups: [""]
    resources: ["services/proxy"]
    resourceNames: ["web:80"]
    verbs: [get]
- op: add
  path: /rules/-
  value:
    apiGroups: ["apps.kruise.io"]
    resources: ["clonesets", "clonesets/scale"]
    verbs: [get]
"#;
        assert_eq!(printed(file), format!("{HEAD}{expected}"));
        assert_eq!(printed(""), format!("{HEAD}[] # The role needs no further rights.\n"));
    }
}
