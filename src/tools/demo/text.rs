//! What the demo writes for people and scripts: configuration, greeting, machine line. Pure.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::material::{
    ALICE_TOKEN, AUDIENCE, AUTHORITY, CERTIFICATE, CERTIFICATE_KEY, CONFIG, DemoMaterial, ISSUER,
    SIGNING_KEY, VERIFYING_KEY,
};

/// Where everything of the demo listens; all of it on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The gateway's TLS listener.
    pub(crate) tls: SocketAddr,
    /// The gateway's plain listener.
    pub(crate) plain: SocketAddr,
    /// The web chat page.
    pub(crate) page: SocketAddr,
    /// The gateway's admin listener.
    pub(crate) admin: SocketAddr,
    /// The chat backend behind the gateway.
    pub(crate) backend: SocketAddr,
}

/// The gateway's configuration: a file to read and keep. Its paths are relative to its folder.
pub(crate) fn config_text(addresses: &Addresses) -> String {
    let Addresses { tls, plain, admin, backend, page: _ } = addresses;
    format!(
        r#"# The gateway of `framegate demo`. Kept (--dir), and with a backend of your own at the endpoint below:
#   framegate run --config {CONFIG}

[[listener]]                           # wss://
bind = "{tls}"
[listener.tls]
certificates = [{{ chain = "{CERTIFICATE}", key = "{CERTIFICATE_KEY}" }}]

[[listener]]                           # ws://, for trying things on this machine only
bind = "{plain}"

[admin]                                # dashboard, tester, /metrics, /healthz, /readyz
bind = "{admin}"

[verifiers.demo]                       # who may connect: a token signed with {SIGNING_KEY}
keys = [{{ algorithm = "ES256", file = "{VERIFYING_KEY}" }}]
issuers = ["{ISSUER}"]
audiences = ["{AUDIENCE}"]
required_claims = {{ token_use = "access" }}   # a refresh token is not an access token
sources = ["header", "subprotocol", "query:token"]

[upstreams.chat]
endpoints = ["http://{backend}"]
health = {{ interval = "1s", timeout = "1s", probe = "tcp", fall = 2 }}

[[route]]
path = "/chat/{{room}}/ws"
parameters = {{ room = "[A-Za-z0-9_-]{{1,40}}" }}
upstream = "chat"
verifier = "demo"
origins = []                           # any page; a real service names its own
forward = {{ token = "strip", identity = true }}   # the backend gets X-Auth-User, no token

[timeouts]
close = "2s"

[limits]
connections = 1000
connections_per_user = 10
when_user_full = "evict_oldest"        # the eleventh connection ends the first, with 4409

[drain]                                # Ctrl-C should not take half a minute here
window = "500ms"
grace = "2s"
"#
    )
}

/// All URLs and tokens, for scripts (`framegate demo --json`, one line) and for the page.
pub(crate) fn facts(addresses: &Addresses, material: &DemoMaterial) -> Value {
    let Addresses { tls, plain, page, admin, backend } = addresses;
    let file = |name: &str| material.dir.join(name).display().to_string();
    let tokens = &material.tokens;
    json!({
        "page": format!("http://{page}/"),
        "ws": format!("ws://{plain}/chat/{{room}}/ws"),
        "wss": format!("wss://{tls}/chat/{{room}}/ws"),
        "https": format!("https://{tls}/.framegate/health"),
        "admin": format!("http://{admin}/"),
        "metrics": format!("http://{admin}/metrics"),
        "backend": format!("http://{backend}"),
        "config": file(CONFIG),
        "ca": file(AUTHORITY),
        "tokens": {
            "alice": tokens.alice,
            "bob": tokens.bob,
            "expired": tokens.expired,
            "refresh": tokens.refresh,
            "garbage": GARBAGE_TOKEN,
        },
    })
}

/// What a person reads first: where to click, what to try. `notes` are said up front; `program` is
/// how the reader called this one.
pub(crate) fn banner(
    addresses: &Addresses,
    material: &DemoMaterial,
    program: &Path,
    notes: &[String],
) -> String {
    let mut text = String::from(
        "framegate demo: a gateway, a chat backend behind it, and a page to try both.\n\
         All of it listens on this machine only and ends with Ctrl-C.\n",
    );
    for note in notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text.push_str(&places(addresses, material));
    text.push_str(&tries(addresses, material, program));
    text.push_str("\nThe gateway's log follows: a line for each connection when it is over.\n\n");
    text
}

