//! Whether the recovery environment could be entered from here, found out without changing
//! anything.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use super::formats::Formats;
use super::modules::{MODULE_LIST_SIZE_MAX, ModuleList};
use super::{INITRAMFS_SIZE_MAX, KexecError};

/// Bytes of a file that are enough to tell what it is; x86's setup header lies within.
const HEAD_SIZE: usize = 0x1000;

/// Longest version text taken from a kernel image.
const KERNEL_VERSION_LENGTH_MAX: usize = 256;

/// What the recovery kernel needs beside its own files while it is loaded: page tables, the second
/// copy while relocating, and the normal OS's way down.
const MEMORY_MARGIN_BYTES: u64 = 64 << 20;

/// The facts, one by one, so that `firmcastd check` can show each.
#[derive(Debug)]
pub struct Preflight {
    /// The system call is there, allowed for this process, and not disabled.
    pub loading: Result<(), KexecError>,
    /// What the kernel's lockdown asks for.
    pub lockdown: Lockdown,
    /// The kernel file, open.
    pub kernel: Result<(File, KernelImage), KexecError>,
    /// The initramfs file, open.
    pub initramfs: Result<(File, InitramfsImage), KexecError>,
    /// The initramfs has the modules of this kernel, also where one of them does not tell, and
    /// understands what this program hands over.
    pub fit: Result<(), KexecError>,
    /// Available memory in bytes, when it is enough to load both.
    pub memory: Result<u64, KexecError>,
}

/// `/sys/kernel/security/lockdown`. Unless it is `Off`, the kernel loads only signed kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// `none`: any kernel may be loaded.
    Off,
    /// `integrity`: signed kernels only.
    Integrity,
    /// `confidentiality`: signed kernels only.
    Confidentiality,
    /// The file cannot be read or says something else: the kernel may have no lockdown, or this
    /// process may not see it.
    Unknown,
}

/// What a kernel file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The release it was built as ("6.1.0-40-amd64"), where the format tells it.
    pub release: Option<String>,
}

/// What an initramfs file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitramfsImage {
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The release of the kernel that its modules are for; firmcast-mkrecovery writes it.
    pub release: Option<String>,
    /// What its firmcastd understands; firmcast-mkrecovery writes it. Images that it has not made
    /// do not tell.
    pub formats: Option<Formats>,
    /// Its modules; firmcast-mkrecovery writes the list.
    pub modules: Option<ModuleList>,
}

/// Collects the facts for these two files.
pub fn preflight(kernel: &Path, initramfs: &Path) -> Preflight {
    let initramfs_path = initramfs;
    let (kernel, initramfs) = (open_kernel(kernel), open_initramfs(initramfs));
    let kernel_bytes = kernel.as_ref().map_or(0, |(_, image)| image.size_bytes);
    let initramfs_bytes = initramfs.as_ref().map_or(0, |(_, image)| image.size_bytes);
    let fit = match (&kernel, &initramfs) {
        (Ok((_, kernel)), Ok((_, initramfs))) => same_release(kernel, initramfs)
            .and_then(|()| same_formats(initramfs_path, initramfs.formats)),
        _ => Ok(()),
    };
    Preflight {
        loading: probe_loading(),
        lockdown: lockdown(),
        memory: probe_memory(kernel_bytes + initramfs_bytes),
        kernel,
        initramfs,
        fit,
    }
}

/// A kernel and an initramfs that belong together, open: what was looked at is what is loaded.
#[derive(Debug)]
pub struct RecoveryFiles {
    pub(super) kernel: File,
    pub(super) initramfs: File,
}

impl Preflight {
    /// The files, if both can be used.
    ///
    /// # Errors
    /// What is wrong with one of them, or with both together.
    pub fn into_files(self) -> Result<RecoveryFiles, KexecError> {
        let (kernel, initramfs) = (self.kernel?.0, self.initramfs?.0);
        self.fit.map(|()| RecoveryFiles { kernel, initramfs })
    }
}

/// Modules of another kernel do not load: recovery would have neither network nor flash.
fn same_release(kernel: &KernelImage, initramfs: &InitramfsImage) -> Result<(), KexecError> {
    match (&kernel.release, &initramfs.release) {
        (Some(kernel), Some(initramfs)) if kernel != initramfs => {
            Err(KexecError::Releases { kernel: kernel.clone(), initramfs: initramfs.clone() })
        }
        _ => Ok(()),
    }
}

