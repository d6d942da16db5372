//! `corefold`: the command line. What a command does is in the library.

use clap::Parser;
use corefold_engine::cli::job::AggregateJob;
use corefold_engine::cli::{Cli, Command};
use corefold_engine::commands::{self, CommandError};
use corefold_engine::exit::ExitCode;
use std::io::Write;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code.into(),
        Err(error) if error.is_broken_pipe() => ExitCode::Done.into(),
        Err(error) => {
            // Nobody is left to hear that standard error is gone.
            let _ = writeln!(std::io::stderr(), "corefold: {error}");
            error.exit_code().into()
        }
    }
}

fn run(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Aggregate(args) => {
            let job = AggregateJob::try_from(*args).unwrap_or_else(|error| error.into_clap("aggregate").exit());
            commands::aggregate::aggregate(&job)?;
        }
        _ => {}
    }
    Ok(ExitCode::Done)
}
