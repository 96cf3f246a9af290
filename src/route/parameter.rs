//! Path parameters: the form a value must have, and the values of one request. Pure.

use std::sync::Arc;

use regex::Regex;

/// The decoded path parameters of one request, in the order of the pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters(Vec<(Arc<str>, Box<str>)>);

/// The form a path parameter must have, else `no_route`.
#[derive(Debug, Clone)]
pub(crate) enum ParameterType {
    /// RFC 9562 text form, either case.
    Uuid,
    /// Decimal digits, at most 20.
    Integer,
    /// The whole segment must match (anchored by the parser).
    Matches(Regex),
}

/// One parameter of a route: its name and, where the operator gave one, its form.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: Arc<str>,
    pub(super) form: Option<ParameterType>,
}

impl Parameters {
    /// The value of `{name}` or `{*name}`; `None` if the route's pattern has no such parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Names and values in the order of the pattern.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// `values` in the order of `parameters`.
    pub(super) fn new(parameters: &[Parameter], values: &[&str]) -> Self {
        let pairs = parameters.iter().zip(values);
        let value = |value: &str| value.replace(super::ENCODED_SLASH, "/").into_boxed_str();
        Self(pairs.map(|(parameter, text)| (parameter.name.clone(), value(text))).collect())
    }
}

impl Parameter {
    /// Whether a decoded value has the form asked for; that of `{*name}` is checked as a whole.
    pub(super) fn accepts(&self, value: &str) -> bool {
        let plain = value.replace(super::ENCODED_SLASH, "/");
        let value = plain.as_str();
        match &self.form {
            None => true,
            Some(ParameterType::Uuid) => is_uuid(value),
            Some(ParameterType::Integer) => is_integer(value),
            Some(ParameterType::Matches(regex)) => regex.is_match(value),
        }
    }
}

/// RFC 9562 section 4: 8-4-4-4-12 hexadecimal digits, either case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// 1 to 20 decimal digits: every u64 fits.
fn is_integer(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_text_form_of_rfc_9562() {
        for (text, expected) in [
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf6", true),
            ("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", true),
            ("00000000-0000-0000-0000-000000000000", true),
            ("ffffffff-FFFF-ffff-FFFF-ffffffffffff", true),
            ("f81d4fae7dec11d0a76500a0c91e6bf6", false),
            ("{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}", false),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf", false),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6bf66", false),
            ("g81d4fae-7dec-11d0-a765-00a0c91e6bf6", false),
            ("f81d4fa-e7dec-11d0-a765-00a0c91e6bf6", false),
            ("f81d4fae-7dec-11d0-a765-00a0c91e6b\u{e9}", false),
            ("------------------------------------", false),
            ("", false),
        ] {
            assert_eq!(is_uuid(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_integer_is_at_most_twenty_digits() {
        for (text, expected) in [
            ("0", true),
            ("007", true),
            ("18446744073709551615", true),
            ("99999999999999999999", true),
            ("100000000000000000000", false),
            ("", false),
            ("-1", false),
            ("+1", false),
            ("1.0", false),
            ("1 ", false),
            ("\u{663}", false),
        ] {
            assert_eq!(is_integer(text), expected, "{text:?}");
        }
    }
}