fn places(addresses: &Addresses, material: &DemoMaterial) -> String {
    let Addresses { tls, plain, page, admin, .. } = addresses;
    let dir = material.dir.display();
    let tokens = &material.tokens;
    format!(
        "
Open these two in a browser and talk:
  alice      http://{page}/?user=alice&room=lobby&auto=1
  bob        http://{page}/?user=bob&room=lobby&auto=1

Addresses
  plain      ws://{plain}/chat/lobby/ws
  TLS        wss://{tls}/chat/lobby/ws
  dashboard  http://{admin}/
  tester     http://{admin}/doctor   (which codes a browser sees, and what they mean)
  metrics    http://{admin}/metrics
  files      {dir}
             ({CONFIG} is the gateway's whole configuration; {AUTHORITY} is who signed its certificate)

Tokens (ES256, good for 12 hours; a page sends them as a subprotocol, a program in Authorization)
  alice      {}
  bob        {}
",
        tokens.alice, tokens.bob
    )
}

fn tries(addresses: &Addresses, material: &DemoMaterial, program: &Path) -> String {
    let Addresses { tls, plain, page, admin, .. } = addresses;
    let file = |name: &str| shell_word(&material.dir.join(name));
    let (ca, key, program) = (file(AUTHORITY), file(SIGNING_KEY), shell_word(program));
    let alice = file(ALICE_TOKEN);
    format!(
        "
Try next
  1. A wrong token. The page is told why by the close code 4401, where browsers otherwise show a bare 1006:
       http://{page}/?user=expired&auto=1
     A program gets the HTTP status, 401:
       curl -i -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \\
            -H 'Sec-WebSocket-Key: ZnJhbWVnYXRlIGRlbW8hIQ==' -H 'Authorization: Bearer wrong' \\
            http://{plain}/chat/lobby/ws
  2. An eleventh tab. A user may have ten: press \"Ten more connections\" on the page, or open alice's
     URL ten more times; the first one is closed with 4409.
  3. Kill the backend. Everybody gets 1011 (the gateway is well, the backend is gone), new tabs 1014:
       curl -X POST -H 'X-Framegate: 1' http://{page}/backend/stop
       curl -X POST -H 'X-Framegate: 1' http://{page}/backend/start
  4. TLS. A program trusts the demo's authority; in a browser open this address and accept it:
       curl --cacert {ca} https://{tls}/.framegate/health
  5. Why does it fail? This looks at every step of a connection, and asks the gateway for its own view.
     Leave --ca or --token-file out, misspell the path, or kill the backend first, and read what it says:
       {program} doctor wss://{tls}/chat/lobby/ws \\
            --ca {ca} \\
            --token-file {alice} --admin http://{admin}
  6. Be somebody else. This prints carol's token, to be put in the place of `wrong` above:
       {program} token --key {key} --algorithm ES256 --user carol \\
            --issuer {ISSUER} --audience {AUDIENCE} --claim token_use=access
"
    )
}

/// `path` as one word of a shell command.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A token that is none.
const GARBAGE_TOKEN: &str = "not-a-token";

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::material::Tokens;
    use super::*;

    fn addresses() -> Addresses {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses {
            tls: at(8443),
            plain: at(8080),
            page: at(8000),
            admin: at(9901),
            backend: at(9),
        }
    }

    fn material(dir: &str) -> DemoMaterial {
        let token = |text: &str| text.to_owned();
        let (alice, bob) = (token("alice.token"), token("bob.token"));
        let tokens = Tokens { alice, bob, expired: token("old"), refresh: token("refresh") };
        DemoMaterial { dir: PathBuf::from(dir), tokens }
    }

    #[test]
    fn the_configuration_is_toml_with_the_addresses_and_relative_files() {
        let parsed: toml::Table = config_text(&addresses()).parse().unwrap();
        assert_eq!(parsed["listener"][0]["bind"].as_str(), Some("127.0.0.1:8443"));
        assert_eq!(
            parsed["listener"][0]["tls"]["certificates"][0]["chain"].as_str(),
            Some("tls.pem")
        );
        assert_eq!(parsed["listener"][1]["bind"].as_str(), Some("127.0.0.1:8080"));
        assert_eq!(parsed["admin"]["bind"].as_str(), Some("127.0.0.1:9901"));
        assert_eq!(
            parsed["upstreams"]["chat"]["endpoints"][0].as_str(),
            Some("http://127.0.0.1:9")
        );
        assert_eq!(parsed["route"][0]["path"].as_str(), Some("/chat/{room}/ws"));
        assert_eq!(parsed["limits"]["connections_per_user"].as_integer(), Some(10));
        assert_eq!(
            parsed["verifiers"]["demo"]["keys"][0]["file"].as_str(),
            Some("jwt-key.pub.pem")
        );
    }

    #[test]
    fn the_banner_names_every_url_token_and_note() {
        let notes = ["port 8080 is taken".to_owned()];
        let text = banner(&addresses(), &material("/tmp/demo"), Path::new("./framegate"), &notes);
        for part in [
            "http://127.0.0.1:8000/?user=alice&room=lobby&auto=1",
            "http://127.0.0.1:8000/?user=bob&room=lobby&auto=1",
            "ws://127.0.0.1:8080/chat/lobby/ws",
            "wss://127.0.0.1:8443/chat/lobby/ws",
            "http://127.0.0.1:9901/metrics",
            "alice.token",
            "bob.token",
            "note: port 8080 is taken",
            "4401",
            "4409",
            "1011",
            "curl -X POST -H 'X-Framegate: 1' http://127.0.0.1:8000/backend/stop",
            "curl --cacert /tmp/demo/ca.pem https://127.0.0.1:8443/.framegate/health\n",
            "./framegate token --key /tmp/demo/jwt-key.pem ",
            "./framegate doctor wss://127.0.0.1:8443/chat/lobby/ws \\\n",
            "--token-file /tmp/demo/alice.jwt --admin http://127.0.0.1:9901\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 110), "too wide:\n{text}");
    }

    #[test]
    fn a_folder_with_odd_characters_is_quoted_in_commands() {
        let text = banner(&addresses(), &material("/tmp/it's here"), Path::new("a b"), &[]);
        assert!(text.contains(r"--cacert '/tmp/it'\''s here/ca.pem'"), "{text}");
        assert!(text.contains("'a b' token"), "{text}");
    }

    #[test]
    fn the_machine_line_is_one_line_with_all_tokens() {
        let facts = facts(&addresses(), &material("/tmp/demo"));
        assert!(!facts.to_string().contains('\n'));
        assert_eq!(facts["ws"], "ws://127.0.0.1:8080/chat/{room}/ws");
        assert_eq!(facts["config"], "/tmp/demo/framegate.toml");
        let mut names: Vec<_> = facts["tokens"].as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["alice", "bob", "expired", "garbage", "refresh"]);
    }
}
