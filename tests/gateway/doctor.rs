//! doctor on the way to a server: names, ports, TLS; and what it prints.
//!
//! Each row is a set-up that is broken in one way, with the step and the diagnosis that must come out.
//! The rows behind TLS are in `doctor_upgrades`, `doctor_auth` and `doctor_sessions`.

use std::net::SocketAddr;
use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use crate::support::doctor::{doctor, examine, serving, tls_server};
use crate::support::tls::Signed;
use crate::support::{Authority, Backend, Gateway, Setup, within};

fn ws(address: SocketAddr) -> String {
    format!("ws://{address}/ws")
}

fn wss(address: SocketAddr) -> String {
    format!("wss://{address}/ws")
}

#[tokio::test]
async fn a_name_that_does_not_exist_fails_at_dns() {
    // Longer than a label may be: it exists nowhere, and no name server need be asked.
    let name = "x".repeat(70);
    let walked = examine(&format!("ws://{name}.example/"), &[]).await;
    walked.expect("no such host", "dns", "no such name");
    let walked = examine("ws://localhost:1/", &[]).await;
    assert!(walked.seen("dns").starts_with("localhost is "), "{}", walked.json);
}

#[tokio::test]
async fn a_port_where_nobody_listens_fails_at_tcp() {
    // Bound, so that nobody else can listen there, and not listening.
    let holder = TcpSocket::new_v4().unwrap();
    holder.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = holder.local_addr().unwrap();
    let cause = format!("nothing listens on port {}", address.port());
    examine(&ws(address), &[]).await.expect("wrong port", "tcp", &cause);
}

/// A port that answers nothing: the queue of its listener is full, so that Linux drops every further
/// SYN, as a firewall would.
async fn filtered() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let patience = std::time::Duration::from_millis(300);
    // A backlog of 0 has room for one, or a few more; then nobody is let in.
    for _ in 0..64 {
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => return (listener, waiting),
        }
    }
    panic!("a backlog of 0 takes {} connections", waiting.len());
}

#[tokio::test]
async fn a_filtered_port_fails_at_tcp_by_the_deadline() {
    let (listener, _waiting) = filtered().await;
    let walked = examine(&ws(listener.local_addr().unwrap()), &["--timeout", "400ms"]).await;
    walked.expect("filtered port", "tcp", "a filtered port");
    assert!(walked.seen("tcp").ends_with("no answer within 400ms"), "{}", walked.json);
}

#[tokio::test]
async fn a_plain_server_behind_wss_is_told_from_a_dead_one() {
    let plain = serving(|asked| asked.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
    let walked = examine(&wss(plain), &["--timeout", "2s"]).await;
    walked.expect("plain server on wss", "tls", "a plain server behind a wss:// URL");
    let silent = Backend::start().await;
    let walked = examine(&wss(silent.address()), &["--timeout", "2s"]).await;
    walked.expect("silent server on wss", "tls", "says nothing to the TLS greeting");
    // Whether there is plain HTTP was asked for two seconds more, which nobody waited for TLS.
    let took = walked.json["steps"][2]["ms"].as_f64().unwrap();
    assert!((2000.0..3500.0).contains(&took), "{}", walked.json);
}

/// A certificate for this machine that was signed by no authority but itself.
fn self_signed(is_ca: IsCa) -> Signed {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = is_ca;
    Signed { certificate: params.self_signed(&key).unwrap(), key }
}

/// One that an authority of another name signed.
fn by_a_stranger() -> Signed {
    let mut stranger = CertificateParams::new(Vec::new()).unwrap();
    stranger.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    stranger.distinguished_name.push(DnType::CommonName, "a stranger");
    let stranger = Issuer::new(stranger, KeyPair::generate().unwrap());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    Signed { certificate: params.signed_by(&key, &stranger).unwrap(), key }
}

/// Gives it a name that is not its authority's.
fn named(params: &mut CertificateParams) {
    params.distinguished_name.push(DnType::CommonName, "server");
}

/// What is wrong with it, the certificate, and what is said.
type Unconvincing = (&'static str, Signed, &'static str);

fn unconvincing(authority: &Authority) -> Vec<Unconvincing> {
    let here = ["127.0.0.1"];
    let expired = authority.sign_changed(&here, |params| {
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    });
    let early = authority.sign_changed(&here, |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
    });
    let elsewhere = authority.sign(&["other.example"]);
    let anew = Authority::new().sign_changed(&here, named);
    let an_authority = self_signed(IsCa::Ca(BasicConstraints::Unconstrained));
    vec![
        ("expired", expired, "the certificate expired"),
        ("not yet valid", early, "is not valid yet"),
        ("wrong name", elsewhere, "is for other.example, not for 127.0.0.1"),
        (
            "unknown issuer",
            by_a_stranger(),
            "CN=a stranger signed it, which is not the authority of --ca",
        ),
        ("an authority made anew", anew, "another authority that only has the same name"),
        ("self-signed", self_signed(IsCa::NoCa), "self-signed"),
        ("an authority as server", an_authority, "certificate of an authority as its own"),
    ]
}

