//! Sends every query of the dashboard to a real Prometheus that has scraped a demonstration in the
//! last half hour. The demonstration's test does the same with its own Prometheus. This test is for
//! any other one, such as the one that `make demo` leaves running.

use tests::dashboard::unanswered;

#[test]
fn every_query_is_answered() {
    let address = std::env::var("PURE_CHAOS_TEST_PROMETHEUS")
        .expect("PURE_CHAOS_TEST_PROMETHEUS is the address of a Prometheus, such as http://127.0.0.1:9095");
    let wrong = unanswered(&address, jiff::Timestamp::now().as_second());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
