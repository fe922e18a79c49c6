//! What the service says on standard output.

use std::net::SocketAddr;
use std::time::SystemTime;

use firmcast_manager::campaign::Delivery;
use firmcast_manager::clock;
use firmcast_manager::news::{self, Entry, News};
use firmcast_manager::rescue::note::Event;
use firmcast_manager::rescue::{Line, Note};

use crate::driver::display::{plain_line, print_line};

/// How the service was started.
pub(crate) struct Facts {
    pub(super) address: SocketAddr,
    pub(super) delivery: Delivery,
    pub(super) rate_mbit: u32,
}

/// Plain lines, or JSON.
pub(crate) struct Log {
    json: bool,
}

impl Log {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn tell(&self, note: &Note) {
        if self.json {
            print_line(&note.to_json(SystemTime::now()));
        } else if let Some(line) = text(note) {
            print_line(&line);
        }
    }

    pub(super) fn event(&self, event: Event) {
        self.tell(&Note::of(event));
    }

    pub(super) fn warn(&self, message: String) {
        let line = Line::Campaign(News::Warning { message });
        self.tell(&Note { campaign: None, line });
    }
}

/// A line for people; a log is no place for progress.
fn text(note: &Note) -> Option<String> {
    let time = clock::rfc3339(SystemTime::now());
    match &note.line {
        Line::Service(event) => Some(format!("{time} {}", event.to_text())),
        Line::Campaign(News::Progress { .. }) => None,
        Line::Campaign(News::Finished { confirmed, failed }) => {
            let rescued = news::hosts(*confirmed);
            Some(format!("{time} campaign over: {rescued} rescued, {failed} attempts failed"))
        }
        Line::Campaign(news) => {
            plain_line(&Entry { time, campaign: String::new(), news: news.clone() })
        }
    }
}
