//! What each side is told when a session ends (the table of endings). Pure.
//!
//! With `outcome::rejection`, the only place that chooses close codes.

use crate::protocol::ws::close::CloseStatus;

use super::blame::By;
use super::close_codes::CloseCodes;
use super::label::Label;
use crate::protocol::ws::violation::{MessageLimits, Side, Violation};

/// How a session ended. An end is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client sent Close with a code that is legal on the wire, or none.
    ClientClosed(CloseStatus),
    /// The client sent Close with a code that must not be on the wire.
    ClientClosedIllegally(u16),
    /// The upstream sent Close with a code that is legal on the wire, or none.
    UpstreamClosed(CloseStatus),
    /// The upstream sent Close with a code that must not be on the wire.
    UpstreamClosedIllegally(u16),
    /// The client broke RFC 6455 or a size limit.
    ClientViolation(Violation),
    /// The upstream broke RFC 6455 or a size limit.
    UpstreamViolation(Violation),
    /// The client's connection ended without Close.
    ClientLost,
    /// The upstream's connection ended without Close.
    UpstreamLost,
    /// The client answers no ping or stopped reading.
    ClientTimeout(Silence),
    /// The upstream answers no ping or stopped reading.
    UpstreamStalled(Silence),
    /// No data message either way for `timeouts.idle`.
    Idle,
    /// The client sent frames faster than allowed.
    MessageRate,
    /// The session's lease has ended: its token counts no more.
    TokenExpired,
    /// A newer connection of the user took the place.
    Replaced,
    /// Ended by an operator.
    Kicked {
        /// Code asked for.
        code: Option<u16>,
        /// Reason asked for.
        reason: Option<String>,
    },
    /// The client reads too slowly while memory for slow readers is short.
    SlowConsumer,
    /// The gateway goes down.
    Drained {
        /// Seconds after which the client should come back.
        retry: u64,
    },
    /// A fault of the gateway.
    Internal,
}

/// How a peer fell silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It answered no ping.
    NoPong,
    /// It stopped reading.
    WriteStall,
}

/// What one side is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Say {
    /// Nothing: it is gone.
    Nothing,
    /// A Close frame (unless it has had one), then an orderly end of the connection.
    Close {
        /// Code; `None`: an empty Close.
        code: Option<u16>,
        reason: String,
    },
    /// A Close frame if it can be written at once, then the connection is aborted.
    CloseThenAbort { code: u16, reason: String },
}

/// What both sides are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) client: Say,
    pub(crate) upstream: Say,
}

/// What the gateway does with the close codes an operator set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodePolicy<'a> {
    /// `[close_codes]`.
    pub(crate) overrides: &'a CloseCodes,
    /// The session's subprotocol.
    pub(crate) subprotocol: Option<&'a str>,
    /// `drain.code`.
    pub(crate) drain_code: u16,
}

/// Decides what both sides are told.
pub(crate) fn settle(ending: &Ending, policy: CodePolicy<'_>) -> Settlement {
    let label = ending.label();
    let chosen = |default| policy.overrides.get(label, policy.subprotocol).unwrap_or(default);
    let say = |code| Say::Close { code: Some(code), reason: label.as_str().to_owned() };
    let own = |default| say(chosen(default));
    let abort = |code| Say::CloseThenAbort { code, reason: label.as_str().to_owned() };
    let (client, upstream) = match ending {
        // The Close is relayed, the other end's Close is the reply; this is what stands in for it
        // when none comes.
        Ending::ClientClosed(status) | Ending::UpstreamClosed(status) => {
            (echo(*status), echo(*status))
        }
        Ending::ClientClosedIllegally(_) => (say(1002), say(1001)),
        Ending::UpstreamClosedIllegally(_) => (own(1011), say(1002)),
        Ending::ClientViolation(violation) => (own(blame(*violation)), say(1001)),
        // Not 1014: gorilla and tungstenite take it for a protocol error.
        Ending::UpstreamViolation(violation) => (own(1011), say(blame(*violation))),
        Ending::ClientLost => (Say::Nothing, say(1001)),
        Ending::UpstreamLost => (own(1011), Say::Nothing),
        Ending::ClientTimeout(_) | Ending::SlowConsumer => (abort(chosen(4408)), say(1001)),
        Ending::UpstreamStalled(_) => (own(1011), abort(1001)),
        Ending::Idle => (own(4408), say(1001)),
        Ending::MessageRate => (own(4429), say(1001)),
        Ending::TokenExpired => (own(4401), say(1001)),
        Ending::Replaced => (own(4409), say(1001)),
        Ending::Kicked { code, reason } => {
            let code = Some(code.unwrap_or_else(|| chosen(4403)));
            let reason = reason.clone().unwrap_or_else(|| label.as_str().to_owned());
            (Say::Close { code, reason }, say(1001))
        }
        Ending::Drained { retry } => {
            let reason = format!("{label};retry={retry}s");
            (Say::Close { code: Some(chosen(policy.drain_code)), reason }, say(1001))
        }
        Ending::Internal => (own(1011), say(1011)),
    };
    Settlement { client, upstream }
}

