//! Attacks on tokens over real sockets: every row is refused with 401 and its label, nothing it names is
//! fetched, and nothing of it is in the log.
//!
//! What is wrong with a token by mistake is in `tokens`; here somebody means it. The rows at the end that
//! are accepted show that the table refuses for the reason it says.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::{Map, Value, json};

use crate::support::tokens::{SECRET, base64url, claims, now, subprotocol_entry, token};
use crate::support::{Backend, Gateway, Refusal, Setup};

const PAGE: &str = "https://chat.example.com";
const OFFER: &str = "Sec-WebSocket-Protocol";

/// The keys of the verifier; who attacks knows the public halves.
struct Keys {
    rsa: KeyPair,
    ec: KeyPair,
    /// Of somebody else.
    foreign: KeyPair,
    /// Where a key could be fetched from: nobody must come.
    lure: std::net::TcpListener,
}

impl Keys {
    fn new() -> Self {
        let lure = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        lure.set_nonblocking(true).unwrap();
        let ec = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        Self { rsa, ec: ec(), foreign: ec(), lure }
    }

    fn lure(&self) -> String {
        format!("http://{}/keys", self.lure.local_addr().unwrap())
    }
}

/// Header and payload, encoded.
fn unsigned(header: &str, payload: &str) -> String {
    format!("{}.{}", base64url(header), base64url(payload))
}

fn hmac(algorithm: Algorithm, secret: &[u8], text: &str) -> String {
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::crypto::sign(text.as_bytes(), &key, algorithm).unwrap()
}

/// Signed with HMAC-SHA-256 and this secret, whatever the header says.
fn by(secret: &[u8], header: &str, payload: &str) -> String {
    let signed = unsigned(header, payload);
    let signature = hmac(Algorithm::HS256, secret, &signed);
    format!("{signed}.{signature}")
}

/// Signed by the verifier's own secret: only what header and payload say can be wrong.
fn own(header: &str, payload: &str) -> String {
    by(SECRET.as_bytes(), header, payload)
}

fn by_pair(pair: &KeyPair, algorithm: Algorithm, header: &Value) -> String {
    let pem = pair.serialize_pem();
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
        _ => EncodingKey::from_ec_pem(pem.as_bytes()),
    };
    let signed = unsigned(&header.to_string(), &payload());
    let key = key.unwrap();
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// The payload of a good token.
fn payload() -> String {
    Value::Object(claims("ann")).to_string()
}

/// The payload of a good token but for these claims; a null removes one.
fn with(changes: Value) -> String {
    let mut all: Map<String, Value> = claims("ann");
    for (name, value) in changes.as_object().unwrap() {
        all.insert(name.clone(), value.clone());
    }
    all.retain(|_, value| !value.is_null());
    Value::Object(all).to_string()
}

/// The payload of a good token with this text in front, as only a text can be.
fn raw(front: &str) -> String {
    payload().replacen('{', &format!("{{{front},"), 1)
}

const HS: &str = "{\"alg\":\"HS256\"}";

/// What is tried, the token, and its label.
type Attack = (&'static str, String, &'static str);

const MALFORMED: &str = "token_malformed";
const SIGNATURE: &str = "token_signature";
const UNKNOWN: &str = "token_key_unknown";

/// `alg` of every kind of lie.
fn algorithms() -> Vec<Attack> {
    let good = token("ann");
    let signature = good.rsplit_once('.').unwrap().1.to_owned();
    let mut rows = Vec::new();
    for none in ["none", "None", "NONE", "nOnE"] {
        let header = json!({"alg": none, "typ": "JWT"}).to_string();
        rows.push(("none", format!("{}.", unsigned(&header, &payload())), MALFORMED));
        rows.push(("none, with a signature", own(&header, &payload()), MALFORMED));
        rows.push((
            "none, with another's",
            unsigned(&header, &payload()) + "." + &signature,
            MALFORMED,
        ));
    }
    for unknown in [
        "",
        "HS256 ",
        " HS256",
        "hs256",
        "HS1",
        "HS256\u{0}",
        "HS384",
        "HS512",
        "PS256",
        "ES384",
        "EdDSA",
        "RSA-OAEP",
    ] {
        let header = json!({"alg": unknown}).to_string();
        rows.push(("an algorithm without a key", own(&header, &payload()), UNKNOWN));
    }
    rows
}

