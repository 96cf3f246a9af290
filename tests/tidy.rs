//! Rules of the repository that a reader counts on, checked; and that each check finds its breach.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

/// A file: its path from the root of the repository, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

/// Finds the breaches of a rule in a file, each as `path:line: what`.
type Rule = fn(&Source) -> Vec<String>;

/// Every file below a folder whose name ends so.
fn files(folder: &str, endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // What is installed or built there is not ours.
            let is_foreign =
                ["node_modules", "target", ".cache", ".venv"].iter().any(|n| path.ends_with(n));
            if path.is_dir() {
                folders.extend((!is_foreign).then_some(path));
            } else if path.extension().is_some_and(|ending| endings.iter().any(|e| *e == ending)) {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(Source { path, text });
            }
        }
    }
    files
}

/// Checks a rule on all Rust files of these folders, at least so many.
fn check(rule: Rule, folders: &[&str], at_least: usize) {
    let files: Vec<_> = folders.iter().flat_map(|folder| files(folder, &["rs"])).collect();
    assert!(files.len() >= at_least, "only {} files to check", files.len());
    let found: Vec<_> = files.iter().flat_map(rule).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

impl Source {
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next();
        self.path.split('/').any(|part| part == "tests")
            || name.is_some_and(|name| name == "tests.rs" || name == "testing.rs")
    }

    /// The text without modules of inline tests, line for line.
    fn without_tests(&self) -> Vec<(usize, &str)> {
        let mut lines = Vec::new();
        let mut is_within_tests = false;
        let mut previous = "";
        for (at, line) in self.text.lines().enumerate() {
            let opens = line.starts_with("mod ") && line.ends_with('{');
            is_within_tests |= opens && previous == "#[cfg(test)]";
            if !is_within_tests {
                lines.push((at + 1, line));
            }
            is_within_tests &= line != "}";
            previous = line;
        }
        lines
    }

    /// Code alone, line for line: no inline tests, comments or texts.
    fn code(&self) -> Vec<(usize, String)> {
        let mut lexer = Lexer::default();
        let lines = self.without_tests().into_iter();
        lines.map(|(number, line)| (number, lexer.code_of(line))).collect()
    }

    fn breach(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Leaves out comments and texts; knows a text that goes on in the next line.
#[derive(Default)]
struct Lexer {
    within: Option<Literal>,
}

/// A text that has begun.
struct Literal {
    /// Its closing quote, with the `#` of a raw one.
    end: String,
    is_raw: bool,
}

impl Lexer {
    fn code_of(&mut self, line: &str) -> String {
        let mut code = String::new();
        let mut rest = line;
        while let Some(character) = rest.chars().next() {
            let (is_code, len) = self.step(rest, &code);
            if is_code {
                code.push(character);
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        code
    }

    /// Whether the next character is code, and how many bytes to go on.
    fn step(&mut self, rest: &str, before: &str) -> (bool, usize) {
        let next = rest.chars().next().map_or(1, char::len_utf8);
        if let Some(Literal { end, is_raw }) = &self.within {
            if rest.starts_with(end.as_str()) {
                let len = end.len();
                self.within = None;
                return (false, len);
            }
            let escaped = rest.chars().nth(1).filter(|_| !is_raw && rest.starts_with('\\'));
            return (false, next + escaped.map_or(0, char::len_utf8));
        }
        if rest.starts_with("//") {
            return (false, rest.len());
        }
        if let Some(quote) = ["'\"'", "'\\\"'"].iter().find(|quote| rest.starts_with(**quote)) {
            return (false, quote.len());
        }
        let Some((hashes, is_raw)) = literal(rest, before) else { return (true, next) };
        self.within = Some(Literal { end: format!("\"{}", "#".repeat(hashes)), is_raw });
        (false, usize::from(is_raw) + hashes + 1)
    }
}

/// The number of `#` of a text that begins here, and whether it is raw.
fn literal(rest: &str, before: &str) -> Option<(usize, bool)> {
    if rest.starts_with('"') {
        return Some((0, false));
    }
    let is_within_name = before.ends_with(|c: char| c.is_alphanumeric() && c != 'b' || c == '_');
    let behind = rest.strip_prefix('r').filter(|_| !is_within_name)?;
    let quote = behind.trim_start_matches('#');
    quote.starts_with('"').then_some((behind.len() - quote.len(), true))
}

/// Whether code names this identifier or path.
fn names(code: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        !code[..at].ends_with(is_part) && !code[at + name.len()..].starts_with(is_part)
    })
}

fn says_first_what_it_is_for(file: &Source) -> Vec<String> {
    let is_silent = !file.text.starts_with("//! ");
    is_silent.then(|| file.breach(1, "does not begin with `//! `")).into_iter().collect()
}

fn is_short(file: &Source) -> Vec<String> {
    let lines = file.without_tests().len();
    let is_long = lines > 400 && !file.is_test();
    is_long.then(|| file.breach(lines, "more than 400 lines")).into_iter().collect()
}

fn is_pure_where_it_says_so(file: &Source) -> Vec<String> {
    let folders = ["src/protocol/", "src/route/", "src/handshake/", "src/outcome/", "src/config/"];
    let head: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
    let is_pure = folders.iter().any(|folder| file.path.starts_with(folder));
    if !(is_pure || head.contains("Pure.")) || file.is_test() {
        return Vec::new();
    }
    let breaches = file.code().into_iter().flat_map(|(line, code)| {
        let found = IMPURE.iter().filter(move |name| names(&code, name));
        found.map(move |name| file.breach(line, &format!("{name} in a pure file")))
    });
    breaches.collect()
}

/// Modules import only from rows below their own; modules of one row do not import one another.
const LAYERS: &[&[&str]] = &[
    &["internals"],
    &["cli"],
    &["tools"],
    &["server"],
    &["admin"],
    &["gateway"],
    &["listener", "upstream", "relay", "admission"],
    &["fleet"],
    &["pages"],
    &["fetch"],
    &["telemetry"],
    &["net"],
    &["session"],
    &["config"],
    &["outcome"],
    &["handshake"],
    &["route", "protocol"],
];

fn imports_only_from_below(file: &Source) -> Vec<String> {
    let Some(path) = file.path.strip_prefix("src/") else { return Vec::new() };
    let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if file.is_test() || matches!(module, "lib" | "main") {
        return Vec::new();
    }
    let Some(own) = layer(module) else { return vec![file.breach(1, "in no layer")] };
    let breaches = file.code().into_iter().flat_map(|(line, code)| {
        let named: Vec<_> = imported(&code).into_iter().map(str::to_owned).collect();
        let is_breach =
            move |other: &String| other != module && layer(other).is_some_and(|layer| layer <= own);
        let breaches = named.into_iter().filter(is_breach);
        breaches.map(move |other| file.breach(line, &format!("{module} imports {other}")))
    });
    breaches.collect()
}

/// The row of a module, from the top.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The top-level modules that code names: `crate::a::b`, and `a` and `b` of `crate::{a::c, b}`.
fn imported(code: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let word = |text: &'_ str| text.len() - text.trim_start_matches(is_part).len();
    let mut found = Vec::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, it)| (at, &code[at + it.len()..])) {
        let Some(inner) = rest.strip_prefix('{') else {
            found.push(&rest[..word(rest)]);
            continue;
        };
        let mut depth = 0;
        let mut parts = vec![0];
        for (at, character) in inner.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => parts.push(at + 1),
                _ => {}
            }
            if depth < 0 {
                break;
            }
        }
        found.extend(parts.into_iter().map(|at| {
            let part = inner[at..].trim_start();
            &part[..word(part)]
        }));
    }
    found
}

