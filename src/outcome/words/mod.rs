//! The one table of words: what a label or a close code means, its usual cause, and what to do. Pure.
//!
//! `/api/sessions`, the doctor and the browser tester all take their sentences from here, and add the
//! facts of the one connection they speak of.

use super::label::Label;

mod codes;
mod labels;

pub(crate) use codes::CODES;
pub(crate) use labels::{ending, refusal};

/// A label or a code in words. Each is one sentence, for the operator and for the author of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Words {
    /// What happened, and which side did it.
    pub(crate) explanation: &'static str,
    /// What it usually comes from; empty where the explanation says all.
    pub(crate) cause: &'static str,
    /// What to do if it was a fault.
    pub(crate) remedy: &'static str,
    /// What a client should do by itself.
    pub(crate) retry: Retry,
}

/// Whether a client should come back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// The same attempt would end in the same way.
    No,
    /// After a pause that grows and is never the same for two clients.
    Later,
}

impl Retry {
    /// The word in the tester's table.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Later => "later",
        }
    }
}

/// A label's words, whether it is of a refusal or of an ending; of one that is both, the refusal's.
pub(crate) const fn of(label: Label) -> Words {
    refusal(label)
}

/// A client that left before its handshake was answered.
pub(crate) const ABANDONED: Words = Words {
    explanation: "The client left before its handshake was answered.",
    cause: "It ran out of patience, or its page was left.",
    remedy: "If that took long, look at the steps: the slowest one made it leave.",
    retry: Retry::Later,
};

/// The upstream closed with a code that must not be sent.
pub(crate) const ILLEGALLY_BY_UPSTREAM: Words = Words {
    explanation: "The upstream closed the session with a code that must not be sent.",
    cause: "A code that must never be sent, such as 1005 or 1006, so framegate sent 1011 instead.",
    remedy: "Have the backend close with 1000 to 1003, 1007 to 1014 or 3000 to 4999; 1005 and 1006 are what a page sees, not what is sent.",
    retry: Retry::Later,
};

/// The client closed with a code that must not be sent.
pub(crate) const ILLEGALLY_BY_CLIENT: Words = Words {
    explanation: "The client closed the session with a code that must not be sent.",
    cause: "Its library does not check the codes of its callers.",
    remedy: "Mend the client's library: browsers let a page close with 1000 or 3000 to 4999 only.",
    retry: Retry::No,
};

/// An upstream that could not be reached: what to do depends on why, which is the end of the detail
/// ([`crate::outcome::rejection::Rejection::UpstreamUnreachable`]).
pub(crate) fn unreachable(why: &str) -> Words {
    let words = refusal(Label::UpstreamUnreachable);
    let remedy = match why {
        "dns" => {
            "Its name cannot be resolved: correct it in `endpoints`, or look at this machine's name servers."
        }
        "timeout" => {
            "Nothing answers at its address: look whether its host is up and what a firewall between does with packets."
        }
        _ if why.starts_with("its certificate is not accepted") => {
            "Set `ca` of the upstream to the authority that signed it, or get a certificate that is valid and names the host."
        }
        _ if why.starts_with("TLS: ") => {
            "See whether the endpoint speaks TLS there, 1.2 or 1.3: if it speaks none, write http:// in `endpoints`."
        }
        _ => words.remedy,
    };
    Words { remedy, ..words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_words_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for (label, words) in Label::refusals()
            .map(|label| (label, refusal(label)))
            .chain(Label::endings().map(|label| (label, ending(label))))
        {
            let Words { explanation, cause, remedy, .. } = words;
            for text in [explanation, cause, remedy] {
                assert!(text.ends_with('.') && text.len() > 20, "{label}: {text}");
                let begins = |c: char| c.is_uppercase() || c == '`' || c.is_ascii_digit();
                assert!(text.starts_with(begins), "{label}: {text}");
            }
            assert!(seen.insert(explanation), "{label} says the same as another: {explanation}");
        }
    }

    #[test]
    fn a_label_that_is_only_one_of_both_means_the_same_either_way() {
        assert_eq!(refusal(Label::ClientLost), ending(Label::ClientLost));
        assert_eq!(ending(Label::NoRoute), refusal(Label::NoRoute));
        assert_ne!(ending(Label::TokenExpired), refusal(Label::TokenExpired));
    }

    #[test]
    fn a_final_code_never_sends_a_client_back() {
        for label in [Label::Replaced, Label::Kicked, Label::TokenExpired, Label::Forbidden] {
            assert_eq!(of(label).retry, Retry::No, "{label}");
        }
        for label in [Label::Drained, Label::Overloaded, Label::UpstreamLost, Label::RateLimited] {
            assert_eq!(of(label).retry, Retry::Later, "{label}");
        }
    }

    #[test]
    fn sentences_are_sentences() {
        let of_labels = Label::ALL.iter().map(|label| of(*label));
        for Words { explanation, remedy, .. } in of_labels.chain(CODES.iter().map(|row| row.2)) {
            for text in [explanation, remedy] {
                assert!(text.ends_with('.') && text.starts_with(char::is_uppercase), "{text}");
            }
        }
    }
}
