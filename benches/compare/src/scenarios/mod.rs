//! What is measured, and in which order.

mod load;
mod sessions;

use std::time::{Duration, Instant};

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::client::{Target, tls};
use crate::proxies::{Ground, Running, SECRET, Variant, start};
use crate::report::{Report, Unit};
use crate::{Args, backend};

/// What one run of one scenario found: figures by name.
pub type Figures = Vec<(&'static str, f64)>;

/// One thing to measure.
pub struct Scenario {
    pub name: &'static str,
    what: What,
    /// Proxies with large buffers are measured too, where that may help them.
    large_buffers: bool,
}

#[derive(Clone, Copy)]
enum What {
    /// Each session sends a batch when the last has come back.
    Closed { tls: bool, sessions: usize, size: usize, pipelined: usize },
    /// Messages are sent when they are due, whether the last has come back or not.
    Open { tls: bool, sessions: usize, per_second: u64 },
    /// One member sends, all of the room receive.
    FanOut { tls: bool, members: usize, per_second: u64 },
    /// Sessions that do nothing; `used`: after each has carried one large message.
    Idle { tls: bool, sessions: usize, used: bool },
    /// One after another, twenty at a time.
    Handshake { tls: bool, resume: bool },
    /// All at the same time.
    Storm { tls: bool, clients: usize },
}

const fn scenario(name: &'static str, what: What) -> Scenario {
    Scenario { name, what, large_buffers: false }
}

const fn of_large_messages(name: &'static str, what: What) -> Scenario {
    Scenario { name, what, large_buffers: true }
}

const fn closed(tls: bool, size: usize) -> What {
    What::Closed { tls, sessions: 64, size, pipelined: 1 }
}

const fn growth(tls: bool, sessions: usize) -> What {
    What::Open { tls, sessions, per_second: 10_000 }
}

/// All of them. A proxy may open 20 000 files where this was written, two for each session: 9 500
/// is as far as growth goes.
pub const SCENARIOS: &[Scenario] = &[
    scenario("message 128 B plain", closed(false, 128)),
    scenario("message 128 B TLS", closed(true, 128)),
    of_large_messages("message 16 KiB plain", closed(false, 16_384)),
    of_large_messages("message 16 KiB TLS", closed(true, 16_384)),
    scenario(
        "pipelined 16 x 32 plain",
        What::Closed { tls: false, sessions: 16, size: 128, pipelined: 32 },
    ),
    scenario(
        "pipelined 16 x 32 TLS",
        What::Closed { tls: true, sessions: 16, size: 128, pipelined: 32 },
    ),
    scenario("open loop 1 000 plain", growth(false, 1_000)),
    scenario("open loop 1 000 TLS", growth(true, 1_000)),
    scenario("fan-out 500 plain", What::FanOut { tls: false, members: 500, per_second: 20 }),
    scenario("fan-out 500 TLS", What::FanOut { tls: true, members: 500, per_second: 20 }),
    scenario("idle plain", What::Idle { tls: false, sessions: 5_000, used: false }),
    scenario("idle TLS", What::Idle { tls: true, sessions: 5_000, used: false }),
    of_large_messages(
        "idle after 16 KiB plain",
        What::Idle { tls: false, sessions: 5_000, used: true },
    ),
    of_large_messages(
        "idle after 16 KiB TLS",
        What::Idle { tls: true, sessions: 5_000, used: true },
    ),
    scenario("handshake plain", What::Handshake { tls: false, resume: false }),
    scenario("handshake TLS full", What::Handshake { tls: true, resume: false }),
    scenario("handshake TLS resumed", What::Handshake { tls: true, resume: true }),
    scenario("storm 3 000 plain", What::Storm { tls: false, clients: 3_000 }),
    scenario("storm 3 000 TLS", What::Storm { tls: true, clients: 3_000 }),
    scenario("growth 5 000 TLS", growth(true, 5_000)),
    scenario("growth 9 000 TLS", growth(true, 9_000)),
    scenario("growth 9 500 plain", growth(false, 9_500)),
];

/// The unit of a figure, by its name.
pub fn unit(figure: &str) -> Unit {
    match figure {
        "cpu" => Unit::Micros("µs CPU"),
        "memory" => Unit::Kib,
        "failed" => Unit::Count,
        "seconds" => Unit::Seconds,
        _ => Unit::Micros("µs"),
    }
}

/// Runs all rounds. Within a round the proxies take turns in each scenario, so that what else the
/// machine does strikes all alike; each round begins with another of them.
pub async fn run(args: &Args) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let ground = Ground {
        folder: folder.path().to_owned(),
        backend: backend::start().await,
        framegate: args.framegate.clone(),
        envoy: args.envoy.clone(),
    };
    let variants: Vec<Variant> = args.proxies.iter().flat_map(|name| Variant::of(name)).collect();
    let mut report = Report::new(&variants);
    for scenario in SCENARIOS {
        if !args.scenarios.is_empty()
            && !args.scenarios.iter().any(|s| scenario.name.starts_with(s))
        {
            continue;
        }
        for round in 0..args.rounds {
            for turn in 0..variants.len() {
                let variant = &variants[(turn + round) % variants.len()];
                if variant.is_large && !scenario.large_buffers {
                    continue;
                }
                match measure(scenario.what, variant, &ground, made.cert.der(), args.seconds).await
                {
                    Ok(figures) => {
                        eprintln!(
                            "{} [{}] {}: {}",
                            scenario.name,
                            round + 1,
                            variant.label(),
                            show(&figures)
                        );
                        report.add(scenario.name, variant, figures);
                    }
                    Err(error) => {
                        eprintln!(
                            "{} [{}] {}: FAILED: {error}",
                            scenario.name,
                            round + 1,
                            variant.label()
                        );
                        report.failed(scenario.name, variant, error.to_string());
                    }
                }
            }
        }
    }
    report
}