#[tokio::test]
async fn certificates_are_judged_as_browsers_do() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path(), "ca.pem");
    let ca = folder.path().join("ca.pem").to_str().unwrap().to_owned();
    for (what, signed, cause) in unconvincing(&authority) {
        let url = wss(tls_server(&signed).await);
        let walked = examine(&url, &["--ca", &ca]).await;
        walked.expect(what, "tls", cause);
        assert!(walked.seen("tls").contains("was not verified, so it went no further"), "{what}");
        assert!(walked.seen("tls").contains("certificate of "), "{what}: {}", walked.json);
        let walked = examine(&url, &["--ca", &ca, "--insecure"]).await;
        walked.expect_ok(what);
        let warning = walked.warning("tls");
        assert!(warning.starts_with("NOT VERIFIED"), "{what}: {warning}");
        assert!(warning.contains(cause), "{what}: {warning}");
    }
    let good = authority.sign_changed(&["127.0.0.1"], named);
    let url = wss(tls_server(&good).await);
    let walked = examine(&url, &["--ca", &ca]).await;
    walked.expect_ok("a good certificate");
    assert!(walked.seen("tls").starts_with("TLS 1.3, "), "{}", walked.json);
    assert_eq!(walked.warning("tls"), "");
    examine(&url, &[]).await.expect("the system's authorities", "tls", "this machine");
}

#[tokio::test]
async fn a_chain_by_way_of_a_server_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path(), "ca.pem");
    let ca = folder.path().join("ca.pem").to_str().unwrap().to_owned();
    let between = authority.sign_changed(&[], named);
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    named(&mut params);
    let issuer = Issuer::new(params, between.key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = Signed { certificate: params.signed_by(&key, &issuer).unwrap(), key };
    let entry = leaf.write(folder.path(), "gateway");
    let chain = format!("{}{}", leaf.certificate.pem(), between.certificate.pem());
    std::fs::write(folder.path().join("gateway.pem"), chain).unwrap();
    let backend = Backend::start().await;
    let setup =
        Setup::open(&backend.url()).listener(&format!("[listener.tls]\ncertificates = [{entry}]"));
    let gateway = Gateway::start_in(folder, &setup).await;
    let walked = examine(&wss(gateway.addresses[0]), &["--ca", &ca]).await;
    walked.expect("a server's as issuer", "tls", "signed by a certificate that is no authority");
}

#[tokio::test]
async fn the_development_certificate_is_good_for_who_is_given_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/make-dev.sh");
    std::fs::copy(script, folder.path().join("make-dev.sh")).unwrap();
    let mut make = Command::new("bash");
    make.arg(folder.path().join("make-dev.sh"));
    let made = within("the end of make-dev.sh", make.output()).await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let ca = folder.path().join("dev.pem").to_str().unwrap().to_owned();
    let backend = Backend::start().await.echo();
    let setup = Setup::open(&format!("http://{backend}")).listener(
        "[listener.tls]\ncertificates = [{ chain = \"dev.pem\", key = \"dev-key.pem\" }]",
    );
    let gateway = Gateway::start_in(folder, &setup).await;
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("wss://{host}:{}/ws", gateway.addresses[0].port());
        examine(&url, &["--ca", &ca]).await.expect_ok(host);
    }
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path(), "ca.pem");
    let ca = folder.path().join("ca.pem").to_str().unwrap().to_owned();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(3 * 86_400 + 3600);
    let signed = authority.sign_changed(&["127.0.0.1"], |params| params.not_after = soon.into());
    let walked = examine(&wss(tls_server(&signed).await), &["--ca", &ca]).await;
    walked.expect_ok("three days left");
    assert!(walked.warning("tls").contains("has 3 days left"), "{}", walked.json);
}

