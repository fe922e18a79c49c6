//! A plan as text, for 80 columns.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::super::duration::duration_words;
use super::super::prediction::Source;
use super::{Effect, Plan, PlannedHost, PlannedWave, Why};
use crate::model::Approval;

/// Number of columns that no line goes beyond.
const COLUMNS: usize = 80;

const US_PER_S: i64 = 1_000_000;

/// How it is written when a host begins.
const BEGINS: &str = "%m-%d %H:%M";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        if !self.warnings.is_empty() {
            writeln!(f, "\nLook at this first:")?;
            for warning in &self.warnings {
                wrapped(f, "  ! ", warning)?;
            }
        }
        for wave in &self.waves {
            wave.write(f)?;
        }
        self.write_limits(f)?;
        self.write_left_out(f)
    }
}

impl Plan {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        wrapped(f, "", &format!("Rollout \"{}\": version {}", self.name, self.version))?;
        wrapped(f, "  release  ", &self.release)?;
        wrapped(f, "  plan     ", &self.digest)?;
        let hosts = format!(
            "{} of {} known hosts are selected: {} are touched, {} left out",
            self.selected,
            self.known,
            self.touched(),
            self.left_out.len()
        );
        wrapped(f, "  hosts    ", &hosts)?;
        let takes = match self.ends_at {
            Some(end) => format!(
                "about {}, if it starts now, nothing fails, and approvals come at once",
                rough(end.saturating_sub(self.starts_at))
            ),
            None => "cannot be foreseen".to_owned(),
        };
        wrapped(f, "  takes    ", &takes)?;
        wrapped(f, "  times    ", &self.times.to_string())
    }

    fn write_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nHosts at a time:")?;
        if self.in_flight.is_empty() {
            writeln!(f, "  no limit")?;
        }
        for Effect { per, amount, groups } in &self.in_flight {
            wrapped(f, "  ", &format!("per {per}, {amount}:"))?;
            for group in groups {
                let head = format!("    {} of {}: ", group.at_a_time, group.of);
                wrapped(f, &head, &some(&group.domains))?;
            }
        }
        writeln!(f, "\nThe rollout")?;
        if self.failures.is_empty() {
            writeln!(f, "  goes on however many hosts fail")?;
        }
        for failures in &self.failures {
            wrapped(f, "  ", failures)?;
        }
        Ok(())
    }

    fn write_left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left_out.is_empty() {
            return Ok(());
        }
        let mut reasons: BTreeMap<&Why, Vec<String>> = BTreeMap::new();
        for each in &self.left_out {
            reasons.entry(&each.why).or_default().push(each.name.clone());
        }
        writeln!(f, "\nLeft out:")?;
        for (why, names) in reasons {
            wrapped(f, "  ", &format!("{} because: {why}", hosts(names.len())))?;
            wrapped(f, "    ", &names.join(", "))?;
        }
        Ok(())
    }
}

impl PlannedWave {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let approval = match self.approval {
            Approval::Automatic => "begins by itself",
            Approval::Person => "begins when another person has approved it",
        };
        let takes = match self.runs {
            Some((from, to)) => rough(to.saturating_sub(from)),
            None => "unknown time".to_owned(),
        };
        let mut head = format!(
            "Wave {} \"{}\": {}, {approval}; about {takes}",
            self.number + 1,
            self.name,
            hosts(self.hosts.len())
        );
        if self.soak_s > 0 {
            head.push_str(&format!(", then watched {}", duration_words(u64::from(self.soak_s))));
        }
        writeln!(f)?;
        wrapped(f, "", &head)?;
        if self.hosts.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "  {:>5} {:<20} {:<16} {:<4} {:>7} {:>8} UTC",
            "", "host", "rack", "feed", "typical", "longest"
        )?;
        for (index, host) in self.hosts.iter().enumerate() {
            host.write(f, index + 1)?;
        }
        Ok(())
    }
}

impl PlannedHost {
    fn write(&self, f: &mut fmt::Formatter<'_>, place: usize) -> fmt::Result {
        let rack = format!("{}/{}", self.site, self.rack);
        let takes = |seconds: u32| rough(i64::from(seconds) * US_PER_S);
        let (typical, longest) = (takes(self.typical_s), takes(self.longest_s));
        let mark = match self.source {
            Source::Host { .. } => ' ',
            Source::Board => '~',
            Source::Assumed => '?',
        };
        let begins = self.begins_at.and_then(|at| Timestamp::from_microsecond(at).ok());
        let begins = begins.map_or("unknown".to_owned(), |at| at.strftime(BEGINS).to_string());
        let (name, rack, feed) = (clip(&self.name, 20), clip(&rack, 16), clip(&self.power, 4));
        writeln!(
            f,
            "  {place:>5} {name:<20} {rack:<16} {feed:<4} {typical:>7} {longest:>7}{mark} {begins}"
        )
    }
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// How many names are shown where all would be too many.
const SHOWN: usize = 6;

fn some(names: &[String]) -> String {
    let mut shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        shown.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    shown
}

/// The two largest units of a time, rounded up to minutes from an hour on.
fn rough(us: i64) -> String {
    let seconds = u64::try_from(us / US_PER_S).unwrap_or(0);
    let grain = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    let words = duration_words(seconds.div_ceil(grain) * grain);
    words.replace(" d", "d").replace(" h", "h").replace(" min", "m").replace(" s", "s")
}

/// The text with all escaped that a terminal would not show as it is. Quotes and backslashes stay.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '"' | '\'' | '\\') {
            shown.push(letter);
        } else {
            shown.extend(letter.escape_debug());
        }
    }
    shown
}

/// What fits into some columns.
fn clip(text: &str, columns: usize) -> String {
    let text = shown(text);
    if text.chars().count() <= columns {
        return text;
    }
    let mut short: String = text.chars().take(columns - 1).collect();
    short.push('…');
    short
}

/// Writes text behind a head, in lines that begin below each other; a word that is longer than a
/// line is cut into several.
fn wrapped(f: &mut fmt::Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    let indent = head.chars().count();
    let mut line = String::new();
    let mut begin = head.to_owned();
    let mut end_line = |f: &mut fmt::Formatter<'_>, line: &mut String| {
        writeln!(f, "{begin}{line}")?;
        begin = " ".repeat(indent);
        line.clear();
        Ok(())
    };
    for word in text.split(' ') {
        let mut word: Vec<char> = shown(word).chars().collect();
        let used = line.chars().count();
        if used > 0 && indent + used + 1 + word.len() > COLUMNS {
            end_line(f, &mut line)?;
        }
        while word.len() > COLUMNS - indent {
            let rest = word.split_off(COLUMNS - indent);
            line.extend(word);
            end_line(f, &mut line)?;
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    end_line(f, &mut line)
}
