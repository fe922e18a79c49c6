//! Where the encrypted disks of this machine are, and what their headers and /etc/crypttab say.
//! Nothing is written, and of each disk its header alone is read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::Found;
use super::binding::{Binding, printable};
use super::crypttab::{self, Crypttab, Entry};
use super::luks::{self, HEAD_SIZE, HEADER_SIZE_MAX, Head, METADATA_SIZE_MAX, Told};
use crate::host::read_line;

/// Maximum number of block devices that are looked at.
const DEVICES_MAX: usize = 2048;
/// Maximum length of what udev knows of a device, in bytes.
const UDEV_SIZE_MAX: u64 = 64 << 10;

/// Looks at all disks of the machine below `root`.
pub(super) fn look(root: &Path) -> Found {
    let mut search = Search { root, disks: BTreeMap::new(), found: Found::default() };
    let crypttab = search.crypttab();
    let names = search.device_names();
    for name in &names {
        let path = root.join("dev").join(name.replace('!', "/"));
        if search.may_be_luks(name) {
            search.look_at(&path);
        }
    }
    for entry in &crypttab.entries {
        search.look_at_entry(entry);
    }
    for name in &names {
        search.look_at_opened(name);
    }
    search.found.looked = search.disks.len();
    search.found
}

struct Search<'a> {
    root: &'a Path,
    /// Where the disks were found, by UUID: several devices may lead to one disk.
    disks: BTreeMap<String, PathBuf>,
    found: Found,
}

impl Search<'_> {
    fn crypttab(&mut self) -> Crypttab {
        let text = match read(&self.root.join("etc/crypttab"), crypttab::SIZE_MAX as u64 + 1) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.found.unknown.push(format!("/etc/crypttab: {error}"));
                }
                return Crypttab::default();
            }
        };
        if text.len() > crypttab::SIZE_MAX {
            self.found.unknown.push("/etc/crypttab is too large".to_owned());
        }
        let crypttab = crypttab::parse(&String::from_utf8_lossy(&text));
        self.found.unknown.extend(crypttab.unknown.iter().cloned());
        crypttab
    }

    fn device_names(&mut self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("sys/class/block")).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.take(DEVICES_MAX + 1).collect();
        if names.len() > DEVICES_MAX {
            self.found.unknown.push(format!("more than {DEVICES_MAX} block devices"));
        }
        names.sort();
        names
    }

    /// udev has looked at the start of each disk already; only without its word the disk is read.
    fn may_be_luks(&self, name: &str) -> bool {
        let folder = self.root.join("sys/class/block").join(name);
        if read_line(&folder.join("size")).is_some_and(|sectors| sectors == "0") {
            return false;
        }
        let Some(number) = read_line(&folder.join("dev")) else { return true };
        let known = self.root.join(format!("run/udev/data/b{number}"));
        let Ok(known) = read(&known, UDEV_SIZE_MAX) else { return true };
        let known = String::from_utf8_lossy(&known);
        known.lines().any(|line| line == "E:ID_FS_TYPE=crypto_LUKS")
            || known.lines().any(|line| line.starts_with("E:ID_FS_AMBIVALENT="))
    }

    /// Reads the header of LUKS at `path`, if there is one; returns whether there is.
    fn look_at(&mut self, path: &Path) -> bool {
        match read_header(path) {
            Ok(None) => false,
            Ok(Some((uuid, bindings))) => {
                if self.disks.insert(uuid, path.to_owned()).is_none() {
                    self.tell(path, bindings);
                }
                true
            }
            Err(problem) => {
                self.tell(path, vec![Binding::Unknown(problem)]);
                true
            }
        }
    }

    /// A disk that is not open now counts too, and a header that lies elsewhere.
    fn look_at_entry(&mut self, entry: &Entry) {
        let source = printable(&entry.source);
        let own = [&entry.by_tpm, &entry.by_script].into_iter().flatten().cloned().collect();
        self.tell(Path::new(&source), own);
        let place = entry.header.as_ref().unwrap_or(&entry.source);
        let Some(path) = self.place(place) else {
            let not_there = format!("{source} of /etc/crypttab: {} is not there", printable(place));
            self.found.unknown.push(not_there);
            return;
        };
        if self.disks.values().all(|known| *known != path) && !self.look_at(&path) {
            self.found.unknown.push(format!("{source} of /etc/crypttab has no header of LUKS"));
        }
    }

    /// The file behind a name in /etc/crypttab.
    fn place(&self, name: &str) -> Option<PathBuf> {
        let kinds =
            ["UUID", "LABEL", "PARTUUID", "PARTLABEL"].map(|kind| (kind, kind.to_lowercase()));
        if let Some((kind, value)) = name.split_once('=') {
            let value = value.trim_matches('"');
            if kind == "UUID"
                && let Some(path) = self.disks.get(value)
            {
                return Some(path.clone());
            }
            let (_, folder) = kinds.iter().find(|(known, _)| *known == kind)?;
            return self
                .root
                .join("dev/disk/by-")
                .with_file_name(format!("by-{folder}"))
                .join(value)
                .canonicalize()
                .ok();
        }
        self.root.join(name.trim_start_matches('/')).canonicalize().ok()
    }

    /// A disk that is open has a header somewhere: the kernel knows its UUID, "CRYPT-LUKS2-" and
    /// its digits (cryptsetup, `dm_prepare_uuid`).
    fn look_at_opened(&mut self, name: &str) {
        let folder = self.root.join("sys/class/block").join(name).join("dm");
        let Some(uuid) = read_line(&folder.join("uuid")) else { return };
        let Some(rest) = uuid.strip_prefix("CRYPT-LUKS") else { return };
        let digits = rest.split('-').nth(1).unwrap_or_default();
        let is_it = |known: &String| !digits.is_empty() && known.replace('-', "") == digits;
        if !self.disks.keys().any(is_it) {
            let name = read_line(&folder.join("name")).unwrap_or_default();
            self.found.unknown.push(format!("the header of {} is not found", printable(&name)));
        }
    }

    fn tell(&mut self, path: &Path, bindings: Vec<Binding>) {
        let path = path.strip_prefix(self.root).unwrap_or(path).to_string_lossy();
        let path = printable(&format!("/{}", path.trim_start_matches('/')));
        for binding in bindings {
            let text = format!("{path}: {binding}");
            let list = match binding {
                Binding::Sealed { .. } => &mut self.found.sealed,
                Binding::Unknown(_) => &mut self.found.unknown,
            };
            if !list.contains(&text) {
                list.push(text);
            }
        }
    }
}

/// The UUID and the bindings of the header at the start of a disk, if there is one.
fn read_header(path: &Path) -> Result<Option<(String, Vec<Binding>)>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = |offset: u64, length: u64| read_at(&file, offset, length).map_err(|e| e.to_string());
    let Some(head) = Head::parse(&read(0, HEAD_SIZE as u64)?) else { return Ok(None) };
    let head = head?;
    let bindings = match head.told {
        Told::Luksmeta { offset_bytes } => {
            luks::of_luksmeta(&read(offset_bytes, METADATA_SIZE_MAX as u64)?)
        }
        Told::Json { header_bytes } => {
            let length = header_bytes.min(HEADER_SIZE_MAX) - HEAD_SIZE as u64;
            luks::of_json(&read(HEAD_SIZE as u64, length)?)
        }
    };
    Ok(Some((head.uuid, bindings)))
}

/// Reads `length` bytes, or as many as there are.
fn read_at(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn read(path: &Path, length_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(length_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
