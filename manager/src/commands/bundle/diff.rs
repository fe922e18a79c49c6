//! `firmcast bundle diff`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use firmcast::image::{
    Bundle, BundleError, IMAGE_MAX, SignedManifest, VerifiedImage, VerifiedManifest,
};
use firmcast::keys::ReleasePublicKey;
use firmcast_manager::contents::{Difference, Picture, Subject, draw};

use super::file::{self, Readers};
use super::open::trusted;
use crate::driver::{output, stderr};

/// Exit statuses, as diff(1) has them.
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Read the first bundle, or the image or dump of a whole chip, from FILE
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// Read the second one from FILE
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Look into bundles that this public release key (or the one in this file) signed; may be
    /// repeated
    #[arg(long = "trust", value_name = "KEY")]
    trust: Vec<String>,
    /// Draw a map of the second one, with what differs from the first one, into FILE, which must
    /// not exist
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a file holds.
enum Loaded {
    Image(Vec<u8>),
    Bundle { manifest: Box<VerifiedManifest>, image: VerifiedImage, signer: String },
}

impl DiffArgs {
    pub(crate) fn run(self) -> ExitCode {
        match self.print() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(DIFFERENT),
            Err(error) => {
                stderr::tell(format_args!("{error:#}"));
                ExitCode::from(TROUBLE)
            }
        }
    }

    /// Returns whether nothing differs.
    fn print(&self) -> anyhow::Result<bool> {
        if let Some(path) = &self.svg {
            file::ensure_absent(path)?;
        }
        let keys = trusted(&self.trust)?;
        let (old, new) = (Loaded::read(&self.old, &keys)?, Loaded::read(&self.new, &keys)?);
        let (old, new) = (old.subject(), new.subject());
        let difference = Difference::between(&old, &new);
        if let Some(path) = &self.svg {
            let [old_name, new_name] = [&self.old, &self.new].map(|path| path.to_string_lossy());
            let other = Some((&old, &*old_name));
            let picture = draw(&Picture { subject: &new, title: &new_name, other });
            file::write_new(path, picture.as_bytes(), Readers::Everybody)?;
        }
        match self.json {
            true => {
                let json = serde_json::to_string_pretty(&difference).context("cannot make JSON")?;
                output::print(&(json + "\n"))?
            }
            false => output::print(&difference.text())?,
        };
        Ok(difference.same)
    }
}

impl Loaded {
    fn read(path: &Path, keys: &[ReleasePublicKey]) -> anyhow::Result<Self> {
        let bytes = file::read_bundle(path)?;
        Self::parse(bytes, keys).with_context(|| path.display().to_string())
    }

    fn parse(bytes: Vec<u8>, keys: &[ReleasePublicKey]) -> anyhow::Result<Self> {
        let bundle = match Bundle::parse(&bytes) {
            Ok(bundle) => bundle,
            Err(BundleError::NotABundle) => {
                ensure!(
                    (1..=IMAGE_MAX).contains(&bytes.len()),
                    "neither a bundle nor an image: {} bytes, expected 1 to {IMAGE_MAX}",
                    bytes.len()
                );
                return Ok(Self::Image(bytes));
            }
            Err(error) => return Err(error.into()),
        };
        let signed = SignedManifest::parse(bundle.manifest)?;
        let signer = signed.signer().to_string();
        if keys.is_empty() {
            bail!(super::needs_trust(&signer));
        }
        let manifest = signed.verify(keys)?;
        let image = manifest.open_payload(bundle.payload)?;
        Ok(Self::Bundle { manifest: Box::new(manifest), image, signer })
    }

    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Image(bytes) => Subject::of_image(bytes),
            Self::Bundle { manifest, image, signer } => {
                Subject::of_bundle(manifest, image.bytes(), signer)
            }
        }
    }
}
