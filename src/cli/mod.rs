//! The command line: arguments, exit codes, one file per command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) mod admin_client;
mod arguments;
pub(crate) mod check;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "doctor")]
mod doctor;
pub(crate) mod drain;
mod run;
pub(crate) mod sessions;
pub(crate) mod table;
pub(crate) mod token;

/// framegate: a WebSocket gateway that checks every frame and gives every connection an honest ending.
#[derive(Debug, Parser)]
#[command(name = "framegate", version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Configuration file; without a command: run the gateway with it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Run {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration and everything it names; prints all problems at once
    Check(check::CheckArgs),
    /// Try the whole product: gateway, chat backend and chat page, without a file or a network
    #[cfg(feature = "demo")]
    Demo(crate::tools::demo::DemoArgs),
    /// Find out, step by step, why a WebSocket connection fails
    #[cfg(feature = "doctor")]
    Doctor(Box<doctor::DoctorArgs>),
    /// Show the sessions of a running gateway, or one by its id
    Sessions(sessions::SessionsArgs),
    /// End a session, or all sessions of a user
    Kick(sessions::KickArgs),
    /// Close a share of the sessions one by one, or all sessions of an endpoint, which gets no new ones
    Drain(drain::DrainArgs),
    /// Show what a running gateway depends on, and how it is
    Health(sessions::HealthArgs),
    /// Mint a token for tests
    Token(token::TokenArgs),
}

/// Runs the command line; the process ends with the code returned.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => {
            // Help and version are answers too, only better ones. Nobody reads them: nothing to do.
            let _ = answer.print();
            let code = if answer.use_stderr() { Exit::Usage } else { Exit::Success };
            return ExitCode::from(code as u8);
        }
    };
    let code = match (arguments.command, arguments.config) {
        (Some(Command::Run { config }), _) | (None, Some(config)) => run::run(&config),
        (Some(Command::Check(args)), _) => check::run(&args),
        #[cfg(feature = "demo")]
        (Some(Command::Demo(args)), _) => demo::run(&args),
        #[cfg(feature = "doctor")]
        (Some(Command::Doctor(args)), _) => return doctor::run(&args),
        (Some(Command::Sessions(args)), _) => run::block_on(sessions::sessions(&args)),
        (Some(Command::Kick(args)), _) => run::block_on(sessions::kick(&args)),
        (Some(Command::Drain(args)), _) => run::block_on(drain::drain(&args)),
        (Some(Command::Health(args)), _) => run::block_on(sessions::health(&args)),
        (Some(Command::Token(args)), _) => match token::run(&args) {
            Ok(token) => {
                println!("{token}");
                Exit::Success
            }
            Err(error) => {
                eprintln!("framegate: {error}");
                Exit::Failure
            }
        },
        (None, None) => {
            let demo = if cfg!(feature = "demo") { ", or try `framegate demo`" } else { "" };
            eprintln!("framegate: nothing to do: give --config FILE{demo}\n");
            eprint!("{}", Arguments::command().render_help());
            Exit::Usage
        }
    };
    ExitCode::from(code as u8)
}

/// Exit codes (sysexits.h where it has one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Success = 0,
    Failure = 1,
    /// The arguments are wrong (EX_USAGE).
    Usage = 64,
    /// The configuration is wrong (EX_CONFIG).
    Config = 78,
}
