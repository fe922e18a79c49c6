//! From the payload, as it travelled, to the image.

use std::borrow::Cow;
use std::io::Read as _;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::manifest::{Manifest, PayloadFormat};
use super::{Digest, VerifiedImage, VerifiedManifest, layout_of, sha256};

/// Largest distance that the decompressor looks back, in bytes, when the frame does not state the
/// image's size alone.
const WINDOW_MAX: u64 = 8 << 20;

/// Why a payload is not the image that its manifest promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not all of it, or more.
    #[error(
        "the payload has {got_bytes} bytes, the manifest says {expected_bytes}: get the bundle \
        again"
    )]
    PayloadSize {
        /// From the manifest.
        expected_bytes: usize,
        /// What was given.
        got_bytes: usize,
    },
    /// Other bytes than those the manifest names.
    #[error(
        "the payload's SHA-256 is {}, the manifest says {}: get the bundle again",
        hex(.got), hex(.expected)
    )]
    PayloadDigest {
        /// From the manifest.
        expected: Digest,
        /// Over what was given.
        got: Digest,
    },
    /// The signed payload cannot be decompressed.
    #[error(
        "the payload cannot be decompressed at {offset_bytes:#x}: {what}; the bundle was made \
        wrongly, make it again"
    )]
    Decompress {
        /// How many bytes of the payload were used.
        offset_bytes: u64,
        /// What the decompressor found.
        what: String,
    },
    /// The image has another size than the manifest says.
    #[error(
        "the image has {got_bytes} bytes or more, the manifest says {expected_bytes}: the bundle \
        was made wrongly, make it again"
    )]
    ImageSize {
        /// From the manifest.
        expected_bytes: usize,
        /// What was found.
        got_bytes: usize,
    },
    /// A block of the image has another digest than the manifest says.
    #[error(
        "the image's block at {offset_bytes:#x} does not have the SHA-256 that the manifest says: \
        the bundle was made wrongly, make it again"
    )]
    BlockDigest {
        /// Where the first such block starts.
        offset_bytes: usize,
    },
    /// A piece of the image neither travelled nor is on the chip.
    #[error(
        "the image's piece at {offset_bytes:#x} neither travelled nor is on the chip: update this \
        host with firmcast update --whole"
    )]
    PieceMissing {
        /// Where it starts.
        offset_bytes: usize,
    },
    /// The image as a whole has another digest than the manifest says.
    #[error(
        "the image's SHA-256 is {}, the manifest says {}: the bundle was made wrongly, make it \
        again",
        hex(.got), hex(.expected)
    )]
    ImageDigest {
        /// From the manifest.
        expected: Digest,
        /// Over the image.
        got: Digest,
    },
    /// The image has another layout than the manifest says.
    #[error(
        "the image does not have the layout that the manifest says: the bundle was made wrongly, \
        make it again"
    )]
    Layout,
    /// The image outside the preserved regions has another digest than the manifest says.
    #[error(
        "outside the preserved regions the image's SHA-256 is {}, the manifest says {}: the \
        bundle was made wrongly, make it again",
        hex(.got), hex(.expected)
    )]
    StableDigest {
        /// From the manifest.
        expected: Digest,
        /// Over the image.
        got: Digest,
    },
}

impl Manifest {
    /// Fails unless `payload` is the one that the manifest names.
    ///
    /// # Errors
    /// [`ImageError::PayloadSize`] or [`ImageError::PayloadDigest`].
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), ImageError> {
        self.check_payload_size(payload)?;
        check_digest(*self.payload_digest(), sha256(payload))
    }

    fn check_payload_size(&self, payload: &[u8]) -> Result<(), ImageError> {
        let (expected_bytes, got_bytes) = (self.payload_size_bytes(), payload.len());
        if got_bytes != expected_bytes {
            return Err(ImageError::PayloadSize { expected_bytes, got_bytes });
        }
        Ok(())
    }
}

/// Fails unless a payload's digest is the one that was promised.
pub(crate) fn check_digest(expected: Digest, got: Digest) -> Result<(), ImageError> {
    match got == expected {
        true => Ok(()),
        false => Err(ImageError::PayloadDigest { expected, got }),
    }
}