/// Keys of one algorithm used as those of another.
fn confused(keys: &Keys) -> Vec<Attack> {
    let mut rows = Vec::new();
    // The key of one algorithm used as that of another: PEM with and without its newline, DER, raw.
    for (pair, kid) in [(&keys.rsa, json!("rsa")), (&keys.ec, json!(null))] {
        let pem = pair.public_key_pem();
        let header = match kid.as_str() {
            Some(kid) => json!({"alg": "HS256", "kid": kid}).to_string(),
            None => HS.to_owned(),
        };
        for secret in [
            pem.as_bytes(),
            pem.trim_end().as_bytes(),
            pem.replace("\r\n", "\n").as_bytes(),
            &pair.subject_public_key_info(),
            pair.public_key_raw(),
        ] {
            rows.push(("a public key as secret", by(secret, &header, &payload()), SIGNATURE));
        }
    }
    rows.push((
        "ES256 by the RSA key",
        by_pair(&keys.rsa, Algorithm::RS256, &json!({"alg": "ES256", "kid": "rsa"})),
        SIGNATURE,
    ));
    rows.push((
        "RS256 by the EC key",
        by_pair(&keys.ec, Algorithm::ES256, &json!({"alg": "RS256", "kid": "rsa"})),
        SIGNATURE,
    ));
    rows
}

/// Headers that name no algorithm.
fn unnamed() -> Vec<Attack> {
    let mut rows = Vec::new();
    for header in [
        "{\"typ\":\"JWT\"}",
        "{\"alg\":null}",
        "{\"alg\":[\"HS256\"]}",
        "{\"alg\":{}}",
        "{}",
        "[]",
        "\"HS256\"",
        "",
        " ",
    ] {
        rows.push(("no algorithm", own(header, &payload()), MALFORMED));
    }
    rows
}

/// Headers that bring or name a key, or say how to read the rest.
fn headers(keys: &Keys) -> Vec<Attack> {
    let lure = keys.lure();
    let point = URL_SAFE_NO_PAD;
    let foreign = keys.foreign.public_key_raw();
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": point.encode(&foreign[1..33]), "y": point.encode(&foreign[33..])});
    let chain = STANDARD.encode(keys.foreign.subject_public_key_info());
    [
        json!({"alg": "ES256", "jwk": jwk}),
        json!({"alg": "ES256", "jku": lure}),
        json!({"alg": "ES256", "x5u": lure}),
        json!({"alg": "ES256", "x5c": [chain]}),
        json!({"alg": "ES256", "jwk": jwk, "jku": lure, "x5u": lure, "x5c": [chain]}),
        json!({"alg": "ES256", "kid": lure}),
        json!({"alg": "ES256", "iss": lure, "x5t": "x", "x5t#S256": "x"}),
    ]
    .iter()
    .map(|header| ("a key of its own", by_pair(&keys.foreign, Algorithm::ES256, header), SIGNATURE))
    .collect()
}

/// Headers with a kid that leads somewhere else.
fn kids() -> Vec<Attack> {
    let mut rows = Vec::new();
    let long = "k".repeat(9000);
    let kids = [
        "../../../../dev/null",
        "/dev/null",
        "..\\..\\secret",
        "secret",
        "file:///dev/null",
        "' UNION SELECT 'x",
        "rsa' OR '1'='1",
        "rsa\0",
        "rsa/../rsa",
        "RSA",
        "",
        "*",
        "$(id)",
        "%2e%2e",
        &long,
    ];
    for kid in kids {
        let header = |alg| json!({"alg": alg, "kid": kid}).to_string();
        // What the named file or query would give: nothing, or what the attacker put there.
        for secret in [&b""[..], b"x"] {
            rows.push((
                "a kid that leads somewhere",
                by(secret, &header("HS256"), &payload()),
                SIGNATURE,
            ));
        }
        rows.push(("a kid that is none", own(&header("RS256"), &payload()), UNKNOWN));
    }
    for kid in ["1", "[\"rsa\"]", "{}", "null", "true"] {
        let header = format!("{{\"alg\":\"HS256\",\"kid\":{kid}}}");
        rows.push(("a kid that is no text", own(&header, &payload()), MALFORMED));
    }
    rows
}