/// An image of another firmcastd would refuse what it is handed, when the host has left its OS.
fn same_formats(path: &Path, image: Option<Formats>) -> Result<(), KexecError> {
    match image {
        Some(image) if image != Formats::OWN => {
            Err(KexecError::Formats { path: path.into(), image, own: Formats::OWN })
        }
        _ => Ok(()),
    }
}

fn probe_loading() -> Result<(), KexecError> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/kexec_load_disabled");
    if disabled.is_ok_and(|text| text.trim() == "1") {
        return Err(KexecError::LoadDisabled);
    }
    match super::may_load() {
        Ok(()) => Ok(()),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EPERM) => KexecError::NoPermission,
            Some(libc::ENOSYS) => KexecError::NotSupported,
            _ => KexecError::Load(error),
        }),
    }
}

fn lockdown() -> Lockdown {
    let text = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    parse_lockdown(&text)
}

fn parse_lockdown(text: &str) -> Lockdown {
    let chosen =
        text.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some("none") => Lockdown::Off,
        Some("integrity") => Lockdown::Integrity,
        Some("confidentiality") => Lockdown::Confidentiality,
        _ => Lockdown::Unknown,
    }
}

/// The files are held twice for a moment: as file pages and in the kernel's copy.
fn probe_memory(files_bytes: u64) -> Result<u64, KexecError> {
    let path = "/proc/meminfo";
    let text =
        std::fs::read_to_string(path).map_err(|source| KexecError::Probe { path, source })?;
    let available_bytes = available_bytes(&text).ok_or_else(|| KexecError::Probe {
        path,
        source: io::Error::new(io::ErrorKind::InvalidData, "no line MemAvailable"),
    })?;
    let needed_bytes = files_bytes.saturating_mul(2).saturating_add(MEMORY_MARGIN_BYTES);
    if available_bytes < needed_bytes {
        return Err(KexecError::Memory { available_bytes, needed_bytes });
    }
    Ok(available_bytes)
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Opens `path` and checks that it looks like a kernel.
fn open_kernel(path: &Path) -> Result<(File, KernelImage), KexecError> {
    let unreadable = |source| KexecError::KernelFile { path: path.to_owned(), source };
    let (file, head, size_bytes) = open_with_head(path).map_err(unreadable)?;
    match release_of_kernel(&head) {
        Ok(release) => Ok((file, KernelImage { size_bytes, release })),
        Err(found) => Err(KexecError::KernelForm { path: path.to_owned(), found }),
    }
}

/// Opens `path` and checks that it looks like an initramfs.
fn open_initramfs(path: &Path) -> Result<(File, InitramfsImage), KexecError> {
    let unreadable = |source| KexecError::InitramfsFile { path: path.to_owned(), source };
    let (mut file, head, size) = open_with_head(path).map_err(unreadable)?;
    if size == 0 || size > INITRAMFS_SIZE_MAX {
        return Err(KexecError::InitramfsSize { size, limit: INITRAMFS_SIZE_MAX });
    }
    if !INITRAMFS_MAGICS.iter().any(|magic| head.starts_with(magic)) {
        return Err(KexecError::InitramfsForm { path: path.to_owned() });
    }
    let marks = Marks::read(&mut file);
    file.rewind().map_err(unreadable)?;
    let Marks { release, formats, modules } = marks;
    let formats = formats.or(release.as_ref().map(|_| Formats::UNTOLD));
    Ok((file, InitramfsImage { size_bytes: size, release, formats, modules }))
}

/// Names of the files in the first archive of an initramfs that firmcast-mkrecovery has made. The
/// one with the release comes first.
const RELEASE_FILE: &str = "firmcast-kernel-release";
const FORMATS_FILE: &str = "firmcast-formats";
const MODULES_FILE: &str = "firmcast-modules";

/// What firmcast-mkrecovery has written about an initramfs.
#[derive(Debug, Default)]
struct Marks {
    release: Option<String>,
    formats: Option<Formats>,
    modules: Option<ModuleList>,
}

impl Marks {
    /// Reads the first archive of an initramfs, as far as it is one of these.
    fn read(initramfs: impl Read) -> Self {
        let mut marks = Self::default();
        let limit = MODULE_LIST_SIZE_MAX + HEAD_SIZE as u64;
        let Ok(mut first) = cpio::newc::Reader::new(initramfs.take(limit)) else { return marks };
        if first.entry().name() != RELEASE_FILE {
            return marks;
        }
        marks.release = text(&mut first, KERNEL_VERSION_LENGTH_MAX as u64)
            .map(|release| release.trim().to_owned());
        let mut next = first.finish().and_then(cpio::newc::Reader::new);
        if let Ok(mut formats) = next {
            if formats.entry().name() == FORMATS_FILE {
                marks.formats =
                    text(&mut formats, HEAD_SIZE as u64).and_then(|text| Formats::parse(&text));
                next = formats.finish().and_then(cpio::newc::Reader::new);
            } else {
                next = Ok(formats);
            }
        }
        if let Ok(mut next) = next
            && next.entry().name() == MODULES_FILE
        {
            marks.modules = text(&mut next, MODULE_LIST_SIZE_MAX).map(ModuleList::new);
        }
        marks
    }
}

/// The whole of a short file.
fn text(entry: &mut cpio::newc::Reader<impl Read>, size_max: u64) -> Option<String> {
    let size = u64::from(entry.entry().file_size());
    let mut text = String::new();
    let is_whole = size <= size_max && entry.read_to_string(&mut text).ok()? as u64 == size;
    is_whole.then_some(text)
}

fn open_with_head(path: &Path) -> io::Result<(File, Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut head = Vec::with_capacity(HEAD_SIZE);
    Read::by_ref(&mut file).take(HEAD_SIZE as u64).read_to_end(&mut head)?;
    // The version text of an x86 kernel may lie in any of its setup sectors.
    let version_end =
        x86_version_offset(&head).map_or(0, |offset| offset + KERNEL_VERSION_LENGTH_MAX);
    if let Some(want) = version_end.checked_sub(head.len()) {
        Read::by_ref(&mut file).take(want as u64).read_to_end(&mut head)?;
    }
    file.rewind()?;
    Ok((file, head, metadata.len()))
}

/// cpio (newc, newc with checksum) and the compressions of the kernel's lib/decompress.c.
const INITRAMFS_MAGICS: &[&[u8]] = &[
    b"070701",
    b"070702",
    &[0x1f, 0x8b],
    &[0xfd, b'7', b'z', b'X', b'Z', 0],
    &[0x28, 0xb5, 0x2f, 0xfd],
    &[0x02, 0x21, 0x4c, 0x18],
    &[0x5d, 0, 0],
    &[0x89, b'L', b'Z', b'O'],
    b"BZh",
];

/// The release in the head of a kernel file (Documentation/arch/x86/boot.rst,
/// arch/arm64/booting.rst), or what the file looks like instead.
fn release_of_kernel(head: &[u8]) -> Result<Option<String>, &'static str> {
    if at(head, 0x1fe, &[0x55, 0xaa]) && at(head, 0x202, b"HdrS") {
        return Ok(x86_version_offset(head).and_then(|offset| release_at(head, offset)));
    }
    if at(head, 0x38, b"ARM\x64") && !at(head, 4, b"zimg") {
        return Ok(None);
    }
    Err(match head {
        [b'M', b'Z', _, _, b'z', b'i', b'm', b'g', ..] => zboot(head),
        [] => "an empty file",
        [0x1f, 0x8b, ..] => "a gzip file (unpack it first)",
        [0x7f, b'E', b'L', b'F', ..] => "an ELF file (use the bzImage, usually /boot/vmlinuz-*)",
        [b'M', b'Z', ..] => "an EFI program without a Linux header",
        [b'0', b'7', b'0', b'7', ..] => "a cpio archive (kernel and initramfs exchanged?)",
        _ => "an unknown format",
    })
}

