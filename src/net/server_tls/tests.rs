//! TLS over real sockets, with tokio-rustls as the client.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    AlertDescription, ClientConfig, Error, RootCertStore, SupportedProtocolVersion, version,
};

use super::*;

struct Configs {
    server: Arc<ServerConfig>,
    client: TlsConnector,
}

fn configs(version: &'static SupportedProtocolVersion) -> Configs {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = crate::net::tls::provider();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Configs { server: Arc::new(server), client: TlsConnector::from(Arc::new(client)) }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn pair(configs: &Configs) -> (TlsStream<TcpStream>, ServerTls) {
    let (client, server) = sockets().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        configs.client.connect(name, client),
        ServerTls::accept(server, Arc::clone(&configs.server), ClientCertificate::NotAsked)
    );
    (client.unwrap(), server.unwrap())
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Reads `len` bytes, at most `piece` at once.
async fn read_in_pieces(tls: &mut ServerTls, len: usize, piece: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; piece];
    while all.len() < len {
        let count = tls.read(&mut buffer).await.unwrap();
        assert!(count > 0, "ended after {} of {len} bytes", all.len());
        all.extend_from_slice(&buffer[..count]);
    }
    all
}

fn holds_nothing(tls: &ServerTls) -> bool {
    tls.incoming.capacity() + tls.plain.capacity() + tls.outgoing.capacity() == 0
}

#[tokio::test]
async fn bytes_pass_both_ways_and_nothing_is_kept() {
    for version in [&version::TLS12, &version::TLS13] {
        let configs = configs(version);
        let (mut client, mut server) = pair(&configs).await;
        let rows = [(1, 1), (128, 65_536), (20_000, 7), (16_384, 16_384), (1_000_000, 5_000)];
        for (len, piece) in rows {
            let sent = bytes(len);
            let (written, read) =
                tokio::join!(client.write_all(&sent), read_in_pieces(&mut server, len, piece));
            written.unwrap();
            assert!(read == sent, "{version:?}: {len} bytes in pieces of {piece}");

            let mut back = vec![0; len];
            let (written, read) = tokio::join!(
                async {
                    server.write_all(&sent).await?;
                    server.flush().await
                },
                client.read_exact(&mut back)
            );
            written.unwrap();
            read.unwrap();
            assert!(back == sent, "{version:?}: {len} bytes back");
            assert!(holds_nothing(&server), "{version:?}: {server:?} keeps buffers");
        }
    }
}

#[tokio::test]
async fn a_handshake_and_data_byte_by_byte() {
    for version in [&version::TLS12, &version::TLS13] {
        let configs = configs(version);
        let (near, far) = tokio::io::duplex(16_384);
        let (dripping, server) = sockets().await;
        dripping.set_nodelay(true).unwrap();
        let drips = async move {
            let (mut from_client, mut to_client) = tokio::io::split(far);
            let (mut from_server, mut to_server) = dripping.into_split();
            let drip = async {
                while let Ok(byte) = from_client.read_u8().await {
                    to_server.write_u8(byte).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let _ = tokio::join!(drip, tokio::io::copy(&mut from_server, &mut to_client));
        };
        let exchange = async {
            let name = ServerName::try_from("localhost").unwrap();
            let (client, server) = tokio::join!(
                configs.client.connect(name, near),
                ServerTls::accept(server, Arc::clone(&configs.server), ClientCertificate::NotAsked)
            );
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            client.write_all(&bytes(3_000)).await.unwrap();
            client.flush().await.unwrap();
            assert_eq!(read_in_pieces(&mut server, 3_000, 3_000).await, bytes(3_000));
            server
        };
        let server = tokio::select! {
            () = drips => panic!("the connection between them ended"),
            server = exchange => server,
        };
        assert!(holds_nothing(&server));
    }
}

#[tokio::test]
async fn keys_change_when_the_client_asks() {
    let configs = configs(&version::TLS13);
    let (mut client, mut server) = pair(&configs).await;
    for round in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(b"new keys").await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(read_in_pieces(&mut server, 8, 100).await, b"new keys", "round {round}");
        server.write_all(b"mine too").await.unwrap();
        server.flush().await.unwrap();
        let mut answer = [0; 8];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"mine too", "round {round}");
    }
}

