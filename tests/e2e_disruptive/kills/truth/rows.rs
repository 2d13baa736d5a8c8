//! What the agent and the observer say of the same recoveries, side by side.

use tests::truth::Workload;

/// The kills of a round in a workload that both the agent and the observer saw.
pub struct Row {
    pub workload: Workload,
    pub delay: u64,
    /// The number of Pods that were killed.
    pub kills: usize,
    /// The seconds by the observer.
    pub watched: f64,
    /// The seconds by the agent.
    pub exported: f64,
}

impl Row {
    pub fn difference(&self) -> f64 {
        self.exported - self.watched
    }
}

/// The differences in seconds between agent and observer, the smallest first.
pub fn differences(rows: &[Row]) -> Vec<f64> {
    let mut differences: Vec<f64> = rows.iter().map(|row| row.difference().abs()).collect();
    differences.sort_by(f64::total_cmp);
    differences
}

pub fn print_all(rows: &[Row]) {
    println!("\n\n| workload | Ready after | by the observer | by the agent | difference |");
    println!("| --- | --- | --- | --- | --- |");
    for row in rows {
        let Row { workload: (kind, name), delay, kills: _, watched, exported } = row;
        let difference = row.difference() * 1e3;
        println!("| {kind} {name} | {delay} s | {watched:.3} s | {exported:.3} s | {difference:+.1} ms |");
    }
}

/// Prints a summary for each kind of workload and delay, and for all.
pub fn print_summary(workloads: impl Iterator<Item = (Workload, u64)>, rows: &[Row]) {
    println!(
        "\n| workload | Ready after | recoveries | mean by the observer | mean by the agent | largest difference |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mean =
        |rows: &[&Row], of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64;
    let line = |what: &str, rows: &[&Row]| {
        let (watched, exported) = (mean(rows, |row| row.watched), mean(rows, |row| row.exported));
        let largest = rows.iter().map(|row| row.difference().abs()).fold(0.0, f64::max) * 1e3;
        println!("| {what} | {} | {watched:.2} s | {exported:.2} s | {largest:.1} ms |", rows.len());
    };
    for (workload, delay) in workloads {
        let of: Vec<&Row> = rows.iter().filter(|row| row.workload == workload).collect();
        line(&format!("{} | {delay} s", workload.0), &of);
    }
    line("all |", &rows.iter().collect::<Vec<_>>());
    let differences = differences(rows);
    let signed = rows.iter().map(Row::difference).sum::<f64>() / rows.len() as f64 * 1e3;
    println!(
        "\n{} recoveries; difference: median {:.1} ms, largest {:.1} ms, mean with its sign {signed:+.1} ms",
        rows.len(),
        differences[rows.len() / 2] * 1e3,
        differences[rows.len() - 1] * 1e3
    );
}
