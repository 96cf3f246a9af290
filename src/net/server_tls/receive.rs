//! The receiving half: records are read into the thread's buffer and opened there. I/O.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::rustls;
use tokio_rustls::rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::records::TooManyEmptyRecords;
use super::space::{append, needed};
use super::{MOST, RECORD, RECORDS, ServerTls, broken, give_back};

impl ServerTls {
    /// Reads once from the socket and opens what has come whole: into `wanted` as far as it has
    /// room, and what it has not, into `plain`.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        mut wanted: Option<&mut ReadBuf<'_>>,
    ) -> Poll<io::Result<()>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Err(fault));
        }
        self.check()?;
        RECORDS.with_borrow_mut(|records| {
            let held = self.incoming.len();
            // What is not asked for would have to be kept: a reader that wants little gets little.
            let room = wanted.as_ref().map_or(MOST, |buffer| buffer.remaining() + RECORD);
            if held >= self.most_incoming {
                self.failed = true;
                return Poll::Ready(Err(broken("a handshake message is too large")));
            }
            let space = records.get_mut(held..(held + room).min(MOST)).unwrap_or_default();
            let mut read = ReadBuf::new(space);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
            let count = read.filled().len();
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let (arrived, _) = records.split_at_mut(held + count);
            let ended = self.records.ended_in(&arrived[held..]);
            arrived[..held].copy_from_slice(&self.incoming);
            let was_handshaking = self.connection.is_handshaking();
            let (mut done, mut carrying) = (0, 0);
            let opened = self.open(arrived, &mut done, |payload| {
                carrying += u32::from(!payload.is_empty());
                match &mut wanted {
                    Some(buffer) => {
                        let (now, later) = payload.split_at(payload.len().min(buffer.remaining()));
                        buffer.put_slice(now);
                        later.to_vec()
                    }
                    None => payload.to_vec(),
                }
            });
            self.incoming.clear();
            // Behind close_notify nothing counts (RFC 8446 section 6.1).
            if !self.peer_closed {
                self.incoming.extend_from_slice(&arrived[done..]);
            }
            give_back(&mut self.incoming);
            // Within a handshake records have other limits: its size, and its time.
            let empty = if was_handshaking { 0 } else { ended.saturating_sub(carrying) };
            let judged = self.judge(cx, opened, empty);
            Poll::Ready(match judged {
                // What came whole before the fault is not lost.
                Err(error) if carrying > 0 => {
                    self.fault = Some(error);
                    Ok(())
                }
                judged => judged,
            })
        })
    }

    /// The fault of what was just opened, `empty` records without content among it.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        opened: Result<(), rustls::Error>,
        empty: u32,
    ) -> io::Result<()> {
        match opened {
            // rustls has limits of its own for some of them.
            Err(error) if is_about_empty_records(&error) => {
                self.fail(cx, error);
            }
            Err(error) => return Err(self.fail(cx, error)),
            Ok(()) if empty == 0 || self.empty.charge(empty, Instant::now()) => return Ok(()),
            Ok(()) => {}
        }
        Err(io::Error::other(TooManyEmptyRecords))
    }

    /// Opens the records in `arrived`, as far as they are whole, and counts the bytes that are `done`
    /// with; `deliver` takes what was in them and returns what it had no room for.
    fn open(
        &mut self,
        arrived: &mut [u8],
        done: &mut usize,
        mut deliver: impl FnMut(&[u8]) -> Vec<u8>,
    ) -> Result<(), rustls::Error> {
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut arrived[*done..]);
            let Ok(state) = state else {
                *done += discard;
                return state.map(drop);
            };
            let mut is_over = false;
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        // In order: `deliver` finds no more room once anything is left over.
                        let left = deliver(record.payload);
                        if self.plain.is_empty() {
                            self.plain = left;
                        } else {
                            self.plain.extend_from_slice(&left);
                        }
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.outgoing, |space| data.encode(space).map_err(needed))?;
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.peer_closed = true;
                    is_over = true;
                }
                ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => {
                    is_over = true;
                }
                // Never offered, so never accepted; and nothing else exists today.
                _ => return Err(rustls::Error::General("an unexpected state of TLS".to_owned())),
            }
            *done += discard;
            if is_over {
                return Ok(());
            }
        }
    }
}

fn is_about_empty_records(error: &rustls::Error) -> bool {
    use rustls::PeerMisbehaved::{TooManyEmptyFragments, TooManyKeyUpdateRequests};
    matches!(error, rustls::Error::PeerMisbehaved(TooManyKeyUpdateRequests | TooManyEmptyFragments))
}
