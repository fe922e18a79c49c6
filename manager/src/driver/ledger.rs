//! The records of the campaigns that this program works on, made durable once in a turn.

use std::collections::BTreeMap;
use std::path::PathBuf;

use firmcast_manager::news::{Entry, News};
use firmcast_manager::store::records::{self, CampaignRecord, RecordError};

/// The records that are open.
pub(crate) struct Ledger {
    state: PathBuf,
    open: BTreeMap<u64, Page>,
    has_failed: bool,
}

/// One campaign.
struct Page {
    record: CampaignRecord,
    /// Told, but not yet durable.
    waiting: Vec<Entry>,
    is_over: bool,
}

impl Ledger {
    pub(crate) fn new(state: PathBuf) -> Self {
        Self { state, open: BTreeMap::new(), has_failed: false }
    }

    /// Begins the record of `campaign`, durably, with room for what its hosts bring.
    ///
    /// # Errors
    /// When the record cannot be made durable.
    pub(crate) fn begin(&mut self, campaign: u64, started: &Entry) -> Result<(), RecordError> {
        let hosts = match &started.news {
            News::Started { hosts, .. } => hosts.len(),
            _ => 0,
        };
        let record = CampaignRecord::create(&self.state, started, hosts)?;
        self.open.insert(campaign, Page { record, waiting: Vec::new(), is_over: false });
        Ok(())
    }

    /// Takes what was told of `campaign`. Without a record there is nothing to add to.
    pub(crate) fn add(&mut self, campaign: u64, entry: Entry) {
        if let Some(page) = self.open.get_mut(&campaign)
            && records::is_kept(&entry.news)
        {
            page.is_over |= matches!(entry.news, News::Finished { .. });
            page.waiting.push(entry);
        }
    }

    /// Makes durable what was added, and closes the records of campaigns that are over. Returns the
    /// first failure; hosts are brought to a safe end without a record too.
    pub(crate) fn keep(&mut self) -> Option<RecordError> {
        let mut failure = None;
        for page in self.open.values_mut() {
            let waiting = std::mem::take(&mut page.waiting);
            if let Err(error) = page.record.append(&waiting)
                && !std::mem::replace(&mut self.has_failed, true)
            {
                failure = Some(error);
            }
        }
        self.open.retain(|_, page| !page.is_over);
        failure
    }

    /// Whether something could not be recorded.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }
}
