//! The command line: what it prints, and its exit codes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::command::{Ran, outcome, run};
use crate::support::doctor::tls_server;
use crate::support::gateway::{command, http_get};
use crate::support::tls::Signed;
use crate::support::{Authority, Backend, Client, Gateway, Setup, within};

/// A folder with this configuration and the secret it names.
fn folder_with(setup: &Setup) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), setup.secret()).unwrap();
    std::fs::write(folder.path().join("framegate.toml"), setup.text()).unwrap();
    folder
}

/// The path of a file in a folder, as an argument.
fn path(folder: &TempDir, file: &str) -> String {
    folder.path().join(file).to_str().unwrap().to_owned()
}

async fn check(folder: &TempDir, arguments: &[&str]) -> Ran {
    let config = path(folder, "framegate.toml");
    run(&[&["check", "--config", &config][..], arguments].concat()).await
}

/// 1-based line of the file that holds this.
fn line_of(folder: &TempDir, part: &str) -> usize {
    let text = std::fs::read_to_string(folder.path().join("framegate.toml")).unwrap();
    text.lines().position(|line| line.contains(part)).expect(part) + 1
}

#[tokio::test]
async fn check_says_ok_and_nothing_else_about_a_good_file() {
    let backend = Backend::start().await;
    let folder = folder_with(&Setup::with_tokens(&backend.url()).limits("connections = 10"));
    let ran = check(&folder, &["--strict"]).await;
    let ok = format!("{}: ok\n", path(&folder, "framegate.toml"));
    assert_eq!((ran.code, ran.stdout, ran.stderr), (0, ok, String::new()));
}

#[tokio::test]
async fn check_prints_all_problems_at_once_with_line_and_path() {
    let mut setup = Setup::with_tokens("http://127.0.0.1:9")
        .limits("conections = 5")
        .timeouts("close = \"5 parsecs\"")
        .listener("bind_to = \"x\"");
    setup.more_routes =
        "[[route]]\npath = \"/b\"\nupstream = \"chta\"\nverifier = \"users\"\n".into();
    let folder = folder_with(&setup);
    let ran = check(&folder, &[]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (78, ""));
    let rows = [
        ("conections", "limits.conections", "did you mean \"connections\"?"),
        ("parsecs", "timeouts.close", ""),
        ("bind_to", "listener[0].bind_to", ""),
        ("chta", "route[1].upstream", "no upstream is called \"chta\"; did you mean \"chat\"?"),
    ];
    let file = path(&folder, "framegate.toml");
    for (part, at, message) in rows {
        let start = format!("error: {file}: line {}: {at}: ", line_of(&folder, part));
        let line = ran.stderr.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("{start}\nis not in\n{}", ran.stderr));
        assert!(line.contains(message), "{line}");
    }
    assert_eq!(ran.stderr.lines().count(), rows.len() + 1, "{}", ran.stderr);
    assert!(ran.stderr.ends_with(&format!("framegate: 4 problems in {file}\n")));
}

#[tokio::test]
async fn check_reads_every_file_that_is_named() {
    let tls = "[listener.tls]\ncertificates = [{ chain = \"no.pem\", key = \"no-key.pem\" }]\n\
               client_ca = \"no-ca.pem\"";
    let mut setup = Setup::with_tokens("https://127.0.0.1:9")
        .listener(tls)
        .upstream("ca = \"no-upstream-ca.pem\"");
    setup.admin = "token_file = \"no-token\"".to_owned();
    let folder = folder_with(&setup);
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    let ran = check(&folder, &[]).await;
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    for (part, at) in [
        ("no.pem", "listener[0].tls.certificates[0].chain: "),
        ("no-ca.pem", "listener[0].tls.client_ca: "),
        ("no-token", "admin.token_file: "),
        ("secret", "verifiers.users.keys[0].file: "),
        ("no-upstream-ca.pem", "upstreams.chat.ca: "),
    ] {
        let expected = format!("line {}: {at}", line_of(&folder, part));
        let line = ran.stderr.lines().find(|line| line.contains(&expected));
        let line = line.unwrap_or_else(|| panic!("{expected}\nis not in\n{}", ran.stderr));
        assert!(line.contains(part) && line.contains("No such file"), "{line}");
    }
    assert!(ran.stderr.contains("framegate: 5 problems in "), "{}", ran.stderr);
}

#[tokio::test]
async fn a_key_that_does_not_match_its_certificate_is_found() {
    let authority = Authority::new();
    let setup = Setup::open("http://127.0.0.1:9")
        .listener("[listener.tls]\ncertificates = [{ chain = \"a.pem\", key = \"b-key.pem\" }]");
    let folder = folder_with(&setup);
    authority.sign(&["a.example.com"]).write(folder.path(), "a");
    authority.sign(&["b.example.com"]).write(folder.path(), "b");
    let ran = check(&folder, &[]).await;
    assert_eq!(ran.code, 78);
    let expected = "listener[0].tls.certificates[0].key: ";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    assert!(ran.stderr.contains("is not a usable key for the certificate in"), "{}", ran.stderr);
}