#[tokio::test]
async fn who_does_not_read_makes_us_wait_and_loses_nothing() {
    let configs = configs(&version::TLS13);
    let (mut client, mut server) = pair(&configs).await;
    let piece = bytes(40_000);
    let mut sent = 0;
    let stuck_at = loop {
        let polled = std::future::poll_fn(|cx| {
            Poll::Ready(Pin::new(&mut server).poll_write(cx, &piece[..]))
        });
        match polled.await {
            Poll::Ready(count) => sent += count.unwrap(),
            Poll::Pending => break server.taken(),
        }
    };
    assert!(!server.outgoing.is_empty(), "what the socket did not take is kept");
    assert!(server.outgoing.len() < 2 * 40_000, "one write at most is kept");
    let mut received = vec![0; sent];
    let (flushed, read) = tokio::join!(server.flush(), client.read_exact(&mut received));
    flushed.unwrap();
    read.unwrap();
    assert!(server.taken() > stuck_at);
    for (index, chunk) in received.chunks(40_000).enumerate() {
        assert!(chunk == &piece[..chunk.len()], "piece {index}");
    }
    assert!(holds_nothing(&server));
}

#[tokio::test]
async fn an_end_with_and_without_close_notify() {
    let configs = configs(&version::TLS13);
    let (mut client, mut server) = pair(&configs).await;
    client.write_all(b"bye").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"bye");
    // The other direction stays open until we close it too.
    server.write_all(b"bye").await.unwrap();
    server.shutdown().await.unwrap();
    all.clear();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"bye");

    let (mut client, mut server) = pair(&configs).await;
    client.get_mut().0.shutdown().await.unwrap();
    let error = server.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn garbage_is_answered_with_an_alert() {
    for version in [&version::TLS12, &version::TLS13] {
        let configs = configs(version);
        let (mut client, mut server) = pair(&configs).await;
        // A record of application data that was never sealed.
        let record = [&[0x17, 3, 3, 0, 40][..], &[0; 40]].concat();
        client.get_mut().0.write_all(&record).await.unwrap();
        let error = server.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{version:?}: {error}");
        let told = client.read(&mut [0; 10]).await.unwrap_err();
        let told = told.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        assert_eq!(
            told,
            Some(&Error::AlertReceived(AlertDescription::BadRecordMac)),
            "{version:?}"
        );
        // Whatever is asked of it now, the alert was the last word.
        assert!(server.read(&mut [0; 10]).await.is_err(), "{version:?}");
        assert!(server.write(b"more").await.is_err(), "{version:?}");
        server.shutdown().await.unwrap();
        let mut behind = Vec::new();
        client.get_mut().0.read_to_end(&mut behind).await.unwrap();
        assert_eq!(behind, b"", "{version:?}");
    }
}

#[tokio::test]
async fn garbage_that_is_not_read_before_a_write_is_answered_once() {
    let configs = configs(&version::TLS13);
    let (mut client, mut server) = pair(&configs).await;
    let record = [&[0x17, 3, 3, 0, 40][..], &[0; 40]].concat();
    client.get_mut().0.write_all(&record).await.unwrap();
    server.write_all(b"not looked at yet").await.unwrap();
    let mut told = [0; 17];
    client.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"not looked at yet");
    server.read(&mut [0; 10]).await.unwrap_err();
    server.write_all(b"too late").await.unwrap_err();
    server.shutdown().await.unwrap();
    client.read(&mut [0; 10]).await.unwrap_err();
}

#[tokio::test]
async fn what_waits_for_its_end_is_bounded() {
    let configs = configs(&version::TLS13);
    let (mut client, server) = sockets().await;
    let (config, mut hello) = (Arc::clone(&configs.server), Vec::new());
    // A ClientHello that claims 65 000 bytes, in records of 16 000.
    for part in 0..5_u8 {
        hello.extend_from_slice(&[0x16, 3, 1, 0x3e, 0x80]);
        let mut body = vec![0; 16_000];
        if part == 0 {
            body[..4].copy_from_slice(&[1, 0, 0xfd, 0xe8]);
        }
        hello.extend_from_slice(&body);
    }
    let (accepted, _) = tokio::join!(
        ServerTls::accept(server, config, ClientCertificate::NotAsked),
        // The other end may be gone before all of it is written.
        async { client.write_all(&hello).await.is_ok() }
    );
    assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_failed_handshake_is_told_by_an_alert() {
    let only_new = configs(&version::TLS13);
    let only_old = configs(&version::TLS12);
    let (client, server) = sockets().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        only_old.client.connect(name, client),
        ServerTls::accept(server, Arc::clone(&only_new.server), ClientCertificate::NotAsked)
    );
    assert_eq!(server.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let told = client.unwrap_err();
    let told = told.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    assert_eq!(told, Some(&Error::AlertReceived(AlertDescription::ProtocolVersion)));
}

#[tokio::test]
async fn what_has_come_and_was_not_asked_for_is_known() {
    let (mut client, mut server) = pair(&configs(&version::TLS13)).await;
    assert_eq!(server.unread(), 0);
    client.write_all(&bytes(10_000)).await.unwrap();
    client.flush().await.unwrap();
    read_in_pieces(&mut server, 10, 10).await;
    assert_eq!(server.unread(), 9_990);
    read_in_pieces(&mut server, 9_990, 100_000).await;
    assert_eq!(server.unread(), 0);
}