/// Headers that change how the rest is to be read.
fn rules() -> Vec<Attack> {
    let mut rows = Vec::new();
    for more in [
        "\"crit\":[\"x\"],\"x\":1",
        "\"crit\":[\"exp\"],\"exp\":1",
        "\"crit\":[\"b64\"],\"b64\":false",
        "\"crit\":[\"b64\"],\"b64\":true",
        "\"crit\":[]",
        "\"crit\":null",
        "\"zip\":\"DEF\"",
        "\"zip\":null",
        "\"alg\":\"none\"",
        "\"alg\":\"HS256\"",
        "\"\\u0061lg\":\"none\"",
        "\"kid\":\"a\",\"kid\":\"b\"",
        "\"jwk\":{\"k\":1,\"k\":2}",
        "\"typ\":1",
    ] {
        let header = format!("{{\"alg\":\"HS256\",{more}}}");
        rows.push(("a header that changes the rules", own(&header, &payload()), MALFORMED));
    }
    // RFC 7797: the payload not encoded in what is signed.
    let header = "{\"alg\":\"HS256\",\"b64\":false}";
    let signature =
        hmac(Algorithm::HS256, SECRET.as_bytes(), &format!("{}.{}", base64url(header), payload()));
    rows.push(("b64 false", format!("{}.{signature}", unsigned(header, &payload())), SIGNATURE));
    rows
}

/// Signatures that were never made.
fn signatures() -> Vec<Attack> {
    let good = token("ann");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let short = URL_SAFE_NO_PAD.encode(&bytes[..29]);
    let twice = URL_SAFE_NO_PAD.encode([&bytes[..], &bytes].concat());
    bytes[0] ^= 1;
    let flipped = URL_SAFE_NO_PAD.encode(&bytes);
    let mut rows: Vec<Attack> = [
        ("stripped", ""),
        ("truncated", &*short),
        ("twice", &*twice),
        ("a bit flipped", &flipped),
        ("garbage", "AAAA"),
    ]
    .map(|(what, signature)| (what, format!("{signed}.{signature}"), SIGNATURE))
    .to_vec();
    rows.push(("left out with its dot", signed.to_owned(), MALFORMED));
    rows.push(("five parts", format!("{good}.a.b"), MALFORMED));
    rows
}

/// ES256 wants two numbers from 1 to the order of the curve, 32 bytes each, and nothing else.
fn es256_signatures(keys: &Keys) -> Vec<Attack> {
    let mut rows = Vec::new();
    let header = json!({"alg": "ES256"});
    let real = by_pair(&keys.ec, Algorithm::ES256, &header);
    let (signed, signature) = real.rsplit_once('.').unwrap();
    let real = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (zero, one) = ([0; 32], [&[0; 31][..], &[1]].concat());
    let swapped = [&real[32..], &real[..32]].concat();
    let der = [&[0x30, 6, 2, 1, 0, 2, 1, 0][..]].concat();
    for bytes in [
        vec![0; 64],
        vec![0xff; 64],
        [zero, order].concat(),
        [order, zero].concat(),
        [order, order].concat(),
        [&one[..], &zero].concat(),
        [&zero[..], &one].concat(),
        [&one[..], &one].concat(),
        swapped,
        der,
        [&real[..32], &zero].concat(),
        [&zero, &real[32..]].concat(),
        Vec::new(),
        vec![0],
        real[..63].to_vec(),
        [&real[..], &[0]].concat(),
        [&[0][..], &real].concat(),
        [&real[..], &real].concat(),
        vec![0; 96],
    ] {
        rows.push((
            "an ES256 signature",
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)),
            SIGNATURE,
        ));
    }
    rows
}

/// Claims, all signed as they should be.
fn claimed() -> Vec<Attack> {
    let rows = [ill_formed_claims(), other_claims()].concat();
    rows.into_iter().map(|(label, changes)| ("a claim", own(HS, &with(changes)), label)).collect()
}

fn ill_formed_claims() -> Vec<(&'static str, Value)> {
    [
        json!({"exp": null}),
        json!({"exp": "9999999999"}),
        json!({"exp": [1]}),
        json!({"exp": true}),
        json!({"exp": {}}),
        json!({"nbf": "0"}),
        json!({"iat": "0"}),
        json!({"iss": 1}),
        json!({"iss": ["https://id.example.com"]}),
        json!({"aud": 1}),
        json!({"aud": {"chat": 1}}),
        json!({"aud": ["chat", 1]}),
        json!({"aud": [["chat"]]}),
        json!({"sub": null}),
        json!({"sub": 1.5}),
        json!({"sub": ["ann"]}),
        json!({"sub": ""}),
        json!({"sub": "a".repeat(260)}),
        json!({"sub": "é".repeat(129)}),
        json!({"sub": "ann\r\nX-Auth-User: bob"}),
        json!({"sub": "ann\0"}),
        json!({"sub": "ann\u{7f}"}),
        json!({"sub": "ann\u{85}"}),
    ]
    .map(|changes| (MALFORMED, changes))
    .to_vec()
}

