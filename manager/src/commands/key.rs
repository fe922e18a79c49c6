//! `firmcast key`: make keys.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use firmcast::keys::{
    self, HostSecretKey, ManagerSecretKey, PublicKey as _, ReleaseSecretKey, Role, SecretKey,
};
use firmcast_manager::store::owner;
use firmcast_manager::store::state::manager_key_path;
use rand_core::OsRng;

use crate::driver::output;

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a new key: write the private key to NAME.key and the public key to NAME.pub
    New(NewArgs),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// Choose what the key is for
    #[arg(long, value_enum)]
    role: RoleArg,
    /// Write the private key to FILE (mode 0600), which must not exist
    /// [default for a manager key: as for firmcast update --key]
    #[arg(long, value_name = "FILE", required_if_eq_any = [("role", "release"), ("role", "host")])]
    out: Option<PathBuf>,
    /// Add a note for people behind the public key
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    /// Signs bundles; keep it offline
    Release,
    /// Gives instructions to hosts
    Manager,
    /// Identifies one host
    Host,
}

impl KeyArgs {
    /// `state_dir` is asked only when no file was named.
    pub(crate) fn run(
        self,
        state_dir: impl FnOnce() -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<ExitCode> {
        let KeyCommand::New(args) = self.command;
        let out = match args.out {
            Some(out) => out,
            None => in_directory(manager_key_path(&state_dir()?))?,
        };
        let comment = args.comment.as_deref();
        match args.role {
            RoleArg::Release => create(&out, &ReleaseSecretKey::generate(&mut OsRng), comment),
            RoleArg::Manager => create(&out, &ManagerSecretKey::generate(&mut OsRng), comment),
            RoleArg::Host => create(&out, &HostSecretKey::generate(&mut OsRng), comment),
        }
    }
}

fn create<S: SecretKey>(out: &Path, key: &S, comment: Option<&str>) -> anyhow::Result<ExitCode> {
    keys::create_pair(out, key, comment)?;
    let role: Role = S::Public::ROLE;
    output::print(&format!(
        "{role} key {}\nprivate key: {} (keep it secret)\npublic key:  {}\n",
        key.public().fingerprint(),
        out.display(),
        keys::public_path(out).display(),
    ))
}

/// Makes the directory of a file, for its owner only, unless it is there.
fn in_directory(file: PathBuf) -> anyhow::Result<PathBuf> {
    if let Some(directory) = file.parent() {
        owner::make_directory(directory)
            .with_context(|| format!("cannot create directory {}", directory.display()))?;
    }
    Ok(file)
}