fn leaves_prometheus_to_telemetry(file: &Source) -> Vec<String> {
    if file.path.starts_with("src/telemetry/") {
        return Vec::new();
    }
    let named = file.code().into_iter().filter(|(_, code)| names(code, "prometheus"));
    named.map(|(line, _)| file.breach(line, "prometheus outside telemetry")).collect()
}

fn leaves_close_codes_to_the_tables(file: &Source) -> Vec<String> {
    let is_allowed = CHOOSERS.contains(&file.path.as_str())
        || file.path.starts_with("src/tools/demo/")
        || file.is_test();
    if is_allowed {
        return Vec::new();
    }
    let breaches = file.code().into_iter().flat_map(|(line, code)| {
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let found: Vec<_> = words.filter(|word| is_close_code(word)).map(str::to_owned).collect();
        found.into_iter().map(move |code| file.breach(line, &format!("close code {code}")))
    });
    breaches.collect()
}

/// Those of the tables; 1000 and 4096 are common numbers, too.
fn is_close_code(word: &str) -> bool {
    let number = word.strip_suffix("u16").unwrap_or(word).replace('_', "");
    matches!(number.parse(), Ok(1001..=1003 | 1007..=1014 | 4400..=4499))
}

/// The sentences of a file's log events: the last text of each call.
fn events(text: &str) -> Vec<String> {
    let calls = text.split("tracing::").skip(1);
    let arguments = calls.filter_map(|call| {
        let (level, arguments) = call.split_once("!(")?;
        ["error", "warn", "info", "debug", "trace"].contains(&level).then_some(arguments)
    });
    arguments.filter_map(last_text).collect()
}

