//! Request heads read by httparse, as hyper reads them, and looked at line by line (see [`crate`]).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

/// A header line: its name in lower case, and its value.
pub type Line = (String, Vec<u8>);

/// A request head that is whole.
#[derive(Debug)]
pub struct Head {
    /// `GET`
    pub method: String,
    /// As sent.
    pub target: String,
    /// All lines in order.
    pub lines: Vec<Line>,
    /// Bytes up to the end of the empty line.
    pub len: usize,
}

/// Reads the HTTP/1.1 head at the front of `bytes`, at most 100 headers.
pub fn read(bytes: &[u8]) -> Option<Head> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(len) = request.parse(bytes).ok()? else { return None };
    if request.version != Some(1) {
        return None;
    }
    let line =
        |header: &httparse::Header<'_>| (header.name.to_ascii_lowercase(), header.value.to_vec());
    Some(Head {
        method: request.method?.to_owned(),
        target: request.path?.to_owned(),
        lines: request.headers.iter().map(line).collect(),
        len,
    })
}

impl Head {
    /// What `UpgradeRequest::parse` is given.
    pub fn typed(&self) -> Option<(Method, Uri, Version, HeaderMap)> {
        let mut map = HeaderMap::new();
        for (name, value) in &self.lines {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            map.append(name, HeaderValue::from_bytes(value).ok()?);
        }
        let method = Method::from_bytes(self.method.as_bytes()).ok()?;
        Some((method, self.target.parse().ok()?, Version::HTTP_11, map))
    }

    /// The values of all lines of this name.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.lines.iter().filter(|(other, _)| other == name);
        lines.map(|(_, value)| value.as_slice()).collect()
    }

    /// The value of the only line of this name.
    pub fn only(&self, name: &str) -> &[u8] {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "{name}: {values:?}");
        values[0]
    }

    /// The elements of a list header, lower case.
    pub fn list(&self, name: &str) -> Vec<Vec<u8>> {
        let joined = self.values(name).join(&b',');
        let elements = joined.split(|byte| *byte == b',');
        elements.map(|element| element.trim_ascii().to_ascii_lowercase()).collect()
    }
}
