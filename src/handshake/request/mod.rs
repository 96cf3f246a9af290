//! The client's upgrade request, parsed once (RFC 6455 section 4.2.1). Pure.
//!
//! Strict where leniency would let the gateway and an upstream read one request in two ways, and
//! where a client that breaks the rule does not exist in practice. Each broken rule has its own variant
//! of [`BadRequest`], whose text is what the person at the other end reads.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, ORIGIN, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::path;
use super::spelling::Spelling;

pub(super) use target::is_host;
use target::{host, target};

mod target;

/// A valid opening handshake; nothing behind it checks the form again.
#[derive(Clone)]
pub struct UpgradeRequest {
    /// Host header as sent, with its port.
    pub host: String,
    /// Normalised path: unreserved characters decoded, nothing else changed; what the upstream gets.
    pub path: String,
    /// Query as sent, without `?`.
    pub query: Option<String>,
    /// All headers as sent.
    pub headers: HeaderMap,
    /// Their names as sent, where that is known.
    pub spelling: Spelling,
    /// Sec-WebSocket-Key.
    pub key: String,
    /// Origin header as sent: a browser sends one, others mostly don't.
    pub origin: Option<String>,
    /// Offered subprotocols in order, token entries included.
    pub offered: Vec<String>,
}

/// Why a request is no valid opening handshake: one variant per broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Beyond the listener's `head_size`.
    #[error(
        "the request head is larger than {0} bytes, the listener's head_size; mostly it is cookies or a token"
    )]
    HeadTooLarge(u32),
    /// RFC 6455 section 4.2.1 item 1.
    #[error("not a WebSocket handshake: the method must be GET")]
    Method,
    /// HTTP/1.0 has no Upgrade; HTTP/2 has another handshake.
    #[error("not a WebSocket handshake: it must be an HTTP/1.1 request")]
    HttpVersion,
    /// Authority form or `*`.
    #[error("the request target must be a path, such as /chat")]
    Target,
    /// RFC 9112 section 3.2.2 takes the host from there, and section 3.2 wants the same in Host.
    #[error("the request target is a whole URL, and its host is not that of the Host header")]
    TargetHost,
    /// RFC 9112 section 3.2.
    #[error("the Host header is missing")]
    HostMissing,
    /// RFC 9112 section 3.2.
    #[error("there must be exactly one Host header")]
    HostRepeated,
    /// Empty, or more than a name or address and a port.
    #[error("the Host header must be a host name or address, with a port if need be")]
    HostInvalid,
    /// A handshake has no body; behind it the frames begin.
    #[error("a WebSocket handshake has no body: Transfer-Encoding is not allowed")]
    TransferEncoding,
    /// Content-Length is there and not a single 0.
    #[error("a WebSocket handshake has no body: Content-Length must be absent or 0")]
    ContentLength,
    /// Mostly a browser or a health check that was pointed here.
    #[error(
        "not a WebSocket handshake: the Upgrade header is missing; this port serves WebSocket only"
    )]
    UpgradeMissing,
    /// Upgrade names other protocols only, such as h2c.
    #[error("not a WebSocket handshake: the Upgrade header does not name websocket")]
    UpgradeOther,
    /// Mostly a proxy in front that does not pass the header on.
    #[error(
        "not a WebSocket handshake: the Connection header must contain Upgrade; \
         a proxy in front may have removed it"
    )]
    ConnectionUpgrade,
    /// RFC 6455 section 4.2.1 item 6.
    #[error("the Sec-WebSocket-Version header is missing: this server speaks version 13")]
    VersionMissing,
    /// RFC 6455 section 4.4.
    #[error("this server speaks Sec-WebSocket-Version 13 only")]
    VersionOther,
    /// RFC 6455 section 4.2.1 item 5.
    #[error("the Sec-WebSocket-Key header is missing")]
    KeyMissing,
    /// RFC 6455 section 11.3.1.
    #[error("there must be exactly one Sec-WebSocket-Key header")]
    KeyRepeated,
    /// Not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, which makes 24 characters")]
    KeyInvalid,
    /// Two origins: which one decides?
    #[error("there must be at most one Origin header")]
    OriginRepeated,
    /// Empty or not visible ASCII; an empty one must not pass for a missing one.
    #[error("the Origin header must be visible ASCII and not empty")]
    OriginInvalid,
    /// An entry is no token, or there is none.
    #[error("Sec-WebSocket-Protocol must be a list of names separated by commas")]
    SubprotocolInvalid,
    /// RFC 6455 section 4.1 item 10: each offered once.
    #[error("Sec-WebSocket-Protocol names a subprotocol twice")]
    SubprotocolRepeated,
    /// More than [`MAX_SUBPROTOCOLS`].
    #[error("Sec-WebSocket-Protocol names more than {MAX_SUBPROTOCOLS} subprotocols")]
    SubprotocolsTooMany,
    /// Cannot stand in a request line.
    #[error("the query has a space or control character")]
    QueryCharacter,
    /// Does not begin with `/`.
    #[error("the path must begin with /")]
    PathNotAbsolute,
    /// `.` or `..`, also encoded.
    #[error("the path has a dot segment")]
    PathDotSegment,
    /// `//`.
    #[error("the path has an empty segment")]
    PathEmptySegment,
    /// `%2F`, `%5C` or a backslash.
    #[error("the path has an encoded slash or a backslash")]
    PathEncodedSlash,
    /// A control character, plain or encoded.
    #[error("the path has a control character")]
    PathControl,
    /// `%` without two hexadecimal digits.
    #[error("the path has a % that is not followed by two hexadecimal digits")]
    PathPercent,
    /// A fragment belongs to the client and is never sent.
    #[error("the path has a fragment (#), which is not sent to a server")]
    PathFragment,
    /// A space, `?` or something else than ASCII.
    #[error("the path has a character that must be percent-encoded")]
    PathCharacter,
}