impl VerifiedManifest {
    /// Returns the image in `payload`: the payload's digest is checked first, then it is
    /// decompressed, then the image's digests are checked. A payload that is not compressed becomes
    /// the image without a copy.
    ///
    /// # Errors
    /// When anything differs from what the manifest says.
    pub fn open_payload<'a>(
        &self,
        payload: impl Into<Cow<'a, [u8]>>,
    ) -> Result<VerifiedImage, ImageError> {
        let payload = payload.into();
        self.check_payload(&payload)?;
        self.open_checked(payload)
    }

    /// As [`VerifiedManifest::open_payload`], of a payload that was hashed already: `digest` is its
    /// SHA-256.
    ///
    /// # Errors
    /// When anything differs from what the manifest says.
    pub fn open_hashed(
        &self,
        payload: Vec<u8>,
        digest: &Digest,
    ) -> Result<VerifiedImage, ImageError> {
        self.check_payload_size(&payload)?;
        check_digest(*self.payload_digest(), *digest)?;
        self.open_checked(payload.into())
    }

    fn open_checked(&self, payload: Cow<'_, [u8]>) -> Result<VerifiedImage, ImageError> {
        let image = match self.payload_format() {
            PayloadFormat::Raw => payload.into_owned(),
            PayloadFormat::Zstd => decompress(&payload, self.image_size_bytes())?,
        };
        self.check_image(&image)?;
        Ok(VerifiedImage::new(image, self))
    }

    pub(super) fn check_image(&self, image: &[u8]) -> Result<(), ImageError> {
        let (expected_bytes, got_bytes) = (self.image_size_bytes(), image.len());
        if got_bytes != expected_bytes {
            return Err(ImageError::ImageSize { expected_bytes, got_bytes });
        }
        let blocks = image.chunks(self.block_size_bytes());
        let wrong = blocks.zip(self.block_digests()).position(|(block, d)| sha256(block) != *d);
        if let Some(index) = wrong {
            let offset_bytes = index * self.block_size_bytes();
            return Err(ImageError::BlockDigest { offset_bytes });
        }
        let (expected, got) = (*self.image_digest(), sha256(image));
        if got != expected {
            return Err(ImageError::ImageDigest { expected, got });
        }
        if layout_of(image, self.parts()).ok().as_ref() != Some(self.layout()) {
            return Err(ImageError::Layout);
        }
        let (expected, got) = (*self.stable_digest(), self.stable_digest_of(image));
        if got != expected {
            return Err(ImageError::StableDigest { expected, got });
        }
        Ok(())
    }
}

/// Decompresses one Zstandard frame of exactly `image_bytes`, in memory of about twice that at
/// most.
pub(super) fn decompress(payload: &[u8], image_bytes: usize) -> Result<Vec<u8>, ImageError> {
    let mut rest = payload;
    let failed = |rest: &[u8], what: String| ImageError::Decompress {
        offset_bytes: (payload.len() - rest.len()) as u64,
        what,
    };
    check_window(payload).map_err(|what| failed(payload, what.to_owned()))?;
    let mut decoder = FrameDecoder::new();
    decoder.init(&mut rest).map_err(|error| failed(rest, error.to_string()))?;
    // The window of a single-segment frame is its stated size; zero means that it states none.
    if decoder.content_size() > image_bytes as u64 {
        let got_bytes = usize::try_from(decoder.content_size()).unwrap_or(usize::MAX);
        return Err(ImageError::ImageSize { expected_bytes: image_bytes, got_bytes });
    }
    let mut image = Vec::with_capacity(image_bytes);
    while !decoder.is_finished() {
        decoder
            .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|error| failed(rest, error.to_string()))?;
        let got_bytes = image.len() + decoder.can_collect();
        if got_bytes > image_bytes {
            return Err(ImageError::ImageSize { expected_bytes: image_bytes, got_bytes });
        }
        (&mut decoder)
            .take((image_bytes - image.len()) as u64)
            .read_to_end(&mut image)
            .map_err(|error| failed(rest, error.to_string()))?;
    }
    if !rest.is_empty() {
        return Err(failed(rest, format!("{} bytes behind the frame", rest.len())));
    }
    Ok(image)
}

/// Refuses frames whose window would let the decompressor hold back more than it should (RFC 8878,
/// section 3.1.1.1).
fn check_window(frame: &[u8]) -> Result<(), &'static str> {
    const SINGLE_SEGMENT: u8 = 0x20;
    let &[_, _, _, _, descriptor, window, ..] = frame else { return Err("the frame is too short") };
    let base_bytes = 1u64 << (10 + (window >> 3));
    let window_bytes = base_bytes + base_bytes / 8 * u64::from(window & 7);
    if descriptor & SINGLE_SEGMENT == 0 && window_bytes > WINDOW_MAX {
        return Err("its window is larger than 8 MiB");
    }
    Ok(())
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
