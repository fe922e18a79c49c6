//! The manifest's bytes: one CBOR map (RFC 8949) with integer labels, in deterministic encoding
//! (section 4.2.1).
//!
//! | label | field | RFC 9124 element | CBOR |
//! | --- | --- | --- | --- |
//! | 1 | structure version, 1 | 3.1 Version ID of the Manifest Structure | uint |
//! | 2 | security version | 3.2 Monotonic Sequence Number | uint |
//! | 3 | vendor | 3.3 Vendor ID | tstr |
//! | 4 | products | 3.4 Class ID | \[1\* tstr\] |
//! | 5 | update from (absent: any) | 3.6 Required Image Version List | \[1\* tstr\] |
//! | 6 | payload format: 0 raw, 1 zstd | 3.8 Payload Format | uint |
//! | 7 | payload size | 3.14 Size | uint |
//! | 8 | payload digest | 3.13 Payload Digests | bstr, 32 bytes |
//! | 9 | image size | 3.14 Size | uint |
//! | 10 | image digest | 3.13 Payload Digests | bstr, 32 bytes |
//! | 11 | block size | 3.14 Size | uint |
//! | 12 | block digests | 3.13 Payload Digests | bstr, 32 bytes for each block |
//! | 13 | version | 3.17 Manifest Text Information | tstr |
//! | 14 | expected version (absent: not known) | 3.17 Manifest Text Information | tstr |
//! | 15 | preserved regions (absent: none) | 3.10 Storage Location | regions |
//! | 16 | stable digest | 3.13 Payload Digests | bstr, 32 bytes |
//! | 17 | reset regions (absent: none) | 3.10 Storage Location | regions |
//! | 18 | replaced regions (absent: none) | 3.10 Storage Location | regions |
//! | 19 | where the processor starts (absent: at the last byte) | 3.10 Storage Location | uint |
//! | 20 | the only host that the image is for (absent: any) | none | bstr, 32 bytes |
//! | 21 | the image's layout (absent: none is known) | 3.10 Storage Location | layout |
//! | 22 | 1: the layout may differ from the chip's (absent: no) | 3.10 Storage Location | uint |
//! | 23 | volatile regions (absent: none but those below) | 3.10 Storage Location | regions |
//! | 24 | 1: Boot Guard's components may differ from the chip's (absent: no) | 3.10 | uint |
//! | 25 | Boot Guard's components in the image (absent: none) | 3.10 | components |
//! | 26 | 1: a UEFI image in which no variable store is known (absent: no) | none | uint |
//! | 27 | the parts of the chip that the image covers (absent: the whole chip) | 3.10 | parts |
//!
//! ```text
//! regions = [1* [name tstr, offset uint, length uint]]
//! layout  = [1* [kind uint, name tstr, offset uint, length uint]]
//! parts   = [1* part]
//! part    = [name tstr, length uint]                         ; the chip's region of this name
//!         / [name tstr, length uint, offset uint]            ; a range of the chip
//! components = [1* component]
//! component  = [2, chipset uint, flags uint, vendor uint]    ; startup ACM
//!            / [11, SHA-256 of the key bstr, SVN uint]       ; key manifest
//!            / [12, 0 / 1 / 2, SVN uint]                     ; boot policy manifest
//!            / [2 / 11 / 12]                                 ; one that is not understood
//! ```
//!
//! Where 27 is there, the image is its parts, one behind the other, and all offsets of other fields
//! are those of the image.
//!
//! The stable digest is that of the image outside the regions of 15, 17, 18 and 23. The regions of
//! 18 are those that the firmware changes when it runs; those of 23 are kept, and the firmware
//! changes them.
//!
//! A region of 15 that is a variable store by 21 is volatile, and stands in 15 and not in 23: an
//! agent that knows no 23 treats it as it should. For the same reason kinds of regions from 9 on
//! stand in 21 as 255, and their names tell them.
//!
//! Vendor and class are the DMI strings themselves, not UUIDs made from them: an operator can read
//! and compare them. A label that is not in the table is an error, because it may restrict what the
//! bundle is for.

use ciborium::Value;

use super::boot_guard::{BootGuard, COMPONENTS_MAX, Component, ComponentKind};
use super::layout::{Layout, LayoutRegion, RegionKind};
use super::manifest::{Description, Manifest, ManifestError, PayloadFormat};
use super::{Digest, Part, Region, RegionAction};
use crate::keys::Fingerprint;
use crate::order::sort_by_rank;

const STRUCTURE_VERSION: u64 = 1;

