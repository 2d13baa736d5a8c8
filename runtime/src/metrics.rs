//! The metrics registry that every process starts with: its build and, on Linux, its own resources.

use prometheus::{IntGaugeVec, Opts, Registry};

/// Makes a registry with `pure_chaos_build_info` and, on Linux, the `process_*` metrics.
///
/// # Errors
/// Never returns an error with the names used here. The library checks names at run time.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let build = IntGaugeVec::new(
        Opts::new("pure_chaos_build_info", "The version and the commit of this process; always 1."),
        &["version", "revision"],
    )?;
    build.with_label_values(&[crate::VERSION, &crate::revision()]).set(1);
    registry.register(Box::new(build))?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(registry)
}
