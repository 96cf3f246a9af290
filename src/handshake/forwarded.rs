//! Which address a request comes from, as far as proxies in front are trusted to say it. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv4Net};

use super::headers::{Scheme, Trust};
use super::request::is_host;

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// The client, as far as it is known.
    pub(crate) client: IpAddr,
    /// Who spoke HTTP to the gateway.
    pub(crate) direct: IpAddr,
    /// Whether that one's forwarding headers are believed.
    pub(crate) trust: Trust,
    /// Whether it used TLS.
    pub(crate) scheme: Scheme,
}

/// The header by which trusted proxies name the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum ClientAddress {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
    /// One address and nothing else: `CF-Connecting-IP`, `X-Real-IP`.
    Header(HeaderName),
}

impl ClientAddress {
    /// The client's address, as far as `trusted` proxies name it in this header.
    pub(crate) fn read(&self, direct: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
        match self {
            Self::XForwardedFor => client_address(direct, trusted, headers),
            Self::Forwarded => nearest(direct, trusted, headers, "forwarded", forwarded_for),
            Self::Header(name) => {
                let trust =
                    if is_trusted(direct, trusted) { Trust::Trusted } else { Trust::Untrusted };
                let value = trusted_value(trust, headers, name.as_str(), |_| true);
                value.and_then(parse_entry).unwrap_or_else(|| direct.to_canonical())
            }
        }
    }
}

/// The address in an element of Forwarded (RFC 7239 section 5.2): `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    parse_entry(unquoted.unwrap_or(value))
}

/// The client's address: the right-most one of the X-Forwarded-For chain that is not in `trusted`.
///
/// `direct` is who spoke HTTP to the gateway: the TCP peer, or whom its PROXY header named. The chain
/// is believed only from a trusted peer, and each entry only if the one to its right is trusted,
/// for that one wrote it. An entry that is no address (`unknown`, empty) ends the search: the last
/// good address counts. If all are trusted, it is the left-most. IPv4-mapped IPv6 is IPv4, here and in
/// the answer.
pub fn client_address(direct: IpAddr, trusted: &[IpNet], headers: &HeaderMap) -> IpAddr {
    nearest(direct, trusted, headers, "x-forwarded-for", parse_entry)
}

fn nearest(
    direct: IpAddr,
    trusted: &[IpNet],
    headers: &HeaderMap,
    name: &str,
    parse: fn(&str) -> Option<IpAddr>,
) -> IpAddr {
    let mut client = direct.to_canonical();
    // Several lines are one list (RFC 9110 section 5.3); the last line is the nearest.
    for line in headers.get_all(name).iter().rev() {
        for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
            if !is_trusted(client, trusted) {
                return client;
            }
            match std::str::from_utf8(entry).ok().and_then(parse) {
                Some(address) => client = address,
                None => return client,
            }
        }
    }
    client
}

/// The only value of a header that the direct peer may set, if it is trusted and the value is good.
pub(crate) fn trusted_value<'a>(
    trust: Trust,
    headers: &'a HeaderMap,
    name: &str,
    is_good: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| trust == Trust::Trusted)?;
    let single = values.next().is_none();
    value.to_str().ok().filter(|text| single && is_good(text))
}

/// How the client's connection reached the first of the trusted proxies: `http`, `https`, `ws` or `wss`.
pub(crate) fn scheme(trust: Trust, headers: &HeaderMap) -> Option<&'static str> {
    if trust != Trust::Trusted {
        return None;
    }
    let first = |name: &str| headers.get_all(name).iter().next()?.to_str().ok();
    let named = match first("x-forwarded-proto") {
        Some(list) => list.split(',').next(),
        // RFC 7239 section 5.4; the first element is the first hop's.
        None => first("forwarded")?.split(',').next()?.split(';').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
        }),
    }?;
    let named = named.trim();
    ["http", "https", "ws", "wss"].into_iter().find(|scheme| named.eq_ignore_ascii_case(scheme))
}

/// The host that a trusted proxy was asked for.
pub(crate) fn host(trust: Trust, headers: &HeaderMap) -> Option<&str> {
    trusted_value(trust, headers, "x-forwarded-host", is_host)
}

