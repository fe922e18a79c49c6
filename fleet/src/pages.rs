//! `firmcast-fleet pages`: writes the man pages and the shell completions that packages install.
//! Compiled only with feature `pages`, so the program that is installed does not carry it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::{Shell, generate_to};
use clap_mangen::roff::{Roff, roman};

/// The rollout's file, with every key explained.
const EXAMPLE: &str = include_str!("../examples/winter.toml");

/// Writes man pages and completions
#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// Where they go: man/ and completions/ in this folder
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl PagesArgs {
    /// Writes everything; `cli` is the command line of `firmcast-fleet`.
    pub(crate) fn run(self, cli: Command) -> anyhow::Result<()> {
        let manual = self.output.join("man");
        let folder = self.output.join("completions");
        for dir in [&manual, &folder] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut cli.clone(), "firmcast-fleet", &folder)?;
        }
        // One page for it, and one for each subcommand.
        clap_mangen::generate_to(cli.disable_help_subcommand(true), &manual)
            .context("cannot write the manual of firmcast-fleet")?;
        write_rollout_page(&manual)
    }
}

/// Writes `firmcast-rollout.5`: the example as it is.
fn write_rollout_page(folder: &Path) -> anyhow::Result<()> {
    let mut page = Roff::new();
    // The date stays empty: the same source makes the same page on every day.
    page.control("TH", ["firmcast-rollout", "5", "\"\"", "firmcast", "firmcast"]);
    page.control("SH", ["NAME"])
        .text([roman("firmcast-rollout - which hosts get which firmware, in waves, under limits")]);
    page.control("SH", ["DESCRIPTION"])
        .text([roman("A rollout is one file in TOML. This one has every key:")])
        .control("PP", [])
        .control("nf", []);
    for line in EXAMPLE.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", [])
        .control("SH", ["SEE ALSO"])
        .text([roman("firmcast-fleet-rollout(1), firmcast-fleet-work(1)")]);
    let path = folder.join("firmcast-rollout.5");
    fs::write(&path, page.to_roff()).with_context(|| format!("cannot write {}", path.display()))
}
