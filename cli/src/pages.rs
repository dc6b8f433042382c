//! `pgbell completions` and `pgbell man`: what packages install beside the program.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pgbell completions bash > /etc/bash_completion.d/pgbell
  pgbell completions zsh > \"${fpath[1]}/_pgbell\"
  pgbell completions fish > ~/.config/fish/completions/pgbell.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pgbell man | man -l -
  pgbell man /usr/local/share/man/man1")]
pub(crate) struct ManPages {
    /// A directory that exists, for one page for each command; default: the page of the program on stdout
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) async fn completions(args: Completions) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pgbell", &mut text);
    output::print(&text).await?;
    Ok(Exit::Ok)
}

pub(crate) async fn man(args: ManPages) -> Result<Exit, Failure> {
    let Some(directory) = args.directory else {
        let mut text = Vec::new();
        // Writing to a Vec does not fail.
        let _ = Man::new(Cli::command()).render(&mut text);
        output::print(&text).await?;
        return Ok(Exit::Ok);
    };
    let mut command = Cli::command();
    command.build();
    write(&directory, &command).map_err(|error| {
        let message = format!("cannot write to {}: {error}", directory.display());
        Failure::new(Exit::Runtime, message)
    })?;
    Ok(Exit::Ok)
}

/// Writes the page of a command and those of its commands.
fn write(directory: &Path, command: &clap::Command) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        write(directory, inner)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    fs::write(directory.join(format!("{name}.1")), text)
}
