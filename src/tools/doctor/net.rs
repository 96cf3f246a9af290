//! Names and TCP. I/O.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::diagnosis::network;
use super::plan::Plan;
use super::report::{Failure, Finding, Passed, StepName};

/// The addresses of the host.
///
/// # Errors
///
/// When it has none, or nobody says.
pub(crate) async fn dns(plan: &Plan) -> Result<Passed<Vec<SocketAddr>>, Failure> {
    let target = &plan.target;
    if let Some(ip) = target.ip() {
        let seen = vec![format!("{ip} is an address already: nothing to look up")];
        return Ok(Passed::new(vec![SocketAddr::new(ip, target.port)], seen));
    }
    let fails = |finding: Finding, seen: String| finding.fails(StepName::Dns, vec![seen]);
    let found = timeout(plan.timeout, lookup_host((target.host.as_str(), target.port))).await;
    let found = found
        .map_err(|_| fails(network::dns_slow(), format!("no answer within {:?}", plan.timeout)))?;
    let addresses: Vec<_> = found
        .map_err(|error| fails(network::dns(&error, &target.host), error.to_string()))?
        .collect();
    if addresses.is_empty() {
        let error = io::Error::other("the name has no address");
        return Err(fails(network::dns(&error, &target.host), error.to_string()));
    }
    let list: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    Ok(Passed::new(addresses, vec![format!("{} is {}", target.host, list.join(", "))]))
}

/// A connection to the first address that takes one.
///
/// # Errors
///
/// What the first address said, when none did.
pub(crate) async fn tcp(
    plan: &Plan,
    addresses: &[SocketAddr],
) -> Result<Passed<TcpStream>, Failure> {
    let share = plan.timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut seen = Vec::new();
    let mut first: Option<Finding> = None;
    for address in addresses {
        match connect(*address, share).await {
            Ok(stream) => {
                seen.push(format!("connected to {address}"));
                let warning = first.map(|_| half_reachable(addresses));
                return Ok(Passed::new(stream, seen).warn(warning));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                seen.push(format!("{address}: no answer within {share:?}"));
                first.get_or_insert_with(|| network::tcp_silent(&plan.target));
            }
            Err(error) => {
                seen.push(format!("{address}: {error}"));
                first.get_or_insert_with(|| network::tcp(&error, &plan.target));
            }
        }
    }
    let finding = first.unwrap_or_else(|| network::tcp_silent(&plan.target));
    Err(finding.fails(StepName::Tcp, seen))
}

/// A connection, within this time.
pub(super) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // Only a matter of time: where it fails, the socket is gone anyway.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn half_reachable(addresses: &[SocketAddr]) -> Finding {
    let both = addresses.iter().any(|address| matches!(address.ip(), IpAddr::V6(_)))
        && addresses.iter().any(|address| matches!(address.ip(), IpAddr::V4(_)));
    let what = if both { "IPv4 and IPv6 addresses" } else { "addresses" };
    Finding::new(
        format!("not all {what} of the name lead to the server: some clients are slow or fail"),
        "correct the DNS record, or let the server listen on all of them",
    )
}
