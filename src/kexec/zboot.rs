//! Kernels packed into an EFI program, which only firmware starts.

use super::head::at;

/// The compressions that `initramfs/unpack-zboot` unpacks.
const UNPACKED: [&[u8]; 4] = [b"gzip\0", b"zstd", b"xz", b"lz4\0"];

/// What a file with this head is, when it is a kernel that only firmware unpacks
/// (drivers/firmware/efi/libstub/zboot-header.S): the name of the compression stands at 0x18.
pub(super) fn recognise(head: &[u8]) -> Option<&'static str> {
    if !is_zboot(head) {
        return None;
    }
    let is_known = UNPACKED.iter().any(|name| at(head, 0x18, name));
    Some(if is_known {
        "a kernel that only firmware unpacks (EFI zboot); firmcast-mkrecovery --all keeps it \
         unpacked"
    } else {
        "a kernel that only firmware unpacks (EFI zboot), in a compression that is not known here; \
         take one that is built without CONFIG_EFI_ZBOOT"
    })
}

fn is_zboot(head: &[u8]) -> bool {
    at(head, 0, b"MZ") && at(head, 4, b"zimg")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::kernel_image::KernelImage;
    use crate::kexec::samples::file_of;
    use std::path::Path;

    /// Header, then the packed kernel (drivers/firmware/efi/libstub/zboot-header.S).
    fn zboot_file(compression: &[u8; 8], packed: &[u8]) -> Vec<u8> {
        let mut file = b"MZ\0\0zimg".to_vec();
        file.extend_from_slice(&0x40_u32.to_le_bytes());
        file.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        file.extend_from_slice(&[0; 8]);
        file.extend_from_slice(compression);
        file.resize(0x40, 0);
        file.extend_from_slice(packed);
        file.extend_from_slice(b"what stands behind the payload");
        file
    }

    fn packed_by(tool: &[&str], file: &Path) -> Vec<u8> {
        let packed = std::process::Command::new(tool[0]).args(&tool[1..]).arg(file).output();
        packed.unwrap().stdout
    }

    #[test]
    fn a_kernel_that_only_firmware_unpacks_is_recognised_and_unpacked() {
        let mut kernel = vec![7; 0x5000];
        kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let plain = file_of(&kernel);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs/unpack-zboot");
        let unpacks = |file: &Path, out: &Path| {
            let status = std::process::Command::new(&script).arg(file).arg(out).status();
            status.unwrap().code()
        };
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("kernel");
        for (name, tool) in [(b"gzip\0\0\0\0", ["gzip", "-c"]), (b"xzkern\0\0", ["xz", "-c"])] {
            let file = file_of(&zboot_file(name, &packed_by(&tool, plain.path())));
            let error = KernelImage::open(file.path()).unwrap_err().to_string();
            assert!(error.contains("firmcast-mkrecovery --all keeps it unpacked"), "{error}");
            assert_eq!(unpacks(file.path(), &out), Some(0));
            assert_eq!(std::fs::read(&out).unwrap(), kernel);
            assert!(KernelImage::open(&out).is_ok());
        }
        let unknown = file_of(&zboot_file(b"lzma2\0\0\0", b"?"));
        let error = KernelImage::open(unknown.path()).unwrap_err().to_string();
        assert!(error.contains("without CONFIG_EFI_ZBOOT"), "{error}");
        assert_eq!(unpacks(unknown.path(), &out), Some(1));
        // The kernel as it is, and what is no kernel when it is unpacked.
        assert_eq!(unpacks(plain.path(), &out), Some(2));
        let other = file_of(&zboot_file(b"gzip\0\0\0\0", &packed_by(&["gzip", "-c"], &script)));
        assert_eq!(unpacks(other.path(), &out), Some(1));
        assert!(!out.exists());
    }
}
