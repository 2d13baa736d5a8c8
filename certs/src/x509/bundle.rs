//! The bundle, which is what `caBundle` should hold.

use std::cmp::Reverse;

use jiff::Timestamp;

use crate::x509::certificate::Certificate;

/// Returns the certificates that have not expired, each once, and those that are valid longest
/// first. The same set always gives the same bundle, so comparing the texts is enough to see a
/// difference.
#[must_use]
pub fn union<'a>(
    certificates: impl IntoIterator<Item = &'a Certificate>,
    now: Timestamp,
) -> Vec<Certificate> {
    let mut bundle: Vec<Certificate> =
        certificates.into_iter().filter(|one| now <= one.not_after()).cloned().collect();
    bundle.sort_by(|a, b| (Reverse(a.not_after()), a.der()).cmp(&(Reverse(b.not_after()), b.der())));
    bundle.dedup_by(|a, b| a.der() == b.der());
    bundle
}

/// Returns the bundle as PEM.
#[must_use]
pub fn pem(bundle: &[Certificate]) -> String {
    bundle.iter().map(Certificate::pem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::issue::tests::{DAY, START, at, ca};
    use proptest::prelude::*;

    #[test]
    fn each_once_longest_first_none_expired() {
        let [short, long, gone] = [ca(START, DAY), ca(START, 3 * DAY), ca(START, 60)];
        let [short, long, gone] = [short.certificate(), long.certificate(), gone.certificate()];
        let bundle = union([short, gone, long, short, long], at(START + 61));
        assert_eq!(bundle, [long.clone(), short.clone()]);
        assert_eq!(union([gone], at(START + 60)).len(), 1, "its last second still counts");
        assert_eq!(Certificate::all(pem(&bundle).as_bytes()), bundle);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn order_and_repetition_do_not_matter(picks in proptest::collection::vec(0_usize..5, 0..12)) {
            // All certificates end at the same time, so only their bytes decide the order.
            let all: Vec<_> = (0..5).map(|_| ca(START, DAY)).collect();
            let picked: Vec<_> = picks.iter().map(|pick| all[*pick].certificate()).collect();
            let bundle = union(picked.iter().copied(), at(START));
            prop_assert_eq!(&bundle, &union(picked.iter().rev().copied(), at(START)));
            prop_assert_eq!(&bundle, &union(bundle.iter().chain(picked.iter().copied()), at(START)));
            prop_assert!(picked.iter().all(|one| bundle.contains(one)));
        }
    }
}
