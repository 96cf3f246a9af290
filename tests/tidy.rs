//! Rules of the repository that a reader counts on, checked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 3, "{folder} has no files to check");
    files
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests")
        || file.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs")
}

/// The part of a file before its inline tests.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap()
}

fn assert_none(found: Vec<String>, rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent = ["src", "tests"].into_iter().flat_map(rust_files);
    let silent = silent.filter(|file| !text(file).starts_with("//! "));
    assert_none(silent.map(|file| file.display().to_string()).collect(), "files without `//!`");
}

#[test]
fn no_file_has_more_than_400_lines_before_its_tests() {
    let long = rust_files("src").into_iter().filter(|file| !is_test(file)).filter_map(|file| {
        let lines = code(&text(&file)).lines().count();
        (lines > 400).then(|| format!("{}: {lines}", file.display()))
    });
    assert_none(long.collect(), "files over 400 lines");
}

#[test]
fn pure_modules_name_no_runtime_no_socket_and_no_clock() {
    let always_pure = ["src/ws", "src/config", "src/route", "src/handshake"];
    let forbidden = [
        "tokio::",
        "hyper::",
        "hyper_util",
        "tracing::",
        "std::net::Tcp",
        "std::net::Udp",
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "std::env::",
    ];
    let mut found = Vec::new();
    let mut checked = 0;
    for file in rust_files("src") {
        let text = text(&file);
        let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let is_pure = always_pure.iter().any(|folder| file.starts_with(root.join(folder)))
            || head.contains("Pure.");
        if !is_pure || is_test(&file) {
            continue;
        }
        checked += 1;
        for (number, line) in code(&text).lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            for name in forbidden.iter().filter(|name| !is_comment && line.contains(**name)) {
                found.push(format!("{}:{}: {name}", file.display(), number + 1));
            }
        }
    }
    assert!(checked > 30, "only {checked} pure files");
    assert_none(found, "impure names in pure files");
}

#[test]
fn only_telemetry_knows_prometheus() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry");
    let others = rust_files("src").into_iter().filter(|file| !file.starts_with(&root));
    let found = others.filter(|file| text(file).contains("prometheus::"));
    assert_none(found.map(|file| file.display().to_string()).collect(), "prometheus elsewhere");
}

#[test]
fn only_settle_and_rejection_choose_close_codes() {
    // The codes of the two tables, as they would stand in an expression.
    let codes = ["4401", "4403", "4404", "4408", "4409", "4429", "1014", "1013", "1011"];
    let allowed = ["ws/settle.rs", "ws/close.rs", "admission/rejection.rs", "telemetry/labels.rs"];
    let mut found = Vec::new();
    for file in rust_files("src").into_iter().filter(|file| !is_test(file)) {
        let is_allowed = allowed.iter().any(|name| file.ends_with(name))
            || file.components().any(|part| part.as_os_str() == "demo");
        let text = text(&file);
        for (number, line) in code(&text).lines().enumerate().filter(|_| !is_allowed) {
            let expression = line.split("//").next().unwrap();
            if codes.iter().any(|code| expression.contains(code)) && !expression.contains('"') {
                found.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert_none(found, "close codes chosen elsewhere");
}

#[test]
fn nothing_is_left_undone_or_ignored() {
    let marks = ["todo!(", "unimplemented!(", "FIX\u{4d}E", "XX\u{58}", "#[ign\u{6f}re"];
    let mut found = Vec::new();
    for file in ["src", "tests"].into_iter().flat_map(rust_files) {
        if file.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text(&file).lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(found, "unfinished or ignored");
}
