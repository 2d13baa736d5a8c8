//! README against the binaries: every flag and every metric, no more and no less.

use std::collections::{BTreeMap, BTreeSet};

use agent::back_off;
use agent::recovery::Outcome;
use agent::refusal::Refusal;
use clap::CommandFactory;
use policy::settings::Key;
use tests::exported::registries;
use tests::repository::{read, root};

/// Rows of the Markdown table below a heading, cell by cell.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document
        .split(&format!("\n{heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("README has no {heading:?}"));
    let section = section.split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn code(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_flag_of_every_binary_is_in_the_readme_with_its_default() {
    let mut flags: BTreeMap<String, (BTreeSet<String>, String)> = BTreeMap::new();
    for command in [agent::Args::command(), webhook::Args::command(), certs::Args::command()] {
        for (flag, default) in flags_of(&command, "run") {
            let entry = flags.entry(flag.clone()).or_insert_with(|| (BTreeSet::new(), default.clone()));
            entry.0.insert(command.get_name().to_owned());
            assert_eq!(entry.1, default, "{flag} has two defaults");
        }
    }
    let mut documented = BTreeMap::new();
    for row in table(&read("README.md"), "## Flags") {
        let flag = code(&row[0]).into_iter().next().unwrap();
        let parts = row[1].split(',').map(|part| part.trim().to_owned()).collect();
        documented.insert(flag, (parts, code(&row[2]).into_iter().next().unwrap_or_default()));
    }
    assert_eq!(documented, flags);
}

#[test]
fn every_flag_of_once_and_explain_is_in_the_readme_with_its_default() {
    for (subcommand, heading) in [("once", "### `agent once`"), ("explain", "### `agent explain`")] {
        let flags = flags_of(&agent::Args::command(), subcommand);
        let documented: BTreeMap<String, String> = table(&read("README.md"), heading)
            .iter()
            .map(|row| {
                (
                    code(&row[0]).into_iter().find(|word| word.starts_with("--")).unwrap(),
                    code(&row[1]).into_iter().next().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(documented, flags, "{subcommand}");
    }
}

/// Each flag with its default, empty if it has none.
fn flags_of(command: &clap::Command, subcommand: &str) -> BTreeMap<String, String> {
    let found = command.find_subcommand(subcommand);
    let found = found.unwrap_or_else(|| panic!("{} {subcommand}", command.get_name()));
    let mut flags = BTreeMap::new();
    for argument in found.get_arguments() {
        let Some(long) = argument.get_long().filter(|long| *long != "help" && *long != "version") else {
            continue;
        };
        let environment =
            argument.get_env().unwrap_or_else(|| panic!("--{long} has no variable")).to_str().unwrap();
        assert_eq!(environment, format!("PURE_CHAOS_{}", long.to_uppercase().replace('-', "_")), "--{long}");
        assert!(argument.get_help().is_some(), "--{long} has no help");
        let default = argument.get_default_values().first();
        // What is off without its flag needs no word for it.
        let default = default.filter(|value| *value != "false");
        flags.insert(
            format!("--{long}"),
            default.map_or(String::new(), |value| value.to_string_lossy().into_owned()),
        );
    }
    flags
}

#[test]
fn every_command_of_the_plugin_is_in_its_document_with_its_flags() {
    let mut command = kubectl_chaos::Args::command();
    command.build();
    let shown = command.get_subcommands().filter(|known| !known.is_hide_set() && known.get_name() != "help");
    let known: BTreeMap<String, BTreeSet<String>> = shown
        .map(|known| {
            let flags = known.get_arguments().filter(|flag| !flag.is_global_set());
            // A flag for each setting: the settings have a table of their own.
            let flags = flags.filter_map(|flag| flag.get_long()).filter(|long| Key::of(long).is_none());
            let flags = flags.filter(|long| !["help", "version"].contains(long));
            (known.get_name().to_owned(), flags.map(|long| format!("--{long}")).collect())
        })
        .collect();
    let documented: BTreeMap<String, BTreeSet<String>> = table(&read("docs/kubectl-chaos.md"), "## Commands")
        .iter()
        .map(|row| {
            let usage = code(&row[0]).into_iter().next().unwrap();
            let flags = code(&row[1]).into_iter().filter(|word| word.starts_with("--"));
            (usage.split(' ').next().unwrap().to_owned(), flags.collect())
        })
        .collect();
    assert_eq!(documented, known);
    let on = command.find_subcommand("on").unwrap();
    for key in Key::ALL {
        assert!(on.get_arguments().any(|flag| flag.get_long() == Some(key.word())), "{key:?}");
    }
}

#[test]
fn every_metric_is_in_the_readme_with_type_and_labels() {
    let mut exported: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for registry in registries() {
        for family in registry.gather() {
            if family.name().starts_with("process_") {
                continue;
            }
            let labels = family
                .get_metric()
                .iter()
                .flat_map(|metric| metric.get_label())
                .map(|pair| pair.name().to_owned());
            let labels: BTreeSet<String> = labels.collect();
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            let known =
                exported.entry(family.name().to_owned()).or_insert_with(|| (kind.clone(), labels.clone()));
            assert_eq!(known, &(kind, labels), "{}", family.name());
        }
    }
    let mut documented = BTreeMap::new();
    for row in table(&read("README.md"), "## Metrics") {
        for name in code(&row[0]) {
            documented.insert(name, (row[1].clone(), code(&row[2])));
        }
    }
    assert_eq!(documented, exported);
}

#[test]
fn every_setting_is_in_the_readme_in_order_and_with_its_default() {
    let defaults = policy::settings::Settings::built_in();
    let rows = table(&read("README.md"), "## Opt in");
    let documented: Vec<String> = rows.iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(documented, Key::ALL.map(Key::annotation));
    for (key, row) in Key::ALL.into_iter().zip(&rows) {
        let default: Vec<String> = code(&row[1]).into_iter().collect();
        assert_eq!(default, Vec::from_iter(defaults.print(key)), "{row:?}");
    }
}

#[test]
fn the_policy_file_of_the_readme_is_understood() {
    let readme = read("README.md");
    let section = readme.split("\n## The platform's policy\n").nth(1).unwrap();
    let yaml = section.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    policy::platform::PlatformPolicy::parse(yaml).unwrap();
}

#[test]
fn every_refusal_is_in_the_readme_with_its_meaning() {
    let documented: Vec<(String, String)> = table(&read("README.md"), "### What is never killed")
        .into_iter()
        .map(|row| (code(&row[0]).into_iter().next().unwrap(), row[1].clone()))
        .collect();
    let known = Refusal::ALL.map(|refusal| (refusal.label().to_owned(), refusal.meaning().to_owned()));
    assert_eq!(documented, known);
}

#[test]
fn every_outcome_of_a_recovery_is_explained() {
    let labels: BTreeSet<String> = Outcome::ALL.map(|outcome| outcome.label().to_owned()).into();
    let rows = table(&read("docs/measured.md"), "## Recovery time");
    assert_eq!(rows.iter().flat_map(|row| code(&row[0])).collect::<BTreeSet<_>>(), labels);
}

#[test]
fn the_rests_and_limits_of_the_pages_are_those_of_the_code() {
    let page = read("docs/schedules.md");
    let minutes = |seconds: u64| seconds / 60;
    let rests: Vec<String> = (0..back_off::STOP - 1)
        .map(|n| minutes(back_off::FIRST.as_secs() * 2_u64.pow(n)).to_string())
        .collect();
    let last = minutes(back_off::FIRST.as_secs() * 2_u64.pow(back_off::STOP - 1));
    let words = [
        format!("{} minutes; then until it has been healthy for {last}", rests.join(", ")),
        format!("more than {} s late", agent::slots::LATEST.as_secs()),
        format!("| {} minutes |", minutes(agent::namespace::REST.as_secs())),
    ];
    for words in words {
        assert!(page.contains(&words), "{words}");
    }
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn readme_lists_every_overlay_and_component() {
    let readme = read("README.md");
    for (folder, kind) in [("manifests/overlays", "overlay"), ("manifests/components", "component")] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // For the tests alone.
            if name != "test" {
                assert!(readme.contains(&format!("| {kind} `{name}` |")), "{folder}/{name}");
            }
        }
    }
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/schedules.md",
        "docs/measured.md",
        "docs/walkthrough.md",
        "docs/halt-by-alert.md",
        "docs/alerts.md",
        "docs/runbooks.md",
        "docs/dashboard.md",
        "docs/kubectl-chaos.md",
    ];
    let mut links = 0;
    for document in documents {
        let text = read(document);
        let folder = std::path::Path::new(document).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { document.into() } else { folder.join(file) };
            let target = root().join(&path);
            assert!(target.exists(), "{document}: {link}");
            if !heading.is_empty() {
                let target = std::fs::read_to_string(target).unwrap();
                let known =
                    target.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
                assert!(known, "{document}: no heading for {link}");
            }
        }
    }
    assert!(links > 8, "{links}");
}
