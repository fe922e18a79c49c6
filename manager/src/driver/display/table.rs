//! The live table. What stands in it is made by pure functions; crate indicatif only keeps it on the screen.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

use console::Term;
use firmcast::time::Time;
use firmcast_manager::campaign::{Campaign, Host, Stage};
use firmcast_manager::news::{self, Entry};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lasting_line;

/// Lines of a screen whose height is not known.
const HEIGHT_DEFAULT: usize = 24;

/// Widths of the table's columns, in characters.
const NAME_WIDTH: usize = 24;
const STAGE_WIDTH: usize = 18;
const BAR_WIDTH: usize = 20;

/// The table on the screen.
pub(crate) struct Table {
    bars: MultiProgress,
    lines: Vec<ProgressBar>,
    height: usize,
    paces: Paces,
}

impl Table {
    pub(crate) fn new(hosts: usize) -> Self {
        let height = screen_height();
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        // The header, and one line more than hosts for the summary.
        let lines = (0..(hosts + 2).min(height)).map(|_| blank_line(&bars)).collect();
        Self { bars, lines, height, paces: Paces::default() }
    }

    pub(crate) fn tell(&mut self, entry: &Entry) {
        if let Some(line) = lasting_line(entry) {
            // A screen that went away must not stop a campaign.
            let _ = self.bars.println(line);
        }
    }

    pub(crate) fn draw(&mut self, now: Time, campaign: &Campaign) {
        self.paces.follow(now, campaign.hosts());
        let text = text(now, campaign, &self.paces, self.height);
        for (index, line) in self.lines.iter().enumerate() {
            line.set_message(text.get(index).cloned().unwrap_or_default());
        }
    }

    pub(crate) fn finish(&mut self, campaign: &Campaign) {
        let text = text(Time::ZERO, campaign, &self.paces, self.height);
        for (index, line) in self.lines.iter().enumerate() {
            match text.get(index) {
                Some(text) => line.finish_with_message(text.clone()),
                None => line.finish_and_clear(),
            }
        }
        // The shell's prompt shall not stand behind the last line.
        let _ = writeln!(io::stdout());
    }
}

fn screen_height() -> usize {
    match Term::stdout().size_checked() {
        // The cursor's line and one of the shell's are not ours.
        Some((height, _)) if height > 6 => usize::from(height) - 2,
        _ => HEIGHT_DEFAULT,
    }
}

