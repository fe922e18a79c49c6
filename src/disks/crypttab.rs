//! What /etc/crypttab says: which disks are opened, and how their keys are got. Sources:
//! crypttab(5) of systemd and of Debian's cryptsetup.

use super::binding::{Binding, Pcrs, printable};

/// Maximum length of the file that is read, in bytes.
pub const SIZE_MAX: usize = 64 << 10;
/// Maximum number of lines with a disk.
const ENTRIES_MAX: usize = 256;
/// The PCRs where none are named (crypttab(5), `tpm2-pcrs=`).
const PCRS_ELSE: &str = "7";
/// Scripts of Debian's cryptsetup, none of which asks a TPM.
const SCRIPTS_WITHOUT_TPM: [&str; 8] = [
    "decrypt_derived",
    "decrypt_gnupg",
    "decrypt_gnupg-sc",
    "decrypt_keyctl",
    "decrypt_opensc",
    "decrypt_openct",
    "decrypt_ssl",
    "passdev",
];
/// Options of what is no LUKS.
const OTHER_KINDS: [&str; 5] = ["plain", "swap", "tmp", "tcrypt", "bitlk"];

/// What the whole file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crypttab {
    /// Its disks.
    pub entries: Vec<Entry>,
    /// What is not understood.
    pub unknown: Vec<String>,
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The disk, as it stands there.
    pub source: String,
    /// Where its header lies, if not at its start.
    pub header: Option<String>,
    /// A key that the TPM gives out by what stands here. What stands in the header is used before.
    pub by_tpm: Option<Binding>,
    /// A script that is not known and may ask the TPM.
    pub by_script: Option<Binding>,
}

/// Reads the file's text.
pub fn parse(text: &str) -> Crypttab {
    let mut crypttab = Crypttab::default();
    for (index, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        match fields.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            _ if crypttab.entries.len() == ENTRIES_MAX => {
                crypttab.unknown.push(format!("/etc/crypttab has more than {ENTRIES_MAX} disks"));
                break;
            }
            // What stands behind the fourth field is read by nobody.
            [_, source, rest @ ..] => {
                let (key, options) = (rest.first(), rest.get(1));
                crypttab.entries.extend(entry(source, key.copied(), options.copied()));
            }
            _ => crypttab.unknown.push(format!("/etc/crypttab, line {}", index + 1)),
        }
    }
    crypttab
}

/// One line; none of a disk that is not LUKS.
fn entry(source: &str, key: Option<&str>, options: Option<&str>) -> Option<Entry> {
    let options: Vec<(&str, Option<&str>)> = (options.unwrap_or_default().split(','))
        .map(|option| option.split_once('=').map_or((option, None), |(name, v)| (name, Some(v))))
        .collect();
    let value = |wanted: &str| options.iter().find(|(name, _)| *name == wanted).map(|(_, v)| *v);
    let is_luks = options.iter().all(|(name, _)| !OTHER_KINDS.contains(name));
    let key = key.filter(|key| !matches!(*key, "none" | "-"));
    let is_random = key.is_some_and(|key| matches!(key, "/dev/urandom" | "/dev/random"));
    (is_luks && !is_random).then(|| Entry {
        source: source.to_owned(),
        header: value("header").flatten().map(str::to_owned),
        by_tpm: value("tpm2-device").and_then(|_| by_tpm(key, value("tpm2-pcrs").flatten())),
        by_script: value("keyscript").flatten().and_then(by_script),
    })
}

/// A key file that the TPM has to decrypt. Without one a token of the header is used, and that
/// tells its PCRs by itself.
fn by_tpm(key: Option<&str>, pcrs: Option<&str>) -> Option<Binding> {
    const TOOL: &str = "crypttab tpm2-device";
    key?;
    match Pcrs::of_text(pcrs.unwrap_or(PCRS_ELSE), '+') {
        Some(pcrs) if !pcrs.are_of_firmware() => None,
        Some(pcrs) => Some(Binding::Sealed { tool: TOOL, pcrs, slot: String::new() }),
        None => Some(Binding::Unknown(format!("{TOOL} with PCRs that are not understood"))),
    }
}

fn by_script(script: &str) -> Option<Binding> {
    let name = script.rsplit('/').next().unwrap_or_default();
    let may_ask = !SCRIPTS_WITHOUT_TPM.contains(&name);
    let what = || format!("keyscript={}, which may ask the TPM", printable(script));
    may_ask.then(|| Binding::Unknown(what()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn one(line: &str) -> Entry {
        let Crypttab { mut entries, unknown } = parse(line);
        assert_eq!((entries.len(), unknown.len()), (1, 0), "{line}");
        entries.remove(0)
    }

    #[test]
    fn what_the_tpm_does_is_read_from_the_options() {
        for (options, expected) in [
            ("/etc/key tpm2-device=auto", Some("crypttab tpm2-device, PCR 7")),
            ("/etc/key luks,tpm2-device=auto,tpm2-pcrs=0+7", Some("crypttab tpm2-device, PCR 0,7")),
            ("/etc/key tpm2-device=/dev/tpmrm0,tpm2-pcrs=", None),
            ("/etc/key tpm2-device=auto,tpm2-pcrs=11", None),
            ("/etc/key tpm2-pcrs=0", None),
            ("none tpm2-device=auto", None),
            (
                "/etc/key tpm2-device=auto,tpm2-pcrs=0;7",
                Some("crypttab tpm2-device with PCRs that are not understood"),
            ),
        ] {
            let found = one(&format!("root UUID=x {options}")).by_tpm;
            assert_eq!(found.map(|binding| binding.to_string()).as_deref(), expected, "{options}");
        }
    }

    #[test]
    fn sources_headers_and_scripts_are_read() {
        let entry = one("a  /dev/vda3\tnone luks,header=/boot/a.hdr,keyscript=/opt/ask-tpm");
        assert_eq!(
            (entry.source.as_str(), entry.header.unwrap().as_str()),
            ("/dev/vda3", "/boot/a.hdr")
        );
        let script = entry.by_script.unwrap().to_string();
        assert_eq!(script, "keyscript=/opt/ask-tpm, which may ask the TPM");
        let known = one("a /dev/vda3 none keyscript=/lib/cryptsetup/scripts/decrypt_keyctl");
        assert_eq!(known.by_script, None);
        assert_eq!(one("a /dev/vda3").header, None);
    }

    #[test]
    fn what_is_no_luks_is_left_out_and_the_rest_is_never_passed_by() {
        let text = "# a comment\n\nswap /dev/sda2 /dev/urandom swap\nw /dev/sda3 none bitlk\n";
        assert_eq!(parse(text), Crypttab::default());
        assert_eq!(parse("alone\n").unknown, ["/etc/crypttab, line 1"]);
        let many = parse(&"a /dev/vda none luks\n".repeat(1000));
        assert_eq!((many.entries.len(), many.unknown.len()), (ENTRIES_MAX, 1));
    }
}
