//! The image in an operator's file, and what the file says of the bundle to be made.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use firmcast::image::IMAGE_MAX;
use firmcast_manager::wrapping::{Metainfo, Options, Unwrapped, unwrap};

use super::file;
use crate::driver::stderr;

#[derive(Debug, Args)]
pub(super) struct Wrapped {
    /// Cut the header of a capsule off the image; the capsule's own signature is not checked
    #[arg(long)]
    strip_capsule: bool,
    /// Cut what the file has around the image and no chip holds: firmware of the embedded
    /// controller, padding
    #[arg(long)]
    strip_extra: bool,
    /// Take NAME out of an archive with several images
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
}

impl Wrapped {
    /// Returns the image of a chip, or of a part of one, in the file `path`, and tells what was
    /// done to come to it.
    pub(super) fn read(&self, path: &Path, is_part: bool) -> anyhow::Result<Unwrapped> {
        let options = Options {
            strip_capsule: self.strip_capsule,
            strip_extra: self.strip_extra,
            member: self.member.clone(),
            is_part,
        };
        let file = file::read("image", path, IMAGE_MAX)?;
        let unwrapped = unwrap(file, &options)
            .inspect_err(|refusal| tell_metainfo(refusal.metainfo.as_deref()))
            .with_context(|| format!("cannot make a bundle of {}", path.display()))?;
        for note in &unwrapped.notes {
            stderr::tell(format_args!("note: {}: {note}", path.display()));
        }
        tell_metainfo(unwrapped.metainfo.as_ref());
        Ok(unwrapped)
    }
}

fn tell_metainfo(metainfo: Option<&Metainfo>) {
    for line in metainfo.into_iter().flat_map(Metainfo::lines) {
        stderr::tell(format_args!("metainfo: {line}"));
    }
}

/// Whom a bundle is for, as an operator has to say it.
pub(super) struct Missing<'a> {
    pub(super) version: Option<&'a str>,
    pub(super) vendor: Option<&'a str>,
    pub(super) products: &'a [String],
}

impl Missing<'_> {
    /// Returns what to add to the command line; `None` where nothing is missing.
    ///
    /// What makers call themselves and their products is seldom what they write into DMI, so it is
    /// proposed and never taken.
    pub(super) fn sentence(&self, metainfo: Option<&Metainfo>) -> Option<String> {
        let release = metainfo.and_then(|metainfo| metainfo.releases.first());
        let proposed = [
            ("--version", self.version.is_none(), release.map(|release| &release.version)),
            ("--vendor", self.vendor.is_none(), metainfo.map(|metainfo| &metainfo.vendor)),
            ("--product", self.products.is_empty(), metainfo.map(|metainfo| &metainfo.name)),
        ];
        let missing: Vec<_> =
            proposed.into_iter().filter(|(_, is_missing, _)| *is_missing).collect();
        if missing.is_empty() {
            return None;
        }
        let names: Vec<&str> = missing.iter().map(|(option, ..)| *option).collect();
        let names = names.join(", ");
        let proposals: Vec<String> = missing
            .iter()
            .filter_map(|(option, _, value)| Some((option, value.filter(|text| !text.is_empty())?)))
            .map(|(option, value)| format!("{option} {}", quoted(value)))
            .collect();
        Some(match &proposals[..] {
            [] => format!("give {names}; firmcast discover shows vendor and product of hosts"),
            _ => format!(
                "give {names}; the metainfo proposes: {}; compare vendor and product with \
                 /sys/class/dmi/id/sys_vendor and product_name of a host, which often differ",
                proposals.join(" ")
            ),
        })
    }
}

/// Returns the text as a shell takes it for one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_can_be_pasted() {
        assert_eq!(quoted("O'Neill $(reboot)"), r"'O'\''Neill $(reboot)'");
        let all = Missing { version: Some("1"), vendor: Some("v"), products: &["p".to_owned()] };
        assert_eq!(all.sentence(None), None);
        let none = Missing { vendor: None, ..all };
        assert!(
            none.sentence(None).is_some_and(|told| told.starts_with("give --vendor; firmcast"))
        );
    }
}
