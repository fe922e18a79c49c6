//! The lines of the table: pure functions of a campaign and the room on the screen.
//!
//! No line is longer than the screen is wide, and no figure is cut: what does not fit goes on in
//! the next line.

use std::collections::BTreeMap;
use std::time::Duration;

use firmcast::time::Time;
use firmcast_manager::campaign::{Campaign, Host, Stage};
use firmcast_manager::news::{HostResult, Kind, count_of_hosts};

use super::paces::Paces;
use super::waits;

/// Maximum width of the column of host names, in characters.
const NAME_WIDTH_MAX: usize = 24;

/// Width of the column of stages, in characters.
const STAGE_WIDTH: usize = 18;

/// Widths of a bar, in characters; where less is free, no bar is drawn.
const BAR_WIDTH_MIN: usize = 8;
const BAR_WIDTH_MAX: usize = 20;

/// Indent of a line that continues the one before.
const INDENT: &str = "    ";

/// What a line is about, which the screen may show in colour. The words say it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// A host that ended as it should.
    Well,
    /// A host that ended otherwise, or with something left to do.
    Ill,
    /// A host whose turn has not come.
    Waiting,
    /// A host that is under way.
    Busy,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) tone: Tone,
    pub(super) text: String,
}

fn toned(tone: Tone, lines: Vec<String>) -> Vec<Line> {
    lines.into_iter().map(|text| Line { tone, text }).collect()
}

/// Room on the screen, in characters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// Returns the table: a header, then all hosts; where they do not fit, how many are where, and
/// those in trouble. The last line says what is waited for.
pub(super) fn table(
    kind: Kind,
    now: Time,
    campaign: &Campaign,
    paces: &Paces,
    screen: Screen,
) -> Vec<Line> {
    let hosts = campaign.hosts();
    let header = toned(Tone::Plain, fold("", &header(kind, now, campaign), screen.width));
    let last = toned(Tone::Plain, fold("", &waits::text(hosts), screen.width));
    let height = screen.height.saturating_sub(last.len());
    let columns = Columns::new(hosts, screen.width);
    let row = |index: usize| columns.row(kind, now, campaign, index, paces);
    if header.len() + hosts.len() <= height {
        let rows: Vec<Line> = (0..hosts.len()).flat_map(row).collect();
        if header.len() + rows.len() <= height {
            return [header, rows, last].concat();
        }
    }
    let mut lines = header;
    lines.extend(toned(Tone::Plain, fold("", &census(hosts), screen.width)));
    let in_trouble = |index: &usize| hosts[*index].outcome().is_some_and(|end| !end.is_confirmed());
    let under_way = |index: &usize| hosts[*index].outcome().is_none();
    let all = || 0..hosts.len();
    for index in all().filter(in_trouble).chain(all().filter(under_way)) {
        let row = row(index);
        if lines.len() + row.len() > height {
            break;
        }
        lines.extend(row);
    }
    lines.extend(last);
    lines
}