/// The last text before the parenthesis closes that is open where `code` begins.
fn last_text(code: &str) -> Option<String> {
    let (mut depth, mut last, mut text) = (1, None, None::<String>);
    for character in code.chars() {
        match (&mut text, character) {
            (Some(_), '"') => last = text.take(),
            (Some(text), other) => text.push(other),
            (None, '"') => text = Some(String::new()),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            return last;
        }
    }
    None
}

fn is_finished(file: &Source) -> Vec<String> {
    let marks = ["todo!(", "unimplemented!(", "FIX\u{4d}E", "XX\u{58}", "TO\u{44}O"];
    let is_unfinished = |line: &str| {
        marks.iter().any(|mark| line.contains(mark))
            || line.trim_start().starts_with("#[") && names(line, "ign\u{6f}re")
    };
    let lines = file.text.lines().enumerate().filter(|(_, line)| is_unfinished(line));
    lines.map(|(at, line)| file.breach(at + 1, line.trim())).collect()
}

#[test]
fn every_file_says_first_what_it_is_for() {
    check(says_first_what_it_is_for, &["src", "tests"], 100);
}

#[test]
fn no_file_has_more_than_400_lines_without_its_tests() {
    check(is_short, &["src"], 80);
}

#[test]
fn pure_modules_name_no_runtime_no_socket_and_no_clock() {
    check(is_pure_where_it_says_so, &["src"], 80);
}

#[test]
fn modules_import_only_from_the_layers_below() {
    check(imports_only_from_below, &["src"], 150);
}

#[test]
fn every_module_of_the_crate_is_in_a_layer() {
    let root = files("src", &["rs"]).into_iter().find(|file| file.path == "src/lib.rs").unwrap();
    let modules = root.text.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'));
    let modules: Vec<_> = modules.collect();
    assert!(modules.len() >= 16, "{modules:?}");
    let rows: Vec<_> = modules.iter().map(|module| layer(module)).collect();
    assert!(rows.iter().all(Option::is_some), "{modules:?} {rows:?}");
}

#[test]
fn only_telemetry_knows_prometheus() {
    check(leaves_prometheus_to_telemetry, &["src"], 80);
}

