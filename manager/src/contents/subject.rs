//! One of two that are compared: a bundle, or an image alone.

use firmcast::image::tree::Tree;
use firmcast::image::{Digest, Manifest, Part, Region};
use serde::Serialize;
use serde_json::{Value, json};

/// A bundle's manifest and image, or an image that no manifest describes.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The image, or the dump of a chip.
    pub image: &'a [u8],
    /// What it consists of.
    pub tree: Tree,
    /// What the manifest says, by the names of `firmcast bundle show --json`. Of an image alone,
    /// its size.
    pub fields: Vec<(&'static str, Value)>,
    /// What an update does with regions; `None` for an image alone.
    pub rules: Option<Vec<Rule>>,
}

/// What an update does with a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Name of the region.
    pub name: String,
    /// `preserve`, `reset`, `replace` or `volatile`.
    pub action: &'static str,
    /// First byte.
    pub offset_bytes: u64,
    /// Length.
    pub length_bytes: u64,
}

impl<'a> Subject<'a> {
    /// An image that no manifest describes.
    pub fn of_image(image: &'a [u8]) -> Self {
        let fields = vec![("image_size_bytes", json!(image.len()))];
        Self { image, tree: Tree::read(image), fields, rules: None }
    }

    /// A bundle: what `manifest` says of `image`, and who signed it.
    pub fn of_bundle(manifest: &Manifest, image: &'a [u8], signer: &str) -> Self {
        let boot_guard = manifest.boot_guard().components().iter().map(ToString::to_string);
        let fields = vec![
            ("version", json!(manifest.version())),
            ("security_version", json!(manifest.security_version())),
            ("vendor", json!(manifest.vendor())),
            ("products", json!(manifest.products())),
            ("update_from", json!(manifest.update_from())),
            ("expect_version", json!(manifest.expect_version())),
            ("host", json!(manifest.host().map(ToString::to_string))),
            ("new_layout", json!(manifest.may_change_layout())),
            ("boot_guard", json!(boot_guard.collect::<Vec<_>>())),
            ("new_boot_guard", json!(manifest.may_change_boot_guard())),
            ("lacks_variable_store", json!(manifest.lacks_variable_store())),
            ("boot_offset_bytes", json!(manifest.boot_offset_bytes())),
            ("image_size_bytes", json!(image.len())),
            ("parts", manifest.parts().iter().map(part).collect()),
            ("signature_key", json!(signer)),
        ];
        let rules = Some(manifest.regions().iter().map(Rule::of).collect());
        Self { image, tree: Tree::read(image), fields, rules }
    }
}

impl Rule {
    fn of(region: &Region) -> Self {
        let Region { name, offset_bytes, length_bytes, action } = region.clone();
        Self { name, action: action.name(), offset_bytes, length_bytes }
    }
}

/// A part of the chip that the image covers; `null` for where the chip's own layout has it.
fn part(part: &Part) -> Value {
    let Part { name, length_bytes, offset_bytes } = part;
    json!({ "name": name, "length_bytes": length_bytes, "offset_bytes": offset_bytes })
}

pub(super) fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
