//! `firmcast bundle show`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use firmcast::image::layout::{LayoutRegion, boot_offset_reason};
use firmcast::image::{
    Bundle, Digest, FirmwareFormat, Manifest, Part, PayloadFormat, RegionAction, SignedManifest,
};
use firmcast::keys::{self, ReleasePublicKey};
use firmcast_manager::contents::{Listing, Picture, Subject, draw};
use serde::{Serialize, Serializer};

use super::file::{self, Readers};
use super::variables::NO_VARIABLE_STORE;
use crate::driver::output;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Read the bundle from FILE
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// Fail unless this public release key (or the one in this file) signed the bundle; may be
    /// repeated, then any of them will do
    #[arg(long = "trust", value_name = "KEY")]
    trust: Vec<String>,
    /// List what the image consists of: regions, volumes, files; needs --trust
    #[arg(long)]
    tree: bool,
    /// Draw a map of the chip into FILE, which must not exist; needs --trust
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is shown. The names are part of the command's interface.
#[derive(Debug, Serialize)]
struct Report {
    version: String,
    security_version: u64,
    vendor: String,
    products: Vec<String>,
    update_from: Vec<String>,
    expect_version: Option<String>,
    regions: Vec<PolicyRegion>,
    /// What the image says of itself; hosts compare it with their chip.
    layout: Vec<LayoutLine>,
    new_layout: bool,
    /// The parts of a chip that the image covers; empty where it is the whole chip.
    parts: Vec<PartLine>,
    /// What Intel Boot Guard finds in the image; hosts compare it with their chip.
    boot_guard: Vec<String>,
    new_boot_guard: bool,
    /// A UEFI image in which no variable store is known.
    lacks_variable_store: bool,
    boot_offset_bytes: Option<u64>,
    /// Why; only looked at when the signature was checked.
    boot_offset_reason: Option<String>,
    host: Option<String>,
    image: Image,
    payload: Payload,
    signature: Signature,
    /// What the image consists of, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<Listing>,
}

#[derive(Debug, Serialize)]
struct PolicyRegion {
    name: String,
    #[serde(serialize_with = "by_name")]
    action: RegionAction,
    offset_bytes: u64,
    length_bytes: u64,
}

fn by_name<S: Serializer>(action: &RegionAction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.name())
}

/// A part of a chip that the image covers.
#[derive(Debug, Serialize)]
struct PartLine {
    name: String,
    length_bytes: u64,
    /// On the chip; none where each chip's own layout tells.
    offset_bytes: Option<u64>,
    /// In the image, from the start of which all other offsets count.
    image_offset_bytes: u64,
}

#[derive(Debug, Serialize)]
struct LayoutLine {
    kind: &'static str,
    name: String,
    offset_bytes: u64,
    length_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Image {
    size_bytes: usize,
    sha256: String,
    block_size_bytes: usize,
    blocks: usize,
    /// Only looked at when the signature was checked.
    format: Option<String>,
}

#[derive(Debug, Serialize)]
struct Payload {
    compression: &'static str,
    size_bytes: usize,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct Signature {
    key: String,
    trusted: bool,
}

impl ShowArgs {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(path) = &self.svg {
            file::ensure_absent(path)?;
        }
        let report = self.report().with_context(|| format!("bundle {}", self.bundle.display()))?;
        if self.json {
            let json = serde_json::to_string_pretty(&report).context("cannot make JSON")?;
            output::print(&(json + "\n"))
        } else {
            output::print(&report.table())
        }
    }

    /// Looks at all of the bundle before anything is shown.
    fn report(&self) -> anyhow::Result<Report> {
        let trusted = self.trust.iter().map(|key| keys::load_public(key));
        let trusted: Vec<ReleasePublicKey> = trusted.collect::<Result<_, _>>()?;
        let bytes = file::read_bundle(&self.bundle)?;
        let bundle = Bundle::parse(&bytes)?;
        let signed = SignedManifest::parse(bundle.manifest)?;
        let key = signed.signer().to_string();
        if trusted.is_empty() {
            if self.tree || self.svg.is_some() {
                bail!(super::needs_trust(&key));
            }
            let manifest = signed.unverified()?;
            manifest.check_payload(bundle.payload)?;
            return Ok(Report::new(&manifest, None, Signature { key, trusted: false }));
        }
        let manifest = signed.verify(&trusted)?;
        let image = manifest.open_payload(bundle.payload)?;
        let signature = Signature { key: key.clone(), trusted: true };
        let mut report = Report::new(&manifest, Some(image.bytes()), signature);
        if self.tree || self.svg.is_some() {
            let subject = Subject::of_bundle(&manifest, image.bytes(), &key);
            report.tree = self.tree.then(|| Listing::of(&subject.tree));
            self.draw(&manifest, &subject)?;
        }
        Ok(report)
    }

