//! What `firmcastd check` tells.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use firmcast::keys::SecretKey as _;

use crate::process::{Agent, can_make_namespaces, free_address, manager, run, text, write_config};

#[test]
fn check_tells_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), free_address(), "/none.pub");
    let config = config.to_str().unwrap();
    let output = run(&["check", "--json", "--config", config], &[("FIRMCAST_FLASH", "nosuch")]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["ready"], false);
    let check = |name: &str| {
        let checks = json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap().clone()
    };
    let flash = check("flash");
    assert_eq!(
        (&flash["verdict"], &flash["reason"]),
        (&"not-ok".into(), &"flash-not-found".into())
    );
    assert!(flash["detail"].as_str().unwrap().contains("nosuch"));
    assert!(check("trusted-managers")["detail"].as_str().unwrap().contains("/none.pub"));
    assert_eq!(check("recovery-kernel")["reason"], "recovery-missing");
    assert_eq!(check("host-key")["verdict"], "unknown");
    assert!(!folder.path().join("host.key").exists(), "check changes nothing");

    let output = run(&["check", "--config", config], &[]);
    assert!(text(&output.stdout).contains("things are in the way."));
}

/// As a socket unit of systemd binds one.
#[test]
fn check_tells_of_a_socket_where_no_broadcast_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bound = socket.local_addr().unwrap();
    let everywhere = SocketAddr::from(([0, 0, 0, 0], bound.port()));
    let config = write_config(folder.path(), everywhere, "");
    let listen = || {
        let output = run(&["check", "--json", "--config", config.to_str().unwrap()], &[]);
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = checks["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "listen").unwrap()
    };
    let told = listen();
    assert_eq!(told["verdict"], "unknown", "{told}");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains(&bound.to_string()), "{detail}");
    assert!(detail.contains("systemctl disable --now firmcastd.socket"), "{detail}");
    drop(socket);
    let _everywhere = UdpSocket::bind(everywhere).unwrap();
    assert_eq!(listen()["verdict"], "ok");
}

/// The /sys of a machine whose watchdog runs, driven by the module my_wdt.
fn machine_with_watchdog(sys: &Path) {
    let put = |place: &str, text: &str| {
        let file = sys.join(place);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let link = |from: &str, to: &str| {
        let from = sys.join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        symlink(Path::new("/sys").join(to), from).unwrap();
    };
    let device = "devices/pci0000:00/0000:00:1f.0";
    put(&format!("{device}/watchdog/watchdog0/state"), "active\n");
    put("module/my_wdt/initstate", "live\n");
    link("class/watchdog/watchdog0", &format!("{device}/watchdog/watchdog0"));
    link(&format!("{device}/driver"), "bus/pci/drivers/my_wdt");
    link("bus/pci/drivers/my_wdt/module", "module/my_wdt");
}

/// What firmcast-mkrecovery puts before an initramfs: the kernel's release, and its modules.
fn marked_initramfs(path: &Path, modules: &str) {
    let mut file = fs::File::create(path).unwrap();
    let files = [("firmcast-kernel-release", "6.1.0-test\n"), ("firmcast-modules", modules)];
    for (name, text) in files {
        let builder = cpio::newc::Builder::new(name).mode(0o100_600);
        let mut entry = builder.write(&mut file, text.len() as u32);
        entry.write_all(text.as_bytes()).unwrap();
        entry.finish().unwrap();
    }
    cpio::newc::trailer(&mut file).unwrap();
}

/// firmcastd in a mount namespace where `sys` stands for /sys.
fn firmcastd_on(sys: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /sys && exec \"$@\"";
    command.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(sys);
    command.arg(env!("CARGO_BIN_EXE_firmcastd")).env_remove("FIRMCAST_FLASH");
    command
}

#[test]
fn another_machine_under_the_same_disk_is_told_before_and_after_its_key_is_made() {
    if !can_make_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, manager) = manager();
    let config = write_config(folder.path(), free_address(), &manager.public().to_string());
    let uuid = folder.path().join("sys/class/dmi/id/product_uuid");
    fs::create_dir_all(uuid.parent().unwrap()).unwrap();
    let check = || {
        let mut command = firmcastd_on(&folder.path().join("sys"));
        let output = command.args(["check", "--json", "--config"]).arg(&config).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let line = json["checks"][0].clone();
        assert_eq!(line["name"], "host-key");
        (line["verdict"].clone(), line["detail"].as_str().unwrap().to_owned())
    };
    let start = || {
        let mut command = firmcastd_on(&folder.path().join("sys"));
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.args(["--foreground", "--config"]).arg(&config).stderr(log);
        let process = command.spawn().unwrap();
        drop(Agent { process, address: free_address() }.when_it_listens(folder.path()));
        fs::read_to_string(folder.path().join("host.pub")).unwrap()
    };
    fs::write(&uuid, "4c4c4544-0042-3510-8052-b4c04f4e4c31\n").unwrap();
    let first = start();
    let (verdict, detail) = check();
    assert!(verdict == "ok" && first.contains(&detail), "{detail}");

    fs::write(&uuid, "4c4c4544-0042-3510-8052-b4c04f4e4c32\n").unwrap();
    let (verdict, detail) = check();
    assert!(verdict == "unknown" && detail.contains("another product UUID"), "{detail}");
    let second = start();
    assert_ne!(second, first);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("because of another product UUID") && log.contains("--replace"), "{log}");
    let (verdict, detail) = check();
    assert!(verdict == "ok" && detail.contains("made in place of"), "{detail}");
    assert_eq!(start(), second);
}

#[test]
fn a_driver_that_recovery_lacks_is_in_the_way() {
    if !can_make_namespaces() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (sys, image) = (folder.path().join("sys"), folder.path().join("recovery.img"));
    machine_with_watchdog(&sys);
    let config = write_config(folder.path(), free_address(), "/none.pub");
    let more =
        format!("recovery_kernel = \"/none\"\nrecovery_initramfs = \"{}\"\n", image.display());
    fs::File::options().append(true).open(&config).unwrap().write_all(more.as_bytes()).unwrap();
    let check = |modules: &str| {
        marked_initramfs(&image, modules);
        let mut command = firmcastd_on(&sys);
        let output = command.args(["check", "--json", "--config"]).arg(&config).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
        let checks = json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "recovery-drivers").unwrap().clone()
    };
    let lacks = "the initramfs lacks my_wdt (of watchdog0); build it again: \
                 firmcast-mkrecovery --kernel-version 6.1.0-test";
    let refuses = |modules: &str| {
        let found = check(modules);
        assert_eq!(found["verdict"], "not-ok", "{modules:?}: {found}");
        assert_eq!(found["reason"], "recovery-lacks-driver");
        assert!(found["detail"].as_str().unwrap().starts_with(lacks), "{found}");
    };
    let accepts = |modules: &str, detail: &str| {
        let found = check(modules);
        assert_eq!((&found["verdict"], &found["detail"]), (&"ok".into(), &detail.into()));
    };
    accepts("my_wdt:\n", "my_wdt (of watchdog0)");
    refuses("e1000e:\n");

    // Part of the running kernel, and maybe a module of the one for recovery.
    fs::remove_file(sys.join("module/my_wdt/initstate")).unwrap();
    accepts("e1000e:\nmy_wdt\n", "all are part of the kernel");
    accepts("my_wdt:\n", "my_wdt (of watchdog0)");
    refuses("e1000e:\n!my_wdt\n");
}
