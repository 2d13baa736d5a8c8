//! A hundred rotations, ten of them with a new CA, under a steady load of opt-ins. Needs
//! `PURE_CHAOS_TEST_KUBECONFIG`.

use std::time::Duration;

use tests::rotations::{Goal, rotate_under_load};

const RATE: u32 = 100;

/// Rotates, and prints the table.
pub async fn run() {
    let goal = Goal { serving: 100, cas: 10, ca_lifetime: "70s", deadline: Duration::from_secs(1_500) };
    let seen = rotate_under_load(goal, RATE).await;
    println!();
    println!("rotations under {RATE} opt-ins a second      to reach");
    println!("  of the serving certificate  {:>6}       {}", seen.serving, goal.serving);
    println!("  of the CA                   {:>6}       {}", seen.cas, goal.cas);
    println!("  opt-ins admitted            {:>6}", seen.opt_ins.admitted);
    println!("  opt-ins failed              {:>6}       0", seen.opt_ins.failures());
    println!("  {}", seen.opt_ins.line());
    for (what, times) in &seen.opt_ins.failed {
        println!("  {times} times: {what}");
    }
}