#[test]
fn only_settle_and_rejection_choose_close_codes() {
    check(leaves_close_codes_to_the_tables, &["src"], 80);
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    let all = ["src", "tests", "config", "certs", "systemd", ".ci"];
    let endings = ["rs", "html", "mjs", "py", "sh", "toml"];
    let files = all.iter().flat_map(|folder| files(folder, &endings));
    let files = files.filter(|file| file.path != "tests/tidy.rs");
    let found: Vec<_> = files.flat_map(|file| is_finished(&file)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_log_event_is_documented() {
    let sources: Vec<_> = files("src", &["rs"]).into_iter().filter(|f| !f.is_test()).collect();
    let found =
        sources.iter().flat_map(|file| events(&file.text)).filter(|it| !it.starts_with('{'));
    let found: std::collections::BTreeSet<_> = found.collect();
    assert!(found.len() >= 30, "only {found:?}");
    let docs = files("docs", &["md"]).into_iter().find(|f| f.path == "docs/logs.md").unwrap();
    let missing: Vec<_> =
        found.iter().filter(|it| !docs.text.contains(&format!("| {it} |"))).collect();
    assert!(missing.is_empty(), "docs/logs.md does not have {missing:?}");
    let code = "tracing::info!(a = b(\"c\"), x, \"it is\"), tracing::warn!(\"so\");";
    assert_eq!(events(code), ["it is", "so"]);
}

#[test]
fn each_rule_finds_its_breach_and_nothing_else() {
    let rows: &[(Rule, &str, &[&str], &[&str])] = &[
        (says_first_what_it_is_for, "src/x.rs", &["fn x() {}", "// a\n//! b"], &["//! a"]),
        (
            is_pure_where_it_says_so,
            "src/protocol/ws/x.rs",
            &["use tokio::net;"],
            &["use std::fmt;"],
        ),
        (is_pure_where_it_says_so, "src/x.rs", IMPURE_FILES, PURE_FILES),
        (leaves_prometheus_to_telemetry, "src/x.rs", KNOWS_PROMETHEUS, &["// prometheus::"]),
        (leaves_prometheus_to_telemetry, "src/telemetry/x.rs", &[], KNOWS_PROMETHEUS),
        (leaves_close_codes_to_the_tables, "src/x.rs", CHOOSES_CODES, CHOOSES_NONE),
        (leaves_close_codes_to_the_tables, "src/outcome/settle.rs", &[], CHOOSES_CODES),
        (imports_only_from_below, "src/session/x.rs", POINTS_UP, POINTS_DOWN),
        (imports_only_from_below, "src/relay/x.rs", POINTS_ASIDE, POINTS_DOWN),
        (imports_only_from_below, "src/unknown/x.rs", &["fn x() {}"], &[]),
        (imports_only_from_below, "src/session/tests.rs", &[], POINTS_UP),
        (is_finished, "src/x.rs", UNFINISHED, &["// ignored", "#[expect(unused)]"]),
    ];
    for (rule, path, bad, good) in rows {
        let found = |text: &str| rule(&Source { path: (*path).to_owned(), text: text.to_owned() });
        for text in *bad {
            assert_eq!(found(text).len(), 1, "{path}: {text}");
        }
        for text in *good {
            assert_eq!(found(text), [""; 0], "{path}: {text}");
        }
    }
}

#[test]
fn a_long_file_is_found_wherever_its_tests_stand() {
    let body = "fn x() {}\n".repeat(400);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{body}}}\n");
    for (text, is_long) in [
        (body.clone(), false),
        (format!("//! a\n{body}"), true),
        (format!("{tests}{body}"), true),
        (format!("#[cfg(test)]\nmod tests;\n{body}"), true),
        (tests, false),
    ] {
        let found = is_short(&Source { path: "src/x.rs".to_owned(), text });
        assert_eq!(found.is_empty(), !is_long, "{found:?}");
    }
}