/// Whether `address` is in one of the networks; IPv4-mapped IPv6, on either side, counts as IPv4.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| canonical(net).contains(&address))
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = (entry.parse::<IpAddr>().ok())
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| bracketed().map(IpAddr::V6))?;
    Some(address.to_canonical())
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(net: &IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return *net };
    let mapped = || {
        let length = v6.prefix_len().checked_sub(96)?;
        Ipv4Net::new(v6.addr().to_ipv4_mapped()?, length).ok().map(IpNet::V4)
    };
    mapped().unwrap_or(*net)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(direct: &str, trusted: &[&str], lines: &[&[u8]]) -> String {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
        }
        client_address(direct.parse().unwrap(), &trusted, &headers).to_string()
    }

    const TEN: &[&str] = &["10.0.0.0/8"];

    #[test]
    fn another_header_names_the_client_only_where_it_is_told_to_and_from_a_trusted_proxy() {
        let cf = || ClientAddress::Header(HeaderName::from_static("cf-connecting-ip"));
        let rows: &[(ClientAddress, &str, &[(&'static str, &'static str)], &str)] = &[
            (cf(), "10.0.0.1", &[("cf-connecting-ip", "192.0.2.7")], "192.0.2.7"),
            (cf(), "10.0.0.1", &[("cf-connecting-ip", "2001:db8::1")], "2001:db8::1"),
            (cf(), "9.9.9.9", &[("cf-connecting-ip", "192.0.2.7")], "9.9.9.9"),
            (cf(), "10.0.0.1", &[("x-forwarded-for", "192.0.2.7")], "10.0.0.1"),
            (cf(), "10.0.0.1", &[("cf-connecting-ip", "192.0.2.7, 192.0.2.8")], "10.0.0.1"),
            (
                cf(),
                "10.0.0.1",
                &[("cf-connecting-ip", "192.0.2.7"), ("cf-connecting-ip", "192.0.2.8")],
                "10.0.0.1",
            ),
            (
                ClientAddress::Forwarded,
                "10.0.0.1",
                &[(
                    "forwarded",
                    "for=6.6.6.6, For=\"[2001:db8::1]:4711\";proto=https, for=10.0.0.2",
                )],
                "2001:db8::1",
            ),
            (
                ClientAddress::Forwarded,
                "10.0.0.1",
                &[("forwarded", "for=192.0.2.7;by=x")],
                "192.0.2.7",
            ),
            (ClientAddress::Forwarded, "10.0.0.1", &[("forwarded", "for=_hidden")], "10.0.0.1"),
            (ClientAddress::Forwarded, "9.9.9.9", &[("forwarded", "for=192.0.2.7")], "9.9.9.9"),
        ];
        let trusted = [TEN[0].parse().unwrap()];
        for (header, direct, lines, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in *lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let found = header.read(direct.parse().unwrap(), &trusted, &headers);
            assert_eq!(found.to_string(), *expected, "{header:?} {lines:?}");
        }
    }

    #[test]
    fn the_first_hop_says_how_the_client_came() {
        let rows: &[(&[(&'static str, &'static str)], Option<&str>)] = &[
            (&[("x-forwarded-proto", "https")], Some("https")),
            (&[("x-forwarded-proto", "HTTPS")], Some("https")),
            (&[("x-forwarded-proto", "https, http")], Some("https")),
            (&[("x-forwarded-proto", "wss"), ("x-forwarded-proto", "http")], Some("wss")),
            (&[("forwarded", "for=1.1.1.1;proto=https, for=10.0.0.2;proto=http")], Some("https")),
            (&[("forwarded", "for=1.1.1.1;Proto=\"HTTPS\"")], Some("https")),
            (&[("x-forwarded-proto", "http"), ("forwarded", "proto=https")], Some("http")),
            (&[("x-forwarded-proto", "gopher")], None),
            (&[("forwarded", "for=1.1.1.1")], None),
            (&[], None),
        ];
        for (lines, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, value) in *lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(scheme(Trust::Trusted, &headers), *expected, "{lines:?}");
            assert_eq!(scheme(Trust::Untrusted, &headers), None);
        }
    }

    #[test]
    fn the_chain_is_read_from_the_right_as_far_as_it_is_trusted() {
        let rows: &[(&str, &[&str], &[&[u8]], &str)] = &[
            // An untrusted peer is the client, whatever it says.
            ("9.9.9.9", TEN, &[b"1.1.1.1"], "9.9.9.9"),
            ("9.9.9.9", &[], &[b"1.1.1.1"], "9.9.9.9"),
            // A trusted peer without a chain speaks for itself.
            ("10.0.0.1", TEN, &[], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"1.1.1.1"], "1.1.1.1"),
            // What stands left of the first untrusted one was written by that one.
            ("10.0.0.1", TEN, &[b"6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", TEN, &[b"6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            ("10.0.0.1", TEN, &[b"6.6.6.6", b"1.1.1.1,10.0.0.3", b"10.0.0.2"], "1.1.1.1"),
            // All trusted: the left-most.
            ("10.0.0.1", TEN, &[b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Ports, brackets, blanks.
            ("10.0.0.1", TEN, &[b"\t1.1.1.1:4711 "], "1.1.1.1"),
            ("10.0.0.1", TEN, &[b"[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", TEN, &[b"[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", TEN, &[b"2001:db8::1"], "2001:db8::1"),
            // IPv4-mapped IPv6 is IPv4.
            ("::ffff:10.0.0.1", TEN, &[b"::ffff:1.1.1.1"], "1.1.1.1"),
            ("::ffff:9.9.9.9", TEN, &[b"1.1.1.1"], "9.9.9.9"),
            ("10.0.0.1", &["::ffff:10.0.0.0/104"], &[b"1.1.1.1"], "1.1.1.1"),
            ("fd00::1", &["fd00::/8"], &[b"1.1.1.1, fd00::2"], "1.1.1.1"),
            // Garbage ends the search.
            ("10.0.0.1", TEN, &[b"1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"1.1.1.1, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", TEN, &[b"1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", TEN, &[b"1.1.1.1", b""], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"1.1.1.1, \xff"], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"1.1.1.1:99999"], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"1.1.1.1:"], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"[1.1.1.1]"], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"01.1.1.1"], "10.0.0.1"),
            ("10.0.0.1", TEN, &[b"1.1.1.1 2.2.2.2"], "10.0.0.1"),
        ];
        for (direct, trusted, lines, expected) in rows {
            assert_eq!(client(direct, trusted, lines), *expected, "{direct} {lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_chain_panics_and_an_untrusted_peer_is_always_itself(
            lines in prop::collection::vec("[0-9a-f.:,\\[\\] x]{0,40}", 0..4),
            direct in any::<u32>(),
        ) {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
            }
            let direct = IpAddr::V4(direct.into());
            client_address(direct, &["0.0.0.0/0".parse().unwrap()], &headers);
            prop_assert_eq!(client_address(direct, &[], &headers), direct);
        }

        #[test]
        fn what_the_client_writes_left_of_its_own_address_changes_nothing(forged in "[0-9a-f.:, x]{0,40}") {
            let line = format!("{forged}, 1.1.1.1");
            prop_assert_eq!(client("10.0.0.1", TEN, &[line.as_bytes()]), "1.1.1.1");
        }
    }
}
