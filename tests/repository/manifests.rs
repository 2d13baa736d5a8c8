//! Compares the manifests with the code.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use clap::CommandFactory;
use policy::platform::PlatformPolicy;
use policy::settings::{Key, Mode};
use policy::well_known;
use tests::repository::{read, root};

#[test]
fn the_custom_resource_definition_is_the_codes() {
    assert_eq!(read("manifests/base/crd.yaml"), tests::crd_yaml(), "run `make crd`");
}

#[test]
fn every_policy_file_is_understood() {
    let mut files = vec!["manifests/base/policy.yaml".to_owned()];
    for overlay in std::fs::read_dir(root().join("manifests/overlays")).unwrap() {
        let name = overlay.unwrap().file_name().into_string().unwrap();
        let file = format!("manifests/overlays/{name}/policy.yaml");
        files.extend(root().join(&file).exists().then_some(file));
    }
    assert!(files.len() > 2, "{files:?}");
    for file in files {
        PlatformPolicy::parse(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn the_role_of_the_tests_is_what_their_policy_needs() {
    let policy = PlatformPolicy::parse(&read("manifests/overlays/test/policy.yaml")).unwrap();
    let patch = agent::print_role::patch(&policy);
    assert_eq!(read("manifests/overlays/test/agent-role.yaml"), patch);
    let operations: Vec<serde_json::Value> = serde_saphyr::from_str(&patch).unwrap();
    assert_eq!(operations.len(), 2);
}

#[test]
fn the_base_policy_says_what_is_built_in() {
    let base = PlatformPolicy::parse(&read("manifests/base/policy.yaml")).unwrap();
    assert_eq!(PlatformPolicy { hash: base.hash.clone(), ..PlatformPolicy::built_in() }, base);
}

#[test]
fn cert_manager_issues_serving_certificates_for_as_long_as_certs_does() {
    let command = certs::Args::command();
    let run = command.find_subcommand("run").unwrap();
    let hours = |id: &str| {
        let flag = run.get_arguments().find(|argument| argument.get_id() == id).unwrap();
        let default = flag.get_default_values()[0].to_str().unwrap();
        let days: u32 = default.strip_suffix('d').unwrap().parse().unwrap();
        format!("{}h", days * 24)
    };
    let yaml = read("manifests/components/cert-manager/certificates.yaml");
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    let leaf = objects.iter().find(|object| object["spec"]["secretName"] == "webhook-tls").unwrap();
    assert_eq!(leaf["spec"]["duration"], hours("serving_lifetime"));
    assert_eq!(leaf["spec"]["renewBefore"], hours("lookahead"));
}

/// The objects of every manifest of the base.
fn objects() -> Vec<serde_json::Value> {
    let mut objects = Vec::new();
    for file in std::fs::read_dir(root().join("manifests/base")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "kustomization.yaml" || name == "policy.yaml" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        objects.extend(
            serde_saphyr::from_multiple::<serde_json::Value>(&text)
                .unwrap_or_else(|error| panic!("{name}: {error}")),
        );
    }
    objects
}

#[test]
fn the_rights_that_the_agent_asks_after_are_those_of_its_roles() {
    let asked: BTreeSet<String> = agent::cluster::access::NEEDED.iter().map(ToString::to_string).collect();
    let mut granted = BTreeSet::new();
    for object in objects() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if !matches!(object["kind"].as_str(), Some("Role" | "ClusterRole"))
            || !["agent", "pure-chaos-agent-records"].contains(&name)
        {
            continue;
        }
        for right in tests::rights::rights(&object) {
            let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
            let name = if right.name.is_empty() { String::new() } else { format!(" {}", right.name) };
            let place = if object["kind"] == "Role" { "in namespace pure-chaos" } else { "everywhere" };
            granted.insert(format!("{} {}{group}{name} {place}", right.verb, right.resource));
        }
    }
    assert_eq!(asked, granted);
}

#[test]
fn arguments_ports_and_probes_are_the_binaries() {
    use clap::CommandFactory;
    let commands = [agent::Args::command(), webhook::Args::command(), certs::Args::command()];
    let mut seen = 0;
    for object in objects().iter().filter(|object| object["kind"] == "Deployment") {
        let name = object["metadata"]["name"].as_str().unwrap();
        let command =
            commands.iter().find(|command| command.get_name() == name).unwrap_or_else(|| panic!("{name}"));
        let container = &object["spec"]["template"]["spec"]["containers"][0];
        let mut line = vec![name.to_owned()];
        line.extend(
            container["args"]
                .as_array()
                .unwrap()
                .iter()
                .map(|argument| argument.as_str().unwrap().to_owned()),
        );
        command.clone().try_get_matches_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"]["path"], path, "{name}");
        }
        let ports: Vec<i64> = container["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| port["containerPort"].as_i64().unwrap())
            .collect();
        assert!(ports.contains(&9090), "{name}: {ports:?}");
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// The texts between single quotes of a CEL expression.
fn quoted(expression: &str) -> BTreeSet<&str> {
    expression.split('\'').skip(1).step_by(2).collect()
}

#[test]
fn the_match_condition_names_every_setting() {
    let objects = objects();
    let configuration =
        objects.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let expression = configuration["webhooks"][0]["matchConditions"][0]["expression"].as_str().unwrap();
    let list = expression.split_once("['").unwrap().1.split_once(']').unwrap().0;
    let named = quoted(&format!("'{list}")).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    let known = Key::ALL.iter().map(|key| key.annotation()).chain([well_known::CHAOS.to_owned()]);
    assert_eq!(named, known.collect());
}

/// The words that one slip makes of `halt`: an additional letter inside, a wrong letter, a missing
/// letter, or two exchanged letters. A longer word has to contain `halt` itself.
#[test]
fn the_match_condition_asks_about_every_near_miss_of_a_halt_on_the_systems_namespace() {
    let word = "halt";
    let cut = |at: usize| word.split_at(at);
    let too_many = (1..4).map(cut).map(|(start, end)| format!("{start}[^/]{end}"));
    let other = (0..4).map(cut).map(|(start, end)| format!("{start}[^/]{}", &end[1..]));
    let too_few = (0..4).map(cut).map(|(start, end)| format!("{start}{}", &end[1..]));
    let exchanged =
        (0..3).map(cut).map(|(start, end)| format!("{start}{}{}{}", &end[1..2], &end[..1], &end[2..]));
    let slips: Vec<String> = too_many.chain(other).chain(too_few).chain(exchanged).collect();
    for slip in &slips {
        assert!(well_known::is_near_halt(&format!("example.com/{}", slip.replace("[^/]", "x"))), "{slip}");
    }
    let pattern = format!("(^|/)([^/]*halt[^/]*|{})$", slips.join("|"));
    let objects = objects();
    let configuration =
        objects.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let expression = configuration["webhooks"][0]["matchConditions"][0]["expression"].as_str().unwrap();
    assert!(quoted(expression).contains(pattern.as_str()), "{pattern}");
    let of_system = format!("object.metadata.name == '{}'", well_known::SYSTEM_NAMESPACE);
    assert!(expression.contains(&of_system), "{expression}");
}

#[test]
fn the_agent_may_not_delete_pods_unless_a_component_lets_it() {
    for object in objects() {
        let kind = object["kind"].as_str().unwrap_or_default();
        if matches!(kind, "Role" | "ClusterRole") {
            for right in tests::rights::rights(&object) {
                let reaches = right.resource.starts_with("pods") && right.verb.starts_with("delete");
                assert!(!reaches && right.verb != "*", "{right:?}");
            }
        }
    }
    let component = read("manifests/components/delete/kustomization.yaml");
    assert!(
        component.contains("verbs: [delete]")
            && component.contains("kind: ClusterRole, name: pure-chaos-agent")
    );
    // An overlay that allows these modes also gives the right.
    for overlay in std::fs::read_dir(root().join("manifests/overlays")).unwrap() {
        let name = overlay.unwrap().file_name().into_string().unwrap();
        let file = format!("manifests/overlays/{name}/policy.yaml");
        if root().join(&file).exists() {
            let modes = PlatformPolicy::parse(&read(&file)).unwrap().ceilings.modes;
            let kustomization = read(&format!("manifests/overlays/{name}/kustomization.yaml"));
            let is_given = kustomization.contains("components/delete");
            assert_eq!(modes != [Mode::Evict], is_given, "{name}");
        }
    }
}

#[test]
fn both_webhooks_fail_closed_within_five_seconds() {
    let objects = objects();
    let configuration =
        objects.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap();
    for webhook in configuration["webhooks"].as_array().unwrap() {
        assert_eq!(
            (webhook["failurePolicy"].as_str(), webhook["timeoutSeconds"].as_i64()),
            (Some("Fail"), Some(5))
        );
        assert!(webhook["namespaceSelector"].is_null(), "protected namespaces would be annotated unseen");
    }
}

#[test]
fn only_what_needs_images_asks_for_a_registry() {
    // This stand-in replaces kubectl, and knows no such context.
    let folder = std::env::temp_dir().join(format!("no-kubectl-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let kubectl = folder.join("kubectl");
    std::fs::write(&kubectl, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let asks = |script: &str| {
        let mut command = Command::new(root().join("manifests").join(script));
        command.env("CONTEXT", "nobody-has-it").env("KUBECONFIG", "/dev/null").env("PATH", &path);
        let output = command.env_remove("REGISTRY").output().unwrap();
        assert!(!output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stderr).unwrap().contains("REGISTRY")
    };
    let asking: Vec<&str> =
        ["registry.sh", "release.sh", "undeploy.sh"].into_iter().filter(|script| asks(script)).collect();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(asking, ["registry.sh", "release.sh"]);
}

#[test]
fn who_may_talk_to_whom_is_said_in_numbers() {
    let objects = objects();
    let policies = objects.iter().filter(|object| object["kind"] == "NetworkPolicy");
    let mut ports = BTreeSet::new();
    for rule in policies.flat_map(|policy| {
        let of = |way: &str| policy["spec"][way].as_array().cloned().unwrap_or_default();
        [of("ingress"), of("egress")].concat()
    }) {
        for port in rule["ports"].as_array().unwrap() {
            // Networks differ: some resolve the names of ports and some don't, and at different
            // ends.
            ports.insert((
                port["protocol"].as_str().unwrap().to_owned(),
                port["port"].as_i64().expect("a number"),
            ));
        }
    }
    // The ports of the API server, and those on which the parts themselves listen. No part resolves
    // names by DNS.
    assert_eq!(ports, [443, 6443, 8443, 9090].map(|port| ("TCP".to_owned(), port)).into());
}
