//! Whether the machine may lose its power soon, as the kernel's power supplies say (Linux
//! `Documentation/ABI/testing/sysfs-class-power`).

use std::fs;
use std::path::Path;

use crate::host::read_line;

/// Below this charge a battery is not relied on, in percent.
pub(crate) const CHARGE_MIN_PERCENT: u32 = 25;

/// What the power supplies say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Power will last; why.
    Safe(&'static str),
    /// Power may end; why.
    Unsafe(String),
    /// A battery does not say what it does, and nothing else is known.
    Unknown(String),
}

/// One battery or UPS that feeds the machine.
struct Battery {
    name: String,
    is_ups: bool,
    status: String,
    charge_percent: Option<u32>,
}

impl Power {
    /// Asks the supplies below `root`, which is `/` outside of tests.
    pub(crate) fn read(root: &Path) -> Self {
        let (mut mains, mut batteries) = (Vec::new(), Vec::new());
        let supplies = fs::read_dir(root.join("sys/class/power_supply"));
        for supply in supplies.into_iter().flatten().flatten() {
            let said = |file| read_line(&supply.path().join(file)).unwrap_or_default();
            // A mouse with a battery says nothing about the machine.
            if said("scope") == "Device" || said("present") == "0" {
                continue;
            }
            match said("type").as_str() {
                kind @ ("Battery" | "UPS") => batteries.push(Battery {
                    name: supply.file_name().to_string_lossy().into_owned(),
                    is_ups: kind == "UPS",
                    status: said("status"),
                    charge_percent: said("capacity").parse().ok(),
                }),
                // A USB port or charger pad that feeds nothing is offline all the time and counts
                // only when it feeds.
                "Mains" => mains.push(said("online") != "0"),
                "USB" | "Wireless" if matches!(said("online").as_str(), "1" | "2") => {
                    mains.push(true)
                }
                _ => {}
            }
        }
        judge(&mains, &batteries)
    }
}

/// `mains`: for each way in whether power comes in.
fn judge(mains: &[bool], batteries: &[Battery]) -> Power {
    // The mains that a machine behind a UPS sees are the UPS.
    let is_discharging = |battery: &&Battery| battery.status == "Discharging";
    if let Some(ups) = batteries.iter().filter(|battery| battery.is_ups).find(is_discharging) {
        return Power::Unsafe(format!("the UPS {} runs on its battery{}", ups.name, charge(ups)));
    }
    if mains.contains(&true) {
        return Power::Safe("mains");
    }
    if let Some(battery) = batteries.iter().find(is_discharging) {
        return Power::Unsafe(format!("runs on battery {}{}", battery.name, charge(battery)));
    }
    let Some(battery) = batteries.iter().find(|battery| !battery.is_ups) else {
        return Power::Safe(if batteries.is_empty() { "no battery is known" } else { "UPS" });
    };
    if !mains.is_empty() {
        return Power::Unsafe(format!(
            "the mains are off, battery {}{}",
            battery.name,
            charge(battery)
        ));
    }
    if battery.charge_percent.is_some_and(|percent| percent < CHARGE_MIN_PERCENT) {
        return Power::Unsafe(format!(
            "no mains are known, and battery {} is below {CHARGE_MIN_PERCENT} %{}",
            battery.name,
            charge(battery)
        ));
    }
    match battery.status.as_str() {
        "Charging" | "Full" | "Not charging" => Power::Safe("the battery is not in use"),
        _ => Power::Unknown(format!("battery {} does not say what it does", battery.name)),
    }
}

fn charge(battery: &Battery) -> String {
    battery.charge_percent.map_or_else(String::new, |percent| format!(" ({percent} %)"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Supplies as `NAME/FILE=VALUE`.
    fn power(files: &[&str]) -> Power {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let (path, value) = file.split_once('=').unwrap();
            let path = root.path().join("sys/class/power_supply").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        Power::read(root.path())
    }

    const BATTERY: &str = "BAT0/type=Battery";
    const MAINS: &str = "AC/type=Mains";

    #[test]
    fn power_that_lasts() {
        assert_eq!(power(&[]), Power::Safe("no battery is known"));
        assert_eq!(
            power(&[MAINS, "AC/online=1", BATTERY, "BAT0/status=Discharging", "BAT0/capacity=3"]),
            Power::Safe("mains")
        );
        assert_eq!(
            power(&[MAINS, "AC/online=0"]),
            Power::Safe("no battery is known"),
            "it runs, so something feeds it"
        );
        assert_eq!(
            power(&["usb/type=USB", "usb/online=2", BATTERY, "BAT0/capacity=3"]),
            Power::Safe("mains")
        );
        let full = [BATTERY, "BAT0/status=Full", "BAT0/capacity=100"];
        assert_eq!(power(&full), Power::Safe("the battery is not in use"));
        let mouse = [BATTERY, "BAT0/scope=Device", "BAT0/status=Discharging"];
        assert_eq!(power(&mouse), Power::Safe("no battery is known"));
        let ups = ["ups/type=UPS", "ups/status=Full"];
        assert_eq!(power(&ups), Power::Safe("UPS"));
    }

    #[test]
    fn power_that_may_end() {
        let cases: &[(&[&str], &str)] = &[
            (
                &[BATTERY, "BAT0/status=Discharging", "BAT0/capacity=99"],
                "runs on battery BAT0 (99 %)",
            ),
            (
                &[MAINS, "AC/online=0", BATTERY, "BAT0/status=Full"],
                "the mains are off, battery BAT0",
            ),
            (
                &[BATTERY, "BAT0/status=Unknown", "BAT0/capacity=24"],
                "no mains are known, and battery BAT0 is below 25 % (24 %)",
            ),
            (
                &[MAINS, "AC/online=1", "ups/type=UPS", "ups/status=Discharging"],
                "the UPS ups runs on its battery",
            ),
        ];
        for (files, why) in cases {
            assert_eq!(power(files), Power::Unsafe((*why).to_owned()));
        }
        assert!(matches!(power(&[BATTERY, "BAT0/capacity=25"]), Power::Unknown(_)));
    }
}
