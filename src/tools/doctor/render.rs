//! A report as text for people. Pure.
//!
//! Everything a report holds is safe to print already ([`super::report::Report`] saw to that).

use super::report::{Finding, Report, Step, StepName, milliseconds};

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// With colours.
    pub(crate) color: bool,
    /// Columns; `None`: lines are not broken.
    pub(crate) width: Option<usize>,
}

/// What a word means to the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
    Faint,
    Strong,
}

/// The whole report.
pub(crate) fn text(report: &Report, style: Style) -> String {
    let mut out =
        format!("{}\n\n", style.paint(Tone::Strong, &format!("framegate doctor {}", report.url)));
    for name in StepName::ALL {
        match report.steps.iter().find(|step| step.name == name) {
            Some(step) => step_text(&mut out, step, style),
            None => {
                let line = format!("{:<6}{:<11}{:>11}  not reached", "-", name.as_str(), "");
                out.push_str(&style.paint(Tone::Faint, &line));
                out.push('\n');
            }
        }
    }
    out.push('\n');
    out.push_str(&verdict(report, style));
    if let Some(id) = &report.request_id {
        let line = format!("Request id {id}: the server's log knows this connection by it.");
        put(&mut out, &line, "", style.width);
    }
    if !report.gateway.is_empty() {
        out.push_str("\nThe gateway's own view:\n");
        for line in &report.gateway {
            put(&mut out, line, "  ", style.width);
        }
    }
    out
}

fn step_text(out: &mut String, step: &Step, style: Style) {
    let (word, tone) = mark(step);
    let took = format!("{:.1} ms", milliseconds(step.took));
    let head = format!("{:<11}{took:>11}  ", step.name.as_str());
    out.push_str(&style.paint(tone, &format!("{word:<6}")));
    out.push_str(&style.paint(Tone::Strong, &head));
    out.push_str(&style.paint(Tone::Faint, step.name.doing()));
    out.push('\n');
    for line in &step.seen {
        put(out, line, INDENT, style.width);
    }
    if let Some(Finding { cause, cure }) = &step.finding {
        for (what, text) in [("cause:", cause), ("cure: ", cure)] {
            let mut block = String::new();
            put(&mut block, &format!("{what} {text}"), INDENT, style.width);
            // Only the word is coloured: the sentence is to be read.
            out.push_str(&block.replacen(what, &style.paint(tone, what), 1));
        }
    }
}

/// The word for how a step went.
pub(super) fn mark(step: &Step) -> (&'static str, Tone) {
    match (step.ok, &step.finding) {
        (true, None) => ("ok", Tone::Good),
        (true, Some(_)) => ("warn", Tone::Warning),
        (false, _) => ("FAIL", Tone::Bad),
    }
}

fn verdict(report: &Report, style: Style) -> String {
    let warnings = report.steps.iter().filter(|step| step.ok && step.finding.is_some()).count();
    match report.failed() {
        Some(step) => {
            let line = format!("It fails at {} (exit code {}).", step.as_str(), step.exit_code());
            format!("{}\n", style.paint(Tone::Bad, &line))
        }
        None if warnings > 0 => {
            let line = "The connection works, with something to look at (warn).";
            format!("{}\n", style.paint(Tone::Warning, line))
        }
        None => format!("{}\n", style.paint(Tone::Good, "All is well with this connection.")),
    }
}

impl Style {
    /// `text` in a tone, if there are colours.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// A line, broken at blanks where it is too long; what goes on is indented a little more.
fn put(out: &mut String, text: &str, indent: &str, width: Option<usize>) {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent.len()).max(20));
    for (at, line) in wrap(text, room, 2).into_iter().enumerate() {
        out.push_str(indent);
        out.push_str(if at == 0 { "" } else { "  " });
        out.push_str(&line);
        out.push('\n');
    }
}

/// Breaks `text` into lines of at most `room` characters, all but the first shorter by `hanging`. A
/// word that is longer is broken too.
pub(super) fn wrap(text: &str, room: usize, hanging: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let room = if lines.len() == 1 { room } else { room.saturating_sub(hanging) };
        let line = lines.last().map_or(0, |line| line.chars().count());
        let len = word.chars().count();
        if line > 0 && line.saturating_add(len).saturating_add(1) <= room {
            push(&mut lines, &format!(" {word}"));
        } else if line == 0 && len <= room {
            push(&mut lines, word);
        } else {
            if line > 0 {
                lines.push(String::new());
            }
            let room = room.saturating_sub(hanging).max(1);
            let characters: Vec<char> = word.chars().collect();
            for (at, piece) in characters.chunks(room).enumerate() {
                if at > 0 {
                    lines.push(String::new());
                }
                push(&mut lines, &piece.iter().collect::<String>());
            }
        }
    }
    lines
}