fn other_claims() -> Vec<(&'static str, Value)> {
    let late = now() + 600;
    vec![
        ("token_expired", json!({"exp": -1})),
        ("token_expired", json!({"exp": 0})),
        ("token_expired", json!({"exp": -1e300})),
        ("token_expired", json!({"exp": now() - 31})),
        ("token_expired", json!({"exp": 0.1})),
        ("token_not_yet_valid", json!({"nbf": late})),
        ("token_not_yet_valid", json!({"iat": late})),
        ("token_not_yet_valid", json!({"nbf": 1e300})),
        ("token_not_yet_valid", json!({"iat": u64::MAX})),
        ("token_issuer", json!({"iss": null})),
        ("token_issuer", json!({"iss": ""})),
        ("token_issuer", json!({"iss": "https://id.example.com/"})),
        ("token_issuer", json!({"iss": "https://id.example.com.evil.example"})),
        ("token_issuer", json!({"iss": "https://id.example.com\0"})),
        ("token_audience", json!({"aud": null})),
        ("token_audience", json!({"aud": ""})),
        ("token_audience", json!({"aud": []})),
        ("token_audience", json!({"aud": "CHAT"})),
        ("token_audience", json!({"aud": "chat "})),
        ("token_audience", json!({"aud": "chat,mail"})),
        ("token_audience", json!({"aud": ["mail", "chat2"]})),
        ("token_kind", json!({"token_use": "refresh"})),
        ("token_kind", json!({"token_use": null})),
        ("token_kind", json!({"token_use": ["access", "refresh"]})),
        ("token_kind", json!({"token_use": true})),
        ("token_kind", json!({"token_use": "Access"})),
    ]
}

/// Payloads that are no JSON object, or one that can be read in two ways.
fn payloads() -> Vec<Attack> {
    let deep =
        |open: &str, shut: &str| raw(&format!("\"x\":{}1{}", open.repeat(2000), shut.repeat(2000)));
    [
        raw("\"sub\":\"bob\""),
        raw("\"s\\u0075b\":\"bob\""),
        raw("\"exp\":9999999999"),
        raw("\"x\":{\"a\":1,\"a\":2}"),
        raw("\"x\":1e999"),
        raw("\"x\":\"\\ud800\""),
        raw("\"x\":NaN"),
        raw("\"x\":01"),
        deep("[", "]"),
        deep("{\"x\":", "}"),
        "[".repeat(10_000),
        "{\"x\":".repeat(1500),
        format!("{}{{}}", payload()),
        format!("{} x", payload()),
        format!("\u{feff}{}", payload()),
        "null".to_owned(),
        "\"ann\"".to_owned(),
        "[{}]".to_owned(),
        String::new(),
    ]
    .map(|payload| ("a payload that is none", own(HS, &payload), MALFORMED))
    .to_vec()
}

/// Tokens of the same issuer for something else.
fn kinds() -> Vec<Attack> {
    let mut rows = Vec::new();
    for typ in
        ["at+jwt", "refresh+jwt", "logout+jwt", "dpop+jwt", "JWE", "", "application/at+jwt", "JWT "]
    {
        let header = json!({"alg": "HS256", "typ": typ}).to_string();
        rows.push(("another kind of token", own(&header, &payload()), "token_kind"));
    }
    rows
}