/// Subprotocols that a client may offer.
pub const MAX_SUBPROTOCOLS: usize = 64;

impl BadRequest {
    /// 400, or 426 for a wrong version (RFC 6455 section 4.4).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::HeadTooLarge(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::VersionMissing | Self::VersionOther => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// Without query, key and headers: they may hold tokens, and `{:?}` ends in logs sooner or later.
impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRequest")
            .field("host", &self.host)
            .field("path", &self.path)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// The parts of a request in which a token can stand, as they go upstream.
#[derive(Clone)]
pub struct Forwardable {
    /// All headers; `Sec-WebSocket-Protocol` agrees with `offered`.
    pub headers: HeaderMap,
    /// Query without `?`; `None` when nothing is left of it.
    pub query: Option<String>,
    /// Offered subprotocols in order.
    pub offered: Vec<String>,
}

impl UpgradeRequest {
    /// Reads a request as hyper hands it over.
    ///
    /// `http::Uri` drops a fragment before anybody sees it, so `#` is only refused in [`path`]: what
    /// the router sees is still what the upstream gets.
    ///
    /// # Errors
    ///
    /// The first broken rule: what tells that this is no handshake at all comes first, what is wrong
    /// with its details after that.
    pub fn parse(
        method: &Method,
        uri: &Uri,
        version: Version,
        headers: HeaderMap,
    ) -> Result<Self, BadRequest> {
        if method != Method::GET {
            return Err(BadRequest::Method);
        }
        if version != Version::HTTP_11 {
            return Err(BadRequest::HttpVersion);
        }
        if !uri.path().starts_with('/') {
            return Err(BadRequest::Target);
        }
        let host = host(&headers)?;
        target(uri, &host)?;
        no_body(&headers)?;
        upgrade(&headers)?;
        websocket_version(&headers)?;
        Ok(Self {
            host,
            path: path::normalise_with_slashes(uri.path())?,
            query: query(uri)?,
            key: key(&headers)?,
            origin: origin(&headers)?,
            offered: offered(&headers)?,
            spelling: Spelling::default(),
            headers,
        })
    }

    /// Whether the client offered permessage-deflate, and whether it offered another extension. None is
    /// ever accepted; this is for counting them.
    pub fn stripped_extensions(&self) -> (bool, bool) {
        let (mut deflate, mut other) = (false, false);
        for extension in elements(&self.headers, &SEC_WEBSOCKET_EXTENSIONS) {
            let name = extension.split(|byte| *byte == b';').next().unwrap_or_default();
            match name.trim_ascii() {
                b"" => {}
                name if name.eq_ignore_ascii_case(b"permessage-deflate") => deflate = true,
                _ => other = true,
            }
        }
        (deflate, other)
    }
}

/// A body would be read as frames by one side and as a body by another.
fn no_body(headers: &HeaderMap) -> Result<(), BadRequest> {
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(BadRequest::TransferEncoding);
    }
    match at_most_one(headers, &CONTENT_LENGTH, BadRequest::ContentLength)? {
        Some(length) if length != "0" => Err(BadRequest::ContentLength),
        _ => Ok(()),
    }
}

