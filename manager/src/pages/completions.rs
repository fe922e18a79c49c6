//! Completions for bash, zsh and fish, made by clap_complete.

use std::path::Path;

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::{Shell, generate_to};
use firmcast::usage::{OPTIONS, TASKS};

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes those of `firmcast`.
pub(super) fn of_manager(mut cli: Command, folder: &Path) -> anyhow::Result<()> {
    for shell in SHELLS {
        generate_to(shell, &mut cli, "firmcast", folder)?;
    }
    Ok(())
}

/// Writes those of `firmcastd`, whose command line is a table of its own.
pub(super) fn of_host(folder: &Path) -> anyhow::Result<()> {
    let mut cli = host_command();
    for shell in SHELLS {
        generate_to(shell, &mut cli, "firmcastd", folder)?;
    }
    Ok(())
}

/// The table as a command of clap's.
fn host_command() -> Command {
    let mut top = Command::new("firmcastd").version(env!("CARGO_PKG_VERSION"));
    for task in TASKS {
        let mut words = task.words.split_whitespace();
        let first = words.clone().next().unwrap_or_default();
        if first.starts_with(|letter: char| letter.is_ascii_lowercase()) {
            words.next();
            let subcommand = Command::new(first).about(task.duty);
            top = top.subcommand(with_options(subcommand, words));
        } else if !first.starts_with("--") {
            top = with_options(top, words);
        }
    }
    top
}

/// Adds what stands in a synopsis: options with a value behind them or without, and the words that
/// are subcommands.
fn with_options(mut command: Command, words: impl Iterator<Item = &'static str>) -> Command {
    let words: Vec<&'static str> = words.map(|word| word.trim_matches(['[', ']'])).collect();
    for (index, word) in words.iter().enumerate() {
        let value = words.get(index + 1).filter(|next| is_value(next));
        if let Some(name) = word.strip_prefix("--") {
            if command.get_arguments().any(|known| known.get_id() == name) {
                continue;
            }
            let meaning = OPTIONS.iter().find(|option| option.words.starts_with(word));
            let mut option = Arg::new(name).long(name);
            if let Some(meaning) = meaning {
                option = option.help(meaning.meaning);
            }
            command = command.arg(match value {
                Some(value) => {
                    option.value_name(*value).value_hint(ValueHint::FilePath).action(ArgAction::Set)
                }
                None => option.action(ArgAction::SetTrue),
            });
        } else if *word != "|" && !is_value(word) {
            command = command.subcommand(Command::new(*word));
        }
    }
    command
}

fn is_value(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|letter| letter.is_ascii_uppercase())
}