fn echo(status: CloseStatus) -> Say {
    let code = match status {
        CloseStatus::Code(code) => Some(code),
        CloseStatus::Empty | CloseStatus::None => None,
    };
    Say::Close { code, reason: String::new() }
}

/// The code that names a breach to the one who committed it (RFC 6455 section 7.4.1).
fn blame(violation: Violation) -> u16 {
    match violation {
        Violation::Rsv
        | Violation::Mask
        | Violation::Opcode
        | Violation::Length
        | Violation::Fragmentation
        | Violation::Control
        | Violation::CloseCode(_) => 1002,
        Violation::Utf8 => 1007,
        Violation::Size | Violation::Fragments => 1009,
        Violation::EmptyRecords => 1008,
    }
}

impl Ending {
    /// One of each kind whose code is the gateway's choice, and of each code where a kind has several:
    /// for whoever has to know beforehand what can be told.
    pub(crate) fn decided() -> Vec<Self> {
        let violations =
            [Violation::Rsv, Violation::Utf8, Violation::EmptyRecords, Violation::Size];
        let others = [
            Self::ClientClosedIllegally(NEVER_ON_THE_WIRE),
            Self::UpstreamClosedIllegally(NEVER_ON_THE_WIRE),
            Self::UpstreamViolation(Violation::Rsv),
            Self::ClientLost,
            Self::UpstreamLost,
            Self::ClientTimeout(Silence::NoPong),
            Self::UpstreamStalled(Silence::NoPong),
            Self::Idle,
            Self::MessageRate,
            Self::TokenExpired,
            Self::Replaced,
            Self::Kicked { code: None, reason: None },
            Self::SlowConsumer,
            Self::Drained { retry: 1 },
            Self::Internal,
        ];
        violations.map(Self::ClientViolation).into_iter().chain(others).collect()
    }

    /// The word for it.
    pub(crate) fn label(&self) -> Label {
        match self {
            Self::ClientClosed(_) | Self::ClientClosedIllegally(_) => Label::ClientClosed,
            Self::UpstreamClosed(_) | Self::UpstreamClosedIllegally(_) => Label::UpstreamClosed,
            Self::ClientViolation(_) => Label::ClientViolation,
            Self::UpstreamViolation(_) => Label::UpstreamViolation,
            Self::ClientLost => Label::ClientLost,
            Self::UpstreamLost => Label::UpstreamLost,
            Self::ClientTimeout(_) => Label::ClientTimeout,
            Self::UpstreamStalled(_) => Label::UpstreamStalled,
            Self::Idle => Label::Idle,
            Self::MessageRate => Label::MessageRate,
            Self::TokenExpired => Label::TokenExpired,
            Self::Replaced => Label::Replaced,
            Self::Kicked { .. } => Label::Kicked,
            Self::SlowConsumer => Label::SlowConsumer,
            Self::Drained { .. } => Label::Drained,
            Self::Internal => Label::Internal,
        }
    }

    /// Who ended it.
    pub(crate) fn by(&self) -> By {
        match self {
            Self::ClientClosed(_)
            | Self::ClientClosedIllegally(_)
            | Self::ClientViolation(_)
            | Self::ClientLost => By::Client,
            Self::UpstreamClosed(_)
            | Self::UpstreamClosedIllegally(_)
            | Self::UpstreamViolation(_)
            | Self::UpstreamLost => By::Upstream,
            Self::ClientTimeout(_)
            | Self::UpstreamStalled(_)
            | Self::Idle
            | Self::MessageRate
            | Self::TokenExpired
            | Self::Replaced
            | Self::SlowConsumer
            | Self::Drained { .. }
            | Self::Internal => By::Gateway,
            Self::Kicked { .. } => By::Admin,
        }
    }

    /// The side that is at fault for a breach, with the breach.
    pub(crate) fn violation(&self) -> Option<(Side, Violation)> {
        match self {
            Self::ClientViolation(violation) => Some((Side::Client, *violation)),
            Self::UpstreamViolation(violation) => Some((Side::Upstream, *violation)),
            Self::ClientClosedIllegally(code) => Some((Side::Client, Violation::CloseCode(*code))),
            Self::UpstreamClosedIllegally(code) => {
                Some((Side::Upstream, Violation::CloseCode(*code)))
            }
            _ => None,
        }
    }

    /// One sentence for the log, in a route with these limits; nothing of the peers' payload.
    pub(crate) fn detail(&self, limits: MessageLimits) -> Option<String> {
        match self {
            Self::ClientTimeout(silence) => Some(format!("the client {}", silence.describe())),
            Self::UpstreamStalled(silence) => Some(format!("the upstream {}", silence.describe())),
            _ => self.violation().map(|(side, violation)| {
                format!("{}: {}", side.as_str(), violation.told_with(side, limits))
            }),
        }
    }
}

impl Silence {
    fn describe(self) -> &'static str {
        match self {
            Self::NoPong => "answered no ping",
            Self::WriteStall => "stopped reading",
        }
    }
}

