//! `firmcast-fleet people`: who may act on the page and by the API. And who types.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand, ValueEnum};
use firmcast_fleet::people::{May, PASSWORD_BYTES_MAX, Password, Register, Secret};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{User, getuid};
use rand_core::{OsRng, RngCore as _};

use super::terminal::{columns, say, shown};
use super::{Place, now};

/// Microseconds of a day.
const DAY_US: i64 = 24 * 60 * 60 * 1_000_000;

#[derive(Debug, Args)]
pub(crate) struct PeopleArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let somebody log in; the password is asked for, or read from the standard input
    Add {
        /// The name that events will have: best the one that they have on this machine
        name: String,
    },
    /// Give somebody another password; their sessions end
    Password {
        /// Their name
        name: String,
    },
    /// List the people and their tokens
    List,
    /// Remove somebody, with their sessions and tokens
    Remove {
        /// Their name
        name: String,
    },
    /// Make a token for a program of somebody, and write it: it is shown this once
    Token {
        /// Their name
        name: String,
        /// What the token is for
        label: String,
        /// What the program may do
        #[arg(long, default_value = "read")]
        may: Allowed,
        /// For how many days the token counts
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: u16,
    },
    /// Remove a token
    Revoke {
        /// Their name
        name: String,
        /// What the token was for
        label: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Allowed {
    /// Look, and have plans made
    Read,
    /// Change rollouts, too
    Act,
}

impl PeopleArgs {
    /// Does what the command line says.
    pub(crate) fn run(self, place: &Place) -> anyhow::Result<ExitCode> {
        let register = Register::in_state(place.state());
        match self.command {
            Command::Add { name } => {
                ensure!(
                    register.read()?.person(&name).is_none(),
                    "there is a person {name} already"
                );
                let password = Password::new(&asked()?, salt())?;
                register.change(|roster| roster.add(&name, password))?;
                say(&format!("{name} may log in"));
            }
            Command::Password { name } => {
                let password = Password::new(&asked()?, salt())?;
                register.change(|roster| roster.set_password(&name, password))?;
                say(&format!("{name} has another password"));
            }
            Command::List => list(&register)?,
            Command::Remove { name } => {
                register.change(|roster| roster.remove(&name))?;
                say(&format!("{name} is removed"));
            }
            Command::Token { name, label, may, days } => {
                let may = match may {
                    Allowed::Read => May::Read,
                    Allowed::Act => May::Act,
                };
                let until = now().saturating_add(i64::from(days) * DAY_US);
                let mut secret = Secret::default();
                OsRng.fill_bytes(&mut secret);
                say(&register
                    .change(|roster| roster.add_token(&name, &label, (may, until), secret))?);
            }
            Command::Revoke { name, label } => {
                register.change(|roster| roster.remove_token(&name, &label))?;
                say(&format!("token {label} of {name} is removed"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(register: &Register) -> anyhow::Result<()> {
    let mut rows = vec![["NAME", "TOKEN", "MAY", "DAYS LEFT"].map(str::to_owned).to_vec()];
    for person in &register.read()?.people {
        rows.push(vec![shown(&person.name)]);
        for token in &person.tokens {
            let may = match token.may {
                May::Read => "read",
                May::Act => "act",
            };
            let days = (token.until - now()).max(0) / DAY_US;
            let cells = ["", &shown(&token.label), may, &days.to_string()];
            rows.push(cells.map(str::to_owned).to_vec());
        }
    }
    say(&columns(&rows));
    Ok(())
}

fn salt() -> [u8; 16] {
    let mut salt = [0; 16];
    OsRng.fill_bytes(&mut salt);
    salt
}

/// Asks for a new password, twice on a terminal; else reads a line.
fn asked() -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return line();
    }
    let first = hidden("Password: ")?;
    ensure!(first == hidden("The same again: ")?, "the two are not the same; nothing was changed");
    Ok(first)
}

/// Reads a line that the terminal does not show.
fn hidden(question: &str) -> anyhow::Result<String> {
    let _ = write!(io::stderr(), "{question}");
    let _ = io::stderr().flush();
    let before = tcgetattr(io::stdin()).context("cannot hide the password")?;
    let mut without = before.clone();
    without.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &without).context("cannot hide the password")?;
    let read = line();
    let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &before);
    let _ = writeln!(io::stderr());
    read
}

fn line() -> anyhow::Result<String> {
    use std::io::{BufRead as _, Read as _};
    let mut line = String::new();
    let most = PASSWORD_BYTES_MAX as u64 + 2;
    io::stdin().lock().take(most).read_line(&mut line).context("cannot read the password")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Returns the name of who runs the program; behind sudo, of who called that.
pub(crate) fn who() -> String {
    let caller = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    caller.unwrap_or_else(|| match User::from_uid(getuid()) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {}", getuid()),
    })
}
