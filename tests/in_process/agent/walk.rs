//! A seeded random walk over the agent and everything around it. CONTRIBUTING says how to replay a
//! seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tests::walk::{INVARIANTS, Report, Violation, Walk};

/// Invariants that don't hold yet, each with the reason.
const OFF: &[(&str, &str)] = &[];

/// How many walks run without `SEEDS`.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} has to be a number, not {value:?}")))
}

/// The invariants that are not checked: those of [`OFF`], or those of `WITHOUT` if that is set.
fn off() -> BTreeSet<&'static str> {
    match std::env::var("WITHOUT") {
        Ok(named) => {
            INVARIANTS.into_iter().filter(|known| named.split(',').any(|named| named == *known)).collect()
        }
        Err(_) => OFF.iter().map(|(name, _)| *name).collect(),
    }
}

/// Leaves out steps as long as the walk still fails in the same way.
fn shrink(walk: &Walk, invariant: &str) -> BTreeSet<usize> {
    let mut kept: BTreeSet<usize> = (0..walk.steps.len()).collect();
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let numbers: Vec<usize> = kept.iter().copied().collect();
        let mut is_smaller = false;
        for chunk in numbers.chunks(size) {
            let fewer: BTreeSet<usize> = kept.iter().copied().filter(|step| !chunk.contains(step)).collect();
            let violation = walk.only(&fewer).go(&off()).violation;
            if violation.is_some_and(|violation| violation.invariant == invariant) {
                (kept, is_smaller) = (fewer, true);
            }
        }
        if !is_smaller && size == 1 {
            return kept;
        }
        size = if is_smaller { size.min(kept.len()).max(1) } else { size / 2 };
    }
}

/// Runs the walks of these seeds, on all cores.
fn go(seeds: std::ops::Range<u64>, only: Option<&BTreeSet<usize>>) -> BTreeMap<u64, (Walk, Report)> {
    let (next, reports) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let walk = only.map_or_else(|| Walk::of(seed), |only| Walk::of(seed).only(only));
                    let report = walk.go(&off());
                    if let Some(violation) = &report.violation {
                        println!("seed {seed}: {}: {}", violation.invariant, violation.text);
                    }
                    reports.lock().unwrap().insert(seed, (walk, report));
                }
            });
        }
    });
    reports.into_inner().unwrap()
}

#[test]
fn nothing_breaks_whatever_happens() {
    let one = number("SEED");
    let count = number("SEEDS").unwrap_or(if one.is_some() { 1 } else { SEEDS });
    let first = one.unwrap_or(0);
    let only: Option<BTreeSet<usize>> = std::env::var("STEPS").ok().map(|steps| {
        steps.split(',').filter(|step| !step.is_empty()).map(|step| step.parse().unwrap()).collect()
    });
    let reports = go(first..first + count, only.as_ref());
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed: Vec<(&Walk, &Violation)> = Vec::new();
    for (walk, report) in reports.values() {
        report.outcomes.iter().for_each(|outcome| *outcomes.entry(outcome).or_default() += 1);
        if count == 1 {
            report.log.iter().for_each(|line| println!("{line}"));
        }
        if let Some(violation) = &report.violation {
            failed.push((walk, violation));
        }
    }
    println!("{count} walks, {} kills: {outcomes:?}", outcomes.values().sum::<usize>());
    let Some((walk, violation)) = failed.first() else { return };
    if only.is_none() {
        let kept = shrink(walk, violation.invariant);
        let steps: Vec<String> = kept.iter().map(ToString::to_string).collect();
        let report = walk.only(&kept).go(&off());
        report.log.iter().filter(|line| !line.ends_with("> Nothing")).for_each(|line| println!("{line}"));
        println!("{:?}", report.violation);
        println!(
            "the whole walk: SEED={seed} cargo test -p tests --test in_process -- --nocapture agent::walk; the steps that are needed: STEPS={}",
            steps.join(","),
            seed = walk.seed
        );
    }
    panic!(
        "{} of {count} seeds, the first is {}: {}: {}",
        failed.len(),
        walk.seed,
        violation.invariant,
        violation.text
    );
}
