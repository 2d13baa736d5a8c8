//! Extra advice for a problem that [`Settings::parse`](crate::settings::Settings::parse) reports:
//! the nearest time zone, and where an exclusion belongs.

use std::collections::BTreeMap;

use jiff::tz::TimeZoneDatabase;

use crate::active_hours::ActiveHours;
use crate::schedule::Schedule;
use crate::settings::{Key, Problem};
use crate::well_known::{self, EXCLUDE};

/// The length in bytes above which a text is not compared with the names of time zones. No time
/// zone has a longer name.
const LONGEST_ZONE: usize = 40;
/// One letter of a time zone's name may be wrong for each so many letters, and at most two in
/// total. An abbreviation such as `WEST` is shorter, so none of its letters may be wrong.
const LETTERS_A_SLIP: usize = 6;

/// Adds advice to a problem, if there is more to say about it. `annotations` are the annotations
/// that have the problem.
#[must_use]
pub fn advised(problem: Problem, annotations: &BTreeMap<String, String>) -> Problem {
    let Problem { path, message } = problem;
    let Some((key, value)) = annotations.iter().find(|(key, _)| path == path_of(key)) else {
        return Problem { path, message };
    };
    if is_exclusion(key) {
        return unknown(key);
    }
    let zone = if *key == Key::ActiveHours.annotation() {
        zone_of_hours(value)
    } else if *key == Key::Schedule.annotation() {
        zone_of_schedule(value)
    } else {
        None
    };
    match zone {
        Some(zone) => Problem { path, message: format!("{message}; {}", about_zone(&zone)) },
        None => Problem { path, message },
    }
}

/// The problem with a key of this project that a Namespace carries and that is not the key of a
/// setting.
#[must_use]
pub fn unknown(key: &str) -> Problem {
    if is_exclusion(key) {
        let message = format!(
            "Forbidden: `{EXCLUDE}` has no effect on a namespace: write it on a Pod or on its workload, such as a Deployment or its Pod \
             template; to leave a whole namespace alone, opt it out"
        );
        return Problem { path: path_of(key), message };
    }
    Problem::unknown(path_of(key), well_known::word(key).unwrap_or(key))
}

