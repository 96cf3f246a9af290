//! Every way a peer can break the framing rules of RFC 6455. Pure.

/// Which end of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who connected to the gateway; its frames are masked.
    Client,
    /// Whom the gateway connected to; its frames are not masked.
    Upstream,
}

impl Side {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Client, Self::Upstream];

    /// The word in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }

    /// The other end.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Upstream,
            Self::Upstream => Self::Client,
        }
    }
}

/// A breach of the framing rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV1-3 set without a negotiated extension (RFC 6455 section 5.2).
    #[error("a reserved bit is set although no extension was negotiated")]
    Rsv,
    /// A client's frame without mask, or an upstream's with one (section 5.1).
    #[error("the frame is masked although it must not be, or the reverse")]
    Mask,
    /// Opcodes 3-7 and 11-15 (section 5.2).
    #[error("the opcode is reserved")]
    Opcode,
    /// Length not in its shortest form, or beyond 63 bits (section 5.2).
    #[error("the payload length is not encoded in the shortest form, or too large to exist")]
    Length,
    /// Continuation without start, or start within a message (section 5.4).
    #[error("fragments in the wrong order")]
    Fragmentation,
    /// Control frame fragmented or over 125 bytes, Close payload of one byte (section 5.5).
    #[error("a control frame is fragmented, too long or has half a close code")]
    Control,
    /// Text, or a close reason, is not UTF-8 (sections 8.1 and 5.5.1).
    #[error("text is not UTF-8")]
    Utf8,
    /// The message is larger than the route allows.
    #[error("the message is larger than allowed")]
    Size,
    /// The message has more fragments than the route allows.
    #[error("the message has more fragments than allowed")]
    Fragments,
    /// A close code that must not be on the wire (section 7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
    /// More TLS records without content than a client may send (RFC 8446 section 5.1 allows them).
    #[error("too many TLS records without content")]
    EmptyRecords,
}

/// What a route allows of a message, for the words of a violation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageLimits {
    /// Largest message of the client in bytes (`limits.message_size`).
    pub(crate) message_size: u64,
    /// Largest message of the upstream in bytes (`limits.upstream_message_size`).
    pub(crate) upstream_message_size: u64,
    /// Most fragments of a message (`limits.fragments`).
    pub(crate) fragments: u32,
}

impl Violation {
    /// The metric label.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Rsv => "rsv",
            Self::Mask => "mask",
            Self::Opcode => "opcode",
            Self::Length => "length",
            Self::Fragmentation => "fragmentation",
            Self::Control => "control",
            Self::Utf8 => "utf8",
            Self::Size | Self::Fragments => "size",
            Self::CloseCode(_) => "close_code",
            Self::EmptyRecords => "tls_records",
        }
    }

    /// The breach by frames of this side; where RFC 6455 allows what the route does not, with the
    /// setting.
    pub(crate) fn told(self, from: Side) -> String {
        match (self, from) {
            (Self::Size, Side::Client) => "the message is larger than limits.message_size",
            (Self::Size, Side::Upstream) => {
                "the message is larger than limits.upstream_message_size"
            }
            (Self::Fragments, _) => "the message has more fragments than limits.fragments",
            _ => return self.to_string(),
        }
        .to_owned()
    }

    /// The same with the value that the setting has.
    pub(crate) fn told_with(self, from: Side, limits: MessageLimits) -> String {
        let told = self.told(from);
        match (self, from) {
            (Self::Size, Side::Client) => format!("{told}, {} bytes", limits.message_size),
            (Self::Size, Side::Upstream) => {
                format!("{told}, {} bytes", limits.upstream_message_size)
            }
            (Self::Fragments, _) => format!("{told}, {}", limits.fragments),
            _ => told,
        }
    }

    /// All metric labels.
    pub(crate) const KINDS: [&'static str; 10] = [
        "rsv",
        "mask",
        "opcode",
        "length",
        "fragmentation",
        "control",
        "utf8",
        "size",
        "close_code",
        "tls_records",
    ];
}
