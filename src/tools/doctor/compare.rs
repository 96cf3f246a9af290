//! Two reports side by side, and what their difference says. Pure.

use super::render::{Style, Tone, mark, wrap};
use super::report::{Finding, Report, Step, StepName, milliseconds};

/// What follows from the difference, in a sentence or two.
pub(crate) fn verdict(first: &Report, second: &Report) -> String {
    let (a, b) = (&first.url, &second.url);
    match (first.failed(), second.failed()) {
        (None, None) => format!("Both work: {a} and {b} do not differ where it matters."),
        (Some(step), None) => format!(
            "{a} fails at {}, {b} works: the fault lies with what stands in front of the second, {}.",
            step.as_str(),
            suspect(step)
        ),
        (None, Some(step)) => format!(
            "{a} works, {b} fails at {}: for clients all is well. A backend often takes only what the gateway adds \
             or changes (headers, token, Host), so that it refuses others.",
            step.as_str()
        ),
        (Some(one), Some(other)) if one == other => format!(
            "Both fail at {}: the fault is not the gateway's. It lies with the backend, or with what was sent to \
             both ({}).",
            one.as_str(),
            sent(one)
        ),
        (Some(one), Some(other)) => format!(
            "Both fail, {a} at {} and {b} at {}: mend the second first, then ask again.",
            one.as_str(),
            other.as_str()
        ),
    }
}

fn suspect(step: StepName) -> &'static str {
    match step {
        StepName::Dns | StepName::Tcp => "or the way to it: its name, its address, a firewall",
        StepName::Tls => "its certificate or its TLS settings",
        StepName::Auth => "what it checks (token, origin, rules)",
        StepName::Upgrade => "its routes, or how it passes the handshake on",
        StepName::Extensions | StepName::Messages | StepName::Ping | StepName::Close => {
            "how it passes frames on, or the limits it sets"
        }
    }
}

fn sent(step: StepName) -> &'static str {
    match step {
        StepName::Auth => "the token, the Origin",
        StepName::Upgrade => "the path, the headers",
        StepName::Messages => "the message, the subprotocol",
        _ => "the options of this command",
    }
}

