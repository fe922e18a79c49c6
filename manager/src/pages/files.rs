//! The manual of files, made of their commented examples in docs/: a comment, and the setting that
//! it explains.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap_mangen::roff::{Roff, bold, roman};

use super::host::{see_also, title};

/// A file with a page of its own.
pub(super) struct File {
    /// Its commented example.
    example: &'static str,
    /// Name of the page.
    page: &'static str,
    what: &'static str,
    see_also: &'static str,
}

/// All of them.
pub(super) const FILES: [File; 2] = [
    File {
        example: "docs/agent.toml",
        page: "agent.toml",
        what: "settings of firmcastd on a host",
        see_also: "firmcastd(8), firmcast-mkrecovery(8)",
    },
    File {
        example: "docs/policy.toml",
        page: "firmcast-policy",
        what: "whom firmcast serve helps, and with which version",
        see_also: "firmcast-serve(1), firmcast-status(1)",
    },
];

impl File {
    pub(super) fn write(&self, source: &Path, folder: &Path) -> anyhow::Result<()> {
        let path = source.join(self.example);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut page = Roff::new();
        title(&mut page, self.page, "5");
        page.control("SH", ["NAME"]).text([roman(format!("{} - {}", self.page, self.what))]);
        page.control("SH", ["DESCRIPTION"]);
        let mut blocks = text.split("\n\n");
        let head = blocks.next().unwrap_or_default();
        page.text([roman(comment(head).join(" "))]).control("SH", ["SETTINGS"]);
        for block in blocks {
            page.control("TP", []);
            for line in settings(block) {
                page.text([bold(line.to_owned())]).control("br", []);
            }
            page.text([roman(comment(block).join(" "))]);
        }
        see_also(&mut page, self.see_also);
        super::write(folder, &format!("{}.5", self.page), page.to_roff().as_bytes())
    }
}

/// The lines of a comment.
fn comment(block: &str) -> Vec<&str> {
    block.lines().filter_map(|line| line.strip_prefix("# ")).collect()
}

/// The settings, which stand behind a `#` without a space.
fn settings(block: &str) -> impl Iterator<Item = &str> {
    block
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' ') && !line.is_empty())
}