/// Label and name of each field, the label being the index plus one.
const FIELDS: [&str; 27] = [
    "structure version",
    "security version",
    "vendor",
    "products",
    "update from",
    "payload format",
    "payload size",
    "payload digest",
    "image size",
    "image digest",
    "block size",
    "block digests",
    "version",
    "expected version",
    "preserved regions",
    "stable digest",
    "reset regions",
    "replaced regions",
    "boot offset",
    "host",
    "layout",
    "new layout",
    "volatile regions",
    "new boot guard",
    "boot guard",
    "no variable store known",
    "parts",
];

/// The labels of the lists of regions, in the order of [`RegionAction::ALL`].
const REGION_LABELS: [usize; 4] = [15, 17, 18, 23];

/// Returns the bytes of `manifest`; the same contents always give the same bytes.
pub(super) fn emit(manifest: &Manifest) -> Vec<u8> {
    let d = &manifest.description;
    let fields = [
        Some(STRUCTURE_VERSION.into()),
        Some(d.security_version.into()),
        Some(d.vendor.as_str().into()),
        texts(&d.products),
        texts(&d.update_from),
        Some((manifest.payload_format as u64).into()),
        Some(manifest.payload_bytes.into()),
        Some(Value::Bytes(manifest.payload_digest.to_vec())),
        Some(manifest.image_bytes.into()),
        Some(Value::Bytes(manifest.image_digest.to_vec())),
        Some(manifest.block_bytes.into()),
        Some(Value::Bytes(manifest.block_digests.concat())),
        Some(d.version.as_str().into()),
        d.expect_version.as_deref().map(Value::from),
        regions(manifest, RegionAction::Preserve),
        Some(Value::Bytes(manifest.stable_digest.to_vec())),
        regions(manifest, RegionAction::Reset),
        regions(manifest, RegionAction::Replace),
        d.boot_offset_bytes.map(Value::from),
        d.host.map(|host| Value::Bytes(host.as_bytes().to_vec())),
        list(manifest.layout.regions().iter().map(layout_value).collect()),
        d.new_layout.then(|| 1.into()),
        regions(manifest, RegionAction::Volatile),
        d.new_boot_guard.then(|| 1.into()),
        list(manifest.boot_guard.components().iter().map(component_value).collect()),
        manifest.lacks_variable_store.then(|| 1.into()),
        list(d.parts.iter().map(part_value).collect()),
    ];
    let labelled = fields.into_iter().zip(1u64..);
    let map = labelled.filter_map(|(value, label)| Some((label.into(), value?))).collect();
    let mut bytes = Vec::new();
    ciborium::into_writer(&Value::Map(map), &mut bytes).expect("a Vec takes all bytes");
    bytes
}

/// Returns the manifest in `bytes`, every rule checked.
pub(super) fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let mut rest = bytes;
    let value: Value = ciborium::from_reader(&mut rest).map_err(|_| bad("it is not CBOR"))?;
    let Value::Map(entries) = value else { return Err(bad("it is not a CBOR map")) };
    let mut fields = Fields::default();
    for (label, value) in entries {
        fields.insert(label, value)?;
    }
    let manifest = fields.into_manifest()?;
    manifest.check()?;
    // Also catches duplicate labels, other orders and lengths, and bytes behind the map.
    if emit(&manifest) != bytes {
        return Err(ManifestError::NotDeterministic);
    }
    Ok(manifest)
}

/// The values of the map, by label.
#[derive(Default)]
struct Fields([Option<Value>; FIELDS.len()]);

impl Fields {
    fn insert(&mut self, label: Value, value: Value) -> Result<(), ManifestError> {
        let label: i128 = label.into_integer().map_err(|_| bad("a label is not a number"))?.into();
        let index = usize::try_from(label - 1).ok().filter(|&index| index < FIELDS.len());
        let index = index.ok_or(ManifestError::Newer { what: "field", value: label })?;
        self.0[index] = Some(value);
        Ok(())
    }

