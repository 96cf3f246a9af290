//! Messages: CPU of the proxy for each, and how long they take.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_local};

use super::sessions::open_all;
use super::{Figures, percentiles};
use crate::client::{Reader, Target, echo_len, frame};
use crate::proxies::Running;

/// Size of a small message's payload.
const SMALL: usize = 128;

/// Each session sends `pipelined` messages when the last have come back.
pub async fn closed(
    running: &Running,
    target: &Target,
    sessions: usize,
    size: usize,
    pipelined: usize,
    seconds: f64,
) -> std::io::Result<Figures> {
    let bytes = Rc::new(frame(size).repeat(pipelined));
    let (count, go) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(true)));
    let mut tasks = Vec::new();
    for mut session in open_all(target, sessions).await? {
        let (bytes, count, go) = (Rc::clone(&bytes), Rc::clone(&count), Rc::clone(&go));
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
    let (messages, cpu) = (count.get(), running.process.usage().cpu);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (messages, cpu) = (count.get() - messages, running.process.usage().cpu - cpu);
    go.set(false);
    for task in tasks {
        task.await.unwrap()?;
    }
    Ok(vec![("cpu", cpu * 1e6 / messages as f64)])
}

/// Messages are sent when they are due, `per_second` in all, each on the next session. How long one
/// takes is counted from when it was due: what had to wait because others were slow counts too
/// (no coordinated omission).
pub async fn open(
    running: &Running,
    target: &Target,
    sessions: usize,
    per_second: u64,
    seconds: f64,
) -> std::io::Result<Figures> {
    let memory = settled_memory(running).await;
    let all = open_all(target, sessions).await?;
    let (mut writers, mut queues, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    let latencies = Rc::new(RefCell::new(Vec::new()));
    for session in all {
        let (reader, writer) = session.into_halves();
        let queue = Rc::new(RefCell::new(VecDeque::new()));
        readers.push(read_echoes(reader, Rc::clone(&queue), Rc::clone(&latencies)));
        writers.push(writer);
        queues.push(queue);
    }
    let bytes = frame(SMALL);
    // The first second warms up and is not counted.
    let warm_up = per_second as usize;
    let total = warm_up + (per_second as f64 * seconds) as usize;
    let began = Instant::now();
    let mut cpu = 0.0;
    for number in 0..total {
        let due = began + Duration::from_secs_f64(number as f64 / per_second as f64);
        if number == warm_up {
            cpu = running.process.usage().cpu;
            latencies.borrow_mut().clear();
        }
        wait_until(due).await;
        queues[number % sessions].borrow_mut().push_back(due);
        writers[number % sessions].send(&bytes).await?;
    }
    while queues.iter().any(|queue| !queue.borrow().is_empty()) {
        tokio::task::yield_now().await;
        if readers.iter().any(JoinHandle::is_finished) {
            return Err(std::io::Error::other("a session ended under load"));
        }
    }
    let cpu = running.process.usage().cpu - cpu;
    let mut figures = vec![("cpu", cpu * 1e6 / (2 * (total - warm_up)) as f64)];
    figures.extend(percentiles(latencies.take()));
    figures.push(("memory", (settled_memory(running).await - memory) / sessions as f64));
    readers.iter().for_each(JoinHandle::abort);
    Ok(figures)
}

fn read_echoes(
    mut reader: Reader,
    queue: Rc<RefCell<VecDeque<Instant>>>,
    latencies: Rc<RefCell<Vec<f64>>>,
) -> JoinHandle<std::io::Result<()>> {
    spawn_local(async move {
        loop {
            reader.skip(echo_len(SMALL)).await?;
            if let Some(due) = queue.borrow_mut().pop_front() {
                latencies.borrow_mut().push(due.elapsed().as_secs_f64() * 1e6);
            }
        }
    })
}

/// One member of a room sends, and every member (itself too) receives: CPU for each copy, and how
/// long after it was due a copy arrives.
pub async fn fan_out(
    running: &Running,
    target: &Target,
    members: usize,
    per_second: u64,
    seconds: f64,
) -> std::io::Result<Figures> {
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let due_now = Rc::new(Cell::new(Instant::now()));
    let arrived = Rc::new(Cell::new(0_usize));
    let mut readers = Vec::new();
    let mut sender = None;
    for session in open_all(target, members).await? {
        let (mut reader, writer) = session.into_halves();
        sender.get_or_insert(writer);
        let (latencies, due, arrived) =
            (Rc::clone(&latencies), Rc::clone(&due_now), Rc::clone(&arrived));
        readers.push(spawn_local(async move {
            loop {
                reader.skip(echo_len(SMALL)).await?;
                latencies.borrow_mut().push(due.get().elapsed().as_secs_f64() * 1e6);
                arrived.set(arrived.get() + 1);
            }
            #[expect(unreachable_code, reason = "gives the task its type")]
            Ok::<(), std::io::Error>(())
        }));
    }
    let mut sender = sender.ok_or(std::io::ErrorKind::InvalidInput)?;
    let bytes = frame(SMALL);
    let warm_up = per_second as usize;
    let total = warm_up + (per_second as f64 * seconds) as usize;
    let began = Instant::now();
    let mut cpu = 0.0;
    for number in 0..total {
        // The next is sent when it is due, or as soon as the whole room has the last.
        let due = began + Duration::from_secs_f64(number as f64 / per_second as f64);
        wait_until(due).await;
        if number == warm_up {
            cpu = running.process.usage().cpu;
            latencies.borrow_mut().clear();
        }
        due_now.set(due);
        arrived.set(0);
        sender.send(&bytes).await?;
        while arrived.get() < members {
            tokio::task::yield_now().await;
            if due.elapsed() > Duration::from_secs(20) {
                return Err(std::io::Error::other("a message did not reach the whole room"));
            }
        }
    }
    let cpu = running.process.usage().cpu - cpu;
    readers.iter().for_each(JoinHandle::abort);
    // One message in, one for each member out.
    let relayed = (total - warm_up) * (members + 1);
    let mut figures = vec![("cpu", cpu * 1e6 / relayed as f64)];
    figures.extend(percentiles(latencies.take()));
    Ok(figures)
}

/// Waits without the coarse ticks of a timer; other tasks run meanwhile.
async fn wait_until(due: Instant) {
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// KiB, once nothing changes any more.
pub async fn settled_memory(running: &Running) -> f64 {
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.process.usage().memory
}
