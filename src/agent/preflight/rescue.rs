//! Whether this machine could come into recovery by itself, when its firmware is damaged, and what
//! it would find there. A doubt is told; no update is refused for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::agent::check::{Checklist, Subject};
use crate::agent::local_machine::LocalMachine;

/// What `firmcast-mkrecovery --boot-entry` keeps of the boot loader's entry, below the state
/// folder: a word and its value in each line.
const ENTRY: &str = "recovery/boot-entry";
/// What the distribution's initramfs runs, where the package put it.
const HOOK: &str = "usr/share/firmcast/initramfs/run-hook";
const ADVICE: &str = "firmcast-mkrecovery --boot-entry";

/// Tells which ways lead into recovery, how old the provision there is, and what is missing.
pub(super) fn rescue(list: &mut Checklist, machine: &LocalMachine) {
    let mut ways = Vec::new();
    let mut problems = Vec::new();
    hook(&machine.root, &mut ways, &mut problems);
    let archive = entry(machine, &mut ways, &mut problems);
    if ways.is_empty() {
        problems.insert(0, "nothing brings this machine into recovery by itself".to_owned());
    }
    match age(machine, &archive.unwrap_or_else(|| machine.archive())) {
        Ok(age) => ways.push(age),
        Err(problem) => problems.push(problem),
    }
    match problems.is_empty() {
        true => list.ok(Subject::Rescue, ways.join(", ")),
        false => {
            ways.extend(problems);
            list.unknown(Subject::Rescue, format_args!("{}; run {ADVICE}", ways.join("; ")));
        }
    }
}

/// The distribution's own initramfs, at each boot.
fn hook(root: &Path, ways: &mut Vec<String>, problems: &mut Vec<String>) {
    let cmdline = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let acts = |word| matches!(word, "firmcast.recover=auto" | "firmcast.recover=force");
    if !cmdline.split_whitespace().any(acts) {
        return;
    }
    match root.join(HOOK).is_file() {
        true => ways.push("the distribution's initramfs at each boot".to_owned()),
        false => problems.push(
            "firmcast.recover is on the command line, but firmcast-initramfs is not installed"
                .to_owned(),
        ),
    }
}