/// RFC 6455 section 4.2.1 items 3 and 4.
fn upgrade(headers: &HeaderMap) -> Result<(), BadRequest> {
    if !headers.contains_key(UPGRADE) {
        return Err(BadRequest::UpgradeMissing);
    }
    if !has_element(headers, &UPGRADE, b"websocket") {
        return Err(BadRequest::UpgradeOther);
    }
    if !has_element(headers, &CONNECTION, b"upgrade") {
        return Err(BadRequest::ConnectionUpgrade);
    }
    Ok(())
}

/// RFC 6455 section 4.2.1 item 6. A list such as `13, 8` is no version (section 11.3.5).
fn websocket_version(headers: &HeaderMap) -> Result<(), BadRequest> {
    match at_most_one(headers, &SEC_WEBSOCKET_VERSION, BadRequest::VersionOther)? {
        None => Err(BadRequest::VersionMissing),
        Some(version) if version == "13" => Ok(()),
        Some(_) => Err(BadRequest::VersionOther),
    }
}

fn key(headers: &HeaderMap) -> Result<String, BadRequest> {
    let value = at_most_one(headers, &SEC_WEBSOCKET_KEY, BadRequest::KeyRepeated)?;
    let key = value.ok_or(BadRequest::KeyMissing)?.to_str().map_err(|_| BadRequest::KeyInvalid)?;
    // The six unused bits of the 22nd character are not looked at: sloppy clients make the key of
    // 22 random characters, and nothing depends on it.
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, config).decode(key);
    let is_valid = key.len() == 24 && decoded.is_ok_and(|bytes| bytes.len() == 16);
    is_valid.then(|| key.to_owned()).ok_or(BadRequest::KeyInvalid)
}

fn origin(headers: &HeaderMap) -> Result<Option<String>, BadRequest> {
    let Some(value) = at_most_one(headers, &ORIGIN, BadRequest::OriginRepeated)? else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
    text.map(|text| Some(text.to_owned())).ok_or(BadRequest::OriginInvalid)
}

fn offered(headers: &HeaderMap) -> Result<Vec<String>, BadRequest> {
    let mut offered: Vec<String> = Vec::new();
    // RFC 9110 section 5.6.1.2: empty elements are ignored, but one must not be.
    for entry in elements(headers, &SEC_WEBSOCKET_PROTOCOL).filter(|entry| !entry.is_empty()) {
        let name = std::str::from_utf8(entry).ok().filter(|name| is_token(name));
        let name = name.ok_or(BadRequest::SubprotocolInvalid)?;
        if offered.iter().any(|earlier| earlier == name) {
            return Err(BadRequest::SubprotocolRepeated);
        }
        if offered.len() >= MAX_SUBPROTOCOLS {
            return Err(BadRequest::SubprotocolsTooMany);
        }
        offered.push(name.to_owned());
    }
    if offered.is_empty() && headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Err(BadRequest::SubprotocolInvalid);
    }
    Ok(offered)
}

/// Not interpreted here, but it must be fit for a request line.
fn query(uri: &Uri) -> Result<Option<String>, BadRequest> {
    let breaks_line = |byte: u8| byte <= b' ' || byte == 0x7f;
    match uri.query() {
        Some(query) if query.bytes().any(breaks_line) => Err(BadRequest::QueryCharacter),
        query => Ok(query.map(str::to_owned)),
    }
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_tchar)
}

fn at_most_one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    otherwise: BadRequest,
) -> Result<Option<&'a HeaderValue>, BadRequest> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.next().map_or(Ok(first), |_| Err(otherwise))
}

/// The elements of a list header, of all its lines, without blanks around; some may be empty.
pub(super) fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn has_element(headers: &HeaderMap, name: &HeaderName, wanted: &[u8]) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests;
