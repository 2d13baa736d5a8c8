//! The grammar: nothing panics, and a setting that is understood prints as text with the same
//! meaning.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use policy::settings::{Key, Settings};

fuzz_target!(|lines: &str| {
    // Each line is one setting: its number among the settings, and the value.
    let defaults = Settings::built_in();
    let annotations: BTreeMap<String, String> = lines
        .lines()
        .filter_map(|line| {
            let mut characters = line.chars();
            let number = characters.next()? as usize;
            Some((Key::ALL[number % Key::ALL.len()].annotation(), characters.as_str().to_owned()))
        })
        .collect();
    if let Ok(settings) = Settings::parse(&annotations, &defaults) {
        let printed =
            Key::ALL.iter().filter_map(|key| Some((key.annotation(), settings.print(*key)?))).collect();
        assert_eq!(Settings::parse(&printed, &defaults), Ok(settings));
    }
});
