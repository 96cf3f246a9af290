//! The client's request parsed, and the upstream's written.

use std::net::{IpAddr, Ipv4Addr};

use divan::{Bencher, black_box};
use framegate::internals::handshake::headers::{Forwarded, Rules, Scheme, Trust, UpstreamHead};
use framegate::internals::handshake::request::UpgradeRequest;
use jsonwebtoken::Algorithm;

use crate::setup;

/// From what hyper read to an `UpgradeRequest`.
#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let token = setup::signed(Algorithm::ES256).token;
    let (method, uri, version, headers) = setup::head(&token);
    bencher.with_inputs(|| headers.clone()).bench_values(|headers| {
        UpgradeRequest::parse(&method, black_box(&uri), version, headers).expect("a handshake")
    });
}

/// The head that goes upstream.
#[divan::bench]
fn write(bencher: Bencher<'_, '_>) {
    let request = setup::request(&setup::signed(Algorithm::ES256).token);
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let head = UpstreamHead {
        path: &request.path,
        query: request.query.as_deref(),
        headers: &request.headers,
        offered: &request.offered,
        key: "AQIDBAUGBwgJCgsMDQ4PEA==",
        host: &request.host,
        forwarded: Forwarded {
            client,
            direct: client,
            trust: Trust::Untrusted,
            scheme: Scheme::Https,
            host: &request.host,
        },
        identity: None,
        request_id: "0000000000000007",
        authorization: None,
        rules: Rules::default(),
    };
    bencher.bench(|| black_box(&head).write().expect("a head"));
}