/// Runtimes, sockets, files and clocks.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_rustls",
    "hyper",
    "hyper_util",
    "tracing",
    "socket2",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "elapsed()",
    "fs",
    "env",
];

/// Where close codes are chosen, known as labels, explained, or set by the operator.
const CHOOSERS: &[&str] = &[
    "src/tools/doctor/diagnosis/closing.rs",
    "src/outcome/settle.rs",
    "src/outcome/rejection.rs",
    "src/outcome/close_codes.rs",
    "src/protocol/ws/close.rs",
    "src/telemetry/labels.rs",
];

const IMPURE_FILES: &[&str] = &[
    "//! Pure.\nuse tokio;",
    "//! A.\n//! Pure.\nuse tokio_rustls::TlsAcceptor;",
    "//! Pure.\nuse std::net::{IpAddr, TcpStream};",
    "//! Pure.\nuse std::{\n    fs,\n};",
    "//! Pure.\nfn f() { tracing::info!(\"x\"); }",
    "//! Pure.\nfn f(began: Instant) { began.elapsed(); }",
    "//! Pure.\nfn f() { g(\"a\\\"\", '\"', Timestamp::now()) }",
    "//! Pure.\nconst A: &str = r#\"a \" b\"#; fn f() { Instant::now() }",
    "//! Pure.\nconst A: &[u8] = br\"\\\"; fn f() { Instant::now() }",
    "//! Pure.\n#[cfg(test)]\nmod tests;\nuse hyper::Request;",
    "//! Pure.\n#[cfg(test)]\nmod tests {\n}\nuse hyper::Request;",
];
const PURE_FILES: &[&str] = &[
    "//! I/O.\nuse tokio::net;",
    "//! Pure, but for sockets.\nuse tokio::net;",
    "//! Pure. Names no tokio::net.\n/// tokio\nuse std::net::IpAddr; // tokio::net",
    "//! Pure.\nfn f() { g(\"tokio::net \\\" tokio::net\", my_tokio, fsync) }",
    "//! Pure.\nconst A: &str = \"a\n tokio::net\";",
    "//! Pure.\n#[cfg(test)]\nmod tests {\n    use tokio::net;\n}",
];
const POINTS_UP: &[&str] = &[
    "use crate::net::stream::Stream;",
    "fn f() { crate::telemetry::x() }",
    "use crate::{config::{Rate, Config}, gateway::Gateway};",
];
const POINTS_ASIDE: &[&str] = &["use crate::admission::Permit;", "use crate::upstream;"];
const POINTS_DOWN: &[&str] = &[
    "use crate::config::Config;",
    "use crate::outcome::{label::Label, settle};",
    "// crate::gateway",
    "fn f() { g(\"crate::gateway\") }",
    "#[cfg(test)]\nmod tests {\n    use crate::server::load;\n}",
];
const KNOWS_PROMETHEUS: &[&str] =
    &["use prometheus::X;", "use prometheus;", "use prometheus as other;"];
const CHOOSES_CODES: &[&str] = &[
    "fn f() -> u16 { 4401 }",
    "fn f() { close(4_401, \"x\") }",
    "fn f() { close(1011u16) }",
    "fn f() { matches!(code, ..=1014) }",
    "const A: u16 = 1001;",
];
const CHOOSES_NONE: &[&str] = &[
    "fn f() { g(14401, 4096, 1000, 0x1011, \"4401\") } // 4401",
    "/// 4401\nfn f4401() {}",
    "#[cfg(test)]\nmod tests {\n    const A: u16 = 1001;\n}",
];
const UNFINISHED: &[&str] = &[
    "fn f() { todo!() }",
    "fn f() { unimplemented!() }",
    "// FIX\u{4d}E",
    "// XX\u{58}",
    "// TO\u{44}O: later",
    "#[ign\u{6f}re]",
    "    #[ign\u{6f}re = \"slow\"]",
    "#[cfg_attr(unix, ign\u{6f}re)]",
];
