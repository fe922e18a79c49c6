//! `firmcast bundle create`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use firmcast::image::layout::{Fit, boot_offset};
use firmcast::image::{Description, FirmwareFormat};
use firmcast::keys::{self, PublicKey as _, ReleaseSecretKey, SecretKey as _};

use super::file;
use super::open::open;
use super::parts::{Cargo, Parts};
use super::policy::Policy;
use super::sign::sign;
use super::variables::tell_if_no_variable_store;
use crate::driver::output;
use crate::driver::stderr;

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    parts: Parts,
    /// Set the version that people read
    #[arg(long)]
    version: String,
    /// Set the security version; hosts refuse a lower one than they run
    #[arg(long, value_name = "N")]
    security_version: u64,
    /// Name the board's maker, exactly as in /sys/class/dmi/id/sys_vendor
    #[arg(long)]
    vendor: String,
    /// Name a board that the image is for, exactly as in /sys/class/dmi/id/product_name; may be
    /// repeated
    #[arg(long = "product", value_name = "PRODUCT", required = true)]
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
        let image = &cargo.image;
        let bytes = sign(self.description(&cargo)?, image, &key)
            .with_context(|| format!("cannot make a bundle of {}", self.parts.names()))?;
        file::write_new(&self.out, &bytes, file::Readers::Everybody)?;
        tell_if_no_variable_store(&self.out.display().to_string(), &open(&bytes, &[])?.manifest);
        if FirmwareFormat::recognise(image).is_none() {
            stderr::tell(format_args!(
                "warning: {} is of no firmware format known here: check that it is what \
                 the chip should hold",
                self.parts.names()
            ));
        }
        self.tell_doubts(&cargo);
        output::print(&format!(
            "{}: version {}, {} bytes, signed by {}\n",
            self.out.display(),
            self.version,
            bytes.len(),
            key.public().fingerprint()
        ))
    }

    /// Tells what nothing in the image says, although a power cut may make it matter.
    fn tell_doubts(&self, cargo: &Cargo) {
        let image = &cargo.image;
        let boot = boot_offset(image);
        if cargo.parts.is_empty() && self.policy.boot_offset.is_none() && !boot.by.is_known() {
            stderr::tell(format_args!(
                "warning: where the processor starts is {}: {:#x} is written last; give \
                 --boot-offset if it is elsewhere",
                boot.by, boot.offset_bytes
            ));
        }
        if let Err(flaw) = Fit::find(image) {
            stderr::tell(format_args!(
                "warning: at {:#x}: {flaw}; hosts with Intel Boot Guard will refuse the image",
                flaw.offset_bytes
            ));
        }
    }

    fn description(&self, cargo: &Cargo) -> anyhow::Result<Description> {
        let Cargo { image, parts } = cargo;
        let seen = boot_offset(image);
        // A part need not have the place where the processor starts.
        let seen = (parts.is_empty() || seen.by.is_known()).then_some(seen.offset_bytes);
        Ok(Description {
            version: self.version.clone(),
            security_version: self.security_version,
            vendor: self.vendor.clone(),
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
