//! The results as a table, and as a file for later comparison.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// One measurement of a scenario, from several rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name of the measurement, with its unit.
    pub name: String,
    /// The server's values, one per round.
    pub ours: Vec<f64>,
    /// The limit's values in the same rounds, empty if there is no limit.
    pub limit: Vec<f64>,
    /// The target: a ratio to the limit, or a value if there is no limit.
    pub target: String,
    /// The server's processor time for each message, in microseconds.
    pub cpu: Option<f64>,
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!(
        "{} ({} to {})",
        short(median(values)),
        short(least),
        short(most)
    )
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100_000.0 => format!("{:.0}k", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

impl Row {
    pub fn new(name: &str, ours: Vec<f64>, limit: Vec<f64>, target: &str) -> Row {
        Row {
            name: name.to_owned(),
            ours,
            limit,
            target: target.to_owned(),
            cpu: None,
        }
    }

    pub fn with_cpu(mut self, microseconds: f64) -> Row {
        self.cpu = Some(microseconds);
        self
    }

    pub fn ratio(&self) -> Option<f64> {
        (!self.limit.is_empty()).then(|| median(&self.ours) / median(&self.limit))
    }

    pub fn head() -> String {
        format!(
            "{:<44} {:>26} {:>26} {:>6} {:>10} {:>8}",
            "median (least to most)", "chatserver", "limit", "ratio", "to reach", "cpu µs"
        )
    }

    pub fn line(&self) -> String {
        format!(
            "{:<44} {:>26} {:>26} {:>6} {:>10} {:>8}",
            self.name,
            spread(&self.ours),
            spread(&self.limit),
            self.ratio()
                .map_or(String::new(), |ratio| format!("{ratio:.2}")),
            self.target,
            self.cpu.map_or(String::new(), short)
        )
    }

    /// One line in a saved file.
    pub fn record(&self) -> String {
        let list = |values: &[f64]| {
            let texts: Vec<String> = values.iter().map(f64::to_string).collect();
            texts.join(" ")
        };
        format!(
            "{}\t{}\t{}\t{}\t{}",
            self.name,
            list(&self.ours),
            list(&self.limit),
            self.target,
            self.cpu.map_or(String::new(), |cpu| cpu.to_string())
        )
    }

    pub fn parse(line: &str) -> Option<Row> {
        let parts: Vec<&str> = line.split('\t').collect();
        let [name, ours, limit, target, cpu] = parts[..] else {
            return None;
        };
        let list = |text: &str| {
            text.split_whitespace()
                .filter_map(|v| v.parse().ok())
                .collect()
        };
        Some(Row {
            name: name.to_owned(),
            ours: list(ours),
            limit: list(limit),
            target: target.to_owned(),
            cpu: cpu.parse().ok(),
        })
    }
}

#[derive(Default)]
pub struct Table {
    pub rows: Vec<Row>,
}

impl Table {
    /// Saves the table in the target directory, and returns its path.
    pub fn save(&self) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
        std::fs::create_dir_all(&folder).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let path = folder.join(format!("{}.tsv", now.unwrap().as_secs()));
        let records: Vec<String> = self.rows.iter().map(Row::record).collect();
        std::fs::write(&path, records.join("\n") + "\n").unwrap();
        path
    }

    fn read(path: &str) -> Table {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Table {
            rows: text.lines().filter_map(Row::parse).collect(),
        }
    }
}

/// Prints two saved tables side by side. Compares ratios to the limit if there are any, because the
/// machines may differ.
pub fn compare(before: &str, after: &str) {
    let before: BTreeMap<String, Row> = Table::read(before)
        .rows
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    println!(
        "{:<44} {:>14} {:>14} {:>8}",
        "", "before", "after", "change"
    );
    for row in Table::read(after).rows {
        let Some(old) = before.get(&row.name) else {
            continue;
        };
        let (a, b) = match (old.ratio(), row.ratio()) {
            (Some(a), Some(b)) => (a, b),
            _ => (median(&old.ours), median(&row.ours)),
        };
        println!(
            "{:<44} {:>14} {:>14} {:>7.0}%",
            row.name,
            short(a),
            short(b),
            (b / a - 1.0) * 100.0
        );
    }
}
