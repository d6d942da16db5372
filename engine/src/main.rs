//! `corefold`: the command line. What a command does is in the library.

use clap::Parser;
use corefold_engine::cli::args::InspectWhat;
use corefold_engine::cli::job::AggregateJob;
use corefold_engine::cli::{Cli, Command, manual};
use corefold_engine::commands::{self, CommandError, Console};
use corefold_engine::doctor;
use corefold_engine::exit::ExitCode;
use corefold_engine::inspect::{self, InspectOptions};
use corefold_engine::{salvage, verify};
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
        Command::Run(args) => commands::run::run(&args.config, &args.profile, &Console::from(&args.report))?,
        Command::Send(args) => commands::send::send(&args)?,
        Command::Check(args) => {
            let notes = commands::run::check(&args.config)?;
            let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
            print(&format!("{notes}{}: the configuration is valid\n", args.config.display()))?;
        }
        Command::Doctor(args) => {
            let report = doctor::examine(args.data_dir.as_deref(), args.shards);
            print(&if args.json { format!("{}\n", report.to_json()) } else { report.to_string() })?;
            return Ok(report.exit_code());
        }
        Command::Verify(args) => {
            let mut out = std::io::stdout().lock();
            return Ok(verify::verify(&args.dir, args.json, &mut out)?);
        }
        Command::Salvage(args) => {
            let mut out = std::io::stdout().lock();
            return Ok(salvage::salvage(&args.dir, args.yes, &mut out)?);
        }
        Command::Completions(args) => std::io::stdout().write_all(&manual::completions(args.shell))?,
        Command::Man(args) => {
            let page = manual::page(&args.command).unwrap_or_else(|error| error.into_clap("man").exit());
            std::io::stdout().write_all(&page)?;
        }
        Command::Inspect(args) => {
            let mut out = std::io::stdout().lock();
            let seen = match args.what {
                InspectWhat::Wal(args) => inspect::wal(&args.path, InspectOptions::from(&args), &mut out)?,
                InspectWhat::Snapshot(args) => inspect::snapshot(&args.path, args.shard, args.json, &mut out)?,
                InspectWhat::Panes(args) => inspect::panes(&args.path, args.json, &mut out)?,
                InspectWhat::Manifest(args) => inspect::manifest(&args.path, args.json, &mut out)?,
            };
            return Ok(seen.exit_code());
        }
    }
    Ok(ExitCode::Done)
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