fn blank_line(bars: &MultiProgress) -> ProgressBar {
    let bar = bars.add(ProgressBar::no_length());
    bar.with_style(
        ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}

/// The lines of the table: a header, then each host; with more hosts than lines, how many are where, and those in trouble.
fn text(now: Time, campaign: &Campaign, paces: &Paces, height: usize) -> Vec<String> {
    let hosts = campaign.hosts();
    let mut lines = vec![header(campaign)];
    let row = |index: usize| row(now, campaign, index, paces);
    if hosts.len() < height {
        lines.extend((0..hosts.len()).map(row));
        return lines;
    }
    lines.push(census(hosts));
    let in_trouble = |index: &usize| hosts[*index].outcome().is_some_and(|end| !end.is_confirmed());
    let under_way = |index: &usize| hosts[*index].outcome().is_none();
    let troubled = (0..hosts.len()).filter(in_trouble);
    let mut shown: Vec<usize> = troubled.chain((0..hosts.len()).filter(under_way)).collect();
    shown.truncate(height - lines.len());
    lines.extend(shown.into_iter().map(row));
    lines
}

fn header(campaign: &Campaign) -> String {
    let hosts = campaign.hosts();
    let ended = hosts.iter().filter_map(Host::outcome);
    let (confirmed, failed): (Vec<_>, Vec<_>) = ended.partition(|end| end.is_confirmed());
    let under_way = hosts.len() - confirmed.len() - failed.len();
    let stats = campaign.stream().stats();
    let stream = match campaign.stream().has_started() {
        true => format!(
            ", {:.1} MiB sent in {} passes, rate now {:.1} Mbit/s",
            stats.wire_bytes as f64 / f64::from(1 << 20),
            stats.passes,
            campaign.stream().rate_bits_per_s() as f64 / 1e6
        ),
        false => String::new(),
    };
    let interrupted = if campaign.is_interrupted() { " INTERRUPTED:" } else { "" };
    format!(
        "{}:{interrupted} {} confirmed, {} failed, {under_way} under way{stream}",
        news::hosts(hosts.len()),
        confirmed.len(),
        failed.len()
    )
}

fn census(hosts: &[Host]) -> String {
    let mut counts: BTreeMap<Stage, usize> = BTreeMap::new();
    for host in hosts {
        *counts.entry(host.stage()).or_default() += 1;
    }
    let counts = counts.iter().map(|(stage, count)| format!("{count} {}", stage.name()));
    counts.collect::<Vec<_>>().join(", ")
}

fn row(now: Time, campaign: &Campaign, index: usize, paces: &Paces) -> String {
    let host = &campaign.hosts()[index];
    let name: String = host.target().name.chars().take(NAME_WIDTH).collect();
    if let Some(end) = host.outcome() {
        let version = end.bios_version.as_deref().unwrap_or_default();
        let detail = if end.detail.is_empty() { version } else { &end.detail };
        let word = if end.is_confirmed() { "confirmed" } else { "FAILED" };
        let reason = if end.is_confirmed() { "" } else { end.reason.sentence() };
        return format!("{name:NAME_WIDTH$} {word:STAGE_WIDTH$} {reason} {detail}");
    }
    let stage = match host.stage() {
        _ if host.is_waiting() => "waiting",
        // What the host does there has a name of its own.
        Stage::Escrow | Stage::Flash => host.phase().name(),
        stage => stage.name(),
    };
    let (done, total) = host.progress();
    if total == 0 {
        return format!("{name:NAME_WIDTH$} {stage:STAGE_WIDTH$}");
    }
    let loss = campaign.stream().host_progress(index);
    let loss = loss.map(|progress| format!("  loss {:.1} %", progress.loss * 100.0));
    let left = paces.time_left(now, index, done, total);
    let left = left.map(|left| format!("  {} s left", left.as_secs()));
    format!(
        "{name:NAME_WIDTH$} {stage:STAGE_WIDTH$} {} {:3} %{}{}",
        bar(done, total),
        u64::from(done) * 100 / u64::from(total),
        loss.unwrap_or_default(),
        left.unwrap_or_default()
    )
}

fn bar(done: u32, total: u32) -> String {
    let full = (u64::from(done) * BAR_WIDTH as u64 / u64::from(total.max(1))) as usize;
    format!("[{}{}]", "#".repeat(full.min(BAR_WIDTH)), ".".repeat(BAR_WIDTH.saturating_sub(full)))
}

/// Where each host was when it began what it does now: from this follows how long it will take.
#[derive(Debug, Default)]
struct Paces {
    begun: BTreeMap<usize, Pace>,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    total: u32,
    since: Time,
    done: u32,
}

impl Paces {
    fn follow(&mut self, now: Time, hosts: &[Host]) {
        for (index, host) in hosts.iter().enumerate() {
            let (done, total) = host.progress();
            let fresh = Pace { total, since: now, done };
            let pace = self.begun.entry(index).or_insert(fresh);
            if pace.total != total || pace.done > done {
                *pace = fresh;
            }
        }
    }

    fn time_left(&self, now: Time, host: usize, done: u32, total: u32) -> Option<Duration> {
        let pace = self.begun.get(&host)?;
        let (gained, missing) = (done.checked_sub(pace.done)?, total.checked_sub(done)?);
        if gained == 0 {
            return None;
        }
        Some(now.since(pace.since).mul_f64(f64::from(missing) / f64::from(gained)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use firmcast_manager::campaign::{Config, Contents, Deadlines, Delivery, Target};

    fn campaign(hosts: usize) -> Campaign {
        let config = Config {
            campaign: 1,
            delivery: Delivery::Broadcast,
            rate_mbit: 100,
            fragment_size_bytes: 1440,
            escrow: false,
            dry_run: false,
            deadlines: Deadlines::default(),
            exchange_secret: [1; 32],
            stamp: 1,
            seed: [2; 32],
        };
        let target = |index: usize| Target {
            name: format!("host-{index}"),
            // Hosts without a key end at once: they are in trouble.
            key: (!index.is_multiple_of(10)).then_some([index as u8 + 1; 32]),
            address: "10.0.0.1:9847".parse().unwrap(),
        };
        let contents = Contents {
            manifest: vec![1],
            payload: vec![1],
            image_size_bytes: 1,
            expect_version: None,
            stable_digest: [0; 32],
        };
        let targets = (0..hosts).map(target).collect();
        Campaign::new(Time::ZERO, &config, contents, targets).unwrap()
    }

    #[test]
    fn few_hosts_have_a_line_each_and_of_many_those_in_trouble_come_first() {
        let few = text(Time::ZERO, &campaign(3), &Paces::default(), 20);
        assert_eq!(few.len(), 4);
        assert!(few[0].contains("3 hosts: 0 confirmed, 1 failed, 2 under way"), "{few:?}");
        assert!(few[1].contains("FAILED") && few[2].contains("connecting"), "{few:?}");

        let many = text(Time::ZERO, &campaign(200), &Paces::default(), 24);
        assert_eq!(many.len(), 24);
        assert!(many[1].contains("180 connecting, 20 ended"), "{many:?}");
        assert!(many[2..22].iter().all(|line| line.contains("does not answer")), "{many:?}");
        assert!(many[22].contains("host-1"), "{many:?}");
    }

    #[test]
    fn time_left_follows_from_the_pace() {
        let mut paces = Paces::default();
        paces.begun.insert(0, Pace { total: 100, since: Time::ZERO, done: 20 });
        let now = Time::ZERO + Duration::from_secs(10);
        assert_eq!(paces.time_left(now, 0, 40, 100), Some(Duration::from_secs(30)));
        assert_eq!(paces.time_left(now, 0, 20, 100), None);
        assert_eq!(bar(1, 2), "[##########..........]");
    }
}
