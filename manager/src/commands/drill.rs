//! `firmcast drill`: an update that stops before the first change.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use firmcast_manager::campaign::Purpose;

use super::campaign::CampaignArgs;

/// Each host leaves its operating system for the recovery environment, receives and verifies the
/// image, reads its chip, plans the update, and reboots. Its flash is open for reading only.
///
/// Exit status: 0 when all hosts came home from their drill, 1 when some did not, 2 on wrong usage,
/// 3 when nothing was started.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    #[command(flatten)]
    campaign: CampaignArgs,
    /// Write what the firmware of these hosts was seen to write itself to FILE, which must not
    /// exist, for firmcast bundle create --learned; best with one host of a kind
    #[arg(long, value_name = "FILE")]
    learned: Option<PathBuf>,
}

impl DrillArgs {
    pub(crate) fn run(self, state: &Path) -> ExitCode {
        self.campaign.run(state, Purpose::Drill, self.learned)
    }
}
