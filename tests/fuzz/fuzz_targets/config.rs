//! Any text is a configuration that can be used, or has problems that say where; and a line more in
//! front moves all lines by one and changes nothing else.
//!
//! Input: a configuration file.
#![no_main]

use std::path::Path;

use framegate::internals::config::{Config, Problem, assert_sound};
use libfuzzer_sys::fuzz_target;

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new("/etc/framegate"))
}

/// Each problem stands in the file, or names what is missing in it, on one line that can be shown.
fn check_problems(problems: &[Problem], text: &str) {
    let lines = text.split('\n').count();
    for problem in problems {
        match problem.line {
            Some(line) => assert!((1..=lines).contains(&line), "{problem}"),
            None => assert!(!problem.path.is_empty(), "{problem} stands nowhere"),
        }
        assert!(!problem.message.is_empty());
        let shown = problem.to_string();
        assert!(shown.ends_with(&problem.message) && shown.contains(&problem.path));
        assert!(!shown.contains(char::is_control), "{shown:?}");
        if problem.path.is_empty() {
            assert_eq!(problems.len(), 1, "only what is no TOML has no path");
        }
    }
    let sorted = problems.is_sorted_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    assert!(sorted, "in the order of the file");
}

fn one_line_on(problems: &[Problem]) -> Vec<Problem> {
    let moved =
        |problem: &Problem| Problem { line: problem.line.map(|line| line + 1), ..problem.clone() };
    problems.iter().map(moved).collect()
}

fuzz_target!(|text: &str| {
    let result = read(text);
    // A byte-order mark counts only as the first character.
    let later = (!text.starts_with('\u{feff}')).then(|| read(&format!("# a line more\n{text}")));
    match &result {
        Ok(config) => {
            assert_sound(config);
            check_problems(&config.warnings(), text);
            if let Some(later) = later {
                let later = later.expect("a comment changes nothing").warnings();
                assert_eq!(later, one_line_on(&config.warnings()));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            check_problems(problems, text);
            if let Some(later) = later {
                assert_eq!(later.expect_err("a comment mends nothing"), one_line_on(problems));
            }
        }
    }
});
