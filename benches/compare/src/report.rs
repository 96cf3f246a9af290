//! The results: a Markdown table, JSON, and charts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::Args;
use crate::process::machine;
use crate::proxies::Variant;
use crate::scenarios::{Figures, SCENARIOS, quantile, unit};

/// What a figure is counted in.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Microseconds of what is named.
    Micros(&'static str),
    Kib,
    Count,
    Seconds,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Micros(of) => of,
            Self::Kib => "KiB a session",
            Self::Count => "clients",
            Self::Seconds => "s",
        }
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            _ if value.abs() < 10.0 => format!("{value:.2}"),
            _ if value.abs() < 1000.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }
}

/// Rounds by proxy.
type ByProxy = BTreeMap<String, Vec<f64>>;

/// Everything found.
pub struct Report {
    proxies: Vec<Variant>,
    /// By scenario and figure.
    results: BTreeMap<(&'static str, &'static str), ByProxy>,
    failures: Vec<String>,
}

impl Report {
    pub fn new(proxies: &[Variant]) -> Self {
        Self { proxies: proxies.to_vec(), results: BTreeMap::new(), failures: Vec::new() }
    }

    pub fn add(&mut self, scenario: &'static str, proxy: &Variant, figures: Figures) {
        for (figure, value) in figures {
            let by_proxy = self.results.entry((scenario, figure)).or_default();
            by_proxy.entry(proxy.label()).or_default().push(value);
        }
    }

    pub fn failed(&mut self, scenario: &str, proxy: &Variant, error: String) {
        self.failures.push(format!("{scenario}, {}: {error}", proxy.label()));
    }

    /// Prints the table, and writes all forms of it where `--out` says.
    pub fn publish(&self, args: &Args) {
        let text = self.markdown(args);
        println!("{text}");
        let Some(out) = &args.out else { return };
        std::fs::create_dir_all(out).unwrap();
        std::fs::write(out.join("compare.md"), &text).unwrap();
        std::fs::write(out.join("compare.json"), self.json()).unwrap();
        std::fs::write(out.join("compare.svg"), self.charts()).unwrap();
        eprintln!("written to {}", Path::new(out).display());
    }

    /// Rows in the order of the scenarios: name, figure, rounds by proxy.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, &ByProxy)> {
        SCENARIOS.iter().flat_map(move |scenario| {
            self.results
                .iter()
                .filter(move |((name, _), _)| *name == scenario.name)
                .map(|((name, figure), by_proxy)| (*name, *figure, by_proxy))
        })
    }

    fn markdown(&self, args: &Args) -> String {
        let mut text = format!(
            "{}\n\nMedian of {} rounds, {} s of load each; smallest and largest in brackets. The ratio is \
             framegate's median to the best other's.\n\n",
            machine(args),
            args.rounds,
            args.seconds
        );
        let labels: Vec<String> = self.proxies.iter().map(Variant::label).collect();
        writeln!(text, "| | {} | ratio |", labels.join(" | ")).unwrap();
        writeln!(text, "|---|{}---|", "---|".repeat(labels.len())).unwrap();
        for (scenario, figure, by_proxy) in self.rows() {
            let unit = unit(figure);
            let cells: Vec<String> = labels
                .iter()
                .map(|label| by_proxy.get(label).map_or("".into(), |v| cell(v, unit)))
                .collect();
            let what = if figure == "cpu" || figure == "memory" || figure == "failed" {
                ""
            } else {
                figure
            };
            let ratio = ratio(by_proxy).map_or(String::new(), |ratio| format!("{ratio:.2}"));
            writeln!(
                text,
                "| {scenario} {what} ({}) | {} | {ratio} |",
                unit.name(),
                cells.join(" | ")
            )
            .unwrap();
        }
        for failure in &self.failures {
            writeln!(text, "\nFailed: {failure}").unwrap();
        }
        text
    }

    fn json(&self) -> String {
        let rows: Vec<serde_json::Value> = self
            .rows()
            .map(|(scenario, figure, by_proxy)| {
                serde_json::json!({
                    "scenario": scenario, "figure": figure, "unit": unit(figure).name(), "rounds": by_proxy,
                })
            })
            .collect();
        serde_json::to_string_pretty(
            &serde_json::json!({ "rows": rows, "failures": self.failures }),
        )
        .unwrap()
    }

    /// A panel of bars for each row, all in one picture.
    fn charts(&self) -> String {
        const WIDTH: usize = 420;
        const BAR: usize = 18;
        const COLUMNS: usize = 3;
        let panels: Vec<String> =
            self.rows().map(|(s, f, by_proxy)| panel(s, f, by_proxy, BAR)).collect();
        let height = 52 + BAR * (self.proxies.len() + 1);
        let total = height * panels.len().div_ceil(COLUMNS) + 10;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{total}\" \
             font-family=\"sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            WIDTH * COLUMNS + 10
        );
        for (index, panel) in panels.iter().enumerate() {
            let (x, y) = (10 + WIDTH * (index % COLUMNS), 10 + height * (index / COLUMNS));
            writeln!(svg, "<g transform=\"translate({x},{y})\">{panel}</g>").unwrap();
        }
        svg + "</svg>\n"
    }
}

fn panel(scenario: &str, figure: &str, by_proxy: &ByProxy, bar: usize) -> String {
    let unit = unit(figure);
    let what = if figure == "cpu" || figure == "memory" { "" } else { figure };
    let mut svg = format!(
        "<text y=\"14\" font-weight=\"bold\">{scenario} {what}</text>\
         <text y=\"30\" fill=\"#555\">{}, less is better</text>",
        unit.name()
    );
    let most = by_proxy.values().map(|rounds| median(rounds)).fold(f64::MIN_POSITIVE, f64::max);
    for (index, (label, rounds)) in by_proxy.iter().enumerate() {
        let (value, y) = (median(rounds), 38 + index * bar);
        let width = (190.0 * value / most).max(1.0);
        let colour = if label == "framegate" { "#0b6e4f" } else { "#9aa5b1" };
        write!(
            svg,
            "<text x=\"86\" y=\"{}\" text-anchor=\"end\">{label}</text>\
             <rect x=\"92\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            y + 12,
            bar - 4,
            98.0 + width,
            y + 12,
            unit.show(value)
        )
        .unwrap();
    }
    svg
}

fn cell(rounds: &[f64], unit: Unit) -> String {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (quantile(&sorted, 0.0), quantile(&sorted, 1.0));
    let median = unit.show(median(rounds));
    if sorted.len() < 2 {
        return median;
    }
    format!("{median} ({}-{})", unit.show(least), unit.show(most))
}

fn ratio(by_proxy: &ByProxy) -> Option<f64> {
    let ours = median(by_proxy.get("framegate")?);
    let others = by_proxy.iter().filter(|(label, _)| *label != "framegate");
    let best = others.map(|(_, rounds)| median(rounds)).min_by(f64::total_cmp)?;
    match (ours, best) {
        (0.0, 0.0) => None,
        _ => Some(ours / best),
    }
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Of an even number, the mean of the two in the middle.
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (middle(sorted.len() / 2) + middle(sorted.len().saturating_sub(1) / 2)) / 2.0
}
