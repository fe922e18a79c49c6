//! `firmcast update`: hosts are updated, or in a dry run only asked.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use firmcast_manager::campaign::Purpose;

use super::campaign::CampaignArgs;

/// Exit status: 0 when all hosts are confirmed and kept what they had to, 1 when some are not, 2 on
/// wrong usage, 3 when nothing was started.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    campaign: CampaignArgs,
    /// Only ask each host what would change and how long that takes, or why it is not possible
    #[arg(long, conflicts_with = "escrow")]
    dry_run: bool,
}

impl UpdateArgs {
    pub(crate) fn run(self, state: &Path) -> ExitCode {
        let purpose = if self.dry_run { Purpose::DryRun } else { Purpose::Update };
        self.campaign.run(state, purpose, None)
    }
}
