//! `firmcast update`: hosts are updated, or only asked.

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
    /// Only measure each host: whether it runs the bundle's firmware, and its chip holds the image
    #[arg(long, conflicts_with_all = ["escrow", "dry_run"])]
    look: bool,
}

impl UpdateArgs {
    pub(crate) fn run(self, state: &Path) -> ExitCode {
        let purpose = match (self.dry_run, self.look) {
            (true, _) => Purpose::DryRun,
            (_, true) => Purpose::Look,
            _ => Purpose::Update,
        };
        self.campaign.run(state, purpose, None)
    }
}
