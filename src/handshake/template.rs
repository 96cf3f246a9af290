//! Values with places in them, such as `"room {chat_id} of {user}"`: read once, written for each request. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::utf8_percent_encode;

use super::headers::BEYOND_VISIBLE;
use crate::route::Pattern;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    User,
    RequestId,
    Client,
    Parameter(String),
}

/// What a template can be filled with.
pub(crate) struct Values<'a> {
    /// Written percent-encoded, as X-Auth-User is.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) request_id: String,
    pub(crate) client: IpAddr,
    /// The route's path, and the one that was asked for: parameters stand as they came.
    pub(crate) pattern: &'a Pattern,
    pub(crate) path: &'a str,
}

/// Names that stand for something else than a parameter of the path.
pub(crate) const OWN_NAMES: [&str; 3] = ["user", "request_id", "client"];

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("has a brace that is not closed, or not opened")]
    Brace,
    #[error("has {{{0}}}, which is no parameter of the path{1}")]
    Unknown(String, &'static str),
}

impl Template {
    /// Reads a template of a route with these parameters; `with_own`: `{user}`, `{request_id}` and
    /// `{client}` may stand in it too.
    pub(crate) fn parse(
        text: &str,
        parameters: &[String],
        with_own: bool,
    ) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, behind) = rest.split_at_checked(at).unwrap_or((rest, ""));
            let inner = behind.strip_prefix('{').ok_or(TemplateError::Brace)?;
            let (name, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "user" if with_own => Part::User,
                "request_id" if with_own => Part::RequestId,
                "client" if with_own => Part::Client,
                name if parameters.iter().any(|other| other == name) => {
                    Part::Parameter(name.to_owned())
                }
                name => {
                    let more = if with_own { ", nor user, request_id or client" } else { "" };
                    return Err(TemplateError::Unknown(name.to_owned(), more));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text for one request; `None`: it speaks of a user, and there is none.
    pub(crate) fn write(&self, values: &Values<'_>) -> Option<String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::User => {
                    text.extend(utf8_percent_encode(values.user.as_deref()?, BEYOND_VISIBLE))
                }
                Part::RequestId => text.push_str(&values.request_id),
                Part::Client => text.push_str(&values.client.to_canonical().to_string()),
                Part::Parameter(name) => {
                    text.push_str(values.pattern.text_of(values.path, name).unwrap_or_default());
                }
            }
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_with_what_came() {
        let pattern = Pattern::parse("/chats/{chat_id}/{*rest}").unwrap();
        let names: Vec<String> = pattern.names().map(str::to_owned).collect();
        let values = Values {
            user: Some("änn 1".into()),
            request_id: "ab".into(),
            client: "::ffff:192.0.2.1".parse().unwrap(),
            pattern: &pattern,
            path: "/chats/a%20b/c/d%2Fe",
        };
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{user}", "%C3%A4nn%201"),
            ("{request_id} from {client}", "ab from 192.0.2.1"),
            ("/ws/{chat_id}", "/ws/a%20b"),
            ("/{rest}", "/c/d%2Fe"),
            ("{chat_id}{chat_id}", "a%20ba%20b"),
        ] {
            let template = Template::parse(text, &names, true).unwrap();
            assert_eq!(template.write(&values).as_deref(), Some(expected), "{text}");
        }
        let nobody = Values { user: None, ..values };
        assert_eq!(Template::parse("x{user}", &names, true).unwrap().write(&nobody), None);
        for text in ["{", "}", "a{b", "a}b", "{}", "{other}", "{{user}}"] {
            assert!(Template::parse(text, &names, true).is_err(), "{text}");
        }
        assert!(Template::parse("{user}", &names, false).is_err());
    }
}
