//! `firmcast bundle create`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use firmcast::image::Description;
use firmcast::image::layout::boot_offset;
use firmcast::keys::{self, PublicKey as _, ReleaseSecretKey, SecretKey as _};

use super::doubts::Doubts;
use super::file;
use super::open::open;
use super::parts::{Cargo, Parts};
use super::policy::Policy;
use super::sign::sign;
use super::variables::tell_if_no_variable_store;
use super::wrapped::Missing;
use crate::driver::output;
use crate::driver::stderr;

/// Exit status for wrong usage.
const WRONG_USAGE: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    parts: Parts,
    /// Set the version that people read
    #[arg(long)]
    version: Option<String>,
    /// Set the security version; hosts refuse a lower one than they run
    #[arg(long, value_name = "N")]
    security_version: u64,
    /// Name the board's maker, exactly as in /sys/class/dmi/id/sys_vendor
    #[arg(long)]
    vendor: Option<String>,
    /// Name a board that the image is for, exactly as in /sys/class/dmi/id/product_name; may be
    /// repeated
    #[arg(long = "product", value_name = "PRODUCT")]
    products: Vec<String>,
    /// Update only hosts that run this version (/sys/class/dmi/id/bios_version); may be repeated
    #[arg(long = "update-from", value_name = "VERSION")]
    update_from: Vec<String>,
    /// Expect hosts to show this bios_version once the new firmware runs
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<String>,
    #[command(flatten)]
    policy: Policy,
    /// Sign the bundle with the private release key in FILE
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the bundle to FILE, which must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl CreateArgs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        file::ensure_absent(&self.out)?;
        let key: ReleaseSecretKey = keys::load_secret(&self.key)?;
        let cargo = self.parts.read()?;
        if let Some(sentence) = self.missing().sentence(cargo.metainfo.as_ref()) {
            stderr::tell(sentence);
            return Ok(ExitCode::from(WRONG_USAGE));
        }
        let description = self.description(&cargo)?;
        let name = self.parts.names();
        let doubts = Doubts {
            name: &name,
            image: &cargo.image,
            regions: &description.regions.clone(),
            is_part: !cargo.parts.is_empty(),
            has_boot_offset: self.policy.boot_offset.is_some(),
        };
        let cannot = || format!("cannot make a bundle of {name}");
        doubts.ensure_whole().with_context(cannot)?;
        doubts.tell();
        let bytes = sign(description, cargo.image, &key).with_context(cannot)?;
        file::write_new(&self.out, &bytes, file::Readers::Everybody)?;
        tell_if_no_variable_store(&self.out.display().to_string(), &open(&bytes, &[])?.manifest);
        output::print(&format!(
            "{}: version {}, {} bytes, signed by {}\n",
            self.out.display(),
            self.version.as_deref().unwrap_or_default(),
            bytes.len(),
            key.public().fingerprint()
        ))
    }

    fn missing(&self) -> Missing<'_> {
        Missing {
            version: self.version.as_deref(),
            vendor: self.vendor.as_deref(),
            products: &self.products,
        }
    }

    fn description(&self, cargo: &Cargo) -> anyhow::Result<Description> {
        let Cargo { image, parts, .. } = cargo;
        let seen = boot_offset(image);
        // A part need not have the place where the processor starts.
        let seen = (parts.is_empty() || seen.by.is_known()).then_some(seen.offset_bytes);
        Ok(Description {
            version: self.version.clone().unwrap_or_default(),
            security_version: self.security_version,
            vendor: self.vendor.clone().unwrap_or_default(),
            products: self.products.clone(),
            update_from: self.update_from.clone(),
            expect_version: self.expect_version.clone(),
            regions: self.policy.regions(image, parts)?,
            boot_offset_bytes: self.policy.boot_offset.or(seen),
            host: None,
            new_layout: self.policy.new_layout,
            new_boot_guard: self.policy.new_boot_guard,
            parts: parts.clone(),
        })
    }
}
