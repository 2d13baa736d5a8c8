//! The registry that every process starts from: its build and, on Linux, its own resources.

use prometheus::{IntGaugeVec, Opts, Registry};

/// A registry with `pure_chaos_build_info` and the `process_*` metrics.
///
/// # Errors
/// Never with the names used here; the library checks them at run time.
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
