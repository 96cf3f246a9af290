//! Lines on their way to an output that may be slow, full or gone.
//!
//! Workers append to a buffer in memory and go on; one thread writes it out, many lines at a time.
//! A line that finds the buffer full is dropped and counted, so are lines whose writing failed.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// The handle; clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct LineQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, each with its line end.
    lines: Vec<u8>,
    /// The thread is writing lines that it has taken out.
    writing: bool,
}

impl LineQueue {
    /// Starts the thread that writes to `output`. It lives as long as the process.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let shared = Arc::clone(&queue.0);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_out(&shared, output))?;
        Ok(queue)
    }

    /// Appends a line (or several) with its line end; never waits for the output.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.lines.len() + line.len() > CAPACITY {
            drop(state);
            self.0.lost(line);
            return;
        }
        state.lines.extend_from_slice(line);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Waits until everything queued is written or failed, at most for [`FLUSH`].
    pub(super) fn flush(&self) {
        let state = self.0.lock();
        let busy = |state: &mut State| state.writing || !state.lines.is_empty();
        // Time out or not: there is nothing more to be done.
        let _ = self.0.emptied.wait_timeout_while(state, FLUSH, busy);
    }

    /// Lines lost.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Write for LineQueue {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the lines in `bytes` as lost.
    fn lost(&self, bytes: &[u8]) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Waits for lines and swaps them with the empty buffer `taken`.
    fn take(&self, taken: &mut Vec<u8>) {
        let mut state = self.lock();
        state.writing = false;
        if state.lines.is_empty() {
            self.emptied.notify_all();
        }
        state = self
            .filled
            .wait_while(state, |state| state.lines.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        std::mem::swap(&mut state.lines, taken);
    }
}

/// The thread: two buffers take turns, so that workers and output never share one.
fn write_out(shared: &Shared, mut output: impl Write) {
    let mut lines = Vec::new();
    let mut torn = false;
    loop {
        shared.take(&mut lines);
        if torn {
            // Half a line was written before the failure; the next must not be glued to it.
            torn = output.write_all(b"\n").is_err();
        }
        let written = write_lines(&mut output, &lines);
        let rest = lines.get(written..).unwrap_or_default();
        if !rest.is_empty() {
            shared.lost(rest);
            torn |= written > 0 && lines.get(written - 1) != Some(&b'\n');
        }
        lines.clear();
        lines.shrink_to(KEPT);
    }
}

/// Writes as much of `lines` as the output takes; how much that was.
fn write_lines(output: &mut impl Write, lines: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Somebody else made the terminal or pipe we share non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::park_timeout(RETRY);
            }
            Err(_) => break,
        }
    }
    written
}

/// Some twenty thousand lines: seconds of a storm, and little memory.
const CAPACITY: usize = 8 * 1024 * 1024;

/// What a buffer may keep after a storm.
const KEPT: usize = 256 * 1024;

const FLUSH: Duration = Duration::from_secs(1);

const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Hands on each write, and does with it what it is told.
    struct Output {
        verdicts: Receiver<io::Result<usize>>,
        writes: Sender<Vec<u8>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let verdict = self.verdicts.recv().unwrap_or(Ok(usize::MAX));
            let taken = verdict.map(|most| most.min(bytes.len()))?;
            self.writes.send(bytes[..taken].to_vec()).unwrap();
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output() -> (LineQueue, Sender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (verdict, verdicts) = mpsc::channel();
        let (writes, written) = mpsc::channel();
        let queue = LineQueue::start(Output { verdicts, writes }).unwrap();
        (queue, verdict, written)
    }

    const ALL: usize = usize::MAX;
    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (queue, verdict, written) = output();
        drop(verdict);
        for number in 0..100 {
            queue.push(format!("line {number}\n").as_bytes());
        }
        queue.flush();
        let expected: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let all: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn a_stuck_output_stops_nobody_and_what_it_misses_is_counted() {
        let (queue, verdict, written) = output();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let pushed = 3 * CAPACITY / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        // One buffer is filling, another may be with the thread.
        let dropped = usize::try_from(queue.dropped()).unwrap();
        assert!(dropped >= pushed / 3, "{dropped} of {pushed}");

        drop(verdict);
        queue.flush();
        let bytes: usize = written.try_iter().map(|lines| lines.len()).sum();
        assert_eq!(bytes / line.len() + dropped, pushed);
    }

    #[test]
    fn a_full_disk_loses_lines_until_there_is_space_again() {
        let (queue, verdict, written) = output();
        let full = || Err(io::Error::from(ErrorKind::StorageFull));
        verdict.send(Ok(3)).unwrap();
        verdict.send(full()).unwrap();
        queue.push(b"first\n");
        assert_eq!(written.recv_timeout(SOON).unwrap(), b"fir");
        queue.flush();
        assert_eq!(queue.dropped(), 1);

        for _ in 0..3 {
            verdict.send(Ok(ALL)).unwrap();
        }
        queue.push(b"second\n");
        queue.flush();
        let later: Vec<u8> = written.try_iter().flatten().collect();
        assert_eq!(later, b"\nsecond\n", "a torn line is ended first");
        assert_eq!(queue.dropped(), 1);
    }

    #[test]
    fn a_closed_output_kills_nothing() {
        let (queue, verdict, _written) = output();
        for number in 1..=3 {
            verdict.send(Err(io::Error::from(ErrorKind::BrokenPipe))).unwrap();
            queue.push(b"lost\n");
            queue.flush();
            assert_eq!(queue.dropped(), number);
        }
    }

    #[test]
    fn an_output_that_would_block_is_tried_again() {
        let (queue, verdict, written) = output();
        verdict.send(Err(io::Error::from(ErrorKind::WouldBlock))).unwrap();
        verdict.send(Err(io::Error::from(ErrorKind::Interrupted))).unwrap();
        verdict.send(Ok(ALL)).unwrap();
        queue.push(b"late\n");
        assert_eq!(written.recv_timeout(SOON).unwrap(), b"late\n");
        assert_eq!(queue.dropped(), 0);
    }
}