/// OpenSSL's server with these options; it ends when this is dropped.
async fn openssl_server(folder: &std::path::Path, options: &[&str]) -> (Child, SocketAddr) {
    let signed = Authority::new().sign(&["127.0.0.1"]);
    signed.write(folder, "server");
    let mut command = Command::new("openssl");
    command.args([
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-cert",
        "server.pem",
        "-key",
        "server-key.pem",
    ]);
    command.args(options).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let spawned = command.stderr(Stdio::null()).kill_on_drop(true).spawn();
    let mut child = spawned.expect("openssl is missing: apt-get install openssl");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = within("openssl's address", async {
        loop {
            let line = lines.next_line().await.unwrap().expect("openssl s_server runs");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                return address.parse().unwrap();
            }
        }
    })
    .await;
    // It must not stand still because nobody reads.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, address)
}

#[tokio::test]
async fn a_server_with_tls_1_1_only_fails_at_tls() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let (_child, address) = openssl_server(folder.path(), &options).await;
    examine(&wss(address), &[]).await.expect("TLS 1.1 only", "tls", "TLS 1.1 or older");
}

#[tokio::test]
async fn a_tls_server_behind_ws_is_told_by_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let (_child, openssl) = openssl_server(folder.path(), &[]).await;
    let rustls = tls_server(&Authority::new().sign(&["127.0.0.1"])).await;
    let backend = Backend::start().await;
    let entry = Authority::new().sign(&["127.0.0.1"]).write(folder.path(), "gateway");
    let setup =
        Setup::open(&backend.url()).listener(&format!("[listener.tls]\ncertificates = [{entry}]"));
    let gateway = Gateway::start_in(folder, &setup).await;
    for (what, address) in
        [("openssl", openssl), ("rustls", rustls), ("framegate", gateway.addresses[0])]
    {
        let walked = examine(&ws(address), &["--timeout", "3s"]).await;
        walked.expect(&format!("TLS server on ws: {what}"), "upgrade", "wss:// is needed");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_fails_at_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write(folder.path(), "ca.pem");
    let ca = folder.path().join("ca.pem").to_str().unwrap().to_owned();
    let entry = authority.sign(&["127.0.0.1"]).write(folder.path(), "server");
    for version in ["1.2", "1.3"] {
        let folder = tempfile::tempdir().unwrap();
        for file in ["ca.pem", "server.pem", "server-key.pem"] {
            let from = std::path::Path::new(&ca).with_file_name(file);
            std::fs::copy(from, folder.path().join(file)).unwrap();
        }
        let tls = format!(
            "[listener.tls]\ncertificates = [{entry}]\nclient_ca = \"ca.pem\"\nmin_version = \"{version}\""
        );
        let setup = Setup::open("http://127.0.0.1:9").listener(&tls);
        let gateway = Gateway::start_in(folder, &setup).await;
        let walked = examine(&wss(gateway.addresses[0]), &["--ca", &ca]).await;
        walked.expect("client certificate", "tls", "certificate of their own");
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_no_success() {
    let url = ws(Backend::start().await.echo());
    for options in [&["--json"][..], &[]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_framegate"));
        command.args(["doctor", &url]).args(options).stdin(Stdio::null()).stdout(full);
        let child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let output = within("doctor", child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{options:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the report cannot be written: No space left"), "{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_said_before_anything_is_done() {
    let rows: &[(&[&str], &str)] = &[
        (&["chat.example.com/ws"], "it must begin with wss:// or ws://"),
        (&["ws://a/#b"], "a fragment (#) is never sent"),
        (&["ws://a/", "--timeout", "5"], "such as \"30s\""),
        (&["ws://a/", "--timeout", "0"], "longer than nothing"),
        (&["ws://a/", "--token-in", "cooky:x"], "must be \"header\""),
        (&["ws://a/", "--token", "a b"], "a token has no blanks"),
        (&["ws://a/", "--token-file", "/no/such/file"], "cannot read --token-file"),
        (&["ws://a/", "--ca", "/no/such/file"], "--ca: cannot read certificates"),
        (&["ws://a/", "--header", "nonsense"], "'Name: value'"),
        (&["ws://a/", "--header", "Upgrade: x"], "doctor writes that header itself"),
        (
            &["ws://a/", "--token", "x", "--header", "Authorization: y"],
            "--token writes that header",
        ),
        (&["ws://a/", "--origin", "chat.example.com"], "without a path"),
        (&["ws://a/", "--origin", "https://a.b/"], "without a path"),
        (&["ws://a/", "--subprotocol", "a,b"], "no name of a subprotocol"),
    ];
    for (arguments, message) in rows {
        let (code, stdout, stderr) = doctor(arguments).await;
        assert_eq!((code, stdout.as_str()), (64, ""), "{arguments:?}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}