    fn draw(&self, manifest: &Manifest, subject: &Subject) -> anyhow::Result<()> {
        let Some(path) = &self.svg else { return Ok(()) };
        let (vendor, products) = (manifest.vendor(), manifest.products().join(", "));
        let mut title = format!("{vendor} {products}, version {}", manifest.version());
        for part in PartLine::all(manifest.parts()) {
            let _ = write!(title, "; only part {}", part.text());
        }
        let picture = draw(&Picture { subject, title: &title, other: None });
        file::write_new(path, picture.as_bytes(), Readers::Everybody)
    }
}

impl Report {
    fn new(manifest: &Manifest, image: Option<&[u8]>, signature: Signature) -> Self {
        let regions = manifest.regions().iter().cloned();
        Report {
            version: manifest.version().to_owned(),
            security_version: manifest.security_version(),
            vendor: manifest.vendor().to_owned(),
            products: manifest.products().to_vec(),
            update_from: manifest.update_from().to_vec(),
            expect_version: manifest.expect_version().map(str::to_owned),
            regions: regions
                .map(|r| PolicyRegion {
                    name: r.name,
                    action: r.action,
                    offset_bytes: r.offset_bytes,
                    length_bytes: r.length_bytes,
                })
                .collect(),
            layout: manifest.layout().regions().iter().map(LayoutLine::new).collect(),
            new_layout: manifest.may_change_layout(),
            parts: PartLine::all(manifest.parts()),
            boot_guard: manifest
                .boot_guard()
                .components()
                .iter()
                .map(ToString::to_string)
                .collect(),
            new_boot_guard: manifest.may_change_boot_guard(),
            lacks_variable_store: manifest.lacks_variable_store(),
            boot_offset_bytes: manifest.boot_offset_bytes(),
            boot_offset_reason: image
                .zip(manifest.boot_offset_bytes())
                .map(|(image, offset_bytes)| boot_offset_reason(image, offset_bytes)),
            host: manifest.host().map(ToString::to_string),
            image: Image {
                size_bytes: manifest.image_size_bytes(),
                sha256: hex(manifest.image_digest()),
                block_size_bytes: manifest.block_size_bytes(),
                blocks: manifest.block_digests().len(),
                format: image.map(format),
            },
            payload: Payload {
                compression: match manifest.payload_format() {
                    PayloadFormat::Raw => "none",
                    PayloadFormat::Zstd => "zstd",
                },
                size_bytes: manifest.payload_size_bytes(),
                sha256: hex(manifest.payload_digest()),
            },
            signature,
            tree: None,
        }
    }

    fn table(&self) -> String {
        let mut table = String::new();
        let mut row = |name: &str, value: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(table, "{name:<17} {value}");
        };
        row("version", &self.version);
        row("security version", &self.security_version.to_string());
        row("vendor", &self.vendor);
        self.products.iter().for_each(|product| row("product", product));
        row("updates from", &any_of(&self.update_from));
        row("shows as", self.expect_version.as_deref().unwrap_or("not stated"));
        row("image", &format!("{} bytes", self.image.size_bytes));
        row("image sha256", &self.image.sha256);
        if let Some(format) = &self.image.format {
            row("image format", format);
        }
        let Payload { compression, size_bytes, .. } = &self.payload;
        row("payload", &format!("{size_bytes} bytes, compression {compression}"));
        for PolicyRegion { name, action, offset_bytes, length_bytes } in &self.regions {
            row(
                &match action {
                    RegionAction::Volatile => "volatile".to_owned(),
                    other => format!("{}s", other.name()),
                },
                &format!("{name}: {length_bytes:#x} bytes at {offset_bytes:#x}"),
            );
        }
        self.parts.iter().for_each(|part| row("only part", &part.text()));
        if !self.parts.is_empty() {
            row("offsets", "count from the start of the image, not of the chip");
        }
        for LayoutLine { kind, name, offset_bytes, length_bytes } in &self.layout {
            row(
                "layout",
                &format!("{name} ({kind}): {length_bytes:#x} bytes at {offset_bytes:#x}"),
            );
        }
        if self.lacks_variable_store {
            row("WARNING", NO_VARIABLE_STORE);
        }
        if self.new_layout {
            row("new layout", "the chip may have another one");
        }
        self.boot_guard.iter().for_each(|component| row("boot guard", component));
        if self.new_boot_guard {
            row("new boot guard", "the chip may have another one");
        }
        if let Some(offset_bytes) = self.boot_offset_bytes {
            let why = self.boot_offset_reason.as_ref().map(|why| format!(": {why}"));
            row("starts at", &format!("{offset_bytes:#x}{}", why.unwrap_or_default()));
        }
        if let Some(host) = &self.host {
            row("only for host", host);
        }
        row("signature", &self.signature.text());
        if let Some(tree) = &self.tree {
            table.push_str(&format!("\n{}", tree.text()));
        }
        table
    }
}

impl PartLine {
    fn all(parts: &[Part]) -> Vec<Self> {
        let mut end_bytes = 0u64;
        let following = parts.iter().cloned().map(|part| {
            let Part { name, length_bytes, offset_bytes } = part;
            let image_offset_bytes = end_bytes;
            end_bytes = end_bytes.saturating_add(length_bytes);
            Self { name, length_bytes, offset_bytes, image_offset_bytes }
        });
        following.collect()
    }

    fn text(&self) -> String {
        let Self { name, length_bytes, offset_bytes, image_offset_bytes } = self;
        let place = match offset_bytes {
            None => format!("in the region {name} of each chip"),
            Some(offset_bytes) => format!("at {offset_bytes:#x} of the chip"),
        };
        format!("{name}: {length_bytes:#x} bytes at {image_offset_bytes:#x} of the image, {place}")
    }
}

impl LayoutLine {
    fn new(region: &LayoutRegion) -> Self {
        let LayoutRegion { kind, name, offset_bytes, length_bytes } = region.clone();
        Self { kind: kind.name(), name, offset_bytes, length_bytes }
    }
}

impl Signature {
    fn text(&self) -> String {
        if self.trusted {
            format!("good, by trusted release key {}", self.key)
        } else {
            format!(
                "NOT CHECKED: claims release key {}; give --trust RELEASE.pub to check it",
                self.key
            )
        }
    }
}

fn format(image: &[u8]) -> String {
    FirmwareFormat::recognise(image).map_or("not known".to_owned(), |format| format.to_string())
}

fn any_of(versions: &[String]) -> String {
    if versions.is_empty() { "any version".to_owned() } else { versions.join(", ") }
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
