//! The platform's policy: nothing panics, and a policy that is understood keeps its own ceilings.
#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::platform::PlatformPolicy;
use policy::settings::Key;

fuzz_target!(|yaml: &str| {
    if let Ok(policy) = PlatformPolicy::parse(yaml) {
        let past = policy.ceilings.exceeded_by(&policy.defaults);
        assert!(past.iter().all(|key| *key == Key::Expires), "{past:?}");
    }
});
