//! The host's display: what is wrong, what is being tried, and what a person can do. On a screen
//! one page that is drawn anew, on serial lines only what has changed.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::fcntl::OFlag;

use super::stay::Situation;
use crate::platform::NetworkUp;
use crate::rescue::search::SearchSituation;
use crate::wire::answer::Phase;

/// The consoles of this boot (Documentation/ABI/testing/sysfs-tty).
const CONSOLES: &str = "/sys/class/tty/console/active";
/// Most consoles that are written to.
const CONSOLES_MAX: usize = 8;
/// The first number is how urgent the kernel's messages must be to come to the consoles.
const CONSOLE_LEVEL: &str = "/proc/sys/kernel/printk";
/// Only emergencies.
const QUIET: &str = "1\n";

/// Clears the screen and goes to its first line (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Serial lines get the progress in steps of so many percent.
const SERIAL_STEP_PERCENT: u32 = 25;
const BAR_CELLS: u32 = 40;

/// What does not change while the host looks for help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Name of the host.
    pub host: String,
    /// Fingerprint of its key.
    pub fingerprint: String,
    /// What was found.
    pub finding: String,
    /// Its addresses; empty: no network yet.
    pub addresses: String,
}

/// The consoles, and what they show.
#[derive(Debug, Default)]
pub struct Screen {
    pages: Vec<File>,
    lines: Vec<File>,
    /// What the kernel's messages to the consoles were set to.
    level: Option<String>,
    facts: Facts,
    shown: String,
    said: String,
}

impl Screen {
    /// Takes the consoles over from the kernel's messages, which go on in its log.
    pub fn open(facts: Facts) -> Self {
        // Where that is refused, messages come between.
        let level = std::fs::read_to_string(CONSOLE_LEVEL).ok();
        let _ = std::fs::write(CONSOLE_LEVEL, QUIET);
        let names = std::fs::read_to_string(CONSOLES).unwrap_or_default();
        let mut screen = Self::default();
        (screen.facts, screen.level) = (facts, level);
        for name in names.split_ascii_whitespace().take(CONSOLES_MAX) {
            // Somebody may stop the console: the rescue does not wait for it.
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits());
            let Ok(file) = options.open(format!("/dev/{name}")) else {
                continue;
            };
            match is_screen(name) {
                true => screen.pages.push(file),
                false => screen.lines.push(file),
            }
        }
        screen
    }

    /// Takes over what has become known.
    pub fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// Takes over which addresses the host has.
    pub fn set_network(&mut self, network: &NetworkUp) {
        let addresses: Vec<_> = network.addresses.iter().map(ToString::to_string).collect();
        self.facts.addresses = addresses.join(", ");
    }

    /// Shows where the host stands.
    pub fn show(&mut self, situation: &Situation<'_>) {
        let page = page(&self.facts, &headline(situation), progress(situation), advice(situation));
        self.draw(&page);
        let step = progress(situation)
            .map(|(done, total)| percent(done, total) / SERIAL_STEP_PERCENT * SERIAL_STEP_PERCENT);
        let line = match step {
            Some(step) => format!("{}: {step} %", headline(situation)),
            None => headline(situation),
        };
        self.say(&line);
    }

    /// Shows something that is not part of looking for help.
    pub fn tell(&mut self, what: &str, advice: &str) {
        let page = page(&self.facts, what, None, advice);
        self.draw(&page);
        self.say(what);
    }

    fn draw(&mut self, page: &str) {
        if self.shown == page {
            return;
        }
        page.clone_into(&mut self.shown);
        for screen in &mut self.pages {
            // A console that does not take it is not needed.
            let _ = screen.write_all(format!("{CLEAR}{page}").as_bytes());
        }
    }

    fn say(&mut self, line: &str) {
        if self.said == line {
            return;
        }
        if self.said.is_empty() {
            let Facts { host, fingerprint, finding, .. } = &self.facts;
            let about = format!("firmcast: {host}, key {fingerprint}\r\nfirmcast: {finding}\r\n");
            self.write_lines(&about);
        }
        line.clone_into(&mut self.said);
        let addresses = match self.facts.addresses.as_str() {
            "" => String::new(),
            addresses => format!(" [{addresses}]"),
        };
        self.write_lines(&format!("firmcast: {line}{addresses}\r\n"));
    }

    fn write_lines(&mut self, text: &str) {
        for line in &mut self.lines {
            let _ = line.write_all(text.as_bytes());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(level) = &self.level {
            let _ = std::fs::write(CONSOLE_LEVEL, level);
        }
    }
}