/// The compressions that `initramfs/unpack-zboot` unpacks.
const UNPACKED: [&[u8]; 4] = [b"gzip\0", b"zstd", b"xz", b"lz4\0"];

/// A kernel packed into an EFI program, which only firmware starts (drivers/firmware/efi/libstub,
/// zboot-header.S): the name of the compression stands at 0x18.
fn zboot(head: &[u8]) -> &'static str {
    let packed_with = |name: &[u8]| at(head, 0x18, name);
    if UNPACKED.iter().any(|name| packed_with(name)) {
        "a kernel that only firmware unpacks (EFI zboot); firmcast-mkrecovery --all keeps it \
         unpacked"
    } else {
        "a kernel that only firmware unpacks (EFI zboot), in a compression that is not known here; \
         take one that is built without CONFIG_EFI_ZBOOT"
    }
}

fn at(bytes: &[u8], offset: usize, expected: &[u8]) -> bool {
    bytes.get(offset..offset + expected.len()) == Some(expected)
}

/// `kernel_version` of the setup header, little-endian, counted from 0x200; 0 means none.
fn x86_version_offset(head: &[u8]) -> Option<usize> {
    if !at(head, 0x202, b"HdrS") {
        return None;
    }
    let field = head.get(0x20e..0x210)?;
    match u16::from_le_bytes([field[0], field[1]]) {
        0 => None,
        offset => Some(usize::from(offset) + 0x200),
    }
}