fn path_of(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// Whether a key is [`EXCLUDE`], or differs from it only in case or by a slip in its domain.
fn is_exclusion(key: &str) -> bool {
    let wanted = well_known::word(EXCLUDE).unwrap_or(EXCLUDE);
    well_known::word(key).is_some_and(|word| word.eq_ignore_ascii_case(wanted))
}

/// Finds a time zone that does not exist in active hours such as `Mon-Fri 09:00-17:00
/// Europe/Berlin`. Returns its name only if the days and the hours before it are valid.
fn zone_of_hours(text: &str) -> Option<String> {
    text.split(';').find_map(|part| {
        let words: Vec<&str> = part.split_whitespace().collect();
        let (hours, zone) = words.split_at_checked(2)?;
        ActiveHours::parse(&format!("{} UTC", hours.join(" "))).and(no_zone(zone))
    })
}

/// Finds a time zone that does not exist at the end of a `cron` schedule. Returns its name only if
/// the schedule before it is valid.
fn zone_of_schedule(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let fields = if words.get(1)?.starts_with('@') { 2 } else { 6 };
    let (schedule, zone) = words.split_at_checked(fields)?;
    Schedule::parse(&schedule.join(" ")).and(no_zone(zone))
}

/// Joins these words to the name of a time zone. Returns `None` if a time zone has that name, or if
/// there are no words.
fn no_zone(words: &[&str]) -> Option<String> {
    let is_zone = |name: &str| TimeZoneDatabase::bundled().get(name).is_ok();
    match words {
        [] => None,
        [name] if is_zone(name) => None,
        // The author wrote a space instead of `_`, as in `America/New York`.
        words => Some(words.join("_")),
    }
}

fn about_zone(name: &str) -> String {
    let advice = match nearest(name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write a name such as `Europe/Zurich`".to_owned(),
    };
    format!("the IANA database has no time zone of that name: {advice}")
}

/// The time zone that the author probably meant: the one whose name differs in few letters, or the
/// only one of that city or country. An abbreviation such as `PST` is near many names, so this
/// function suggests nothing for it.
fn nearest(name: &str) -> Option<String> {
    // `GMT+2` gets no suggestion, because its sign means the opposite of what most people expect.
    let is_name = name.chars().all(|letter| letter.is_alphabetic() || "_-/".contains(letter));
    if name.len() > LONGEST_ZONE || !is_name {
        return None;
    }
    let name = name.to_lowercase();
    let slips = (name.chars().count() / LETTERS_A_SLIP).min(2);
    let (mut near, mut cities) = (None, Vec::new());
    for zone in TimeZoneDatabase::bundled().available() {
        let known = zone.as_str().to_lowercase();
        if known.len().abs_diff(name.len()) <= 2 * slips {
            let distance = strsim::osa_distance(&known, &name);
            if distance <= slips && near.as_ref().is_none_or(|(least, _)| distance < *least) {
                near = Some((distance, zone.to_string()));
            }
        }
        if known.rsplit_once('/').is_some_and(|(_, city)| city == name) {
            cities.push(zone.to_string());
        }
    }
    match (near, cities.as_slice()) {
        (Some((_, near)), _) => Some(near),
        (None, [city]) => Some(city.clone()),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn problem(key: &str, value: &str) -> String {
        let annotations = BTreeMap::from([(format!("purechaos.dev/{key}"), value.to_owned())]);
        let [problem] =
            <[Problem; 1]>::try_from(Settings::parse(&annotations, &Settings::built_in()).unwrap_err())
                .unwrap();
        advised(problem, &annotations).to_string()
    }

    #[test]
    fn who_mistyped_a_zone_reads_which_one_is_near() {
        for (name, near) in [
            ("Europe/Berln", Some("Europe/Berlin")),
            ("Europe/Zürich", Some("Europe/Zurich")),
            ("europe/pairs", Some("Europe/Paris")),
            ("America/NewYork", Some("America/New_York")),
            ("America/New York", Some("America/New_York")),
            ("Berlin", Some("Europe/Berlin")),
            ("UCT1", None),
            ("CEST", None),
            ("PST", None),
            ("GMT+2", None),
            ("+02:00", None),
            ("Europe/Atlantis", None),
            (&"x".repeat(4_000), None),
        ] {
            let advice = near.map_or("write a name such as `Europe/Zurich`".to_owned(), |near| {
                format!("did you mean `{near}`?")
            });
            for (key, value) in [
                ("active-hours", format!("Mon-Fri 09:00-17:00 {name}")),
                ("active-hours", format!("Mon 09:00-12:00 UTC; Tue 10:00-11:00  {name}")),
                ("schedule", format!("cron 0 9 * * Mon-Fri {name}")),
                ("schedule", format!("cron @daily {name}")),
            ] {
                let told = problem(key, &value);
                assert!(told.ends_with(&format!("no time zone of that name: {advice}")), "{told}");
                assert!(told.contains("; expected ") || told.contains(": expected "), "{told}");
            }
        }
    }

    #[test]
    fn what_is_wrong_elsewhere_is_not_blamed_on_the_zone() {
        for (key, value) in [
            ("active-hours", "Mon-Fri 9-17 Europe/Berln"),
            ("active-hours", "Mon-Fri 09:00-17:00"),
            ("active-hours", "Mon 09:00-12:00 UTC; Tue 10:00-11:00 Europe/Berlin"),
            ("active-hours", ""),
            ("schedule", "cron 61 9 * * * Europe/Berln"),
            ("schedule", "every 10 Europe/Berln"),
            ("schedule", "cron"),
            ("limit", "Europe/Berln"),
        ] {
            assert!(!problem(key, value).contains("time zone of that name"), "{value}");
        }
    }

    #[test]
    fn an_exclusion_belongs_on_a_pod() {
        for key in ["exclude", "Exclude"] {
            let told = problem(key, "true");
            assert!(
                told.starts_with(&format!(
                    "metadata.annotations[purechaos.dev/{key}]: Forbidden: `purechaos.dev/exclude` has"
                )),
                "{told}"
            );
            assert!(told.contains("on a Pod or on its workload"), "{told}");
        }
        assert!(problem("exclud", "true").contains("Unknown setting"));
        assert!(unknown("pure-chaos.dev/exclude").to_string().contains("on a Pod"));
        assert!(unknown("purechaos.dev/halted").to_string().contains("did you mean `purechaos.dev/halt`?"));
    }
}
