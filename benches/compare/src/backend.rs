//! The backend behind every proxy: echoes; on `/room` it sends what one member says to all.

use std::cell::RefCell;
use std::rc::Rc;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Starts the echo backend on the current LocalSet.
pub async fn start() -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    // A proxy that opens a storm's connections faster than they are accepted here would wait a second
    // for the next SYN, and be measured for it.
    let listener = socket.listen(4096).unwrap();
    let address = listener.local_addr().unwrap();
    let members = Members::default();
    tokio::task::spawn_local(async move {
        loop {
            // Out of descriptors nothing measured here is worth anything.
            let (stream, _) = listener.accept().await.expect("raise the open-file limit");
            tokio::task::spawn_local(serve(stream, Rc::clone(&members)));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, members: Members) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let Some(key) = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    }) else {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        return;
    };
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    if stream.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    buffer.drain(..end);
    buffer.shrink_to_fit();
    if head.starts_with("GET /room ") {
        room(stream, buffer, members).await;
    } else {
        echo(&mut stream, buffer).await;
    }
}

/// Everybody in the room. A member that has left is found when it cannot be written to.
type Members = Rc<RefCell<Vec<Rc<TcpStream>>>>;

/// Sends each message of this member to all, this one too.
async fn room(stream: TcpStream, mut buffer: Vec<u8>, members: Members) {
    let stream = Rc::new(stream);
    members.borrow_mut().push(Rc::clone(&stream));
    let mut chunk = [0; 4096];
    loop {
        let mut out = Vec::new();
        answer(&mut buffer, &mut out);
        if !out.is_empty() {
            let all = members.borrow().clone();
            for member in all {
                send(&member, &out).await;
            }
        }
        if stream.readable().await.is_err() {
            break;
        }
        match stream.try_read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    members.borrow_mut().retain(|member| !Rc::ptr_eq(member, &stream));
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if stream.writable().await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Unmasks each whole frame in `buffer` into `out`, as a server sends it.
fn answer(buffer: &mut Vec<u8>, out: &mut Vec<u8>) {
    while let Some((len, header, first)) = whole_frame(buffer) {
        let key: [u8; 4] = buffer[header - 4..header].try_into().unwrap();
        let payload = &buffer[header..len];
        out.push(first);
        match payload.len() {
            n @ 0..126 => out.push(n as u8),
            n @ 126..65536 => {
                out.push(126);
                out.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                out.push(127);
                out.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        buffer.drain(..len);
    }
}

/// Unmasks each frame and sends it back. The buffer is given up while nothing comes, so that the load
/// process itself stays small with thousands of idle connections.
async fn echo(stream: &mut TcpStream, mut buffer: Vec<u8>) {
    loop {
        let mut out = Vec::new();
        answer(&mut buffer, &mut out);
        if !out.is_empty() && stream.write_all(&out).await.is_err() {
            return;
        }
        drop(out);
        if buffer.is_empty() {
            buffer = Vec::new();
        }
        if stream.readable().await.is_err() {
            return;
        }
        let mut chunk = [0; 32768];
        match stream.try_read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Length, header length and first byte of a whole masked frame at the front.
fn whole_frame(bytes: &[u8]) -> Option<(usize, usize, u8)> {
    let [first, second, ..] = *bytes else { return None };
    let (len, header) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 8),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 14),
        n => (usize::from(n), 6),
    };
    (bytes.len() >= header + len).then_some((header + len, header, first))
}