#[tokio::test]
async fn certificates_that_are_over_or_about_to_be_are_warnings() {
    let authority = Authority::new();
    let setup = Setup::open("http://127.0.0.1:9").listener(
        "[listener.tls]\ncertificates = [{ chain = \"a.pem\", key = \"a-key.pem\" }, \
         { chain = \"b.pem\", key = \"b-key.pem\" }, { chain = \"c.pem\", key = \"c-key.pem\" }]",
    );
    let folder = folder_with(&setup);
    let day = Duration::from_secs(86_400);
    let now = SystemTime::now();
    for (name, ends) in [("a", now - day), ("b", now + day + day / 2), ("c", now + 60 * day)] {
        let change = |params: &mut rcgen::CertificateParams| params.not_after = ends.into();
        let signed = authority.sign_changed(&[&format!("{name}.example.com")], change);
        signed.write(folder.path(), name);
    }
    let ran = check(&folder, &[]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for expected in [
        "listener[0].tls.certificates[0]: the certificate of a.example.com has expired",
        "listener[0].tls.certificates[1]: the certificate of b.example.com expires within 2 days",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("c.example.com"), "{}", ran.stderr);
}

#[tokio::test]
async fn facts_of_the_machine_are_warnings_unless_strict() {
    // Bound, so that nobody else can listen there, and not listening.
    let holder = tokio::net::TcpSocket::new_v4().unwrap();
    holder.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let gone = holder.local_addr().unwrap();
    let folder = folder_with(&Setup::open(&format!("http://{gone}")).limits("connections = 500"));
    let config = path(&folder, "framegate.toml");
    let checked = async |arguments: &str| {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n 64; exec \"$0\" check --config \"$1\" {arguments}");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_framegate"), &config]);
        outcome(shell).await
    };
    for (arguments, kind, code) in [("", "warning", 0), ("--strict", "error", 78)] {
        let ran = checked(arguments).await;
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let line = |part: &str| format!("{kind}: {config}: line {}: ", line_of(&folder, part));
        let unreachable = format!("{}upstreams.chat.endpoints[0]: ", line("endpoints"));
        assert!(ran.stderr.contains(&unreachable), "{}", ran.stderr);
        let files =
            "limits.connections: 500 connections need 1100 open files, this process may have 64";
        assert!(
            ran.stderr.contains(&format!("{}{files}", line("connections ="))),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout.ends_with(": ok\n"), code == 0);
    }
}

