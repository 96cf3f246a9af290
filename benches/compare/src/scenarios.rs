//! What is measured, and how the results are shown.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, spawn_local};

use crate::client::{Session, Target, echo_len, frame, tls};
use crate::proxies::{Ground, Running, SECRET, start};
use crate::{Args, backend};

/// One figure of one proxy in each round.
type Results = BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>;

/// Runs all rounds and prints the table.
pub async fn run(args: Args) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let ground = Ground {
        folder: folder.path().to_owned(),
        backend: backend::start().await,
        framegate: args.framegate.clone(),
    };
    let mut results = Results::new();
    for round in 1..=args.rounds {
        for name in &args.proxies {
            eprintln!("round {round}: {name}");
            for &(scenario, what) in SCENARIOS {
                let wanted = args.scenarios.is_empty() || args.scenarios.iter().any(|s| scenario.starts_with(s.as_str()));
                if !wanted {
                    continue;
                }
                let running = start(name, &ground);
                let value = measure(what, name, &running, made.cert.der(), args.seconds).await;
                running.process.stop();
                match value {
                    Ok(value) => {
                        eprintln!("  {scenario}: {value:.2}");
                        results.entry(scenario).or_default().entry(name.clone()).or_default().push(value);
                    }
                    Err(error) => eprintln!("  {scenario}: failed: {error}"),
                }
            }
        }
    }
    print_table(&results, &args);
}

#[derive(Clone, Copy)]
enum What {
    /// Closed loop: CPU microseconds of the proxy per relayed message.
    Closed { tls: bool, sessions: usize, size: usize, pipelined: usize },
    /// KiB per idle session; `used`: after each has carried one large message.
    Idle { tls: bool, sessions: usize, used: bool },
    /// CPU microseconds per handshake.
    Handshake { tls: bool, resume: bool },
}

const SCENARIOS: &[(&str, What)] = &[
    ("message 128 B plain, us CPU", What::Closed { tls: false, sessions: 64, size: 128, pipelined: 1 }),
    ("message 128 B TLS, us CPU", What::Closed { tls: true, sessions: 64, size: 128, pipelined: 1 }),
    ("message 16 KiB plain, us CPU", What::Closed { tls: false, sessions: 64, size: 16384, pipelined: 1 }),
    ("message 16 KiB TLS, us CPU", What::Closed { tls: true, sessions: 64, size: 16384, pipelined: 1 }),
    ("pipelined 16 x 32 plain, us CPU", What::Closed { tls: false, sessions: 16, size: 128, pipelined: 32 }),
    ("idle session plain, KiB", What::Idle { tls: false, sessions: 4000, used: false }),
    ("idle session TLS, KiB", What::Idle { tls: true, sessions: 4000, used: false }),
    ("idle session plain after 16 KiB, KiB", What::Idle { tls: false, sessions: 4000, used: true }),
    ("idle session TLS after 16 KiB, KiB", What::Idle { tls: true, sessions: 4000, used: true }),
    ("handshake plain, us CPU", What::Handshake { tls: false, resume: false }),
    ("handshake TLS full, us CPU", What::Handshake { tls: true, resume: false }),
    ("handshake TLS resumed, us CPU", What::Handshake { tls: true, resume: true }),
];

async fn measure(
    what: What,
    name: &str,
    running: &Running,
    certificate: &tokio_rustls::rustls::pki_types::CertificateDer<'static>,
    seconds: f64,
) -> std::io::Result<f64> {
    let (is_tls, resume) = match what {
        What::Closed { tls, .. } | What::Idle { tls, .. } => (tls, false),
        What::Handshake { tls, resume } => (tls, resume),
    };
    let target = Target {
        address: if is_tls { running.tls } else { running.plain },
        tls: is_tls.then(|| tls(certificate, resume)),
        token: (name == "framegate").then(token),
    };
    wait_until_up(&target).await?;
    match what {
        What::Closed { sessions, size, pipelined, .. } => {
            let sessions = open(&target, sessions).await?;
            closed_loop(running, sessions, size, pipelined, seconds).await
        }
        What::Idle { sessions, used, .. } => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let before = running.process.usage().memory;
            let mut all = open(&target, sessions).await?;
            if used {
                let large = frame(16384);
                for session in &mut all {
                    session.send(&large).await?;
                    session.skip(echo_len(16384)).await?;
                }
            }
            tokio::time::sleep(Duration::from_millis(2000)).await;
            let after = running.process.usage().memory;
            Ok((after - before) / sessions as f64)
        }
        What::Handshake { .. } => handshakes(running, &target, seconds).await,
    }
}

