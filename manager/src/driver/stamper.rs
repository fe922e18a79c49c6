//! The stamps that this process puts on its calls and questions, and what an operator is told of
//! them.

use std::path::Path;
use std::time::SystemTime;

use firmcast::keys::{ManagerSecretKey, SecretKey as _};
use firmcast::time::Time;
use firmcast_manager::clock;
use firmcast_manager::store::stamps::{
    CAMPAIGN_STAMPS, RENEWAL_INTERVAL, Reserved, StampError, Stamps,
};

use super::stderr;

/// The stamps of one key.
pub(crate) struct Stamper {
    stamps: Stamps,
    renewed: Time,
    has_told_gap: bool,
    has_failed: bool,
}

impl Stamper {
    pub(crate) fn new(state: &Path, secret: &ManagerSecretKey) -> Self {
        let stamps = Stamps::new(state, &secret.public());
        Self { stamps, renewed: Time::ZERO, has_told_gap: false, has_failed: false }
    }

    /// Returns the stamp of one question. Where it cannot be kept, the clock gives it: a look
    /// around needs no disk.
    pub(crate) fn question(&mut self) -> u64 {
        self.reserve(1).unwrap_or_else(|error| {
            if let Some(warning) = self.has_failed_once(&error) {
                stderr::tell(warning);
            }
            clock::unix_micros(SystemTime::now())
        })
    }

    /// Returns the first of the stamps with which a campaign starts.
    ///
    /// # Errors
    /// When they cannot be kept.
    pub(crate) fn campaign(&mut self, now: Time) -> Result<u64, StampError> {
        self.renewed = now;
        self.reserve(CAMPAIGN_STAMPS)
    }

    /// Returns stamps for a campaign to go on with, once in a while. What cannot be kept is warned
    /// of once; the campaign then goes on with those that it has.
    pub(crate) fn renew(&mut self, now: Time) -> Option<Result<u64, String>> {
        if now.since(self.renewed) < RENEWAL_INTERVAL {
            return None;
        }
        match self.campaign(now) {
            Ok(first) => Some(Ok(first)),
            Err(error) => self.has_failed_once(&error).map(Err),
        }
    }

    fn reserve(&mut self, count: u64) -> Result<u64, StampError> {
        let Reserved { first, gap } = self.stamps.reserve(SystemTime::now(), count)?;
        if let Some(gap) = gap
            && !std::mem::replace(&mut self.has_told_gap, true)
        {
            stderr::tell(format_args!("WARNING: {}", gap.to_text()));
        }
        Ok(first)
    }

    fn has_failed_once(&mut self, error: &StampError) -> Option<String> {
        let is_first = !std::mem::replace(&mut self.has_failed, true);
        is_first.then(|| {
            let cause = std::error::Error::source(error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}; the last stamp of this key is not kept")
        })
    }
}
