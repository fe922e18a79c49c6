//! The manual of what runs on hosts: `firmcastd`, and the builder of the recovery environment.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap_mangen::roff::{Roff, bold, roman};
use firmcast::usage::{CommandOption, EXIT_STATUS, OPTIONS, PURPOSE, TASKS, Task};

/// Writes `firmcastd.8` from the table that `firmcastd --help` prints.
pub(super) fn firmcastd(folder: &Path) -> anyhow::Result<()> {
    let mut page = Roff::new();
    title(&mut page, "firmcastd", "8");
    page.control("SH", ["NAME"]).text([roman(format!("firmcastd - {PURPOSE}"))]);
    page.control("SH", ["SYNOPSIS"]);
    for Task { words, .. } in TASKS {
        page.text([bold("firmcastd"), roman(format!(" {words}"))]).control("br", []);
    }
    page.control("SH", ["TASKS"]);
    for Task { words, duty } in TASKS {
        page.control("TP", []).text([bold(words)]).text([roman(sentence(duty))]);
    }
    page.control("SH", ["OPTIONS"]);
    for CommandOption { words, meaning } in OPTIONS {
        page.control("TP", []).text([bold(words)]).text([roman(sentence(meaning))]);
    }
    page.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in EXIT_STATUS {
        page.control("TP", []).text([bold(status.to_string())]).text([roman(sentence(meaning))]);
    }
    page.control("SH", ["FILES"]);
    for (file, meaning) in [
        ("/etc/firmcast/agent.toml", "settings, see agent.toml(5)"),
        ("/etc/firmcast/trusted.d/*.pub", "public keys of trusted managers and releases"),
        ("/var/lib/firmcast", "the host's key and what must survive a reboot"),
        ("/var/lib/firmcast/recovery", "a recovery environment for each installed kernel"),
    ] {
        page.control("TP", []).text([bold(file)]).text([roman(sentence(meaning))]);
    }
    see_also(&mut page, "agent.toml(5), firmcast-mkrecovery(8), firmcast(1)");
    super::write(folder, "firmcastd.8", page.to_roff().as_bytes())
}

/// Writes `firmcast-mkrecovery.8` from what the program says of itself: `usage:` with the ways to
/// call it, paragraphs, and lines of `  --option WORD  meaning`.
pub(super) fn mkrecovery(source: &Path, folder: &Path) -> anyhow::Result<()> {
    let program = source.join("initramfs/firmcast-mkrecovery");
    let said = Command::new("sh")
        .arg(&program)
        .arg("--help")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(said.status.success(), "{} --help fails", program.display());
    let said = String::from_utf8(said.stdout).context("its help is no text")?;
    let (synopsis, rest) = said.split_once("\n\n").context("its help has no usage")?;
    let mut page = Roff::new();
    title(&mut page, "firmcast-mkrecovery", "8");
    page.control("SH", ["NAME"]).text([roman(
        "firmcast-mkrecovery - builds the environment in which firmcast replaces firmware",
    )]);
    page.control("SH", ["SYNOPSIS"]).control("nf", []);
    for line in synopsis.lines() {
        page.text([roman(line.trim_start_matches("usage: ").trim().to_owned())]);
    }
    page.control("fi", []).control("SH", ["DESCRIPTION"]);
    for line in rest.lines().map(str::trim_end) {
        match line.trim_start().split_once("  ").filter(|_| line.starts_with("  ")) {
            Some((option, meaning)) => {
                page.control("TP", [])
                    .text([bold(option)])
                    .text([roman(sentence(meaning.trim_start()))]);
            }
            None if line.is_empty() => {
                page.control("PP", []);
            }
            None => {
                page.text([roman(line.trim_start().to_owned())]);
            }
        }
    }
    see_also(&mut page, "firmcastd(8), agent.toml(5)");
    super::write(folder, "firmcast-mkrecovery.8", page.to_roff().as_bytes())
}

/// Opens a page.
pub(super) fn title(page: &mut Roff, name: &str, section: &str) {
    // The date stays empty: the same source makes the same page on every day.
    page.control("TH", [name, section, "\"\"", "firmcast", "firmcast"]);
}

/// Closes a page.
pub(super) fn see_also(page: &mut Roff, pages: &str) {
    page.control("SH", ["SEE ALSO"]).text([roman(pages.to_owned())]);
}

/// Begins with a capital and ends with a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter();
    let end = if text.ends_with('.') { "" } else { "." };
    first.chain(letters).chain(end.chars()).collect()
}
