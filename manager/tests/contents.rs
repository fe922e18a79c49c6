//! `firmcast bundle show --tree`, `--svg` and `firmcast bundle diff`, as an operator runs them.

#![allow(clippy::unwrap_used)]

#[path = "../src/contents/tests/samples.rs"]
mod samples;

mod desk;

use std::fs;
use std::process::Output;

use desk::Desk;
use samples::{assert_xml, chip, driver};
use serde_json::{Value, json};

/// A desk with bundles of two versions of a firmware.
fn desk() -> Desk {
    let desk = Desk::new();
    let drivers = |version: &str| {
        [driver(0x22, "Stays", "1", b"stays"), driver(0x33, "Net", version, version.as_bytes())]
    };
    create(&desk, "1.0", &chip(&drivers("1.0")), &[]);
    create(&desk, "1.1", &chip(&drivers("1.1")), &["--reset", "vpd"]);
    desk
}

/// Makes `VERSION.bin`, and `VERSION.fcb` of it.
fn create(desk: &Desk, version: &str, image: &[u8], more: &[&str]) {
    let (image_name, bundle_name) = (format!("{version}.bin"), format!("{version}.fcb"));
    fs::write(desk.path(&image_name), image).unwrap();
    let args = ["bundle", "create", "--image", &image_name, "--version", version];
    let args = [&args[..], &["--security-version", "7", "--vendor", "ACME <&>"], more].concat();
    let rest = ["--product", "S1", "--key", "release.key", "--out", &bundle_name];
    let made = desk.run(&[&args[..], &rest].concat());
    assert!(made.status.success(), "{made:?}");
}

fn trusted(desk: &Desk, args: &[&str]) -> Output {
    desk.run(&[&["bundle"], args, &["--trust", "release.pub"]].concat())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_tree_is_shown_of_what_a_trusted_key_has_signed() {
    let desk = desk();
    let shown = trusted(&desk, &["show", "1.0.fcb", "--tree"]);
    assert_eq!(shown.status.code(), Some(0), "{}", stderr(&shown));
    let text = stdout(&shown);
    assert!(text.contains("version           1.0\n"), "{text}");
    assert!(
        text.contains(
            "file 33333333-3333-3333-3333-333333333333 Net (driver, PE32, version 1.0)\n"
        )
    );
    let shown = trusted(&desk, &["show", "1.0.fcb", "--tree", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["version"], "1.0");
    let (main, flaw) = (&shown["tree"]["nodes"][2], &shown["tree"]["layout_flaw"]);
    assert_eq!((&main["name"], flaw), (&json!("FW_MAIN <A>"), &Value::Null));
    let driver = &main["children"][0]["children"][1];
    assert_eq!(driver["name"], "Net");
    assert_eq!((driver["kind"].as_str(), driver["version"].as_str()), (Some("file"), Some("1.0")));
    let plain = trusted(&desk, &["show", "1.0.fcb", "--json"]);
    let plain: Value = serde_json::from_slice(&plain.stdout).unwrap();
    assert_eq!(plain.get("tree"), None);
    for words in [&["--tree"][..], &["--svg", "map.svg"]] {
        let refused = desk.run(&[&["bundle", "show", "1.0.fcb"], words].concat());
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("give --trust RELEASE.pub"), "{}", stderr(&refused));
    }
    assert!(!desk.path("map.svg").exists());
}

#[test]
fn a_map_is_drawn_into_a_new_file() {
    let desk = desk();
    let drawn = trusted(&desk, &["show", "1.1.fcb", "--svg", "map.svg"]);
    assert_eq!(drawn.status.code(), Some(0), "{}", stderr(&drawn));
    let svg = fs::read_to_string(desk.path("map.svg")).unwrap();
    assert_xml(&svg);
    assert!(svg.contains("ACME &lt;&amp;&gt; S1, version 1.1"), "{svg}");
    assert!(svg.contains("reset RW_VPD: 0x1000 bytes at 0x1000"), "{svg}");
    let again = trusted(&desk, &["show", "1.1.fcb", "--svg", "map.svg"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("exists already"), "{}", stderr(&again));
    assert_eq!(fs::read_to_string(desk.path("map.svg")).unwrap(), svg);
}

#[test]
fn two_bundles_or_dumps_are_compared_as_diff_does_it() {
    let desk = desk();
    let same = trusted(&desk, &["diff", "1.0.fcb", "1.0.fcb"]);
    assert_eq!((same.status.code(), stdout(&same).as_str()), (Some(0), "no difference\n"));

    let other = trusted(&desk, &["diff", "1.0.fcb", "1.1.fcb", "--svg", "diff.svg"]);
    assert_eq!(other.status.code(), Some(1), "{}", stderr(&other));
    let text = stdout(&other);
    for line in [
        "version: 1.0 -> 1.1\n",
        "rule for RW_VPD: preserve 0x1000 bytes at 0x1000 -> reset 0x1000 bytes at 0x1000\n",
        "changed file 33333333-3333-3333-3333-333333333333 Net: version 1.0 -> 1.1, other \
         contents, in volume 8c8ce578-8a3d-4f1c-9935-896185c32dd3\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let svg = fs::read_to_string(desk.path("diff.svg")).unwrap();
    assert_xml(&svg);
    assert!(svg.contains("what differs from 1.0.fcb is red") && svg.contains("bytes differ<"));

    let dump = trusted(&desk, &["diff", "1.0.bin", "1.1.fcb", "--json"]);
    assert_eq!(dump.status.code(), Some(1), "{}", stderr(&dump));
    let found: Value = serde_json::from_slice(&dump.stdout).unwrap();
    assert_eq!(
        (&found["same"], &found["fields"], &found["rules"]),
        (&json!(false), &json!([]), &json!([]))
    );
    assert_eq!(found["bytes"]["ranges"], json!([[0x2000, 0x1000]]));
    let dumps = desk.run(&["bundle", "diff", "1.0.bin", "1.0.bin"]);
    assert_eq!(dumps.status.code(), Some(0), "no key is needed: {}", stderr(&dumps));
}

#[test]
fn trouble_is_neither_same_nor_different() {
    let desk = desk();
    fs::write(desk.path("empty"), b"").unwrap();
    let whole = fs::read(desk.path("1.0.fcb")).unwrap();
    fs::write(desk.path("cut.fcb"), &whole[..whole.len() - 1]).unwrap();
    fs::write(desk.path("there.svg"), b"mine").unwrap();
    for (words, why) in [
        (&["1.0.fcb", "absent"][..], "cannot read bundle absent"),
        (&["empty", "1.0.fcb"], "empty: neither a bundle nor an image: 0 bytes"),
        (&["cut.fcb", "1.0.fcb"], "cut.fcb: "),
        (&["1.0.fcb", "1.1.fcb", "--svg", "there.svg"], "exists already"),
    ] {
        let refused = trusted(&desk, &[&["diff"], words].concat());
        assert_eq!(refused.status.code(), Some(2), "{words:?}");
        assert!(stderr(&refused).contains(why), "{why}: {}", stderr(&refused));
        assert_eq!(refused.stdout, b"");
    }
    let refused = desk.run(&["bundle", "diff", "1.0.bin", "1.0.fcb"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("1.0.fcb: nothing of an image is looked at"));
    desk.run(&["key", "new", "--role", "release", "--out", "other.key"]);
    let refused = desk.run(&["bundle", "diff", "1.0.bin", "1.0.fcb", "--trust", "other.pub"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