async fn wait_until_up(target: &Target) -> std::io::Result<()> {
    let mut last = None;
    for _ in 0..200 {
        match target.open(0).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(last.unwrap())
}

async fn open(target: &Target, count: usize) -> std::io::Result<Vec<Session>> {
    let mut all = Vec::with_capacity(count);
    let mut number = 0;
    while number < count {
        let batch = (count - number).min(50);
        let mut set = JoinSet::new();
        for i in 0..batch {
            let target = target.clone();
            set.spawn_local(async move { target.open(number + i).await });
        }
        while let Some(session) = set.join_next().await {
            all.push(session.unwrap()?);
        }
        number += batch;
    }
    Ok(all)
}

async fn closed_loop(
    running: &Running,
    sessions: Vec<Session>,
    size: usize,
    pipelined: usize,
    seconds: f64,
) -> std::io::Result<f64> {
    let bytes = Rc::new(frame(size).repeat(pipelined));
    let count = Rc::new(std::cell::Cell::new(0_u64));
    let running_flag = Rc::new(std::cell::Cell::new(true));
    let mut tasks = Vec::new();
    for mut session in sessions {
        let (bytes, count, go) = (Rc::clone(&bytes), Rc::clone(&count), Rc::clone(&running_flag));
        tasks.push(spawn_local(async move {
            while go.get() {
                session.send(&bytes).await?;
                session.skip(echo_len(size) * pipelined).await?;
                // To the backend and back: two relayed messages each.
                count.set(count.get() + 2 * pipelined as u64);
            }
            Ok::<(), std::io::Error>(())
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (messages, cpu, began) = (count.get(), running.process.usage().cpu, Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (messages, cpu) = (count.get() - messages, running.process.usage().cpu - cpu);
    let elapsed = began.elapsed().as_secs_f64();
    running_flag.set(false);
    for task in tasks {
        task.await.unwrap()?;
    }
    eprintln!("    {:.0} messages/s, proxy at {:.0} % of its core", messages as f64 / elapsed, 100.0 * cpu / elapsed);
    Ok(cpu * 1e6 / messages as f64)
}

async fn handshakes(running: &Running, target: &Target, seconds: f64) -> std::io::Result<f64> {
    // Warm up, and learn a ticket to resume with.
    for number in 0..50 {
        let mut session = target.open(number).await?;
        session.send(&frame(10)).await?;
        session.skip(echo_len(10)).await?;
    }
    let began = Instant::now();
    let cpu = running.process.usage().cpu;
    let mut done = 0_u64;
    while began.elapsed().as_secs_f64() < seconds {
        let mut set = JoinSet::new();
        for i in 0..20 {
            let target = target.clone();
            set.spawn_local(async move {
                let mut session = target.open(i).await?;
                // One echo, so that TLS 1.3 tickets are read.
                session.send(&frame(10)).await?;
                session.skip(echo_len(10)).await
            });
        }
        while let Some(result) = set.join_next().await {
            result.unwrap()?;
            done += 1;
        }
    }
    let cpu = running.process.usage().cpu - cpu;
    Ok(cpu * 1e6 / done as f64)
}

fn token() -> String {
    let claims = serde_json::json!({
        "sub": "bench", "iss": "https://id.example.com", "aud": "chat", "exp": 4_000_000_000_u64,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn print_table(results: &Results, args: &Args) {
    let mut table = format!("| | {} | ratio to best peer |\n", args.proxies.join(" | "));
    table += &format!("|---|{}---|\n", "---|".repeat(args.proxies.len()));
    for (scenario, by_proxy) in results {
        let value = |name: &String| by_proxy.get(name).map(|values| median(values));
        let cells: Vec<String> =
            args.proxies.iter().map(|name| value(name).map_or("-".into(), |v| format!("{v:.1}"))).collect();
        let ours = by_proxy.get("framegate").map(|values| median(values));
        let best = by_proxy
            .iter()
            .filter(|(name, _)| *name != "framegate")
            .map(|(_, values)| median(values))
            .min_by(f64::total_cmp);
        let ratio = ours.zip(best).map_or("-".into(), |(ours, best)| format!("{:.2}", ours / best));
        table += &format!("| {scenario} | {} | {ratio} |\n", cells.join(" | "));
    }
    println!("{table}");
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).unwrap();
        std::fs::write(out.join("compare.md"), &table).unwrap();
        std::fs::write(out.join("compare.json"), serde_json::to_string_pretty(results).unwrap()).unwrap();
    }
}