/// The same token, spelt in another way. Those with bytes that no header takes go as subprotocol.
fn spellings() -> Vec<Attack> {
    // Bytes that differ between the alphabets of base64: `-` and `_`.
    let good = own(HS, &with(json!({"x": "???>>>~~~\u{ff}\u{ff}"})));
    assert!(good.contains('-') && good.contains('_'), "{good}");
    let parts: Vec<&str> = good.split('.').collect();
    let header = URL_SAFE.encode("{\"alg\": \"HS256\"}");
    assert!(header.ends_with('='), "{header}");
    let padded = format!("{header}.{}.{}", parts[1], parts[2]);
    let last = good.chars().last().unwrap();
    // The last character of 32 bytes carries four bits; a loose one below them changes nothing.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let loose = alphabet.chars().nth(alphabet.find(last).unwrap() + 1).unwrap();
    let loose = format!("{}{loose}", &good[..good.len() - 1]);
    [
        padded,
        loose,
        good.replace('-', "+").replace('_', "/"),
        good.replace('.', ". "),
        good.replacen('.', " .", 1),
        good.replacen('.', "..", 1),
        format!("{good}="),
        format!("{good}=="),
        format!("{good}."),
        format!(".{good}"),
        format!("{good} {good}"),
        format!("{good},{good}"),
        format!("\"{good}\""),
        format!("{good};"),
        good.replacen('.', "%2e", 1),
        good.replacen('.', "\n.", 1),
        format!("{good}\n"),
        format!("{good}\r\n"),
        format!("{good}\0"),
        format!("\n{good}"),
        good.replacen('.', "\t.", 1),
        good.replacen('.', "\u{3002}", 1),
    ]
    .map(|token| ("another spelling", token, MALFORMED))
    .to_vec()
}

async fn start(keys: &Keys, endpoint: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rsa.pem"), keys.rsa.public_key_pem()).unwrap();
    std::fs::write(folder.path().join("ec.pem"), keys.ec.public_key_pem()).unwrap();
    let mut setup = Setup::with_tokens(endpoint)
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }");
    setup.keys = "[{ algorithm = \"HS256\", file = \"secret\" }, \
                   { kid = \"rsa\", algorithm = \"RS256\", file = \"rsa.pem\" }, \
                   { algorithm = \"ES256\", file = \"ec.pem\" }]"
        .to_owned();
    setup.log_level = "trace";
    Gateway::start_in(folder, &setup).await
}

fn attacks(keys: &Keys) -> Vec<Attack> {
    [
        algorithms(),
        confused(keys),
        unnamed(),
        headers(keys),
        kids(),
        rules(),
        signatures(),
        es256_signatures(keys),
        claimed(),
        payloads(),
        kinds(),
        spellings(),
    ]
    .concat()
}

