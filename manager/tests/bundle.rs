//! `firmcast key` and `firmcast bundle`, as an operator runs them.

#![allow(clippy::unwrap_used)]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use desk::Desk;
use firmcast::image::{Bundle, FirmwareFormat};
use firmcast::keys::{HostSecretKey, ManagerSecretKey, ReleaseSecretKey, load_secret};
use serde_json::Value;

/// A desk with an image of a legacy BIOS.
fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("bios.bin"), bios()).unwrap();
    desk
}

fn create(desk: &Desk, more: &[&str]) -> Output {
    let args = [
        "bundle",
        "create",
        "--image",
        "bios.bin",
        "--version",
        "1.1",
        "--security-version",
        "7",
        "--vendor",
        "QEMU",
        "--product",
        "Standard PC",
        "--key",
        "release.key",
        "--out",
        "new.fcb",
    ];
    desk.run(&[&args, more].concat())
}

fn show(desk: &Desk, more: &[&str]) -> Output {
    desk.run(&[&["bundle", "show", "new.fcb"], more].concat())
}

fn names(desk: &Desk) -> Vec<String> {
    let entries = fs::read_dir(desk.path("")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// 1 KiB that ends in a far jump to F000:E05B.
fn bios() -> Vec<u8> {
    let mut image: Vec<u8> = (0..1024u32).map(|i| (i / 8) as u8).collect();
    image[1008..1013].copy_from_slice(&[0xea, 0x5b, 0xe0, 0x00, 0xf0]);
    assert_eq!(FirmwareFormat::recognise(&image), Some(FirmwareFormat::LegacyBios));
    image
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Fails with status 1, says `why`, and shows nothing as if it were a result.
fn assert_refused(output: &Output, why: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("firmcast: ") && stderr.contains(why), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn keys_are_private_loadable_and_never_overwritten() {
    let desk = desk();
    for role in ["release", "manager", "host"] {
        let name = format!("{role}.new");
        let args = ["key", "new", "--role", role, "--out", &name, "--comment", "rack 7"];
        assert_eq!(desk.run(&args).status.code(), Some(0));
        assert_eq!(mode(&desk.path(&name)), 0o600);
        let line = fs::read_to_string(desk.path(&format!("{name}.pub"))).unwrap();
        assert!(line.starts_with(&format!("firmcast-{role}-key ")), "{line}");
        assert!(line.contains(" SHA256:") && line.ends_with(" rack 7\n"), "{line}");
        assert_eq!(line.lines().count(), 1);
        let before = fs::read(desk.path(&name)).unwrap();
        assert_refused(&desk.run(&args), "exists already");
        assert_eq!(fs::read(desk.path(&name)).unwrap(), before);
    }
    load_secret::<ReleaseSecretKey>(&desk.path("release.new")).unwrap();
    load_secret::<ManagerSecretKey>(&desk.path("manager.new")).unwrap();
    load_secret::<HostSecretKey>(&desk.path("host.new")).unwrap();
    let default = desk.run(&["--state", "a/state", "key", "new", "--role", "manager"]);
    assert_eq!(default.status.code(), Some(0), "{default:?}");
    assert_eq!(mode(&desk.path("a/state")), 0o700);
    assert_eq!(mode(&desk.path("a/state/manager.key")), 0o600);
    for usage in [
        &["key", "new", "--role", "release"][..],
        &["key", "new", "--role", "king", "--out", "k"],
        &["key", "new", "--out", "k"],
        &["bundle", "create"],
        &["bundle", "show"],
        &[],
    ] {
        assert_eq!(desk.run(usage).status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn a_bundle_says_what_it_was_told() {
    let desk = desk();
    let created = create(
        &desk,
        &[
            "--product",
            "pc",
            "--update-from",
            "1.0",
            "--expect-version",
            "1.1 (ULM)",
            "--preserve",
            "mac=0x20:2",
            "--preserve",
            "vars=0:16",
        ],
    );
    assert_eq!(created.status.code(), Some(0), "{created:?}");
    let warnings = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(warnings.contains("the image has 0x400 bytes, which no chip has"), "{warnings}");
    assert!(warnings.contains("vars at 0x0-0xf, mac at 0x20-0x21 would share"), "{warnings}");
    assert_eq!(warnings.lines().count(), 2, "{warnings}");
    assert_eq!(mode(&desk.path("new.fcb")) & 0o600, 0o600);

    let unchecked = show(&desk, &[]);
    assert_eq!(unchecked.status.code(), Some(0), "{unchecked:?}");
    let table = String::from_utf8(unchecked.stdout).unwrap();
    assert!(table.contains("NOT CHECKED: claims release key SHA256:"), "{table}");

    let shown = show(&desk, &["--trust", "release.pub", "--json"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(json["version"], "1.1");
    assert_eq!(json["security_version"], 7);
    assert_eq!(json["products"], serde_json::json!(["Standard PC", "pc"]));
    assert_eq!(json["update_from"], serde_json::json!(["1.0"]));
    assert_eq!(json["expect_version"], "1.1 (ULM)");
    assert_eq!(json["regions"][0]["name"], "vars");
    assert_eq!(json["regions"][1]["offset_bytes"], 32);
    assert_eq!(json["image"]["size_bytes"], 1024);
    assert_eq!(json["image"]["format"], "legacy BIOS");
    assert_eq!(json["payload"]["compression"], "zstd");
    assert_eq!(json["signature"]["trusted"], true);

    assert_eq!(json["boot_offset_reason"], "an x86 reset vector is there");
    let key = fs::read_to_string(desk.path("release.pub")).unwrap();
    let inline = show(&desk, &["--trust", key.trim_end()]);
    assert!(String::from_utf8(inline.stdout).unwrap().contains("good, by trusted release key"));
}

#[test]
fn an_unknown_format_is_a_warning_and_noise_is_not_compressed() {
    let desk = desk();
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    fs::write(desk.path("bios.bin"), noise.take(4096).collect::<Vec<u8>>()).unwrap();
    let created = create(&desk, &[]);
    assert_eq!(created.status.code(), Some(0));
    let warnings = String::from_utf8_lossy(&created.stderr).into_owned();
    assert!(warnings.contains("warning: bios.bin is of no"), "{warnings}");
    let start = "where the processor starts is not known; most servers start at the end: 0xff0";
    assert!(warnings.contains(start), "{warnings}");
    let shown = show(&desk, &["--trust", "release.pub"]);
    let table = String::from_utf8(shown.stdout).unwrap();
    assert!(table.contains("starts at         0xff0: not known"), "{table}");
    let json: Value = serde_json::from_slice(&show(&desk, &["--json"]).stdout).unwrap();
    assert_eq!(json["payload"]["compression"], "none");
    assert_eq!(json["image"]["format"], Value::Null, "nothing unverified is examined");
}

/// 64 KiB with a flash map at 1000h: vital product data, a region with a name of its own, and the
/// rest.
fn mapped() -> Vec<u8> {
    let mut image = vec![0x5a; 0x1_0000];
    let name = |text: &str| [text.as_bytes(), &vec![0; 32 - text.len()]].concat();
    let mut map = [b"__FMAP__".as_slice(), &[1, 1], &[0; 8], &0x1_0000u32.to_le_bytes()].concat();
    map.extend([name("FLASH"), 3u16.to_le_bytes().to_vec()].concat());
    for (area, offset, length) in
        [("FW_MAIN", 0u32, 0x8000u32), ("RW_VPD", 0x8000, 0x1000), ("RW_LEGACY", 0x9000, 0x1000)]
    {
        map.extend([offset.to_le_bytes(), length.to_le_bytes()].concat());
        map.extend([name(area), vec![0; 2]].concat());
    }
    image[0x1000..0x1000 + map.len()].copy_from_slice(&map);
    image
}

#[test]
fn regions_are_chosen_by_name_kind_or_range_and_what_belongs_to_the_machine_stays() {
    let desk = desk();
    fs::write(desk.path("bios.bin"), mapped()).unwrap();
    fs::write(desk.path("map"), "0000a000:0000afff own\n").unwrap();
    let regions = |more: &[&str]| {
        let _ = fs::remove_file(desk.path("new.fcb"));
        let created = create(&desk, more);
        assert_eq!(created.status.code(), Some(0), "{created:?}");
        let json: Value = serde_json::from_slice(&show(&desk, &["--json"]).stdout).unwrap();
        assert_eq!(json["layout"].as_array().unwrap().len(), 3);
        let found = json["regions"].as_array().unwrap().iter();
        found
            .map(|region| {
                let (name, action) = (region["name"].as_str(), region["action"].as_str());
                let offset_bytes = region["offset_bytes"].as_u64().unwrap();
                format!("{} {} {offset_bytes:#x}", action.unwrap(), name.unwrap())
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(regions(&[]), "preserve RW_VPD 0x8000");
    assert_eq!(regions(&["--reset", "vpd"]), "reset RW_VPD 0x8000");
    assert_eq!(regions(&["--replace", "RW_VPD"]), "replace RW_VPD 0x8000");
    assert_eq!(
        regions(&["--layout", "map", "--preserve", "own", "--preserve", "RW_LEGACY"]),
        "preserve RW_VPD 0x8000, preserve RW_LEGACY 0x9000, preserve own 0xa000"
    );
    assert_eq!(regions(&["--replace", "vars=0x8000:16"]), "replace vars 0x8000");
    assert_eq!(regions(&["--volatile", "RW_VPD"]), "volatile RW_VPD 0x8000");
    let learned = r#"{"chip_bytes": 65536, "learned": [
        {"offset_bytes": 32768, "length_bytes": 8192}], "boots": 2}"#;
    fs::write(desk.path("learned"), learned).unwrap();
    assert_eq!(
        regions(&["--learned", "learned"]),
        "preserve RW_VPD 0x8000, volatile learned-1 0x9000"
    );
    fs::write(desk.path("learned"), learned.replace("65536", "4096")).unwrap();
    let _ = fs::remove_file(desk.path("new.fcb"));
    assert_refused(&create(&desk, &["--learned", "learned"]), "chip of 0x1000 bytes");
    let _ = fs::remove_file(desk.path("new.fcb"));
    assert_refused(&create(&desk, &["--preserve", "gbe"]), "known are: FW_MAIN, RW_VPD, RW_LEGACY");
    fs::write(desk.path("bad"), "0:1ffff own\n").unwrap();
    assert_refused(&create(&desk, &["--layout", "bad"]), "layout file bad");
}

/// 64 KiB with a Firmware Interface Table that names a startup ACM for this chipset.
fn with_startup_acm(chipset: u16) -> Vec<u8> {
    let mut image = mapped();
    let address = |offset: u32| u64::from(0xffff_0000 + offset).to_le_bytes();
    let acm = [2u16, 0, 0, 0, 0, 0, chipset, 0, 0x8086, 0, 0, 0, 16, 0];
    let acm: Vec<u8> = acm.iter().flat_map(|field| field.to_le_bytes()).collect();
    image[0xc000..0xc000 + acm.len()].copy_from_slice(&acm);
    let table = [&b"_FIT_   \x02\0\0\0\0\x01\0\0"[..], &address(0xc000), &[0, 0, 0, 0, 0, 1, 2, 0]];
    image[0xd000..0xd020].copy_from_slice(&table.concat());
    image[0xffc0..0xffc8].copy_from_slice(&address(0xd000));
    image
}

/// A firmware volume with programs, at the end of an image of 64 KiB.
fn uefi() -> Vec<u8> {
    let mut image = vec![0xff; 0x1_0000];
    let ffs2 = 0x8c8c_e578_u32.to_le_bytes();
    let rest = [0x3d, 0x8a, 0x1c, 0x4f, 0x99, 0x35, 0x89, 0x61, 0x85, 0xc3, 0x2d, 0xd3];
    let mut volume = [vec![0; 16], ffs2.to_vec(), rest.to_vec()].concat();
    volume.extend([0x8000u64.to_le_bytes().as_slice(), b"_FVH"].concat());
    volume.extend([0x0004_feff_u32.to_le_bytes(), [72, 0, 0, 0], [0, 0, 0, 2]].concat());
    volume.extend([8u32, 0x1000, 0, 0].map(u32::to_le_bytes).concat());
    let words = volume.as_chunks::<2>().0.iter().map(|word| u16::from_le_bytes(*word));
    let sum = words.fold(0u16, u16::wrapping_add).wrapping_neg();
    volume[50..52].copy_from_slice(&sum.to_le_bytes());
    image[0x8000..0x8000 + volume.len()].copy_from_slice(&volume);
    image
}

#[test]
fn what_boot_guard_finds_is_signed_and_a_change_of_it_only_when_it_is_meant() {
    let desk = desk();
    let shown = |more: &[&str]| {
        let _ = fs::remove_file(desk.path("new.fcb"));
        let created = create(&desk, more);
        assert_eq!(created.status.code(), Some(0), "{created:?}");
        let json: Value = serde_json::from_slice(&show(&desk, &["--json"]).stdout).unwrap();
        let table = String::from_utf8(show(&desk, &[]).stdout).unwrap();
        (json["boot_guard"].clone(), json["new_boot_guard"].clone(), table)
    };
    let (none, not_meant, _) = shown(&[]);
    assert_eq!((none, not_meant), (serde_json::json!([]), Value::Bool(false)));
    fs::write(desk.path("bios.bin"), with_startup_acm(0xb00c)).unwrap();
    let acm = "startup ACM for chipset 0xb00c of vendor 0x8086";
    let (found, not_meant, table) = shown(&[]);
    assert_eq!((found, not_meant), (serde_json::json!([acm]), Value::Bool(false)));
    assert!(table.contains(&format!("boot guard        {acm}\n")), "{table}");
    let (_, meant, table) = shown(&["--new-boot-guard"]);
    assert_eq!(meant, Value::Bool(true));
    assert!(table.contains("new boot guard    the chip may have another one"), "{table}");
}

#[test]
fn an_image_that_may_overwrite_settings_is_told_and_flashed_only_if_that_is_meant() {
    let desk = desk();
    fs::write(desk.path("bios.bin"), uefi()).unwrap();
    let stderr = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let made = create(&desk, &["--volatile", "vars=0x0:0x1000"]);
    assert!(made.status.success() && !stderr(&made).contains("WARNING"), "{made:?}");
    fs::remove_file(desk.path("new.fcb")).unwrap();
    let made = create(&desk, &[]);
    assert!(made.status.success() && stderr(&made).contains("WARNING"), "{made:?}");
    let json: Value = serde_json::from_slice(&show(&desk, &["--json"]).stdout).unwrap();
    assert_eq!(json["lacks_variable_store"], Value::Bool(true));
    let update = |more: &[&str]| {
        let words = ["--state", "state", "update", "--bundle", "new.fcb", "--host", "127.0.0.1"];
        let output = desk.run(&[&words, more].concat());
        assert_eq!(output.status.code(), Some(3), "there is no manager's key: {output:?}");
        stderr(&output)
    };
    assert!(update(&[]).contains("--no-variable-store-known"));
    assert!(!update(&["--dry-run"]).contains("give --no-variable-store-known"));
    assert!(update(&["--no-variable-store-known"]).contains("no manager key"));
    assert!(update(&[]).contains("no manager key"), "it was said once");
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() {
    let desk = desk();
    let before = names(&desk);
    let refused = |more: &[&str], why: &str| {
        assert_refused(&create(&desk, more), why);
        assert_eq!(names(&desk), before, "{why}");
    };
    refused(&["--preserve", "vars=0:2M"], "region \"vars\"");
    refused(&["--preserve", "a=0:8", "--preserve", "b=4:8"], "not overlap");
    refused(&["--preserve", "a=0:1K"], "nothing would be updated");
    refused(&["--product", "\u{202e}pc"], "printable");
    let no_usage = create(&desk, &["--preserve", "a=1"]);
    assert_eq!(no_usage.status.code(), Some(2));

    fs::set_permissions(desk.path("release.key"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&[], "chmod 600");
    fs::set_permissions(desk.path("release.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(desk.path("bios.bin"), b"").unwrap();
    refused(&[], "the image has 0 bytes");
    let sparse = fs::File::create(desk.path("bios.bin")).unwrap();
    sparse.set_len((256 << 20) + 1).unwrap();
    refused(&[], "expected at most 268435456 bytes");
    fs::write(desk.path("bios.bin"), bios()).unwrap();

    assert_eq!(create(&desk, &[]).status.code(), Some(0));
    let bundle = fs::read(desk.path("new.fcb")).unwrap();
    assert_refused(&create(&desk, &["--preserve", "a=0:1"]), "exists already");
    assert_eq!(fs::read(desk.path("new.fcb")).unwrap(), bundle);
}

#[test]
fn a_full_disk_leaves_no_bundle() {
    let desk = desk();
    // A file-size limit fails the write as a full disk does, but needs no file system of its own.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let mut noise = bios().repeat(64);
    (0u32..)
        .zip(&mut noise)
        .for_each(|(i, byte)| *byte ^= (i.wrapping_mul(2_654_435_761) >> 24) as u8);
    fs::write(desk.path("bios.bin"), noise).unwrap();
    let before = names(&desk);
    let full = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_firmcast")])
        .args(["bundle", "create", "--image", "bios.bin", "--version", "1", "--security-version"])
        .args(["1", "--vendor", "v", "--product", "p", "--key", "release.key", "--out", "new.fcb"])
        .current_dir(desk.path(""))
        .output()
        .unwrap();
    assert_refused(&full, "cannot write new.fcb");
    assert_eq!(names(&desk), before);
}

#[test]
fn damage_anywhere_is_seen_with_and_without_a_trusted_key() {
    let desk = desk();
    assert_eq!(create(&desk, &[]).status.code(), Some(0));
    let good = fs::read(desk.path("new.fcb")).unwrap();
    let trusts = [&[][..], &["--trust", "release.pub"]];
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(desk.path("new.fcb"), &bad).unwrap();
        assert_refused(&show(&desk, trusts[at % 2]), "bundle new.fcb: ");
        fs::write(desk.path("new.fcb"), &good[..at]).unwrap();
        assert_refused(&show(&desk, trusts[(at + 1) % 2]), "bundle new.fcb: ");
    }
    fs::write(desk.path("new.fcb"), [&good[..], b"\n"].concat()).unwrap();
    assert_refused(&show(&desk, &[]), "appended");

    // A forger sets the CRC right: then only the signature and the digests are left.
    let parts = Bundle::parse(&good).unwrap();
    for at in (0..parts.manifest.len()).step_by(5) {
        let mut manifest = parts.manifest.to_vec();
        manifest[at] ^= 0x80;
        let forged = Bundle { manifest: &manifest, ..parts }.emit().unwrap();
        fs::write(desk.path("new.fcb"), forged).unwrap();
        assert_refused(&show(&desk, trusts[1]), "bundle new.fcb: ");
    }
    let mut payload = parts.payload.to_vec();
    payload[9] ^= 1;
    let forged = Bundle { payload: &payload, ..parts }.emit().unwrap();
    fs::write(desk.path("new.fcb"), forged).unwrap();
    for trust in trusts {
        assert_refused(&show(&desk, trust), "payload's SHA-256");
    }
}

#[test]
fn wrong_keys_and_wrong_files_are_named() {
    let desk = desk();
    assert_eq!(create(&desk, &[]).status.code(), Some(0));
    desk.run(&["key", "new", "--role", "release", "--out", "other.key"]);
    desk.run(&["key", "new", "--role", "host", "--out", "host.key"]);
    assert_refused(&show(&desk, &["--trust", "other.pub"]), "not trusted here");
    let both = show(&desk, &["--trust", "other.pub", "--trust", "release.pub"]);
    assert_eq!(both.status.code(), Some(0));
    assert_refused(&show(&desk, &["--trust", "host.pub"]), "this is a host key");
    assert_refused(&show(&desk, &["--trust", "release.key"]), "PRIVATE key");
    assert_refused(&show(&desk, &["--trust", "absent.pub"]), "absent.pub");
    for (file, why) in [
        ("bios.bin", "not a firmcast bundle"),
        ("absent.fcb", "cannot read bundle absent.fcb: No such file"),
        (".", "not a regular file"),
        ("/dev/zero", "not a regular file"),
    ] {
        assert_refused(&desk.run(&["bundle", "show", file]), why);
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let desk = desk();
    assert_eq!(create(&desk, &[]).status.code(), Some(0));
    let mut child = Command::new(env!("CARGO_BIN_EXE_firmcast"))
        .args(["bundle", "show", "new.fcb"])
        .current_dir(desk.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]));
}
