//! `[[window]]`: when hosts of some sites may begin.

use jiff::civil::{Time, Weekday};

use super::section::{Section, Value};
use crate::rollout::window::{Window, time_zone};

/// Maximum number of windows of a rollout.
pub const WINDOWS_MAX: usize = 64;

/// Maximum number of sites of a window.
pub const SITES_MAX: usize = 256;

/// A window, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowEntry {
    /// For which sites; for all when there is no list.
    pub sites: Option<Vec<String>>,
    /// When it is open.
    pub window: Window,
}

impl WindowEntry {
    /// Whether hosts of this site begin in it.
    pub fn covers(&self, site: &str) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.iter().any(|each| each == site))
    }
}

/// Days as a file has them, in the order of the week.
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Reads all windows.
pub(super) fn read(root: &mut Section<'_>) -> Vec<WindowEntry> {
    root.sections("window", WINDOWS_MAX).into_iter().filter_map(read_one).collect()
}

fn read_one(mut section: Section<'_>) -> Option<WindowEntry> {
    let sites = section.take("sites", |value| value.list(SITES_MAX, Value::name));
    let days = section.take("days", days);
    let from = section.need("from", time);
    let to = section.need("to", time);
    let zone = section.need("zone", |value| time_zone(value.text()?));
    section.finish();
    let days = days.unwrap_or_else(|| DAYS.map(|(_, day)| day).to_vec());
    Some(WindowEntry { sites, window: Window { days, from: from?, to: to?, zone: zone? } })
}

/// Days, and ranges of them such as `mon-fri`; each once, in the order of the week.
fn days(value: Value<'_>) -> Result<Vec<Weekday>, String> {
    let mut is_open = [false; DAYS.len()];
    for (first, last) in value.list(DAYS.len(), |value| range(value.text()?))? {
        let length = (last + DAYS.len() - first) % DAYS.len();
        for day in first..=first + length {
            is_open[day % DAYS.len()] = true;
        }
    }
    let open = DAYS.iter().zip(is_open).filter(|(_, is_open)| *is_open);
    Ok(open.map(|((_, day), _)| *day).collect())
}

/// The first and the last day of a range, as places in the week.
fn range(text: &str) -> Result<(usize, usize), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let place = |word: &str| DAYS.iter().position(|(day, _)| *day == word);
    place(first).zip(place(last)).ok_or_else(|| {
        format!("{text:?} is no day: write for example \"sat\", or \"mon-fri\" for several")
    })
}

/// A time of the day, `HH:MM`.
fn time(value: Value<'_>) -> Result<Time, String> {
    let text = value.text()?;
    let wrong = || format!("{text:?} is no time of the day: write for example \"22:00\"");
    let is_written_so = text.len() == 5
        && text.bytes().enumerate().all(|(at, byte)| match at {
            2 => byte == b':',
            _ => byte.is_ascii_digit(),
        });
    if !is_written_so {
        return Err(wrong());
    }
    Time::strptime("%H:%M", text).map_err(|_| wrong())
}
