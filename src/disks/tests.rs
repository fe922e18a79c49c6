#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const CLEVIS: &[u8] = include_bytes!("../../fuzz/corpus/luks/clevis-tpm2");
const SYSTEMD: &[u8] = include_bytes!("../../fuzz/corpus/luks/systemd-pcrs");
const UNBOUND: &[u8] = include_bytes!("../../fuzz/corpus/luks/systemd-no-pcrs");

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.put("sys/class/block/sda/size", b"0\n");
        tree
    }

    fn put(&self, path: &str, contents: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// A block device that holds this, and what udev says of it.
    fn disk(&self, name: &str, contents: &[u8], udev: Option<&str>) {
        self.put(&format!("sys/class/block/{name}/size"), b"2048\n");
        self.put(&format!("sys/class/block/{name}/dev"), format!("8:{name}\n").as_bytes());
        self.put(&format!("dev/{name}"), contents);
        if let Some(text) = udev {
            self.put(&format!("run/udev/data/b8:{name}"), format!("S:disk\n{text}\n").as_bytes());
        }
    }

    fn found(&self) -> Found {
        let found = Found::look(self.0.path()).unwrap();
        let told = Found::from_answer(&Found::answer(self.0.path()));
        assert_eq!(told.as_ref(), Some(&found), "a helper tells the same");
        found
    }
}

fn uuid(header: &[u8]) -> String {
    luks::Head::parse(header).unwrap().unwrap().uuid
}

#[test]
fn sealed_disks_are_found_with_udev_and_without() {
    let tree = Tree::new();
    assert_eq!(tree.found(), Found::default());
    tree.disk("vda", b"\xebc\x90", Some("E:ID_PART_TABLE_TYPE=gpt"));
    tree.disk("vda3", CLEVIS, Some("E:ID_FS_TYPE=crypto_LUKS"));
    tree.disk("vdb", SYSTEMD, None);
    tree.disk("vdc", UNBOUND, Some("E:ID_FS_AMBIVALENT=filesystem:ext4"));
    let found = tree.found();
    assert_eq!(found.looked, 3);
    let sealed = [
        "/dev/vda3: clevis tpm2, PCR 0,7 (slot 1)",
        "/dev/vdb: systemd-cryptenroll, PCR 0,7 (slot 1)",
    ];
    assert_eq!((found.sealed.as_slice(), found.unknown.len()), (&sealed.map(String::from)[..], 0));
    // The same disk by another way.
    tree.disk("sdb", CLEVIS, None);
    assert_eq!(tree.found().looked, 3);
}

#[test]
fn a_disk_of_which_udev_knows_something_else_is_not_read() {
    let tree = Tree::new();
    tree.disk("vda", CLEVIS, Some("E:ID_FS_TYPE=linux_raid_member"));
    tree.disk("vdb", CLEVIS, None);
    tree.put("sys/class/block/vdb/size", b"0\n");
    assert_eq!(tree.found(), Found::default());
}

#[test]
fn disks_of_crypttab_count_too_wherever_their_headers_lie() {
    let tree = Tree::new();
    tree.put("boot/a.hdr", CLEVIS);
    tree.put("srv/disk", SYSTEMD);
    let text = "a /dev/vdx none header=/boot/a.hdr\nb /srv/disk\nc UUID=1234 none\n\
                d /boot/other /etc/key tpm2-device=auto\nbroken\n";
    tree.put("boot/other", b"nothing");
    tree.put("etc/crypttab", text.as_bytes());
    let found = tree.found();
    let sealed = [
        "/boot/a.hdr: clevis tpm2, PCR 0,7 (slot 1)",
        "/srv/disk: systemd-cryptenroll, PCR 0,7 (slot 1)",
        "/boot/other: crypttab tpm2-device, PCR 7",
    ];
    assert_eq!(found.sealed, sealed);
    let unknown = [
        "/etc/crypttab, line 5",
        "UUID=1234 of /etc/crypttab: UUID=1234 is not there",
        "/boot/other of /etc/crypttab has no header of LUKS",
    ];
    assert_eq!(found.unknown, unknown);
}

#[test]
fn names_of_crypttab_lead_to_disks() {
    let tree = Tree::new();
    tree.disk("vda3", CLEVIS, None);
    tree.put("dev/disk/by-partuuid/none", b"");
    symlink("../../vda3", tree.0.path().join("dev/disk/by-partuuid/77-aa")).unwrap();
    let text = format!("a UUID={}\nb PARTUUID=77-aa\nc /dev/vda3\n", uuid(CLEVIS));
    tree.put("etc/crypttab", text.as_bytes());
    let found = tree.found();
    assert_eq!((found.looked, found.sealed.len(), found.unknown.len()), (1, 1, 0), "{found:?}");
}

#[test]
fn an_open_disk_whose_header_is_not_seen_is_unknown() {
    let tree = Tree::new();
    let opened = format!("CRYPT-LUKS2-{}-root\n", uuid(UNBOUND).replace('-', ""));
    tree.disk("dm-0", b"ext4", Some("E:ID_FS_TYPE=ext4"));
    tree.put("sys/class/block/dm-0/dm/uuid", opened.as_bytes());
    tree.put("sys/class/block/dm-0/dm/name", b"root\n");
    assert_eq!(tree.found().unknown, ["the header of root is not found"]);
    tree.disk("vdb", UNBOUND, Some("E:ID_FS_TYPE=crypto_LUKS"));
    assert_eq!(tree.found().unknown, [""; 0]);
    tree.put("sys/class/block/dm-0/dm/uuid", b"LVM-abc\n");
    assert_eq!(tree.found().unknown, [""; 0]);
}

#[test]
fn what_cannot_be_read_or_understood_is_unknown_and_named() {
    let tree = Tree::new();
    tree.disk("vda", &CLEVIS[..100], None);
    tree.disk("vdb", b"", None);
    fs::remove_file(tree.0.path().join("dev/vdb")).unwrap();
    let found = tree.found();
    assert_eq!(found.unknown[0], "/dev/vda: its LUKS header is damaged");
    assert!(found.unknown[1].starts_with("/dev/vdb: No such file"), "{found:?}");
    assert!(found.sealed.is_empty());
}

#[test]
fn an_answer_has_an_end_and_is_not_taken_for_more_than_it_is() {
    let line = "x".repeat(100);
    let unknown = vec![line.clone(); 200];
    let many = Found { looked: 300, sealed: vec![line; 100], unknown };
    let answer = many.to_answer();
    assert!(answer.len() <= ANSWER_SIZE_MAX + 40, "{}", answer.len());
    let told = Found::from_answer(&answer).unwrap();
    assert_eq!((told.looked, told.unknown.as_slice()), (300, &["200 more".to_owned()][..]));
    let left = 100 - (told.sealed.len() - 1);
    assert_eq!(*told.sealed.last().unwrap(), format!("{left} more"));
    for wrong in ["", "x", "1\nsealed", "1\nother text", "-1"] {
        assert_eq!(Found::from_answer(wrong), None, "{wrong:?}");
    }
}