fn show(figures: &Figures) -> String {
    let all: Vec<String> =
        figures.iter().map(|(name, value)| format!("{name} {}", unit(name).show(*value))).collect();
    all.join(", ")
}

async fn measure(
    what: What,
    variant: &Variant,
    ground: &Ground,
    certificate: &CertificateDer<'static>,
    seconds: f64,
) -> std::io::Result<Figures> {
    let (is_tls, resume) = match what {
        What::Closed { tls, .. }
        | What::Open { tls, .. }
        | What::FanOut { tls, .. }
        | What::Idle { tls, .. }
        | What::Storm { tls, .. } => (tls, false),
        What::Handshake { tls, resume } => (tls, resume),
    };
    let running = start(variant, ground)?;
    let target = Target {
        address: if is_tls { running.tls } else { running.plain },
        tls: is_tls.then(|| tls(certificate, resume)),
        token: (variant.name == "framegate").then(token),
        path: if matches!(what, What::FanOut { .. }) { "/room" } else { "/ws" },
    };
    let found = match wait_until_up(&target).await {
        Ok(()) => measure_running(what, &running, &target, seconds).await,
        Err(error) => Err(error),
    };
    running.process.stop();
    found
}

async fn measure_running(
    what: What,
    running: &Running,
    target: &Target,
    seconds: f64,
) -> std::io::Result<Figures> {
    match what {
        What::Closed { sessions, size, pipelined, .. } => {
            load::closed(running, target, sessions, size, pipelined, seconds).await
        }
        What::Open { sessions, per_second, .. } => {
            load::open(running, target, sessions, per_second, seconds).await
        }
        What::FanOut { members, per_second, .. } => {
            load::fan_out(running, target, members, per_second, seconds).await
        }
        What::Idle { sessions, used, .. } => sessions::idle(running, target, sessions, used).await,
        What::Handshake { resume, .. } => {
            sessions::handshakes(running, target, resume, seconds).await
        }
        What::Storm { clients, .. } => sessions::storm(running, target, clients).await,
    }
}

async fn wait_until_up(target: &Target) -> std::io::Result<()> {
    let mut last = None;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        match target.open().await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(last.unwrap())
}

fn token() -> String {
    let claims = serde_json::json!({
        "sub": "bench", "iss": "https://id.example.com", "aud": "chat", "exp": 4_000_000_000_u64,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

/// The value below which the given share of `sorted` lies.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Figures p50, p99 and p99.9 of `latencies` in microseconds.
pub fn percentiles(mut latencies: Vec<f64>) -> Figures {
    latencies.sort_by(f64::total_cmp);
    vec![
        ("p50", quantile(&latencies, 0.5)),
        ("p99", quantile(&latencies, 0.99)),
        ("p99.9", quantile(&latencies, 0.999)),
    ]
}