fn header(kind: Kind, now: Time, campaign: &Campaign) -> String {
    let hosts = campaign.hosts();
    let ended = hosts.iter().filter_map(Host::outcome);
    let (well, ill): (Vec<_>, Vec<_>) = ended.partition(|end| end.is_confirmed());
    let under_way = hosts.len() - well.len() - ill.len();
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
        "{} after {}:{interrupted} {} {}, {} {}, {under_way} under way{stream}",
        count_of_hosts(hosts.len()),
        span(now.since(Time::ZERO)),
        well.len(),
        kind.good_end(),
        ill.len(),
        kind.bad_end()
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

/// Widths of the columns.
#[derive(Clone, Copy, Debug)]
struct Columns {
    name_width: usize,
    screen_width: usize,
}

/// How far a host is in what it does.
#[derive(Clone, Copy, Debug)]
struct Progress {
    done: u32,
    total: u32,
    loss: Option<f64>,
    left: Option<Duration>,
}

impl Columns {
    fn new(hosts: &[Host], screen_width: usize) -> Self {
        let longest = hosts.iter().map(|host| host.target().name.chars().count()).max();
        Self { name_width: longest.unwrap_or_default().min(NAME_WIDTH_MAX), screen_width }
    }

    fn row(
        &self,
        kind: Kind,
        now: Time,
        campaign: &Campaign,
        index: usize,
        paces: &Paces,
    ) -> Vec<Line> {
        let host = &campaign.hosts()[index];
        let name = &host.target().name;
        if let Some(outcome) = host.outcome() {
            let result = HostResult::of(kind, host, outcome);
            let is_well = result.confirmed && result.shortfall().is_none();
            let tone = if is_well { Tone::Well } else { Tone::Ill };
            return toned(tone, self.ended(&result));
        }
        let tone = if host.is_waiting() { Tone::Waiting } else { Tone::Busy };
        let stage = match host.stage() {
            _ if host.is_waiting() => "waiting",
            // What the host does there has a name of its own.
            Stage::Escrow | Stage::Flash => host.phase().name(),
            stage => stage.name(),
        };
        let (done, total) = host.progress();
        let loss = campaign.stream().host_progress(index).map(|progress| progress.loss);
        let left = paces.time_left(now, index, done, total);
        toned(tone, self.under_way(name, stage, Progress { done, total, loss, left }))
    }

    fn ended(&self, result: &HostResult) -> Vec<String> {
        let HostResult { message, detail, .. } = result;
        let word = match (result.kind, result.confirmed) {
            (_, true) if result.shortfall().is_some() => "confirmed, BUT",
            (kind, true) => kind.good_end(),
            (Kind::DryRun, false) => "CANNOT be updated",
            (Kind::Look, false) => "NOT confirmed",
            (_, false) => "FAILED",
        };
        let more = match result.confirmed {
            true if detail.is_empty() => result.bios_version.clone().unwrap_or_default(),
            true => detail.clone() + &result.doubt_text(),
            false if detail.is_empty() => message.clone(),
            false => format!("{message} ({detail})"),
        };
        fold(&self.lead(&result.host, word), &more, self.screen_width)
    }

    fn under_way(&self, name: &str, stage: &str, progress: Progress) -> Vec<String> {
        let Progress { done, total, loss, left } = progress;
        let lead = self.lead(name, stage);
        if total == 0 {
            return fold(&lead, "", self.screen_width);
        }
        let mut figures = format!("{:3} %", u64::from(done) * 100 / u64::from(total));
        if let Some(loss) = loss {
            figures += &format!(", loss {:.1} %", loss * 100.0);
        }
        if let Some(left) = left {
            figures += &format!(", {} left", span(left));
        }
        // Brackets and a blank.
        let taken = lead.chars().count() + figures.chars().count() + 3;
        let free = self.screen_width.saturating_sub(taken).min(BAR_WIDTH_MAX);
        match free >= BAR_WIDTH_MIN {
            true => vec![format!("{lead}{} {figures}", bar(done, total, free))],
            false => fold(&lead, &figures, self.screen_width),
        }
    }

    fn lead(&self, name: &str, stage: &str) -> String {
        let width = self.name_width;
        let name: String = name.chars().take(width).collect();
        format!("{name:width$} {stage:STAGE_WIDTH$} ")
    }
}

/// A time as people say it: seconds up to two minutes, then minutes.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn bar(done: u32, total: u32, width: usize) -> String {
    let full = (u64::from(done) * width as u64 / u64::from(total.max(1))) as usize;
    let full = full.min(width);
    format!("[{}{}]", "#".repeat(full), ".".repeat(width - full))
}

