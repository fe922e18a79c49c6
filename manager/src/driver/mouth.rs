//! The one place where the program tells what happens: on its display, and in the records of
//! campaigns.

use std::time::SystemTime;

use firmcast_manager::clock;
use firmcast_manager::news::{Entry, News, campaign_text};
use firmcast_manager::rescue::{Line, Note};
use firmcast_manager::store::records::RecordError;

use super::display::Display;
use super::ledger::Ledger;

/// Shows and records.
pub(crate) struct Mouth {
    display: Display,
    ledger: Ledger,
}

impl Mouth {
    pub(crate) fn new(display: Display, ledger: Ledger) -> Self {
        Self { display, ledger }
    }

    /// Begins the record of a campaign, and shows that it starts.
    ///
    /// # Errors
    /// When the record cannot be made durable: the campaign must not start.
    pub(crate) fn begin(&mut self, campaign: u64, started: Entry) -> Result<(), RecordError> {
        self.ledger.begin(campaign, &started)?;
        let note = Note::in_campaign(campaign, started.news);
        self.display.tell(&note, SystemTime::now());
        Ok(())
    }

    /// Begins the record of a rescue, which its caller has told of. Dead hosts are helped without a
    /// record too, so a failure is a warning.
    pub(crate) fn begin_rescue(&mut self, campaign: u64, started: &Entry) {
        if let Err(error) = self.ledger.begin(campaign, started) {
            self.record_failed(Some(campaign), error);
        }
    }

    /// Tells one thing.
    pub(crate) fn tell(&mut self, note: Note) {
        let now = SystemTime::now();
        self.display.tell(&note, now);
        if let Note { campaign: Some(campaign), line: Line::Campaign(news) } = note {
            let (time, number) = (clock::rfc3339(now), campaign_text(campaign));
            self.ledger.add(campaign, Entry { time, campaign: number, news });
        }
    }

    /// Warns of something that concerns this campaign, or none.
    pub(crate) fn warn(&mut self, campaign: Option<u64>, message: String) {
        self.tell(Note { campaign, line: Line::Campaign(News::Warning { message }) });
    }

    /// Makes durable what was told. What cannot be recorded is warned of once.
    pub(crate) fn keep(&mut self) {
        if let Some(error) = self.ledger.keep() {
            self.record_failed(None, error);
        }
    }

    /// Warns that a record is not kept.
    fn record_failed(&mut self, campaign: Option<u64>, error: RecordError) {
        let error = anyhow::Error::from(error);
        self.warn(campaign, format!("THE RECORD IS NOT KEPT: {error:#}"));
    }

    /// Whether something could not be recorded.
    pub(crate) fn record_has_failed(&self) -> bool {
        self.ledger.has_failed()
    }

    pub(crate) fn display(&mut self) -> &mut Display {
        &mut self.display
    }
}
