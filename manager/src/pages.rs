//! `firmcast pages`: writes the man pages and the shell completions that packages install. Compiled
//! only with feature `pages`, so the program that is installed does not carry it.

mod completions;
mod files;
mod host;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

/// Writes man pages and completions of all programs
#[derive(Debug, Args)]
pub(crate) struct PagesArgs {
    /// The top of the source tree
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// Where they go: man/ and completions/ in this folder
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl PagesArgs {
    /// Writes everything; `cli` is the command line of `firmcast`.
    pub(crate) fn run(self, cli: clap::Command) -> anyhow::Result<()> {
        let manual = self.output.join("man");
        let folder = self.output.join("completions");
        for dir in [&manual, &folder] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        completions::of_manager(cli.clone(), &folder)?;
        completions::of_host(&folder)?;
        // One page for it, and one for each subcommand.
        clap_mangen::generate_to(cli.disable_help_subcommand(true), &manual)
            .context("cannot write the manual of firmcast")?;
        host::firmcastd(&manual)?;
        host::mkrecovery(&self.source, &manual)?;
        for file in files::FILES {
            file.write(&self.source, &manual)?;
        }
        Ok(())
    }
}

/// Writes `bytes` to `name` in `folder`.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