/// Returns `lead` and `text` in lines of at most `width` characters, broken between words where
/// possible.
pub(super) fn fold(lead: &str, text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = lead.to_owned();
    let mut is_bare = true;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let blank = usize::from(!is_bare);
        if !is_bare && line.chars().count() + blank + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
            is_bare = true;
        }
        if !is_bare {
            line.push(' ');
        }
        for character in word.chars() {
            if line.chars().count() >= width {
                lines.push(std::mem::replace(&mut line, INDENT.to_owned()));
            }
            line.push(character);
        }
        is_bare = false;
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use firmcast::reason::{Ending, FlashState, Reason};
    use firmcast_manager::campaign::{
        Config, Contents, Deadlines, Delivery, Outcome, Purpose, Target,
    };

    fn campaign(hosts: usize) -> Campaign {
        let config = Config {
            campaign: 1,
            delivery: Delivery::Broadcast,
            rate_mbit: 100,
            is_polite: false,
            fragment_size_bytes: 1440,
            escrow: false,
            purpose: Purpose::Update,
            accepted: Default::default(),
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
            pieces: None,
            image_size_bytes: 1,
            expect_version: None,
            is_part: false,
            stable_digest: [0; 32],
        };
        let targets = (0..hosts).map(target).collect();
        Campaign::new(Time::ZERO, &config, contents, targets).unwrap()
    }

    fn update(hosts: usize, height: usize, width: usize) -> Vec<String> {
        let screen = Screen { height, width };
        lines(hosts, screen).into_iter().map(|line| line.text).collect()
    }

    fn lines(hosts: usize, screen: Screen) -> Vec<Line> {
        let now = Time::ZERO + Duration::from_secs(200);
        table(Kind::Update, now, &campaign(hosts), &Paces::default(), screen)
    }

    #[test]
    fn few_hosts_have_a_line_each_and_of_many_those_in_trouble_come_first() {
        let few = update(3, 20, 120);
        assert_eq!(few.len(), 5);
        let head = "3 hosts after 3 min 20 s: 0 confirmed, 1 failed, 2 under way";
        assert!(few[0].contains(head), "{few:?}");
        assert_eq!(few[4], "waits for the agents of host-1, host-2 to answer");
        assert!(few[1].contains("FAILED") && few[2].contains("connecting"), "{few:?}");

        let many = update(200, 24, 120);
        assert_eq!(many.len(), 24);
        assert!(many[23].starts_with("waits for the agents of 180 hosts"), "{many:?}");
        let tones = lines(3, Screen { height: 20, width: 120 });
        let tones: Vec<Tone> = tones.iter().map(|line| line.tone).collect();
        assert_eq!(tones, [Tone::Plain, Tone::Ill, Tone::Busy, Tone::Busy, Tone::Plain]);
        assert!(many[1].contains("180 connecting, 20 ended"), "{many:?}");
        assert!(many[2..22].iter().all(|line| line.contains("does not answer")), "{many:?}");
        assert!(many[22].contains("host-1"), "{many:?}");
    }

    #[test]
    fn no_line_is_longer_than_the_screen_and_no_table_is_higher() {
        for (width, height) in [(40, 10), (80, 24), (120, 24), (300, 100)] {
            let lines = update(200, height, width);
            assert!(lines.len() <= height, "{lines:#?}");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:#?}");
        }
    }

    fn possible(foreseen: &str) -> Outcome {
        Outcome {
            ending: Ending::new(Reason::Possible, FlashState::UNTOUCHED, foreseen),
            bios_version: None,
            digests: None,
            programs: None,
        }
    }

    /// Puts the lines of a row together again.
    fn unfold(lines: &[String]) -> String {
        lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_figures_of_a_dry_run_and_of_a_transfer_are_whole_at_80_and_120_columns() {
        let foreseen =
            "at most 4096 of 4096 eraseblocks change, in about 312 s, 1250 s on a slow chip";
        let name = "rack-12-node-0042.exampl";
        let result = HostResult::new(Kind::DryRun, name, &possible(foreseen));
        let left = Some(Duration::from_secs(1234));
        let progress = Progress { done: 999, total: 1000, loss: Some(0.123), left };
        for screen_width in [80, 120] {
            let columns = Columns { name_width: NAME_WIDTH_MAX, screen_width };
            let lines = columns.ended(&result);
            assert!(lines.iter().all(|line| line.chars().count() <= screen_width), "{lines:#?}");
            let text = unfold(&lines);
            assert!(text.contains("could be updated") && text.contains(foreseen), "{lines:#?}");

            let lines = columns.under_way(name, "entering-recovery", progress);
            assert_eq!(lines.len(), 1, "{lines:#?}");
            assert!(lines[0].chars().count() <= screen_width, "{lines:#?}");
            assert!(lines[0].contains("99 %, loss 12.3 %, 20 min 34 s left"), "{lines:#?}");
        }
        let wide = Columns { name_width: 8, screen_width: 120 }.under_way("a", "writing", progress);
        assert!(wide[0].contains("[###################.]"), "{wide:#?}");
    }

    #[test]
    fn words_longer_than_a_line_are_broken() {
        assert_eq!(fold("a ", "bb cccccccccc", 8), ["a bb", "    cccc", "    cccc", "    cc"]);
        assert_eq!(fold("lead ", "", 80), ["lead"]);
    }
}
