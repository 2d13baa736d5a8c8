//! Tests that could run for hours: `make test` does a tenth of the work, and `make soak`, which
//! sets `SOAK=1`, does all of it.

/// How many of `whole` this run does.
pub fn share(whole: usize) -> usize {
    if is_soak() { whole } else { whole.div_ceil(10) }
}

/// Whether this run is `make soak`.
pub fn is_soak() -> bool {
    std::env::var_os("SOAK").is_some_and(|value| value == "1")
}