fn push(lines: &mut [String], text: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(text);
    }
}

const INDENT: &str = "                              ";

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::report::{Failure, Passed};
    use super::super::secrets::Secrets;
    use super::*;

    const PLAIN: Style = Style { color: false, width: Some(100) };

    /// A walk that fails at auth after a warning.
    pub(in crate::tools::doctor) fn failed() -> Report {
        let mut report = Report::new("wss://chat.example/ws".to_owned(), Secrets::new(None));
        let seen = |text: &str| vec![text.to_owned()];
        let passed = |text: &str| Ok(Passed::new((), seen(text)));
        let ms = Duration::from_micros(1234);
        report.take(StepName::Dns, ms, passed("chat.example is 192.0.2.7")).unwrap();
        report.take(StepName::Tcp, ms * 10, passed("connected to 192.0.2.7:443")).unwrap();
        let warning = Finding::new(
            "the certificate has 3 days left: its renewal seems to be late",
            "look why it was not renewed, before it expires",
        );
        let tls = Passed::new((), seen("TLS 1.3, TLS13_AES_256_GCM_SHA384")).warn(Some(warning));
        report.take(StepName::Tls, ms * 20, Ok(tls)).unwrap();
        report.take(StepName::Upgrade, ms, passed("HTTP 401 Unauthorized instead of 101")).unwrap();
        let finding = Finding::new(
            "the token expired 2 hours ago",
            "get a new token (sign in again, or use the refresh token at the identity provider), then connect with that",
        );
        let failure: Failure =
            finding.fails(StepName::Auth, seen("of alice, issued by https://id, for chat"));
        report.fail(Duration::ZERO, failure);
        report.set_request_id(Some("00112233aabbccdd"));
        report
    }

    #[test]
    fn the_report_reads_like_this() {
        let expected = "\
framegate doctor wss://chat.example/ws

ok    dns             1.2 ms  look up the address of the name
                              chat.example is 192.0.2.7
ok    tcp            12.3 ms  open a connection to that address
                              connected to 192.0.2.7:443
warn  tls            24.7 ms  encrypt it, and check who answers
                              TLS 1.3, TLS13_AES_256_GCM_SHA384
                              cause: the certificate has 3 days left: its renewal seems to be late
                              cure:  look why it was not renewed, before it expires
ok    upgrade         1.2 ms  ask by HTTP to go on as a WebSocket; the only good answer is 101
                              HTTP 401 Unauthorized instead of 101
-     extensions              not reached
FAIL  auth            0.0 ms  look at the token, and whether it was believed
                              of alice, issued by https://id, for chat
                              cause: the token expired 2 hours ago
                              cure:  get a new token (sign in again, or use the refresh token at the
                                identity provider), then connect with that
-     messages                not reached
-     ping                    not reached
-     close                   not reached

It fails at auth (exit code 15).
Request id 00112233aabbccdd: the server's log knows this connection by it.
";
        assert_eq!(text(&failed(), PLAIN), expected);
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let colored = text(&failed(), Style { color: true, ..PLAIN });
        assert!(colored.contains("\u{1b}[1;31mFAIL  \u{1b}[0m"));
        let mut plain = colored;
        for code in ["32", "33", "1;31", "2", "1", "0"] {
            plain = plain.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(plain, text(&failed(), PLAIN));
    }

    #[test]
    fn a_pipe_gets_unbroken_lines() {
        let piped = text(&failed(), Style { color: false, width: None });
        assert!(piped.contains("identity provider), then connect with that\n"), "{piped}");
    }

    #[test]
    fn long_lines_are_broken_at_blanks_and_long_words_anyhow() {
        assert_eq!(wrap("one two three", 7, 0), ["one two", "three"]);
        assert_eq!(wrap("aaaaaaaaaa bb", 4, 0), ["aaaa", "aaaa", "aa", "bb"]);
        assert_eq!(wrap("", 4, 0), [""]);
        for room in 5..40 {
            for line in wrap("grüße an alle, die donaudampfschiffe lieben", room, 2) {
                assert!(line.chars().count() <= room, "{room}: {line}");
            }
        }
    }
}