/// Stands for "no code" in APIs.
const NEVER_ON_THE_WIRE: u16 = 1005;

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(ending: &Ending) -> (String, String) {
        let overrides = CloseCodes::default();
        let policy = CodePolicy { overrides: &overrides, subprotocol: None, drain_code: 1012 };
        let show = |say: Say| match say {
            Say::Nothing => "-".to_owned(),
            Say::Close { code, reason } => format!("{} {reason}", code.unwrap_or(0)),
            Say::CloseThenAbort { code, reason } => format!("{code} {reason} abort"),
        };
        let settlement = settle(ending, policy);
        (show(settlement.client), show(settlement.upstream))
    }

    #[test]
    fn a_breach_of_a_limit_is_told_with_the_setting_and_its_value() {
        use Ending as E;
        let limits = MessageLimits { message_size: 11, upstream_message_size: 12, fragments: 13 };
        for (ending, detail) in [
            (
                E::ClientViolation(Violation::Size),
                "client: the message is larger than limits.message_size, 11 bytes",
            ),
            (
                E::UpstreamViolation(Violation::Size),
                "upstream: the message is larger than limits.upstream_message_size, 12 bytes",
            ),
            (
                E::ClientViolation(Violation::Fragments),
                "client: the message has more fragments than limits.fragments, 13",
            ),
            (
                E::UpstreamViolation(Violation::Fragments),
                "upstream: the message has more fragments than limits.fragments, 13",
            ),
            (E::UpstreamViolation(Violation::Utf8), "upstream: text is not UTF-8"),
        ] {
            assert_eq!(ending.detail(limits).as_deref(), Some(detail));
        }
        assert_eq!(E::Idle.detail(limits), None);
    }

    #[test]
    fn the_table_of_endings() {
        use Ending as E;
        let rows = [
            (E::ClientClosed(CloseStatus::Code(1000)), "1000 ", "1000 "),
            (E::ClientClosed(CloseStatus::Empty), "0 ", "0 "),
            (E::ClientClosedIllegally(1005), "1002 client_closed", "1001 client_closed"),
            (E::UpstreamClosed(CloseStatus::Code(4000)), "4000 ", "4000 "),
            (E::UpstreamClosedIllegally(1006), "1011 upstream_closed", "1002 upstream_closed"),
            (E::ClientViolation(Violation::Rsv), "1002 client_violation", "1001 client_violation"),
            (E::ClientViolation(Violation::Utf8), "1007 client_violation", "1001 client_violation"),
            (E::ClientViolation(Violation::Size), "1009 client_violation", "1001 client_violation"),
            (
                E::ClientViolation(Violation::Fragments),
                "1009 client_violation",
                "1001 client_violation",
            ),
            (
                E::UpstreamViolation(Violation::Rsv),
                "1011 upstream_violation",
                "1002 upstream_violation",
            ),
            (
                E::UpstreamViolation(Violation::Utf8),
                "1011 upstream_violation",
                "1007 upstream_violation",
            ),
            (
                E::UpstreamViolation(Violation::Size),
                "1011 upstream_violation",
                "1009 upstream_violation",
            ),
            (E::ClientLost, "-", "1001 client_lost"),
            (E::UpstreamLost, "1011 upstream_lost", "-"),
            (E::ClientTimeout(Silence::NoPong), "4408 client_timeout abort", "1001 client_timeout"),
            (
                E::UpstreamStalled(Silence::WriteStall),
                "1011 upstream_stalled",
                "1001 upstream_stalled abort",
            ),
            (E::Idle, "4408 idle", "1001 idle"),
            (E::MessageRate, "4429 message_rate", "1001 message_rate"),
            (E::Replaced, "4409 replaced", "1001 replaced"),
            (E::Kicked { code: None, reason: None }, "4403 kicked", "1001 kicked"),
            (E::Kicked { code: Some(4000), reason: Some("bye".into()) }, "4000 bye", "1001 kicked"),
            (E::SlowConsumer, "4408 slow_consumer abort", "1001 slow_consumer"),
            (E::Drained { retry: 7 }, "1012 drained;retry=7s", "1001 drained"),
            (E::Internal, "1011 internal", "1011 internal"),
        ];
        for (ending, client, upstream) in rows {
            assert_eq!(codes(&ending), (client.to_owned(), upstream.to_owned()), "{ending:?}");
        }
    }

    #[test]
    fn an_operators_code_goes_to_the_client_only_and_the_subprotocols_wins() {
        let mut overrides = CloseCodes::default();
        overrides.by_label.insert(Label::Replaced, 4900);
        overrides
            .by_subprotocol
            .insert("graphql-transport-ws".into(), [(Label::Replaced, 4901)].into());
        for (subprotocol, code) in [(None, 4900), (Some("graphql-transport-ws"), 4901)] {
            let policy = CodePolicy { overrides: &overrides, subprotocol, drain_code: 1012 };
            let settlement = settle(&Ending::Replaced, policy);
            let reason = "replaced".to_owned();
            assert_eq!(settlement.client, Say::Close { code: Some(code), reason: reason.clone() });
            assert_eq!(settlement.upstream, Say::Close { code: Some(1001), reason });
        }
    }
}