#[tokio::test]
async fn check_shakes_hands_with_https_endpoints_by_the_upstreams_own_trust() {
    let authority = Authority::new();
    let good = tls_server(&authority.sign(&["127.0.0.1"])).await;
    let stranger = tls_server(&Authority::new().sign(&["127.0.0.1"])).await;
    let elsewhere = tls_server(&authority.sign(&["other.example"])).await;
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = Signed { certificate: params.self_signed(&key).unwrap(), key };
    let own = tls_server(&own).await;
    let rows = [
        (good, ""),
        (
            stranger,
            "its certificate is not accepted: the certificate was signed by another authority",
        ),
        (elsewhere, "its certificate is not accepted: the certificate is for other.example"),
        (own, "its certificate is not accepted: the server shows the certificate of an authority"),
    ];
    for (address, expected) in rows {
        let setup = Setup::open(&format!("https://{address}")).upstream("ca = \"ca.pem\"");
        let folder = folder_with(&setup);
        authority.write(folder.path(), "ca.pem");
        let ran = check(&folder, &[]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let unreachable = format!("https://{address} cannot be reached now: {expected}");
        let is_warned = ran.stderr.contains("cannot be reached");
        assert_eq!(is_warned, !expected.is_empty(), "{}", ran.stderr);
        assert!(!is_warned || ran.stderr.contains(&unreachable), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn run_with_a_bad_file_ends_with_78_and_says_why() {
    let missing = run(&["run", "--config", "/nowhere/framegate.toml"]).await;
    assert_eq!((missing.code, missing.stdout.as_str()), (78, ""));
    let expected = "error: /nowhere/framegate.toml: cannot be read: No such file";
    assert!(missing.stderr.starts_with(expected), "{}", missing.stderr);

    let folder = folder_with(&Setup::open("http://127.0.0.1:9").limits("a = 1\nb = 2"));
    let config = path(&folder, "framegate.toml");
    for arguments in [&["run", "--config", &config][..], &["--config", &config]] {
        let ran = run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (78, ""));
        assert_eq!(ran.stderr.matches("error: ").count(), 2, "{}", ran.stderr);
    }

    // What the file names counts too.
    let folder = folder_with(&Setup::with_tokens("http://127.0.0.1:9"));
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    let ran = run(&["run", "--config", &path(&folder, "framegate.toml")]).await;
    assert_eq!(ran.code, 78);
    assert!(ran.stderr.contains("verifiers.users.keys[0].file: "), "{}", ran.stderr);
}

#[tokio::test]
async fn run_on_a_taken_port_ends_with_1_and_names_it() {
    let holder = Backend::start().await;
    let taken = holder.address();
    let mut setups = [Setup::open("http://127.0.0.1:9"), Setup::open("http://127.0.0.1:9")];
    setups[0].listener = format!("bind = \"{taken}\"\n");
    setups[1].admin = format!("bind = \"{taken}\"\n");
    for setup in &setups {
        let folder = folder_with(setup);
        let ran = run(&["run", "--config", &path(&folder, "framegate.toml")]).await;
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let expected = format!("framegate: cannot listen on {taken}");
        assert!(ran.stderr.starts_with(&expected), "{}", ran.stderr);
        assert!(ran.stderr.contains("Address already in use"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn wrong_arguments_end_with_64_and_a_hint() {
    for (arguments, hint) in [
        (&[][..], "Usage: framegate"),
        (&["--nope"], "'--nope'"),
        (&["chek", "--config", "x"], "'check'"),
        (&["run"], "--config <FILE>"),
        (&["check", "--config", "x", "--verbose"], "'--verbose'"),
        (&["token", "--key", "x", "--algorithm", "none", "--user", "a"], "HS256"),
    ] {
        let ran = run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{arguments:?}");
        assert!(ran.stderr.contains(hint), "{arguments:?}: {}", ran.stderr);
    }
    for (argument, part) in [("--help", "check"), ("--version", "framegate 0."), ("help", "check")]
    {
        let ran = run(&[argument]).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{argument}");
        assert!(ran.stdout.contains(part), "{argument}: {}", ran.stdout);
    }
}

/// Keys of every family: what signs, what verifies, and with which algorithm.
fn write_keys(folder: &Path) -> [(&'static str, &'static str, &'static str); 4] {
    for (name, kind) in
        [("ec", &PKCS_ECDSA_P256_SHA256), ("rsa", &PKCS_RSA_SHA256), ("ed", &PKCS_ED25519)]
    {
        let key = KeyPair::generate_for(kind).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.pub")), key.public_key_pem()).unwrap();
    }
    [
        ("HS256", "secret", "secret"),
        ("ES256", "ec.key", "ec.pub"),
        ("RS256", "rsa.key", "rsa.pub"),
        ("EdDSA", "ed.key", "ed.pub"),
    ]
}

#[tokio::test]
async fn tokens_it_mints_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let rows = write_keys(folder.path());
    let backend = Backend::start().await;
    let mut setup = Setup::with_tokens(&backend.url()).timeouts("close = \"300ms\"");
    let keys: Vec<_> = rows
        .iter()
        .map(|(name, _, file)| format!("{{ algorithm = \"{name}\", file = \"{file}\" }}"))
        .collect();
    setup.keys = format!("[{}]", keys.join(", "));
    let mut gateway = Gateway::start_in(folder, &setup).await;
    for (algorithm, key, _) in rows {
        let token = mint(&gateway, algorithm, key, &[]).await;
        let (_wire, asked) = tokio::join!(gateway.client().token(&token).ask(), backend.asked());
        assert_eq!(asked.header("x-auth-user").as_deref(), Some("carol"), "{algorithm}");
    }
    // Another key, a life that is over, and another kind of token.
    std::fs::write(gateway.folder.path().join("other"), "x".repeat(40)).unwrap();
    let other = mint(&gateway, "HS256", "other", &[]).await;
    let expired = mint(&gateway, "ES256", "ec.key", &["--ttl", "-1h"]).await;
    let refresh = mint(&gateway, "ES256", "ec.key", &["--claim", "token_use=refresh"]).await;
    for (token, label) in
        [(other, "token_signature"), (expired, "token_expired"), (refresh, "token_kind")]
    {
        let answered = gateway.client().token(&token).connect().await;
        assert_eq!(answered.status, 401, "{label}");
        gateway.access_line(label).await;
    }
}

/// `framegate token` for carol, with what the test verifier asks for.
async fn mint(gateway: &Gateway, algorithm: &str, key: &str, further: &[&str]) -> String {
    let key = path(&gateway.folder, key);
    let mut arguments = vec!["token", "--key", &key, "--algorithm", algorithm, "--user", "carol"];
    arguments.extend(["--issuer", "https://id.example.com", "--audience", "chat"]);
    if !further.contains(&"token_use=refresh") {
        arguments.extend(["--claim", "token_use=access"]);
    }
    arguments.extend(further);
    let ran = run(&arguments).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{algorithm}");
    ran.stdout.strip_suffix('\n').expect("one line").to_owned()
}

#[tokio::test]
async fn a_token_that_cannot_be_minted_ends_with_1_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    write_keys(folder.path());
    let rows = [
        ("ES256", "none.key", "cannot read"),
        ("ES256", "ec.pub", "public key"),
        ("RS256", "ec.key", "no key that RS256 can sign with"),
    ];
    for (algorithm, key, expected) in rows {
        let key = path(&folder, key);
        let ran = run(&["token", "--key", &key, "--algorithm", algorithm, "--user", "a"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{key}");
        assert!(
            ran.stderr.starts_with("framegate: ") && ran.stderr.contains(expected),
            "{}",
            ran.stderr
        );
    }
}

/// Runs a gateway through one refused request; its whole log.
async fn log_of(setup: &Setup, log: &str, arguments: &[&str]) -> String {
    let folder = folder_with(setup);
    let file = folder.path().join("framegate.toml");
    let json = "format = \"json\"\nlevel = \"debug\"";
    std::fs::write(&file, setup.text().replace(json, log)).unwrap();
    let mut command = match arguments {
        [] => command(&file, setup),
        arguments => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_framegate"));
            command.args(arguments).arg(&file).kill_on_drop(true);
            command
        }
    };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while text.matches("listening").count() < 2 {
        let read = within("a log line", output.read_line(&mut text)).await.unwrap();
        assert!(read > 0, "{text}");
    }
    let start = text.find("address=").or_else(|| text.find("\"address\":")).expect("an address");
    let address: String = text[start..]
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(|c| c.is_ascii_digit() || ['.', ':'].contains(c))
        .collect();
    let client = Client::new(address.parse().unwrap()).path("/none");
    assert_eq!(client.connect().await.status, 404);
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    within("the rest of the log", output.read_to_string(&mut text)).await.unwrap();
    assert_eq!(within("the end", child.wait()).await.unwrap().code(), Some(0));
    let mut complaints = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaints).await.unwrap();
    assert_eq!(complaints, "");
    text
}

#[tokio::test]
async fn the_log_is_text_for_people_or_json_for_machines() {
    let setup = Setup::open("http://127.0.0.1:9");
    let text = log_of(&setup, "format = \"text\"\nlevel = \"info\"", &[]).await;
    let line =
        text.lines().find(|line| line.contains(" INFO  access id=")).expect("an access line");
    for part in [" outcome=refused", " status=404", " label=no_route", " path=/none"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(text.lines().all(|line| !line.starts_with('{') && !line.contains('\u{1b}')), "{text}");

    let json = log_of(&setup, "format = \"json\"\nlevel = \"info\"", &["--config"]).await;
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let access: Vec<_> = lines.iter().filter(|line| line["type"] == "access").collect();
    assert_eq!(access.len(), 1, "{json}");
    assert_eq!((&access[0]["label"], &access[0]["status"]), (&"no_route".into(), &404.into()));

    let quiet = "format = \"json\"\nlevel = \"info\"\naccess = false";
    let json = log_of(&setup, quiet, &["run", "--config"]).await;
    assert!(!json.contains("\"access\""), "{json}");
}

/// The folder of the repository this test belongs to.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn the_configurations_that_are_shown_are_good() {
    let folder = tempfile::tempdir().unwrap();
    for (from, name) in
        [("certs", "make-dev.sh"), ("config", "framegate.toml"), ("config", "minimal.toml")]
    {
        std::fs::create_dir_all(folder.path().join(from)).unwrap();
        std::fs::copy(repository().join(from).join(name), folder.path().join(from).join(name))
            .unwrap();
    }
    // Not executed itself: a program just written is "busy" while another test's child has a copy of
    // the descriptor it was written through.
    let mut make = Command::new("bash");
    make.arg(folder.path().join("certs/make-dev.sh"));
    let made = outcome(make).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    for name in ["framegate.toml", "minimal.toml"] {
        let config = path(&folder, &format!("config/{name}"));
        let ran = run(&["check", "--config", &config]).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stdout, format!("{config}: ok\n"));
        // Nobody listens at the example's endpoint, its issuer publishes nothing, and this machine may
        // allow few open files.
        let facts = ["cannot be reached now", "keys cannot be fetched now", "open files"];
        let accepting = "framegate: to accept what is known and meant: [check] accept = [";
        for line in ran.stderr.lines().filter(|line| !line.starts_with(accepting)) {
            let is_fact = facts.iter().any(|fact| line.contains(fact));
            assert!(line.starts_with("warning: ") && is_fact, "{line}");
        }
    }
}
