//! One chat connection of the demo backend: frames to room, room to frames.
//!
//! tungstenite keeps the protocol's state and answers Ping and Close; it is synchronous, so it
//! reads from and writes to [`Wire`], which this file fills from and empties to the socket.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::room::{Member, Rooms};

/// Carries `member`'s messages both ways until either side has closed.
pub(super) async fn talk<S>(mut socket: S, member: &mut Member, rooms: &Rooms)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut protocol = WebSocketContext::new(Role::Server, Some(config()));
    let mut wire = Wire::default();
    loop {
        let open = read_messages(&mut protocol, &mut wire, member, rooms);
        let written = tokio::time::timeout(WRITE_TIMEOUT, socket.write_all(&wire.outbound)).await;
        wire.outbound.clear();
        if !open || !matches!(written, Ok(Ok(()))) {
            let _ = tokio::time::timeout(WRITE_TIMEOUT, socket.shutdown()).await;
            return;
        }
        tokio::select! {
            read = socket.read_buf(&mut wire.inbound) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            Some(text) = member.queue.recv() => {
                // An error here is a Close already sent; the next read says so.
                let _ = protocol.write(&mut wire, Message::Text(text));
                let _ = protocol.flush(&mut wire);
            }
        }
    }
}

/// Handles every message that has wholly arrived; false once the connection is to be closed.
fn read_messages(
    protocol: &mut WebSocketContext,
    wire: &mut Wire,
    member: &Member,
    rooms: &Rooms,
) -> bool {
    loop {
        match protocol.read(wire) {
            Ok(Message::Text(text)) => {
                if let Err(complaint) = hear(&text, member, rooms) {
                    let complaint = json!({ "type": "error", "text": complaint }).to_string();
                    let _ = protocol.write(wire, Message::text(complaint));
                    let _ = protocol.flush(wire);
                }
            }
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(Error::Capacity(_)) => {
                let close = CloseFrame { code: CloseCode::Size, reason: "too big".into() };
                let _ = protocol.close(wire, Some(close));
                return false;
            }
            Err(_) => return false,
        }
    }
}

/// What a member may send.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Message { text: String },
}

fn hear(text: &str, member: &Member, rooms: &Rooms) -> Result<(), &'static str> {
    let Ok(Said::Message { text }) = serde_json::from_str(text) else {
        return Err("not understood: send {\"type\":\"message\",\"text\":\"...\"}");
    };
    if text.trim().is_empty() {
        return Err("the message is empty");
    }
    if text.len() > MESSAGE_TEXT {
        return Err("the message is longer than 4 KiB");
    }
    let at = jiff::Timestamp::now();
    rooms.say(member, &text, &format!("{at:.3}"));
    Ok(())
}

/// The bytes between the socket and the protocol.
#[derive(Debug, Default)]
struct Wire {
    inbound: BytesMut,
    outbound: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.inbound.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = Read::read(&mut &*self.inbound, buffer)?;
        self.inbound.advance(count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbound.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_message_size(Some(WIRE_MESSAGE))
        .max_frame_size(Some(WIRE_MESSAGE))
}

/// Longest text of a chat message, bytes.
const MESSAGE_TEXT: usize = 4096;
/// Longest message on the wire, bytes: 4 KiB of text may be six times as long as JSON escapes.
const WIRE_MESSAGE: usize = 32 * 1024;
/// A member that takes longer to read is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
