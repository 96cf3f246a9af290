//! Tokens, and the whole ordered list of checks.

use std::sync::Arc;
use std::time::Instant;

use divan::{Bencher, black_box};
use framegate::internals::admission::jwks::SourceTable;
use framegate::internals::admission::limits::AddressTable;
use framegate::internals::admission::{Admission, jwt, keys, limiter, token};
use framegate::internals::handshake::headers::Trust;
use jsonwebtoken::Algorithm;

use crate::setup::{self, NOW, PATH};

const ALGORITHMS: [Algorithm; 3] = [Algorithm::HS256, Algorithm::ES256, Algorithm::RS256];

/// Form, signature and claims of a token.
#[divan::bench(args = ALGORITHMS)]
fn verify(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let signed = setup::signed(algorithm);
    let config = setup::config(&signed, &format!("{algorithm:?}"));
    let verifier = &config.verifiers[0];
    let (keys, _) = keys::load(verifier, "verifiers.users", &config.locations).expect("a key");
    bencher.bench(|| jwt::verify(verifier, &keys, black_box(&signed.token), NOW).expect("valid"));
}

/// Finding the token among the subprotocols.
#[divan::bench]
fn extract(bencher: Bencher<'_, '_>) {
    let signed = setup::signed(Algorithm::ES256);
    let config = setup::config(&signed, "ES256");
    let request = setup::request(&signed.token);
    let sources = &config.verifiers[0].sources;
    let sender = token::Sender { trust: Trust::Untrusted, host: "chat.example.com", origins: &[] };
    bencher.bench(|| token::extract(sources, black_box(&request), sender).expect("a token"));
}

/// Origin, token, authorisation and the user's place, for a request that passes.
#[divan::bench(args = ALGORITHMS)]
fn admit(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let signed = setup::signed(algorithm);
    let config = setup::config(&signed, &format!("{algorithm:?}"));
    let (admission, _) = Admission::new(&config, limiter(), &SourceTable::default()).expect("keys");
    let matched = config.router().find("chat.example.com", PATH).expect("a route");
    let request = setup::request(&signed.token);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    bencher.bench_local(|| {
        // The place is given back at once: the user's limit is never reached.
        let mut user = None;
        let permit = admission.admit(
            &config,
            &matched,
            black_box(&request),
            Trust::Untrusted,
            &mut user,
            NOW,
        );
        runtime.block_on(permit).expect("admitted")
    });
}

/// The places of an address: its rate and its number.
#[divan::bench]
fn address(bencher: Bencher<'_, '_>) {
    let signed = setup::signed(Algorithm::HS256);
    let mut limits = setup::config(&signed, "HS256").limits;
    limits.handshakes_per_address =
        Some(framegate::internals::config::Rate { per_second: 1e9, burst: u32::MAX });
    let table = Arc::new(AddressTable::default());
    let address = [192, 0, 2, 7].into();
    bencher.bench(|| table.admit(black_box(address), &limits, Instant::now()).expect("a place"));
}