/// Both reports in two columns.
pub(crate) fn text(first: &Report, second: &Report, style: Style) -> String {
    let column = (style.width.unwrap_or(WIDE).saturating_sub(NAME) / 2).saturating_sub(1).max(24);
    let mut out = String::new();
    let urls = [first, second].map(|report| column_of(vec![report.url.clone()], column));
    rows(&mut out, "", &urls, column, |line| style.paint(Tone::Strong, line));
    for name in StepName::ALL {
        let cells = [first, second].map(|report| cell(report, name, column));
        rows(&mut out, name.as_str(), &cells, column, |line| tint(line, style));
    }
    let ids = [first, second].map(|report| {
        column_of(vec![report.request_id.clone().unwrap_or_else(|| "-".to_owned())], column)
    });
    rows(&mut out, "request id", &ids, column, str::to_owned);
    for report in [first, second].into_iter().filter(|report| !report.gateway.is_empty()) {
        out.push_str(&format!("\nThe gateway's own view of {}:\n", report.url));
        for line in &report.gateway {
            out.push_str(&format!("  {line}\n"));
        }
    }
    out.push('\n');
    let room = style.width.unwrap_or(usize::MAX);
    for line in wrap(&verdict(first, second), room, 0) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn cell(report: &Report, name: StepName, column: usize) -> Vec<String> {
    let Some(step) = report.steps.iter().find(|step| step.name == name) else {
        return vec!["-".to_owned()];
    };
    let Step { seen, finding, took, .. } = step;
    let mut lines = vec![format!("{} {:.1} ms", mark(step).0, milliseconds(*took))];
    lines.extend(seen.iter().cloned());
    if let Some(Finding { cause, cure }) = finding {
        lines.extend([format!("cause: {cause}"), format!("cure: {cure}")]);
    }
    column_of(lines, column)
}

fn column_of(lines: Vec<String>, column: usize) -> Vec<String> {
    let hanging = |(at, line): (usize, String)| if at == 0 { line } else { format!("  {line}") };
    lines
        .iter()
        .flat_map(|line| wrap(line, column, 2).into_iter().enumerate().map(hanging))
        .collect()
}

fn rows(
    out: &mut String,
    name: &str,
    cells: &[Vec<String>; 2],
    column: usize,
    paint: impl Fn(&str) -> String,
) {
    let [left, right] = cells;
    for at in 0..left.len().max(right.len()) {
        let name = if at == 0 { name } else { "" };
        let of = |cell: &[String]| cell.get(at).cloned().unwrap_or_default();
        let (left, right) = (of(left), of(right));
        let gap = " ".repeat((column + 2).saturating_sub(left.chars().count()));
        let gap = if right.is_empty() { "" } else { &gap };
        let name = if left.is_empty() && right.is_empty() {
            name.to_owned()
        } else {
            format!("{name:<NAME$}")
        };
        out.push_str(format!("{name}{}{gap}{}", paint(&left), paint(&right)).trim_end());
        out.push('\n');
    }
}

/// Colours a line by its first word.
fn tint(line: &str, style: Style) -> String {
    let tone = match line.split(' ').next() {
        Some("ok") => Tone::Good,
        Some("warn") => Tone::Warning,
        Some("FAIL") => Tone::Bad,
        Some("-") => Tone::Faint,
        _ => return line.to_owned(),
    };
    style.paint(tone, line)
}

/// Columns when nobody says how many.
const WIDE: usize = 120;

/// Columns of the steps' names.
const NAME: usize = 12;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::render::tests::failed;
    use super::super::report::Passed;
    use super::super::secrets::Secrets;
    use super::*;

    fn at(url: &str, step: Option<StepName>) -> Report {
        let mut report = Report::new(url.to_owned(), Secrets::new(None));
        for name in StepName::ALL {
            if Some(name) == step {
                report.fail(Duration::ZERO, Finding::new("why", "do").fails(name, Vec::new()));
                break;
            }
            let passed = Ok(Passed::new((), vec!["seen".to_owned()]));
            report.take(name, Duration::from_millis(2), passed).unwrap();
        }
        report
    }

    #[test]
    fn the_difference_says_whose_fault_it_is() {
        use StepName::{Auth, Tcp, Upgrade};
        let rows = [
            (None, None, "Both work"),
            (
                Some(Auth),
                None,
                "a fails at auth, b works: the fault lies with what stands in front of the second, what it checks",
            ),
            (None, Some(Auth), "a works, b fails at auth: for clients all is well"),
            (Some(Upgrade), Some(Upgrade), "Both fail at upgrade: the fault is not the gateway's"),
            (Some(Upgrade), Some(Tcp), "mend the second first"),
        ];
        for (first, second, expected) in rows {
            let verdict = verdict(&at("a", first), &at("b", second));
            assert!(verdict.contains(expected), "{verdict}");
        }
    }

    #[test]
    fn two_columns_read_like_this() {
        let text = text(&failed(), &at("ws://b/", None), Style { color: false, width: Some(80) });
        let lines: Vec<_> = text.lines().collect();
        let start = [
            "            wss://chat.example/ws              ws://b/",
            "dns         ok 1.2 ms                          ok 2.0 ms",
            "            chat.example is 192.0.2.7          seen",
            "tcp         ok 12.3 ms                         ok 2.0 ms",
        ];
        assert_eq!(lines[..4], start, "{text}");
        assert!(
            lines.contains(&"extensions  -                                  ok 2.0 ms"),
            "{text}"
        );
        assert!(
            lines.contains(&"auth        FAIL 0.0 ms                        ok 2.0 ms"),
            "{text}"
        );
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.ends_with("what it checks (token, origin, rules).\n"), "{text}");
    }
}