#[tokio::test]
async fn every_attack_has_its_label_and_leaves_no_trace() {
    let keys = Keys::new();
    let mut gateway = start(&keys, "unix:none").await;
    let attacks = attacks(&keys);
    println!("{} attacks", attacks.len());
    for (what, token, label) in &attacks {
        println!("{what}: {label}");
        let row = Refusal::at_admission(label, 401, 4401, "/ws");
        let entry = subprotocol_entry(token);
        // What a header takes: no control characters, and no space at its ends, which is not its own.
        let is_header = token.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let program = match is_header {
            true => gateway.client().token(token),
            false => gateway.client().header(OFFER, &entry),
        };
        let told = row.by_http(&mut gateway, program).await;
        assert!(told.head.contains("www-authenticate: "), "{}", told.head);
        // Twice base64: the longest have no room there.
        if entry.len() < 15_000 {
            let page = gateway.client().origin(PAGE).header(OFFER, &format!("framegate, {entry}"));
            row.by_close(&mut gateway, page).await;
        }
    }
    let log: String = gateway.log().iter().map(|line| format!("{line}\n")).collect();
    for (what, token, _) in &attacks {
        for trace in token.split('.').filter(|part| part.len() >= 16) {
            assert!(!log.contains(trace), "{what}: the log has {trace}");
            assert!(!log.contains(&base64url(trace)), "{what}: the log has {trace}, encoded");
        }
    }
    // Whoever had connected would wait to be accepted.
    let nobody = keys.lure.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn what_only_looks_like_an_attack_is_accepted() {
    let keys = Keys::new();
    let endpoint = format!("http://{}", Backend::start().await.echo());
    let mut gateway = start(&keys, &endpoint).await;
    let header = |more: Value| {
        let mut all = json!({"alg": "HS256"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all.to_string()
    };
    let lure = keys.lure();
    let rows = [
        ("RS256", by_pair(&keys.rsa, Algorithm::RS256, &json!({"alg": "RS256", "kid": "rsa"}))),
        ("ES256", by_pair(&keys.ec, Algorithm::ES256, &json!({"alg": "ES256"}))),
        ("HS256", own(HS, &payload())),
        (
            "keys that are not looked at",
            own(&header(json!({"jku": lure, "x5u": lure, "jwk": {}})), &payload()),
        ),
        (
            "a kid for a key that has none",
            own(&header(json!({"kid": "../../dev/null"})), &payload()),
        ),
        ("an exp beyond all calendars", own(HS, &with(json!({"exp": 1e300})))),
        ("an exp of 2^64-1", own(HS, &with(json!({"exp": u64::MAX})))),
        ("an exp with a fraction", own(HS, &with(json!({"exp": now() as f64 + 60.5})))),
        ("one audience of several", own(HS, &with(json!({"aud": ["mail", "chat"]})))),
        (
            "nesting within bounds",
            own(HS, &raw(&format!("\"x\":{}{}", "[".repeat(100), "]".repeat(100)))),
        ),
        ("a user of 256 bytes", own(HS, &with(json!({"sub": "é".repeat(128)})))),
    ];
    for (what, token) in rows {
        let mut answered = gateway.client().token(&token).connect().await;
        assert_eq!(answered.status, 101, "{what}: {}", answered.head);
        answered.wire.send_text(what).await;
        answered.wire.expect_text(what).await;
    }
    assert_eq!(keys.lure.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    gateway.access_lines("client_lost", 11).await;
}

#[tokio::test]
async fn two_tokens_that_disagree_are_settled_by_the_order_of_sources_or_refused() {
    let keys = Keys::new();
    let endpoint = format!("http://{}", Backend::start().await.echo());
    let mut gateway = start(&keys, &endpoint).await;
    let (ann, bob) = (token("ann"), token("bob"));
    let bad = by(b"another secret", HS, &payload());
    // The header comes first in `sources`: what stands in the subprotocol makes no difference.
    for (header, entry, expected) in
        [(&ann, &bob, Ok("ann")), (&bob, &bad, Ok("bob")), (&bad, &ann, Err(SIGNATURE))]
    {
        let client = gateway
            .client()
            .token(header)
            .header(OFFER, &format!("chat, {}", subprotocol_entry(entry)));
        match expected {
            Ok(user) => {
                let answered = client.connect().await;
                let id = answered.header("x-request-id").unwrap();
                assert_eq!(answered.status, 101, "{}", answered.head);
                drop(answered);
                assert_eq!(gateway.line_of(&id).await["user"], user);
            }
            Err(label) => {
                Refusal::at_admission(label, 401, 4401, "/ws").by_http(&mut gateway, client).await;
            }
        }
    }
    let basic = "Basic dXNlcjpwYXNz";
    let twice = |one: &str, other: &str| {
        gateway.client().header("Authorization", one).header("Authorization", other)
    };
    let bearer = |token: &str| format!("Bearer {token}");
    let two = format!("{}, {}", subprotocol_entry(&ann), subprotocol_entry(&bob));
    let clients = [
        twice(&bearer(&ann), &bearer(&bob)),
        twice(&bearer(&ann), &bearer(&ann)),
        twice(basic, &bearer(&ann)),
        twice(&bearer(&ann), basic),
        gateway.client().header("Authorization", &format!("Bearer {ann}, Bearer {bob}")),
        gateway.client().header(OFFER, &two),
    ];
    for client in clients {
        Refusal::at_admission(MALFORMED, 401, 4401, "/ws").by_http(&mut gateway, client).await;
    }
}

#[tokio::test]
async fn a_token_larger_than_a_head_is_not_read_wherever_it_stands() {
    let gateway = start(&Keys::new(), "unix:none").await;
    let huge = own(HS, &raw(&format!("\"x\":\"{}\"", "x".repeat(48 * 1024))));
    assert!(huge.len() > 64 * 1024);
    let clients = [
        gateway.client().token(&huge),
        gateway.client().header("Cookie", &format!("session={huge}")),
        gateway.client().path(&format!("/ws?token={huge}")),
        gateway.client().header(OFFER, &subprotocol_entry(&huge)),
    ];
    for client in clients {
        let mut answered = client.connect().await;
        assert_eq!(answered.status, 431, "{}", answered.head);
        let body = answered.wire.rest().await;
        assert!(body.contains("head_size") && body.lines().count() == 1, "{body}");
    }
    let log: String = gateway.log().iter().map(|line| format!("{line}\n")).collect();
    assert!(!log.contains(&huge[..64]), "the log has the beginning of the token");
}
