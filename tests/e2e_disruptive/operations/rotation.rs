//! Certificates change while people opt in.

use std::time::Duration;

use tests::rotations::{Goal, rotate_under_load};
use tests::soak::is_soak;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_opt_in_fails_while_certificates_and_cas_are_changed() {
    let goal = if is_soak() {
        Goal { serving: 100, cas: 10, ca_lifetime: "70s", deadline: Duration::from_secs(1_500) }
    } else {
        Goal { serving: 10, cas: 2, ca_lifetime: "40s", deadline: Duration::from_secs(150) }
    };
    let seen = rotate_under_load(goal, 100).await;
    println!("{} rotations, {} of them with a new CA: {}", seen.serving, seen.cas, seen.opt_ins.line());
    assert!(seen.serving >= goal.serving && seen.cas >= goal.cas, "{} and {}", seen.serving, seen.cas);
    assert!(seen.opt_ins.admitted > 3_000, "{}", seen.opt_ins.line());
    assert_eq!(seen.opt_ins.failures(), 0, "{:#?}", seen.opt_ins.failed);
}