    fn into_manifest(mut self) -> Result<Manifest, ManifestError> {
        match self.uint(1)? {
            STRUCTURE_VERSION => (),
            value => return Err(ManifestError::Newer { what: "version", value: value.into() }),
        }
        let description = Description {
            security_version: self.uint(2)?,
            vendor: self.take(3).and_then(text)?,
            products: self.take(4).and_then(text_list)?,
            update_from: self.0[4].take().map_or(Ok(Vec::new()), text_list)?,
            version: self.take(13).and_then(text)?,
            expect_version: self.0[13].take().map(text).transpose()?,
            regions: self.regions()?,
            boot_offset_bytes: self.0[18].take().map(uint).transpose()?,
            host: self.0[19].take().map(digest).transpose()?.map(Fingerprint::from_bytes),
            new_layout: self.0[21].take().map_or(Ok(false), flag)?,
            new_boot_guard: self.0[23].take().map_or(Ok(false), flag)?,
            parts: self.0[26].take().map_or(Ok(Vec::new()), parts)?,
        };
        let image_bytes = self.uint(9)?;
        let mut manifest = Manifest {
            description,
            payload_format: payload_format(self.uint(6)?)?,
            payload_bytes: self.uint(7)?,
            payload_digest: self.take(8).and_then(digest)?,
            image_bytes,
            image_digest: self.take(10).and_then(digest)?,
            block_bytes: self.uint(11)?,
            block_digests: self.take(12).and_then(digest_list)?,
            stable_digest: self.take(16).and_then(digest)?,
            layout: self.0[20]
                .take()
                .map_or(Ok(Layout::default()), |list| layout(list, image_bytes))?,
            boot_guard: self.0[24].take().map_or(Ok(BootGuard::default()), boot_guard)?,
            lacks_variable_store: self.0[25].take().map_or(Ok(false), flag)?,
        };
        manifest.let_firmware_write_its_variables();
        Ok(manifest)
    }

    fn regions(&mut self) -> Result<Vec<Region>, ManifestError> {
        let mut regions = Vec::new();
        for (label, action) in REGION_LABELS.into_iter().zip(RegionAction::ALL) {
            if let Some(list) = self.0[label - 1].take() {
                for value in array(list)? {
                    regions.push(region(value, action)?);
                }
            }
        }
        sort_by_rank(&mut regions, |region| [region.offset_bytes]);
        Ok(regions)
    }

    fn take(&mut self, label: u8) -> Result<Value, ManifestError> {
        let index = usize::from(label) - 1;
        self.0[index].take().ok_or(ManifestError::Missing { label, name: FIELDS[index] })
    }

    fn uint(&mut self, label: u8) -> Result<u64, ManifestError> {
        self.take(label).and_then(uint)
    }
}

fn bad(what: &'static str) -> ManifestError {
    ManifestError::Malformed { what }
}

fn texts(texts: &[String]) -> Option<Value> {
    list(texts.iter().map(|text| text.as_str().into()).collect())
}

/// Returns an array, or nothing for an empty one: absence has only one form.
fn list(values: Vec<Value>) -> Option<Value> {
    (!values.is_empty()).then_some(Value::Array(values))
}

/// Returns the list of regions that stand under the label of `action`.
fn regions(manifest: &Manifest, action: RegionAction) -> Option<Value> {
    let label = |region: &Region| match region.action {
        RegionAction::Volatile if manifest.is_variable_store(region) => RegionAction::Preserve,
        own => own,
    };
    let regions = manifest.regions().iter().filter(|region| label(region) == action);
    list(regions.map(region_value).collect())
}

fn region_value(region: &Region) -> Value {
    let fields =
        [region.name.as_str().into(), region.offset_bytes.into(), region.length_bytes.into()];
    Value::Array(fields.into())
}

fn layout_value(region: &LayoutRegion) -> Value {
    let (kind, name) = (region.kind.code_in_manifest(), region.name.as_str());
    Value::Array(vec![
        kind.into(),
        name.into(),
        region.offset_bytes.into(),
        region.length_bytes.into(),
    ])
}

fn part_value(part: &Part) -> Value {
    let fields = [Some(part.name.as_str().into()), Some(part.length_bytes.into())];
    let offset = part.offset_bytes.map(Value::from);
    Value::Array(fields.into_iter().chain([offset]).flatten().collect())
}

fn component_value(component: &Component) -> Value {
    let kind = Value::from(component.kind() as u8);
    Value::Array(match component {
        Component::Acm { chipset_id, flags, vendor } => {
            vec![kind, (*chipset_id).into(), (*flags).into(), (*vendor).into()]
        }
        Component::KeyManifest { key, svn } => {
            vec![kind, Value::Bytes(key.to_vec()), (*svn).into()]
        }
        Component::BootPolicy { is_by_named_key, svn } => {
            let key: u8 = is_by_named_key.map_or(2, u8::from);
            vec![kind, key.into(), (*svn).into()]
        }
        Component::Unknown(_) => vec![kind],
    })
}

fn payload_format(number: u64) -> Result<PayloadFormat, ManifestError> {
    match number {
        0 => Ok(PayloadFormat::Raw),
        1 => Ok(PayloadFormat::Zstd),
        value => Err(ManifestError::Newer { what: "payload format", value: value.into() }),
    }
}

fn uint(value: Value) -> Result<u64, ManifestError> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.ok_or(bad("expected an unsigned number"))
}

fn text(value: Value) -> Result<String, ManifestError> {
    value.into_text().map_err(|_| bad("expected a text"))
}