/// `tty0` and `tty1` are screens, `ttyS0`, `ttyAMA0`, `hvc0` and the like are lines.
fn is_screen(name: &str) -> bool {
    name.strip_prefix("tty").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn headline(situation: &Situation<'_>) -> String {
    match situation {
        Situation::Searching(search) => search_headline(search),
        Situation::InCampaign(report) => match report.ending.detail.as_str() {
            "" => report.phase.name().replace('-', " "),
            detail => {
                format!(
                    "{}: {} {detail}",
                    report.phase.name().replace('-', " "),
                    report.ending.reason
                )
            }
        },
        Situation::Over => "done".into(),
    }
}

fn search_headline(situation: &SearchSituation<'_>) -> String {
    match situation {
        SearchSituation::Seeking => "looking for a recovery manager".into(),
        SearchSituation::Calling(address) => format!("calling {address}"),
        SearchSituation::Asking { manager, held: None } => {
            format!("asking the manager {manager} for help")
        }
        SearchSituation::Asking { manager, held: Some(why) } => {
            format!("the manager {manager} does not help now: {why}")
        }
        SearchSituation::Over => "done".into(),
    }
}

fn progress(situation: &Situation<'_>) -> Option<(u32, u32)> {
    match situation {
        Situation::InCampaign(report) if report.total > 0 && has_steps(report.phase) => {
            Some((report.done, report.total))
        }
        _ => None,
    }
}

fn has_steps(phase: Phase) -> bool {
    use Phase::{BackingUp, Escrow, Receiving, Restoring, Verifying, Writing};
    matches!(phase, Receiving | BackingUp | Escrow | Writing | Verifying | Restoring)
}

fn advice(situation: &Situation<'_>) -> &'static str {
    match situation {
        Situation::InCampaign(report)
            if !report.ending.flash.reboot_is_safe() && report.done > 0 =>
        {
            "Do not switch this computer off."
        }
        Situation::InCampaign(_) => "Nothing to do: this computer repairs itself.",
        Situation::Searching(SearchSituation::Asking { held: Some(_), .. }) => {
            "On the manager: firmcast status. This computer keeps asking."
        }
        _ => {
            "On the manager: firmcast serve. Its address can be given by the kernel's command \
             line\n(firmcast.manager=URL), the BMC, DHCP or DNS. Check the network cable. This \
             computer keeps trying."
        }
    }
}

fn percent(done: u32, total: u32) -> u32 {
    (u64::from(done) * 100 / u64::from(total.max(1))).min(100) as u32
}

fn page(facts: &Facts, headline: &str, progress: Option<(u32, u32)>, advice: &str) -> String {
    let Facts { host, fingerprint, finding, addresses } = facts;
    let addresses = if addresses.is_empty() { "no network yet" } else { addresses };
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "firmcast recovery\n\n  computer  {host}\n  key       {fingerprint}\n  \
         network   {addresses}\n  \
         firmware  {finding}\n\n  {headline}\n"
    );
    if let Some((done, total)) = progress {
        let percent = percent(done, total);
        let full = (percent * BAR_CELLS / 100) as usize;
        let (bar, rest) = ("#".repeat(full), "-".repeat(BAR_CELLS as usize - full));
        let _ = writeln!(page, "  [{bar}{rest}] {percent} %");
    }
    for line in advice.lines() {
        let _ = write!(page, "\n  {line}");
    }
    page.push('\n');
    // Nothing that came over the network or from the chip may steer the terminal.
    page.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reason::{Ending, FlashState, Reason};
    use crate::wire::answer::Report;
    use std::io::Read as _;

    fn report(phase: Phase, done: u32) -> Report {
        Report {
            campaign: 1,
            phase,
            ending: Ending::new(Reason::None, FlashState::Mixed, ""),
            done,
            total: 1000,
            digests: None,
            lacking: None,
        }
    }

    #[test]
    fn a_page_says_what_is_wrong_and_a_line_does_not_scroll_with_progress() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let facts = Facts {
            host: "node17".into(),
            fingerprint: "SHA256:abc".into(),
            finding: "invalid at 0x84000: \x1b[31mfile checksum".into(),
            addresses: String::new(),
        };
        let mut screen = Screen::default();
        (screen.pages, screen.lines) = (vec![file("tty0")], vec![file("ttyS0")]);
        screen.set_facts(facts);
        screen.show(&Situation::Searching(SearchSituation::Seeking));
        for done in 0..=1000 {
            screen.show(&Situation::InCampaign(&report(Phase::Writing, done)));
        }
        let text = |name: &str| {
            let mut text = String::new();
            File::open(folder.path().join(name)).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let lines = text("ttyS0");
        assert_eq!(lines.lines().count(), 2 + 1 + 5, "{lines}");
        assert!(lines.contains("node17") && lines.contains("writing: 50 %"));
        let page = text("tty0");
        let last = page.rsplit(CLEAR).next().unwrap();
        assert!(
            last.contains("100 %") && last.contains("[31mfile checksum") && !last.contains('\x1b')
        );
        assert!(last.contains("Do not switch this computer off"));
        assert!(is_screen("tty0") && !is_screen("ttyS0") && !is_screen("hvc0"));
    }
}
