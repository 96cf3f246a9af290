//! Sessions: opening them, one by one and all at once, and what they cost while nothing happens.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::load::settled_memory;
use super::{Figures, percentiles, quantile};
use crate::client::{Session, Target, echo_len, frame};
use crate::proxies::Running;

/// Opens `count` sessions, fifty at a time.
pub async fn open_all(target: &Target, count: usize) -> std::io::Result<Vec<Session>> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let batch = (count - all.len()).min(50);
        let mut set = JoinSet::new();
        for _ in 0..batch {
            let target = target.clone();
            set.spawn_local(async move { target.open().await });
        }
        while let Some(session) = set.join_next().await {
            all.push(session.unwrap()?);
        }
    }
    Ok(all)
}

/// KiB of each session that does nothing.
pub async fn idle(
    running: &Running,
    target: &Target,
    sessions: usize,
    used: bool,
) -> std::io::Result<Figures> {
    const LARGE: usize = 16_384;
    let before = settled_memory(running).await;
    let mut all = open_all(target, sessions).await?;
    if used {
        let large = frame(LARGE);
        for session in &mut all {
            session.send(&large).await?;
            session.skip(echo_len(LARGE)).await?;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = settled_memory(running).await;
    Ok(vec![("memory", (after - before) / sessions as f64)])
}

/// CPU of each session that is opened, carries one message each way, and ends.
pub async fn handshakes(
    running: &Running,
    target: &Target,
    resume: bool,
    seconds: f64,
) -> std::io::Result<Figures> {
    // Fewer at once than the client keeps tickets, and each learns one: then all but the first resume.
    const AT_ONCE: usize = 4;
    for _ in 0..50 {
        exchange(target).await?;
    }
    let (began, cpu) = (Instant::now(), running.process.usage().cpu);
    let (mut done, mut resumed) = (0_u64, 0_u64);
    while began.elapsed().as_secs_f64() < seconds {
        let mut set = JoinSet::new();
        for _ in 0..AT_ONCE {
            let target = target.clone();
            set.spawn_local(async move { exchange(&target).await });
        }
        while let Some(result) = set.join_next().await {
            done += 1;
            resumed += u64::from(result.unwrap()?);
        }
    }
    let cpu = running.process.usage().cpu - cpu;
    let expected = if resume { done } else { 0 };
    if expected.abs_diff(resumed) > done / 50 {
        return Err(std::io::Error::other(format!("{resumed} of {done} were resumed")));
    }
    Ok(vec![("cpu", cpu * 1e6 / done as f64)])
}

/// Opens a session and has a message echoed, so that TLS 1.3's tickets are read too. Whether it was
/// resumed.
async fn exchange(target: &Target) -> std::io::Result<bool> {
    let mut session = target.open().await?;
    session.send(&frame(10)).await?;
    session.skip(echo_len(10)).await?;
    Ok(session.resumed)
}

/// All `clients` connect in the same moment. How many did not get in, how long each took, and CPU.
pub async fn storm(running: &Running, target: &Target, clients: usize) -> std::io::Result<Figures> {
    let (began, cpu) = (Instant::now(), running.process.usage().cpu);
    let mut set = JoinSet::new();
    for _ in 0..clients {
        let target = target.clone();
        set.spawn_local(async move {
            let session = target.open().await;
            (session, began.elapsed())
        });
    }
    // Sessions stay open until all are: nobody makes place for another.
    let (mut open, mut took, mut failed) = (Vec::new(), Vec::new(), 0);
    while let Some(joined) = set.join_next().await {
        let (session, elapsed) = joined.unwrap();
        match session {
            Ok(session) => {
                open.push(session);
                took.push(elapsed.as_secs_f64() * 1e6);
            }
            Err(error) => {
                if failed == 0 {
                    eprintln!("    first failure: {error}");
                }
                failed += 1;
                // Who did not get in waits for ever, and counts so.
                took.push(f64::INFINITY);
            }
        }
    }
    let cpu = running.process.usage().cpu - cpu;
    took.sort_by(f64::total_cmp);
    let all_in = quantile(&took, 1.0) / 1e6;
    let mut figures = vec![
        ("failed", f64::from(failed)),
        ("cpu", cpu * 1e6 / clients as f64),
        ("seconds", all_in),
    ];
    figures.extend(percentiles(took).into_iter().filter(|(name, _)| *name != "p99.9"));
    Ok(figures)
}
