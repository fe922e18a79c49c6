//! `firmcastd learn`: what the firmware of this board writes itself, from two boots.

use std::fmt;
use std::ops::Range;

use log::{info, warn};
use serde_json::{Value, json};

use super::local_machine::LocalMachine;
use super::provide::ProvideError;
use crate::dmi::Dmi;
use crate::host::boot_id;
use crate::image::learning::{LEARNED_MAX, Lesson, Snapshot};
use crate::image::{ByteRanges, Contents, KnownGood, left_out};
use crate::mtd::read_chip;
use crate::reason::with_causes;

/// What a look at the chip has taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearnReport {
    chip_bytes: u64,
    lesson: Lesson,
    /// Where the chip is not what was recorded as good, so that nothing was learned.
    other_firmware: Option<u64>,
    /// Everything that was learned on this machine so far.
    learned: ByteRanges,
}

impl LocalMachine {
    /// Compares the chip with what it held at an earlier boot, keeps what follows from it in the
    /// record of good firmware, and keeps a snapshot for the next time.
    ///
    /// # Errors
    /// [`ProvideError`]: the chip cannot be read, or nothing can be kept.
    pub fn learn(&self) -> Result<LearnReport, ProvideError> {
        let good = self.state.known_good()?;
        let contents = read_chip(&self.flash(), &left_out(good.as_ref()))
            .map_err(|error| ProvideError::Firmware(with_causes(&error)))?;
        self.learn_from(&contents)
    }

    /// A drill goes through the firmware and changes nothing, so the chip is looked at before it,
    /// when its `contents` are known, and after it.
    pub(super) fn learn_in_drill(&self, contents: Option<&Contents>) {
        let learned = match contents {
            Some(contents) => self.learn_from(contents),
            None => self.learn(),
        };
        match learned {
            Ok(report) => info!("learning: {}", report.note()),
            Err(error) => warn!("nothing was learned: {}", with_causes(&error)),
        }
    }

    /// What was learned here, for a manager.
    pub(super) fn told_learned(&self) -> Vec<Range<u32>> {
        let told = |range: &Range<u64>| {
            Some(u32::try_from(range.start).ok()?..u32::try_from(range.end).ok()?)
        };
        let good = self.state.known_good().ok().flatten();
        good.map(|good| good.learned.iter().filter_map(told).collect()).unwrap_or_default()
    }

    fn learn_from(&self, contents: &Contents) -> Result<LearnReport, ProvideError> {
        let bios_version = Dmi::read(&self.root).bios_version;
        let boot_id = format!("{:032x}", u128::from_be_bytes(boot_id(&self.root)));
        let recorded = self.state.known_good()?.filter(|good| !good.is_outdated(&bios_version));
        let good = recorded.or_else(|| KnownGood::of_chip(contents, &bios_version));
        let good = good.ok_or_else(|| {
            ProvideError::Firmware("the chip holds damaged firmware; see firmcastd validate".into())
        })?;
        let before = self.state.snapshot()?;
        let now = Snapshot::of(contents, &boot_id, &bios_version, &good);
        let lesson = now.lesson(before.as_ref(), contents, &good);
        let nothing = ByteRanges::default();
        let places = match &lesson {
            Lesson::Written { places, .. } => places,
            _ => &nothing,
        };
        let other_firmware = good.differs_beside(places, contents);
        let good = match other_firmware {
            None => good.without_learned(places, contents),
            Some(_) => good,
        };
        self.state.record_known_good(&good)?;
        // The boot's own first look stays: what it writes later in this boot counts, too.
        if lesson != Lesson::SameBoot {
            self.state.keep_snapshot(&Snapshot { record: good.digest.clone(), ..now })?;
        }
        self.renew_archive();
        let chip_bytes = contents.bytes().len() as u64;
        Ok(LearnReport { chip_bytes, lesson, other_firmware, learned: good.learned })
    }
}

impl LearnReport {
    /// Whether two boots were compared.
    pub fn is_lesson(&self) -> bool {
        matches!(self.lesson, Lesson::Written { .. }) && self.other_firmware.is_none()
    }

    /// One object; docs/OPERATIONS.md explains the fields. `firmcast bundle create --learned` reads
    /// it.
    pub fn to_json(&self) -> Value {
        let list = |ranges: &ByteRanges| {
            let range = |range: &Range<u64>| {
                let length_bytes = range.end - range.start;
                json!({ "offset_bytes": range.start, "length_bytes": length_bytes })
            };
            ranges.iter().map(range).collect::<Vec<_>>()
        };
        let (new, programs) = match &self.lesson {
            Lesson::Written { places, programs } => (list(places), list(programs)),
            _ => Default::default(),
        };
        json!({
            "chip_bytes": self.chip_bytes,
            "compared": self.is_lesson(),
            "learned": list(&self.learned),
            "new": new,
            "changed_programs": programs,
            "note": self.note(),
        })
    }

    fn note(&self) -> String {
        match &self.lesson {
            Lesson::First => "this is the first look: restart this machine, then run firmcastd \
                              learn again"
                .into(),
            Lesson::SameBoot => "the chip was looked at since this machine was started: restart \
                                 it, then run firmcastd learn again"
                .into(),
            Lesson::Replaced => "the firmware was replaced since the last look: restart this \
                                 machine, then run firmcastd learn again"
                .into(),
            Lesson::Damaged(verdict) => format!("damaged firmware teaches nothing: {verdict}"),
            Lesson::TooMany(count) => format!(
                "{count} places changed, expected at most {LEARNED_MAX}: nothing is learned; was \
                 the chip written by somebody else?"
            ),
            Lesson::Written { places, programs } => {
                let mut note = match places.is_empty() {
                    true => "nothing else was written since the last look".to_owned(),
                    false => format!("the firmware writes {places} itself"),
                };
                if !programs.is_empty() {
                    note +=
                        &format!("; programs changed at {programs}, which firmware does not do");
                }
                if let Some(offset_bytes) = self.other_firmware {
                    note += &format!(
                        "; nothing is learned, because the chip is not what was recorded as good \
                         at {offset_bytes:#x}: if it was replaced on purpose, run firmcastd \
                         rescue-archive --renew, restart this machine, and run firmcastd learn \
                         again"
                    );
                }
                note
            }
        }
    }
}

impl fmt::Display for LearnReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.note())?;
        match self.learned.is_empty() {
            true => writeln!(f, "learned on this machine so far: nothing"),
            false => writeln!(f, "learned on this machine so far: {}", self.learned),
        }
    }
}