/// The boot loader's entry; returns the archive that it loads.
fn entry(
    machine: &LocalMachine,
    ways: &mut Vec<String>,
    problems: &mut Vec<String>,
) -> Option<PathBuf> {
    let record = fs::read_to_string(machine.state.folder().join(ENTRY)).ok()?;
    let value = |word: &str| {
        let line = record.lines().find(|line| line.split(' ').next() == Some(word));
        line.and_then(|line| line.get(word.len() + 1..)).unwrap_or_default()
    };
    let file = |word: &str| machine.root.join(value(word).trim_start_matches('/'));
    ways.push(format!("entry of {} with kernel {}", value("kind"), value("release")));
    for path in [file("kernel"), file("image")] {
        if !path.is_file() {
            problems.push(format!("there is no {}", path.display()));
        }
    }
    let image = file("image");
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    // The loader's own file, which others may have written anew without the entry.
    if file("entry") != image
        && !fs::read_to_string(file("entry")).is_ok_and(|text| text.contains(&*name))
    {
        problems.push(format!("{} does not start {name}", file("entry").display()));
    }
    // Where the loader cannot read the archive itself. FAT counts every second second.
    let copied = changed(&file("copy")).map(|time| time + Duration::from_secs(2));
    if !value("copy").is_empty() && copied < changed(&file("archive")) {
        problems.push(format!("{} has an older provision", file("copy").display()));
    }
    if !value("problem").is_empty() {
        problems.push(value("problem").to_owned());
    }
    Some(file("archive"))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// How old the provision in the archive is.
fn age(machine: &LocalMachine, archive: &Path) -> Result<String, String> {
    let Some(written) = changed(archive) else {
        return Err(format!("there is no provision {}", archive.display()));
    };
    if changed(&machine.state.known_good_path()).is_some_and(|known| known > written) {
        return Err(format!("{} is older than the record of good firmware", archive.display()));
    }
    let age = SystemTime::now().duration_since(written).unwrap_or_default();
    Ok(format!("provision {} days old ({})", age.as_secs() / 86_400, archive.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::config::Config;
    use crate::agent::trust::Trust;
    use std::io::Write as _;
    use std::time::Duration;

    const RECORD: &str = "kind grub\nrelease 6.1+x~y\nkernel /boot/vmlinuz-6.1+x~y\n\
        image /boot/firmcast/recovery-6.1+x~y.img\narchive /boot/firmcast/rescue.cpio\n\
        entry /boot/grub/grub.cfg\ncmdline rdinit=x kernel /none\n";

    /// A machine in a folder with these files, each of which is a second newer than the one before.
    fn told(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        let start = SystemTime::now() - Duration::from_secs(files.len() as u64);
        for (number, (path, text)) in (1..).zip(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = fs::File::create(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.set_modified(start + Duration::from_secs(number)).unwrap();
        }
        let state_dir = root.path().join("state");
        let config = Config { state_dir, ..Config::default() };
        let trust = Trust::load(&config);
        let mut machine = LocalMachine::new(config, trust);
        machine.root = root.path().into();
        let mut list = Checklist::default();
        rescue(&mut list, &machine);
        assert_eq!(list.verdict(), Ok(()));
        list.to_string().replace(root.path().to_str().unwrap(), "")
    }

    #[test]
    fn a_machine_without_a_way_is_told_what_to_type() {
        let said = told(&[]);
        assert!(said.contains("unknown  rescue"), "{said}");
        assert!(said.contains("nothing brings this machine into recovery by itself"), "{said}");
        assert!(said.contains("no provision /boot/firmcast/rescue.cpio"), "{said}");
        assert!(said.contains("run firmcast-mkrecovery --boot-entry"), "{said}");
    }

    #[test]
    fn an_entry_counts_as_far_as_its_files_are_there() {
        let whole = [
            ("state/recovery/boot-entry", RECORD),
            ("boot/vmlinuz-6.1+x~y", "kernel"),
            ("boot/firmcast/recovery-6.1+x~y.img", "image"),
            ("boot/firmcast/rescue.cpio", "archive"),
            ("boot/grub/grub.cfg", "initrd ($a)/firmcast/recovery-6.1+x~y.img"),
        ];
        let said = told(&whole);
        assert!(said.contains("ok       rescue"), "{said}");
        assert!(said.contains("entry of grub with kernel 6.1+x~y, provision 0 days"), "{said}");
        for (at, missing) in [
            (1, "there is no /boot/vmlinuz-6.1+x~y"),
            (2, "there is no /boot/firmcast/recovery-6.1+x~y.img"),
            (3, "there is no provision /boot/firmcast/rescue.cpio"),
            (4, "/boot/grub/grub.cfg does not start recovery-6.1+x~y.img"),
        ] {
            let mut files = whole.to_vec();
            files.remove(at);
            let said = told(&files);
            assert!(said.contains("unknown  rescue") && said.contains(missing), "{said}");
        }
        let failed = format!("{RECORD}problem /boot is read-only\n");
        let said = told(&[&[("state/recovery/boot-entry", failed.as_str())], &whole[1..]].concat());
        assert!(said.contains("; /boot is read-only; run"), "{said}");
        let copied = format!("{RECORD}copy /efi/firmcast/rescue.cpio\n");
        let said = told(&[&[("state/recovery/boot-entry", copied.as_str())], &whole[1..]].concat());
        assert!(said.contains("/efi/firmcast/rescue.cpio has an older provision"), "{said}");
    }

    #[test]
    fn the_hook_counts_only_where_its_package_is() {
        let boots = ("proc/cmdline", "ro quiet firmcast.recover=auto\n");
        let archive = ("boot/firmcast/rescue.cpio", "archive");
        let said = told(&[boots, archive, (HOOK, "")]);
        assert!(said.contains("ok       rescue") && said.contains("initramfs at each"), "{said}");
        let said = told(&[boots, archive]);
        assert!(said.contains("firmcast-initramfs is not installed"), "{said}");
        let said = told(&[("proc/cmdline", "firmcast.recover=no"), archive, (HOOK, "")]);
        assert!(said.contains("nothing brings"), "{said}");
    }

    #[test]
    fn a_provision_that_is_older_than_the_record_of_good_firmware_is_doubtful() {
        let files = [
            ("state/recovery/boot-entry", RECORD),
            ("boot/firmcast/rescue.cpio", "archive"),
            ("state/known-good.json", "{}"),
        ];
        let said = told(&files);
        assert!(said.contains("is older than the record of good firmware"), "{said}");
    }
}