fn array(value: Value) -> Result<Vec<Value>, ManifestError> {
    value.into_array().map_err(|_| bad("expected a list"))
}

fn text_list(value: Value) -> Result<Vec<String>, ManifestError> {
    array(value)?.into_iter().map(text).collect()
}

fn digest(value: Value) -> Result<Digest, ManifestError> {
    let bytes = value.into_bytes().map_err(|_| bad("expected a digest"))?;
    bytes.try_into().map_err(|_| bad("expected a digest of 32 bytes"))
}

fn digest_list(value: Value) -> Result<Vec<Digest>, ManifestError> {
    let bytes = value.into_bytes().map_err(|_| bad("expected the digests of the blocks"))?;
    let (digests, rest) = bytes.as_chunks::<32>();
    if rest.is_empty() { Ok(digests.to_vec()) } else { Err(bad("expected digests of 32 bytes")) }
}

fn flag(value: Value) -> Result<bool, ManifestError> {
    if uint(value)? == 1 { Ok(true) } else { Err(bad("expected 1 or nothing")) }
}

fn layout(value: Value, image_bytes: u64) -> Result<Layout, ManifestError> {
    let regions = array(value)?.into_iter().map(layout_region).collect::<Result<_, _>>()?;
    Layout::new(regions, image_bytes).map_err(ManifestError::Layout)
}

fn layout_region(value: Value) -> Result<LayoutRegion, ManifestError> {
    let [kind, name, offset, length]: [Value; 4] = array(value)?
        .try_into()
        .map_err(|_| bad("expected a region of kind, name, offset and length"))?;
    let name = text(name)?;
    let kind = u8::try_from(uint(kind)?).ok();
    let kind = kind.and_then(|code| RegionKind::in_manifest(code, &name));
    Ok(LayoutRegion {
        kind: kind.ok_or(bad("a kind of region is not known"))?,
        name,
        offset_bytes: uint(offset)?,
        length_bytes: uint(length)?,
    })
}

fn parts(value: Value) -> Result<Vec<Part>, ManifestError> {
    array(value)?.into_iter().map(part).collect()
}

fn part(value: Value) -> Result<Part, ManifestError> {
    let mut fields = array(value)?.into_iter();
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(name), Some(length), offset, None) => Ok(Part {
            name: text(name)?,
            length_bytes: uint(length)?,
            offset_bytes: offset.map(uint).transpose()?,
        }),
        _ => Err(bad("expected a part of name, length and perhaps offset")),
    }
}

fn boot_guard(value: Value) -> Result<BootGuard, ManifestError> {
    let components = array(value)?;
    if components.len() > COMPONENTS_MAX {
        return Err(bad("too many components of Boot Guard"));
    }
    components.into_iter().map(component).collect::<Result<_, _>>().map(BootGuard::of)
}

fn component(value: Value) -> Result<Component, ManifestError> {
    const BAD: ManifestError =
        ManifestError::Malformed { what: "a component of Boot Guard is not known" };
    fn number<T: TryFrom<u64>>(value: Value) -> Result<T, ManifestError> {
        T::try_from(uint(value)?).map_err(|_| BAD)
    }
    let mut fields = array(value)?.into_iter();
    let code = number(fields.next().ok_or(BAD)?)?;
    let kind = ComponentKind::from_code(code).ok_or(BAD)?;
    let rest: Vec<Value> = fields.collect();
    match (kind, rest.as_slice()) {
        (kind, []) => Ok(Component::Unknown(kind)),
        (ComponentKind::Acm, [chipset, flags, vendor]) => Ok(Component::Acm {
            chipset_id: number(chipset.clone())?,
            flags: number(flags.clone())?,
            vendor: number(vendor.clone())?,
        }),
        (ComponentKind::KeyManifest, [key, svn]) => {
            Ok(Component::KeyManifest { key: digest(key.clone())?, svn: number(svn.clone())? })
        }
        (ComponentKind::BootPolicy, [key, svn]) => {
            let is_by_named_key = match number(key.clone())? {
                0u8 => Some(false),
                1 => Some(true),
                2 => None,
                _ => return Err(BAD),
            };
            Ok(Component::BootPolicy { is_by_named_key, svn: number(svn.clone())? })
        }
        _ => Err(BAD),
    }
}

fn region(value: Value, action: RegionAction) -> Result<Region, ManifestError> {
    let fields = array(value)?.try_into();
    let [name, offset, length]: [Value; 3] =
        fields.map_err(|_| bad("expected a region of name, offset and length"))?;
    let (offset_bytes, length_bytes) = (uint(offset)?, uint(length)?);
    Ok(Region { name: text(name)?, offset_bytes, length_bytes, action })
}
