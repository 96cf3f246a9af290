//! Runs commands of the binary under test to their end.

use std::process::Stdio;

use tokio::process::Command;

use super::within;

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `framegate ARGUMENTS`.
pub async fn run(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_framegate"));
    command.args(arguments);
    outcome(command).await
}

/// Runs this to its end.
pub async fn outcome(mut command: Command) -> Ran {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within("the end of a command", running).await.unwrap();
    Ran {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
