//! `firmcast bundle create`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use firmcast::image::{Description, FirmwareFormat, IMAGE_MAX, Region, RegionAction};
use firmcast::keys::{self, PublicKey as _, ReleaseSecretKey, SecretKey as _};

use super::file;
use super::sign::sign;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The firmware image: all of the flash chip
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// Version, for people
    #[arg(long)]
    version: String,
    /// Hosts refuse a bundle whose security version is lower than the one they run
    #[arg(long, value_name = "N")]
    security_version: u64,
    /// The board's maker, exactly as in /sys/class/dmi/id/sys_vendor
    #[arg(long)]
    vendor: String,
    /// A board that the image is for, exactly as in /sys/class/dmi/id/product_name; may be repeated
    #[arg(long = "product", value_name = "PRODUCT", required = true)]
    products: Vec<String>,
    /// Update only hosts that run this version (/sys/class/dmi/id/bios_version); may be repeated
    #[arg(long = "update-from", value_name = "VERSION")]
    update_from: Vec<String>,
    /// The bios_version that hosts show once the new firmware runs
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<String>,
    /// A region whose contents on the host stay; numbers in decimal, 0x hex, or with K or M; may be repeated
    #[arg(long = "preserve", value_name = "NAME=OFFSET:LENGTH", value_parser = parse_region)]
    preserve: Vec<Region>,
    /// The private release key that signs the bundle
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The bundle file to make; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl CreateArgs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        file::ensure_absent(&self.out)?;
        let key: ReleaseSecretKey = keys::load_secret(&self.key)?;
        let image = file::read("image", &self.image, IMAGE_MAX)?;
        let bytes = sign(self.description(), &image, &key)
            .with_context(|| format!("cannot make a bundle of {}", self.image.display()))?;
        file::write_new(&self.out, &bytes)?;
        if FirmwareFormat::recognise(&image).is_none() {
            eprintln!(
                "firmcast: warning: {} is of no firmware format known here: check that it is what the chip should hold",
                self.image.display()
            );
        }
        output::print(&format!(
            "{}: version {}, {} bytes, signed by {}\n",
            self.out.display(),
            self.version,
            bytes.len(),
            key.public().fingerprint()
        ))
    }

    fn description(&self) -> Description {
        let mut regions = self.preserve.clone();
        regions.sort_by_key(|region| region.offset_bytes);
        Description {
            version: self.version.clone(),
            security_version: self.security_version,
            vendor: self.vendor.clone(),
            products: self.products.clone(),
            update_from: self.update_from.clone(),
            expect_version: self.expect_version.clone(),
            regions,
            ..Description::default()
        }
    }
}

fn parse_region(text: &str) -> Result<Region, String> {
    const FORM: &str = "expected NAME=OFFSET:LENGTH, for instance vars=0x0:128K";
    let (name, range) = text.rsplit_once('=').ok_or(FORM)?;
    let (offset, length) = range.split_once(':').ok_or(FORM)?;
    Ok(Region {
        name: name.to_owned(),
        offset_bytes: parse_bytes(offset)?,
        length_bytes: parse_bytes(length)?,
        action: RegionAction::Preserve,
    })
}

/// A number of bytes in decimal or hex, with an optional factor K (1024) or M.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1u64),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        None if !digits.starts_with('+') => digits.parse().ok(),
        _ => None,
    };
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text:?} is not a number of bytes, such as 65536, 0x10000 or 64K"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_read_as_documented() {
        let region = |name: &str, offset_bytes, length_bytes| {
            let action = RegionAction::Preserve;
            Ok(Region { name: name.into(), offset_bytes, length_bytes, action })
        };
        assert_eq!(parse_region("vars=0x0:128K"), region("vars", 0, 0x2_0000));
        assert_eq!(parse_region("a=b=16:0x1M"), region("a=b", 16, 1 << 20));
        for bad in [
            "",
            "vars",
            "vars=1",
            "vars=:1",
            "vars=1:",
            "vars=+1:1",
            "vars=0x+1:1",
            "v=1:-1",
            "v=1:K",
            "v=0:18446744073709551615K",
            "v=0x:1",
            "v=1 :1",
            "v=é:1",
            "v=1:é",
        ] {
            assert!(parse_region(bad).is_err(), "{bad}");
        }
    }
}
