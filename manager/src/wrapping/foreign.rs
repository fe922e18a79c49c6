//! Files that are no firmware image and hold none that could be taken: what they are, and what to
//! do.

use super::fields::u32_at;

/// Where a text's first line and marks are looked for, in bytes.
const HEAD_BYTES: usize = 4096;

/// Signatures: where, what, and the sentence.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (
        0,
        b"\x89FCB\r\n\x1a\n",
        "a bundle of firmcast: use it as it is, firmcast bundle show shows it",
    ),
    (0, b"%PDF-", "a PDF document: download the firmware itself"),
    (
        0,
        b"\x7fELF",
        "a program (ELF), as coreboot's payloads are: build the whole image with it in",
    ),
    (
        0,
        b"UBI#",
        "a UBI image, which fits one NAND chip's eraseblocks: give what the BIOS chip holds",
    ),
    (0, b"\x31\x18\x10\x06", "a UBIFS file system: give what the BIOS chip holds"),
    (0, b"hsqs", "a SquashFS file system, as BMCs have it: give the image of the BIOS"),
    (0, b"\x1f\x8b\x08", "a gzip file: unpack it with gunzip or tar, and give the image in it"),
    (0, b"\xfd7zXZ\0", "an xz file: unpack it with unxz or tar, and give the image in it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file: unpack it with unzstd, and give the image in it"),
    (0, b"BZh", "a bzip2 file: unpack it with bunzip2 or tar, and give the image in it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it with 7z x, and give the image in it"),
    (0, b"Rar!\x1a\x07", "a RAR archive: unpack it, and give the image in it"),
    (257, b"ustar", "a tar archive: unpack it with tar, and give the image in it"),
    (0, b"!<arch>\n", "a package (ar): unpack it with ar x or dpkg -x, and give the image in it"),
    (0, b"\xed\xab\xee\xdb", "an RPM package: unpack it with rpm2cpio, and give the image in it"),
    (
        0,
        b"PFS.HDR.",
        "a container of Dell (PFS), of parts that Dell's own updater installs: unpack it, for \
         instance with uefi-firmware-parser, and give the image of the BIOS, or take a backup of \
         a server that runs this version",
    ),
    (
        0,
        b"--=</Begin HP Signed File Fingerprint",
        "a signed file of HPE, which iLO or HPE's own updater installs: take a backup of a server \
         that runs this version, or update by iLO",
    ),
    (
        0,
        b"HPIMAGE",
        "a container of HPE, as iLO has it: give the image of the BIOS, not that of the BMC",
    ),
    (
        0,
        b"DfuSe",
        "an update of a USB device (DfuSe), not of a BIOS chip: give the image of the BIOS",
    ),
    (
        16,
        b"$FPT",
        "the region of Intel's Management Engine alone, not firmware that the processor starts: \
         give the whole chip's image",
    ),
];

/// Returns what `bytes` are, with what to do, where they are known to be no image.
pub(super) fn sentence(bytes: &[u8]) -> Option<&'static str> {
    let is_here = |offset: usize, signature: &[u8]| {
        bytes.get(offset..).is_some_and(|rest| rest.starts_with(signature))
    };
    let found = SIGNATURES.iter().find(|(offset, signature, _)| is_here(*offset, signature));
    found.map(|(_, _, sentence)| *sentence).or_else(|| text(bytes))
}

/// Returns the same for text of all kinds.
fn text(bytes: &[u8]) -> Option<&'static str> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' '..=b'~' | 0x80..);
    // Erased flash and padding are of one byte, which no text is.
    let is_one_byte = head.iter().all(|byte| Some(byte) == head.first());
    // Firmware may begin with text, and is none as a whole.
    let is_whole = bytes.iter().all(is_text) && std::str::from_utf8(bytes).is_ok();
    if head.is_empty() || is_one_byte || !is_whole {
        return None;
    }
    let lower = head.trim_ascii_start().to_ascii_lowercase();
    let is_hex = |line: &[u8]| line.iter().all(u8::is_ascii_hexdigit);
    let first = lower.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    Some(match first {
        [b':', digits @ ..] if digits.len() >= 10 && is_hex(digits) => {
            "an Intel HEX file: make it binary with objcopy -I ihex -O binary, and give that"
        }
        [b's', b'0'..=b'9', digits @ ..] if digits.len() >= 6 && is_hex(digits) => {
            "an S-record file: make it binary with objcopy -I srec -O binary, and give that"
        }
        _ if memchr::memmem::find(&lower, b"<html").is_some()
            || lower.starts_with(b"<!doctype") =>
        {
            "an HTML page, as a server sends it instead of the file: download the file again"
        }
        _ => "text, not an image: give the firmware that it belongs to",
    })
}

/// Returns whether the file is a Windows program (PE), and whether firmware itself would run it.
pub(super) fn program(bytes: &[u8]) -> Option<Program> {
    const HEADER_OFFSET: usize = 0x3c;
    const SUBSYSTEM_OFFSET: usize = 0x5c;
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let header = u32_at(bytes, HEADER_OFFSET)? as usize;
    let header = bytes.get(header..)?;
    let subsystem = u32_at(header, SUBSYSTEM_OFFSET)? & 0xffff;
    if !header.starts_with(b"PE\0\0") {
        return None;
    }
    // EFI applications, drivers of boot and run time, and images in ROM.
    Some(if matches!(subsystem, 10..=13) { Program::Efi } else { Program::Windows })
}

/// For whom a program in the format of Windows is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Windows.
    Windows,
    /// The firmware.
    Efi,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_named_and_images_are_not() {
        for (bytes, what) in [
            (&b":020000040000FA\n:00000001FF\n"[..], "Intel HEX"),
            (b"S00600004844521B\r\nS9030000FC\r\n", "S-record"),
            (b" <!DOCTYPE html>\n<p>Not found", "HTML"),
            (b"Release notes \xe2\x80\x94 read first\n", "text"),
            (b"\x1f\x8b\x08\0\0", "gzip"),
            (b"PFS.HDR.\x01\0\0\0", "Dell"),
        ] {
            let found = sentence(bytes);
            assert!(found.is_some_and(|found| found.contains(what)), "{what}: {found:?}");
        }
        let begins_with_text = [&[b'x', b'\n'].repeat(4096)[..], &[0xff; 4096]].concat();
        for image in [
            &begins_with_text[..],
            &[0xff; 64],
            &[0; 64],
            b"",
            b"\x5a\xa5\xf0\x0f",
            b"jj\xebtext\0",
        ] {
            assert_eq!(sentence(image), None, "{image:02x?}");
        }
    }
}
