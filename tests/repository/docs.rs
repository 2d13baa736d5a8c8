//! Compares the documents with the binaries: every flag, metric, Event, setting and reason, no more
//! and no less. Compares the documents with each other: every link leads somewhere, and README
//! links every page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use agent::guard::backoff;
use agent::recovery::RecoveryOutcome;
use agent::refusal::Refusal;
use clap::CommandFactory;
use policy::settings::Key;
use tests::exported::registries;
use tests::repository::{read, root};

/// Rows of the Markdown table below a heading of a page, cell by cell.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let document = read(page);
    let mut section = document.lines().skip_while(|line| *line != heading);
    assert!(section.next().is_some(), "{page} has no {heading:?}");
    let rows = section.take_while(|line| !line.starts_with('#')).skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn code(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_flag_of_every_binary_is_on_its_page_with_its_default() {
    let mut flags: BTreeMap<String, (BTreeSet<String>, String)> = BTreeMap::new();
    for command in [agent::Args::command(), webhook::Args::command(), certs::Args::command()] {
        for (flag, default) in flags_of(&command, "run") {
            let entry = flags.entry(flag.clone()).or_insert_with(|| (BTreeSet::new(), default.clone()));
            entry.0.insert(command.get_name().to_owned());
            assert_eq!(entry.1, default, "{flag} has two defaults");
        }
    }
    let mut documented = BTreeMap::new();
    for row in table("docs/flags.md", "## `run`") {
        let flag = code(&row[0]).into_iter().next().unwrap();
        let parts = row[1].split(',').map(|part| part.trim().to_owned()).collect();
        documented.insert(flag, (parts, code(&row[2]).into_iter().next().unwrap_or_default()));
    }
    assert_eq!(documented, flags);
}

#[test]
fn every_flag_of_the_agents_other_commands_is_on_its_page_with_its_default() {
    for subcommand in ["once", "explain", "print-role"] {
        let heading = &format!("## `agent {subcommand}`");
        let flags = flags_of(&agent::Args::command(), subcommand);
        let documented: BTreeMap<String, String> = table("docs/flags.md", heading)
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
        // A flag that is off by default needs no default on its page.
        let default = default.filter(|value| *value != "false");
        flags.insert(
            format!("--{long}"),
            default.map_or(String::new(), |value| value.to_string_lossy().into_owned()),
        );
    }
    flags
}

#[test]
fn every_command_of_the_plugin_is_on_its_page_with_its_flags() {
    let mut command = kubectl_chaos::Args::command();
    command.build();
    let shown = command.get_subcommands().filter(|known| !known.is_hide_set() && known.get_name() != "help");
    let known: BTreeMap<String, BTreeSet<String>> = shown
        .map(|known| {
            let flags = known.get_arguments().filter(|flag| !flag.is_global_set());
            // There is a flag for each setting, and the settings have a table of their own.
            let flags = flags.filter_map(|flag| flag.get_long()).filter(|long| Key::of(long).is_none());
            let flags = flags.filter(|long| !["help", "version"].contains(long));
            (known.get_name().to_owned(), flags.map(|long| format!("--{long}")).collect())
        })
        .collect();
    let documented: BTreeMap<String, BTreeSet<String>> = table("docs/kubectl-chaos.md", "## Commands")
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
fn every_metric_is_on_its_page_with_type_and_labels() {
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
    for row in table("docs/metrics.md", "# Metrics") {
        for name in code(&row[0]) {
            documented.insert(name, (row[1].clone(), code(&row[2])));
        }
    }
    assert_eq!(documented, exported);
}

#[test]
fn every_event_is_on_its_page() {
    let known: BTreeSet<&str> =
        agent::telemetry::events::REASONS.into_iter().chain(webhook::events::REASONS).collect();
    let rows = table("docs/events.md", "# Events");
    let documented: BTreeSet<String> = rows.iter().flat_map(|row| code(&row[0])).collect();
    assert_eq!(documented.iter().map(String::as_str).collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_setting_is_on_its_page_in_order_and_with_its_default() {
    let defaults = policy::settings::Settings::built_in();
    let rows = table("docs/settings.md", "# Settings");
    let documented: Vec<String> = rows.iter().flat_map(|row| code(&row[0])).collect();
    let known: Vec<String> = Key::ALL.iter().map(|key| key.annotation()).collect();
    assert_eq!(documented, known);
    for (key, row) in Key::ALL.iter().zip(&rows) {
        let default: Vec<String> = code(&row[1]).into_iter().collect();
        assert_eq!(default, Vec::from_iter(defaults.print(*key)), "{row:?}");
    }
}

#[test]
fn the_policy_file_of_its_page_is_understood() {
    let page = read("docs/platform-policy.md");
    let yaml = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    policy::platform::PlatformPolicy::parse(yaml).unwrap();
}

#[test]
fn every_refusal_is_on_its_page_with_its_meaning() {
    let documented: Vec<(String, String)> = table("docs/safeguards.md", "## Reasons")
        .into_iter()
        .map(|row| (code(&row[0]).into_iter().next().unwrap(), row[1].clone()))
        .collect();
    let known: Vec<(String, String)> = Refusal::ALL
        .iter()
        .map(|refusal| (refusal.label().to_owned(), refusal.meaning().to_owned()))
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn every_outcome_of_a_recovery_is_explained() {
    let labels: BTreeSet<String> =
        RecoveryOutcome::ALL.iter().map(|outcome| outcome.label().to_owned()).collect();
    let rows = table("docs/measured.md", "## Recovery time");
    assert_eq!(rows.iter().flat_map(|row| code(&row[0])).collect::<BTreeSet<_>>(), labels);
}

#[test]
fn the_rests_and_limits_of_the_pages_are_those_of_the_code() {
    let page = read("docs/schedules.md");
    let minutes = |seconds: u64| seconds / 60;
    let rests: Vec<String> = (0..backoff::STOP - 1)
        .map(|n| minutes(backoff::FIRST.as_secs() * 2_u64.pow(n)).to_string())
        .collect();
    let last = minutes(backoff::FIRST.as_secs() * 2_u64.pow(backoff::STOP - 1));
    let words = [
        format!("{} minutes; then until it has been healthy for {last}", rests.join(", ")),
        format!("more than {} s late", agent::round::due::LATEST.as_secs()),
        format!("| {} minutes |", minutes(agent::controller::namespace::REST.as_secs())),
    ];
    for words in words {
        assert!(page.contains(&words), "{words}");
    }
}

/// The anchor that GitHub makes from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_overlay_and_component_is_listed() {
    let mut known = BTreeSet::new();
    for (folder, kind) in [("manifests/overlays", "overlay"), ("manifests/components", "component")] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            known.insert(format!("{kind} `{name}`"));
        }
    }
    // This overlay is for the tests only.
    assert!(known.remove("overlay `test`"));
    let rows = table("docs/install.md", "## Overlays and components");
    assert_eq!(rows.into_iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), known);
}

/// Every Markdown file of the repository, by its path from the root.
fn documents() -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            // Built and hidden folders contain no pages of ours, except for GitHub's own folder.
            let is_ours = name == ".github" || !(name.starts_with('.') || name == "target");
            if path.is_dir() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The links of a document that lead into the repository: each as written, with its file, and with
/// its heading if it has one.
fn links(document: &str) -> Vec<(String, PathBuf, Option<String>)> {
    let text = read(document);
    let written = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let inner = written.filter(|link| !link.starts_with("http"));
    inner
        .map(|link| {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, it)| (file, Some(it)));
            let from = root().join(document);
            let target = if file.is_empty() { from } else { from.parent().unwrap().join(file) };
            (link.to_owned(), target, heading.map(str::to_owned))
        })
        .collect()
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let (mut count, mut broken) = (0, Vec::new());
    for document in documents() {
        for (link, target, heading) in links(&document) {
            count += 1;
            let leads = match heading {
                None => target.exists(),
                Some(heading) => std::fs::read_to_string(target).is_ok_and(|text| {
                    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading)
                }),
            };
            if !leads {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
    assert!(count > 100, "{count}");
}

#[test]
fn readme_is_short_and_leads_to_every_page() {
    let length = read("README.md").lines().count();
    assert!(length <= 200, "README has {length} lines: what is not for a newcomer has a page in docs/");
    let linked: BTreeSet<PathBuf> =
        links("README.md").into_iter().filter_map(|(_, target, _)| target.canonicalize().ok()).collect();
    // A page in a folder below docs/ belongs to the page or the folder that contains it.
    let pages = documents().into_iter().filter(|page| page.matches('/').count() == 1);
    for page in pages.filter(|page| page.starts_with("docs/")) {
        assert!(linked.contains(&root().join(&page)), "README has no link to {page}");
    }
}

#[test]
fn the_glossary_has_each_term_once_in_order_and_in_a_sentence() {
    let rows = table("docs/glossary.md", "# Glossary");
    let terms: Vec<String> = rows.iter().map(|row| row[0].trim_matches('`').to_lowercase()).collect();
    let ordered: BTreeSet<String> = terms.iter().cloned().collect();
    assert_eq!(terms, Vec::from_iter(ordered));
    for row in rows {
        let sentence = row[1].trim_end_matches('.');
        assert!(row[1].ends_with('.') && !sentence.contains(". "), "{row:?}");
    }
}

/// `a/{b,c}.rs` stands for two paths.
fn spelled_out(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let Some((choices, after)) = rest.split_once('}') else { return vec![path.to_owned()] };
    choices.split(',').flat_map(|choice| spelled_out(&format!("{before}{choice}{after}"))).collect()
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let rooms =
        ["policy/", "webhook/", "agent/", "certs/", "plugin/", "runtime/", "tests/", "manifests/", "hack/"];
    let (mut count, mut missing) = (0, Vec::new());
    for document in documents() {
        for named in code(&read(&document)) {
            let is_path =
                rooms.iter().any(|room| named.starts_with(room)) && !named.contains([' ', '*', '<']);
            for path in is_path.then(|| spelled_out(&named)).into_iter().flatten() {
                count += 1;
                if !root().join(&path).exists() {
                    missing.push(format!("{document}: {path}"));
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(count > 50, "{count}");
}