fn release_at(head: &[u8], offset: usize) -> Option<String> {
    let text = head.get(offset..)?;
    let text = &text[..text.len().min(KERNEL_VERSION_LENGTH_MAX)];
    let end = text.iter().position(|&byte| byte == b' ' || byte == 0)?;
    let release = std::str::from_utf8(&text[..end]).ok()?;
    let is_plain = !release.is_empty() && release.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn bzimage(version_offset: usize, version: &str) -> Vec<u8> {
        let mut image = vec![0; 0x6000];
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&((version_offset - 0x200) as u16).to_le_bytes());
        image[version_offset..version_offset + version.len()].copy_from_slice(version.as_bytes());
        image
    }

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn tells_a_kernel_and_its_release_from_other_files() {
        for offset in [0x300, 0xfff, 0x3d40] {
            let kernel = file_of(&bzimage(offset, "6.1.0-40-amd64 (debian-kernel@) #1"));
            let (mut file, image) = open_kernel(kernel.path()).unwrap();
            assert_eq!(image.release.as_deref(), Some("6.1.0-40-amd64"));
            assert_eq!((image.size_bytes, file.stream_position().unwrap()), (0x6000, 0));
        }
        for (bytes, word) in [(&b"070701"[..], "cpio"), (b"\x7fELF\x02", "ELF"), (b"", "empty")] {
            let error = open_kernel(file_of(bytes).path()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(matches!(open_kernel(Path::new("/")), Err(KexecError::KernelFile { .. })));
        assert!(matches!(open_kernel(Path::new("/nowhere")), Err(KexecError::KernelFile { .. })));
    }

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
            let error = open_kernel(file.path()).unwrap_err().to_string();
            assert!(error.contains("firmcast-mkrecovery --all keeps it unpacked"), "{error}");
            assert_eq!(unpacks(file.path(), &out), Some(0));
            assert_eq!(std::fs::read(&out).unwrap(), kernel);
            assert!(open_kernel(&out).is_ok());
        }
        let unknown = file_of(&zboot_file(b"lzma2\0\0\0", b"?"));
        let error = open_kernel(unknown.path()).unwrap_err().to_string();
        assert!(error.contains("without CONFIG_EFI_ZBOOT"), "{error}");
        assert_eq!(unpacks(unknown.path(), &out), Some(1));
        // The kernel as it is, and what is no kernel when it is unpacked.
        assert_eq!(unpacks(plain.path(), &out), Some(2));
        let other = file_of(&zboot_file(b"gzip\0\0\0\0", &packed_by(&["gzip", "-c"], &script)));
        assert_eq!(unpacks(other.path(), &out), Some(1));
        assert!(!out.exists());
    }

    #[test]
    fn tells_an_initramfs_from_other_files() {
        let size = |bytes| open_initramfs(file_of(bytes).path()).unwrap().1.size_bytes;
        assert_eq!(size(b"070701rest"), 10);
        assert_eq!(size(&[0x28, 0xb5, 0x2f, 0xfd, 1]), 5);
        assert!(matches!(
            open_initramfs(file_of(b"hello").path()),
            Err(KexecError::InitramfsForm { .. })
        ));
        assert!(matches!(
            open_initramfs(file_of(b"").path()),
            Err(KexecError::InitramfsSize { .. })
        ));
    }

    /// What firmcast-mkrecovery puts before an initramfs.
    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, contents) in files {
            let builder = cpio::newc::Builder::new(name).mode(0o100_600);
            let mut entry = builder.write(&mut archive, contents.len() as u32);
            entry.write_all(contents.as_bytes()).unwrap();
            entry.finish().unwrap();
        }
        cpio::newc::trailer(&mut archive).unwrap();
        archive
    }

    #[test]
    fn modules_of_another_kernel_are_noticed() {
        let formats = Formats::OWN.lines();
        let marks = [(RELEASE_FILE, "6.1.0-40-amd64\n"), (FORMATS_FILE, formats.as_str())];
        let initramfs = file_of(&archive(&marks));
        let newer = file_of(&bzimage(0x300, "6.1.0-41-amd64 #1"));
        let error = preflight(newer.path(), initramfs.path()).fit.unwrap_err().to_string();
        assert!(error.contains("6.1.0-40-amd64") && error.contains("6.1.0-41-amd64"), "{error}");
        let same = file_of(&bzimage(0x300, "6.1.0-40-amd64 #1"));
        assert!(preflight(same.path(), initramfs.path()).fit.is_ok());
    }

    #[test]
    fn an_image_of_an_older_or_newer_firmcastd_is_refused() {
        let kernel = file_of(&bzimage(0x300, "6.1 #1"));
        let newer = Formats { handoff: Formats::OWN.handoff + 1, ..Formats::OWN };
        let newer = newer.lines();
        let newer = archive(&[(RELEASE_FILE, "6.1\n"), (FORMATS_FILE, newer.as_str())]);
        let older = archive(&[(RELEASE_FILE, "6.1\n"), (MODULES_FILE, "mtd:\n")]);
        for image in [newer, older] {
            let initramfs = file_of(&image);
            let error = preflight(kernel.path(), initramfs.path()).into_files().unwrap_err();
            assert!(matches!(error, KexecError::Formats { .. }), "{error}");
            assert!(error.to_string().contains("firmcast-mkrecovery --all"), "{error}");
        }
    }

    #[test]
    fn the_list_of_modules_is_read_from_the_first_archive_alone() {
        let list = "e1000e: ptp\n".repeat(1000);
        let marked = archive(&[(RELEASE_FILE, "6.1\n"), (MODULES_FILE, &list)]);
        let image = |bytes: &[u8]| open_initramfs(file_of(bytes).path()).unwrap();
        let (mut file, found) = image(&marked);
        assert_eq!(found.release.as_deref(), Some("6.1"));
        assert!(found.modules.unwrap().find("e1000e").is_some());
        assert_eq!(file.stream_position().unwrap(), 0);

        let older = image(&archive(&[(RELEASE_FILE, "6.1\n"), ("usr", "")])).1;
        assert_eq!((older.release.as_deref(), older.modules), (Some("6.1"), None));
        let foreign = image(&archive(&[(MODULES_FILE, &list)])).1;
        assert_eq!((foreign.release, foreign.modules), (None, None));
        for end in 0..marked.len().min(500) {
            assert_eq!(Marks::read(&marked[..end]).modules, None);
        }
        let cut = Marks::read(&marked[..marked.len() / 2]);
        assert_eq!((cut.release.as_deref(), cut.modules), (Some("6.1"), None));
        let huge = "x".repeat(MODULE_LIST_SIZE_MAX as usize + 1);
        let too_long = Marks::read(&archive(&[(RELEASE_FILE, "6.1\n"), (MODULES_FILE, &huge)])[..]);
        assert_eq!(too_long.modules, None);
    }

    #[test]
    fn reads_lockdown_and_memory() {
        assert_eq!(parse_lockdown("[none] integrity confidentiality\n"), Lockdown::Off);
        assert_eq!(parse_lockdown("none [integrity] confidentiality\n"), Lockdown::Integrity);
        assert_eq!(parse_lockdown(""), Lockdown::Unknown);
        assert_eq!(available_bytes("MemFree: 1 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(available_bytes("MemAvailable: 99999999999999999999 kB\n"), None);
        assert!(matches!(probe_memory(u64::MAX / 4), Err(KexecError::Memory { .. })));
    }

    proptest! {
        #[test]
        fn any_head_is_an_answer(mut head in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = release_of_kernel(&head);
            let _ = Marks::read(&head[..]);
            if head.len() >= 0x210 {
                head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
                head[0x202..0x206].copy_from_slice(b"HdrS");
                prop_assert!(release_of_kernel(&head).is_ok());
            }
        }
    }
}
