//! Walks the way into the recovery environment by itself, without agent and manager: for trying a
//! kernel, an initramfs or a board before trusting them with an update.
//!
//! - `recovery_probe enter KERNEL INITRAMFS MANAGER_IP [--dhcp] [--state DIR]` in the normal OS:
//!   reads the network's configuration, makes a result mailbox in DIR, loads the recovery kernel
//!   and starts it;
//! - `recovery_probe result DIR` in the normal OS: prints what recovery has left there;
//! - as init of the recovery environment (built with `--firmcastd recovery_probe`): brings the
//!   machine up, prints the handoff, the network and the flash that it found, then reboots.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use firmcast::handover::{
    Deadlines, HANDOFF_PATH, HANDOFF_VERSION, Handoff, ManagerContact, SecretText,
};
use firmcast::kexec;
use firmcast::mailbox::{self, Word};
use firmcast::net::{Netlink, survey::survey};
use firmcast::platform::{Ending, LINK_PATIENCE, Platform, end, is_init};
use firmcast::reason::{Condition, FlashState};

/// How long disks may take to appear.
const DISK_PATIENCE: Duration = Duration::from_secs(20);

/// How long the probe shows what it has found.
const SHOW: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    if is_init() {
        if let Err(error) = recover() {
            eprintln!("recovery_probe: failed: {error:#}");
        }
        std::thread::sleep(SHOW);
        end(Ending::Restart)?;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["enter", kernel, initramfs, manager, ref options @ ..] => {
            enter(Path::new(kernel), Path::new(initramfs), manager.parse()?, options)
        }
        ["result", state_dir] => {
            println!("recovery_probe: result {:?}", mailbox::read(Path::new(state_dir))?);
            Ok(())
        }
        _ => bail!(
            "usage: recovery_probe enter KERNEL INITRAMFS MANAGER_IP [--dhcp] [--state DIR] | \
            result DIR"
        ),
    }
}

fn enter(kernel: &Path, initramfs: &Path, manager: IpAddr, options: &[&str]) -> anyhow::Result<()> {
    println!("recovery_probe: {:?}", kexec::preflight(kernel, initramfs));
    let mut config = survey(&mut Netlink::open()?, SocketAddr::new(manager, 0))?.interface;
    if options.contains(&"--dhcp") {
        config.addresses.clear();
        config.routes.clear();
    }
    let state_dir = options.iter().skip_while(|option| **option != "--state").nth(1);
    let result_mailbox =
        state_dir.map(|state_dir| mailbox::prepare(Path::new(state_dir))).transpose()?;
    let handoff = Handoff {
        version: HANDOFF_VERSION,
        host_name: "probe".into(),
        host_key: SecretText::new("no key".into()),
        trusted_managers: Vec::new(),
        trusted_releases: Vec::new(),
        manager: ManagerContact {
            address: SocketAddr::new(manager, 7117),
            public_key: "none".into(),
        },
        drill: None,
        campaign: 1,
        deadlines: Deadlines { reach_manager_s: 300, transfer_s: 600 },
        security_version_floor: 0,
        flash: "mtd0".into(),
        firmware: Condition::Whole,
        doubt: String::new(),
        listen_port: 7117,
        network: vec![config],
        result_mailbox,
    };
    let cmdline = kexec::current_recovery_cmdline()?;
    println!("recovery_probe: command line {cmdline}");
    kexec::load(kexec::preflight(kernel, initramfs).into_files()?, &handoff, &cmdline)?;
    println!("recovery_probe: loaded {}", kexec::is_loaded());
    kexec::start()?;
    Ok(())
}

fn recover() -> anyhow::Result<()> {
    let mut platform = Platform::start()?;
    let handoff = Handoff::read(Path::new(HANDOFF_PATH))?;
    println!("recovery_probe: handoff {handoff:?}");
    let mailbox = handoff.as_ref().and_then(|handoff| handoff.result_mailbox.clone());
    let wanted = handoff.map(|handoff| handoff.network).unwrap_or_default();
    let up = platform.network(&wanted, LINK_PATIENCE)?;
    println!("recovery_probe: network {up:?}");
    for file in ["/proc/mtd", "/proc/cmdline", "/proc/uptime", "/proc/sys/kernel/panic"] {
        let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
        println!("recovery_probe: {file}: {}", text.trim().replace('\n', " | "));
    }
    println!("recovery_probe: watchdog armed {}", platform.watchdogs().is_armed());
    platform.before_first_erase(FlashState::UNTOUCHED)?;
    let panic = std::fs::read_to_string("/proc/sys/kernel/panic")?;
    println!("recovery_probe: ready for the first erase, kernel.panic {}", panic.trim());
    if let Some(place) = mailbox {
        let word =
            Word { campaign: 1, reason: 0, flash_state: 0, text: "the probe was here".into() };
        let mut delivered = Err(None);
        platform.wait_for(DISK_PATIENCE, || {
            delivered = mailbox::deliver(&place, &word, None).map_err(Some);
            delivered.is_ok()
        })?;
        println!("recovery_probe: mailbox {place:?} {delivered:?}");
    }
    Ok(())
}
