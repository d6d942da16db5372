//! Completion scripts and manual pages, made from the definitions of the command line.
//!
//! They are returned as text; printing them is the binary's.

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, UsageError};
use crate::exit::ExitCode;

/// The definition of the whole command line.
pub fn command() -> Command {
    Cli::command()
}

/// A completion script.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "corefold", &mut script);
    script
}

/// The manual page of a command, such as `["inspect", "wal"]`; of `corefold` itself for an empty path.
pub fn page(path: &[String]) -> Result<Vec<u8>, UsageError> {
    let mut root = command().disable_help_subcommand(true);
    root.build();
    let mut found = &root;
    for name in path {
        found = found.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = found.get_subcommands().map(Command::get_name).collect();
            let message = crate::config::error::not_among("command", name, known);
            UsageError(format!("there is no manual page for `{}`: {message}", path.join(" ")))
        })?;
    }
    let title = std::iter::once("corefold").chain(path.iter().map(String::as_str)).collect::<Vec<_>>();
    let page = clap_mangen::Man::new(found.clone()).title(title.join("-"));
    let mut text = Vec::new();
    page.render(&mut text).map_err(|error| UsageError(format!("the manual page cannot be written: {error}")))?;
    text.extend_from_slice(b".SH \"EXIT STATUS\"\n");
    for code in ExitCode::ALL {
        text.extend_from_slice(format!(".TP\n\\fB{}\\fR\n{}\n", code.code(), code.meaning()).as_bytes());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_gets_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).expect("text");
            for name in ["aggregate", "inspect", "doctor", "late-output"] {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }

    #[test]
    fn pages_name_their_command_and_flags() {
        let page = |path: &[&str]| {
            let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
            page(&path).map(|text| String::from_utf8(text).expect("text"))
        };
        let root = page(&[]).expect("exists");
        assert!(root.contains(".TH corefold 1") && root.contains("aggregate"), "{root}");
        let aggregate = page(&["aggregate"]).expect("exists");
        for part in [".TH corefold-aggregate 1", "max\\-delay", "quantile(x, 0.99)", "EXIT STATUS", "\\fB78\\fR"] {
            assert!(aggregate.contains(part), "{part}: {aggregate}");
        }
        assert!(page(&["inspect", "wal"]).expect("exists").contains(".TH corefold-inspect-wal 1"));
        let error = page(&["agregate"]).expect_err("no such page").to_string();
        assert!(error.contains("did you mean `aggregate`"), "{error}");
    }
}
