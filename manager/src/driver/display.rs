//! What people and programs see of a campaign: a live table on a terminal, plain lines elsewhere, or JSON.

mod table;

use std::io::{self, IsTerminal as _, Write as _};

use firmcast::time::Time;
use firmcast_manager::campaign::Campaign;
use firmcast_manager::news::{self, Entry, News};

use table::Table;

/// Where news go.
pub(crate) enum Display {
    /// One JSON object per line.
    Json,
    /// One line for people per event.
    Plain,
    /// A table that is drawn again and again, with what must not be missed above it.
    Table(Box<Table>),
}

impl Display {
    /// The fitting display; `started` is what the campaign begins with.
    pub(crate) fn new(json: bool, started: &Entry, hosts: usize) -> Self {
        let mut display = if json {
            Self::Json
        } else if io::stdout().is_terminal() {
            Self::Table(Box::new(Table::new(hosts)))
        } else {
            Self::Plain
        };
        display.tell(started);
        display
    }

    /// Tells one piece of news.
    pub(crate) fn tell(&mut self, entry: &Entry) {
        match self {
            Self::Json => print_line(&entry.to_line()),
            Self::Plain => {
                if let Some(line) = plain_line(entry) {
                    print_line(&line);
                }
            }
            Self::Table(table) => table.tell(entry),
        }
    }

    /// Draws the table anew.
    pub(crate) fn refresh(&mut self, now: Time, campaign: &Campaign) {
        if let Self::Table(table) = self {
            table.draw(now, campaign);
        }
    }

    /// Leaves the last state on the screen.
    pub(crate) fn finish(&mut self, campaign: &Campaign) {
        if let Self::Table(table) = self {
            table.finish(campaign);
        }
    }
}

/// A reader that went away must not stop a campaign.
pub(crate) fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// A line for people; none for what would be too much.
pub(crate) fn plain_line(entry: &Entry) -> Option<String> {
    let text = match &entry.news {
        News::Started { bundle, delivery, rate_mbit, hosts, .. } => {
            let signature = if bundle.signature_checked {
                "signature checked"
            } else {
                "signature left to the hosts to check"
            };
            format!(
                "campaign {}: {} {} to {} by {delivery}, at most {rate_mbit} Mbit/s, {signature}",
                entry.campaign,
                bundle.vendor,
                bundle.version,
                news::hosts(hosts.len())
            )
        }
        News::Stage { host, stage } => format!("{host}: {stage}"),
        News::Progress { host, phase, done, total, loss_percent, .. } if *total > 0 => {
            let percent = u64::from(*done) * 100 / u64::from(*total);
            let loss = loss_percent.map(|loss| format!(", loss {loss} %")).unwrap_or_default();
            format!("{host}: {phase} {percent} % ({done} of {total}){loss}")
        }
        News::Progress { .. } => return None,
        News::TransferStarted { hosts } => format!("sending the image to {}", news::hosts(*hosts)),
        News::BackupStored { host, sha256, .. } => format!("{host}: backup {sha256} stored"),
        News::Result(result) => format!("{}: {}", result.host, result.to_text()),
        News::Interrupted => "interrupted by the operator".into(),
        News::Warning { message } => format!("WARNING: {message}"),
        News::Finished { confirmed, failed } => {
            format!("finished: {confirmed} confirmed, {failed} failed")
        }
    };
    Some(format!("{} {text}", entry.time))
}

/// A line that must not be missed: it stays on the screen above the table.
fn lasting_line(entry: &Entry) -> Option<String> {
    let lasts = match &entry.news {
        News::Started { .. } | News::Warning { .. } | News::Finished { .. } => true,
        News::Result(result) => !result.confirmed,
        _ => false,
    };
    plain_line(entry).filter(|_| lasts)
}
