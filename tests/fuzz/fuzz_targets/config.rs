//! Any text is a configuration or has problems that can be shown.
#![no_main]

use std::path::Path;

use framegate::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match Config::parse(text, Path::new("/etc/framegate")) {
    Ok(config) => drop(config.warnings()),
    Err(problems) => {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(!problem.to_string().is_empty());
        }
    }
});
