//! Whether the firmware's runtime services are out of use: their code, and the variables they keep,
//! lie in the flash that is about to be rewritten.
//!
//! `efi=noruntime` makes the kernel forget the services at boot (Linux
//! `drivers/firmware/efi/efi.c`, `efi_runtime_disabled`). `/sys/firmware/efi` is there all the same
//! wherever EFI has started the machine; what a kernel that uses the services has beside it are the
//! platform devices `efivars` and `rtc-efi`. Both must agree.

use std::path::Path;

/// What a kernel registers that uses the services for variables, and for its clock.
const USERS: &[&str] = &["efivars.0", "rtc-efi.0"];

/// Makes sure that no runtime service can be called. `root` is `/` outside of tests.
///
/// # Errors
/// What says otherwise, and what to do.
pub(super) fn runtime_is_off(root: &Path) -> Result<(), String> {
    if !root.join("sys/firmware/efi").exists() {
        return Ok(());
    }
    if let Some(user) =
        USERS.iter().find(|user| root.join("sys/devices/platform").join(user).exists())
    {
        return Err(format!(
            "the kernel uses EFI runtime services ({user}): boot recovery with efi=noruntime"
        ));
    }
    let cmdline = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    if is_forbidden_by(&cmdline) {
        return Ok(());
    }
    Err("efi=noruntime is not on the kernel's command line: boot recovery with it".into())
}

/// As the kernel parses it: `efi=` takes a list of options, `noefi` means the same. What follows
/// `--` is the init's.
fn is_forbidden_by(cmdline: &str) -> bool {
    let parameters = cmdline.split_ascii_whitespace().take_while(|parameter| *parameter != "--");
    parameters.into_iter().any(|parameter| match parameter.split_once('=') {
        Some(("efi", options)) => options.split(',').any(|option| option == "noruntime"),
        Some(_) => false,
        None => parameter == "noefi",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn machine(is_efi: bool, cmdline: &str, user: Option<&str>) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        let make = |folder: &str| fs::create_dir_all(root.path().join(folder)).unwrap();
        make("proc");
        fs::write(root.path().join("proc/cmdline"), format!("{cmdline}\n")).unwrap();
        if is_efi {
            make("sys/firmware/efi/efivars");
        }
        if let Some(user) = user {
            make(&format!("sys/devices/platform/{user}"));
        }
        runtime_is_off(root.path())
    }

    #[test]
    fn only_proven_silence_is_enough() {
        assert_eq!(machine(false, "", None), Ok(()), "started by no EFI");
        for cmdline in ["quiet efi=noruntime", "efi=debug,noruntime panic=30", "noefi"] {
            assert_eq!(machine(true, cmdline, None), Ok(()), "{cmdline}");
            for user in USERS {
                assert!(machine(true, cmdline, Some(user)).unwrap_err().contains(user));
            }
        }
        for cmdline in ["", "efi=runtime", "efi=noruntimes", "xefi=noruntime", "-- efi=noruntime"] {
            assert!(
                machine(true, cmdline, None).unwrap_err().contains("efi=noruntime"),
                "{cmdline}"
            );
        }
    }
}
