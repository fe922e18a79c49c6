//! What happens in a campaign, in words for an operator.

use firmcast::reason::Reason;

use super::{Entry, HostResult, Kind, News, Pieces, StageTime};

/// A stage that took less is not told of.
const NOTICEABLE_S: f64 = 0.1;

impl Entry {
    /// Returns one line; none for what would be too much.
    pub fn to_text(&self) -> Option<String> {
        Some(format!("{} {}", self.time, self.news.to_text(&self.campaign)?))
    }
}

impl News {
    fn to_text(&self, campaign: &str) -> Option<String> {
        Some(match self {
            Self::Started { .. } => started(self, campaign)?,
            Self::Stage { host, stage } => format!("{host}: {stage}"),
            Self::Progress { host, phase, done, total, loss_percent, .. } if *total > 0 => {
                let percent = u64::from(*done) * 100 / u64::from(*total);
                let loss = loss_percent.map(|loss| format!(", loss {loss} %")).unwrap_or_default();
                format!("{host}: {phase} {percent} % ({done} of {total}){loss}")
            }
            Self::Progress { .. } => return None,
            Self::TransferStarted { hosts, pieces } => {
                let hosts = count_of_hosts(*hosts);
                match pieces {
                    None => format!("sending the image to {hosts}"),
                    Some(Pieces { sent, of }) => format!(
                        "sending {sent} of {of} pieces of the image to {hosts}; the others are on \
                         the chips already"
                    ),
                }
            }
            Self::BackupStored { host, sha256, .. } => format!("{host}: backup {sha256} stored"),
            Self::Result(result) => format!("{}: {}", result.host, result.to_text()),
            Self::Interrupted => "interrupted by the operator".into(),
            Self::Warning { message } => format!("WARNING: {message}"),
            Self::Finished { kind: Kind::Rescue, confirmed, failed } => {
                let rescued = count_of_hosts(*confirmed);
                format!("campaign over: {rescued} rescued, {failed} attempts failed")
            }
            Self::Finished { kind, confirmed, failed } => {
                let (good, bad) = (kind.good_end(), kind.bad_end());
                format!("finished: {confirmed} {good}, {failed} {bad}")
            }
        })
    }
}

fn started(news: &News, campaign: &str) -> Option<String> {
    let News::Started { kind, bundle, delivery, rate_mbit, hosts, .. } = news else { return None };
    let what = format!("{} {}", bundle.vendor, bundle.version);
    let hosts = count_of_hosts(hosts.len());
    let signature = match bundle.signature_checked {
        true => "signature checked",
        false => "signature left to the hosts to check",
    };
    Some(match kind {
        Kind::DryRun => {
            format!("dry run {campaign}: asks {hosts} about {what}, changes nothing, {signature}")
        }
        Kind::Drill => format!(
            "drill {campaign}: {what} with {hosts} by {delivery}, at most {rate_mbit} Mbit/s, \
             changes no flash, {signature}"
        ),
        Kind::Look => {
            format!("look {campaign}: measures {hosts} for {what}, changes nothing, {signature}")
        }
        Kind::Rescue => format!("rescue {campaign}: {what}, {signature}"),
        Kind::Update => format!(
            "campaign {campaign}: {what} to {hosts} by {delivery}, at most {rate_mbit} Mbit/s, \
             {signature}"
        ),
    })
}

impl HostResult {
    /// Returns one line.
    pub fn to_text(&self) -> String {
        let Self { message, detail, advice, flash, .. } = self;
        let condition = self.condition.as_ref().map(|condition| format!(", firmware {condition}"));
        let condition = condition.unwrap_or_default();
        let in_brackets = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        match self.kind {
            _ if self.code == Reason::Possible.code() => {
                format!("{message}: {detail}{}", self.doubt_text())
            }
            _ if self.code == Reason::Rescued.code() => message.clone(),
            _ if self.code == Reason::Drilled.code() && self.confirmed => {
                format!("drilled: {detail}; {}{}", self.stages_text(), self.doubt_text())
            }
            _ if self.confirmed => {
                let version = self.bios_version.as_deref().unwrap_or("unknown");
                let but = self.shortfall().map(|but| format!(", BUT {but}; {advice}"));
                let to_do = || self.left_to_do().map(|to_do| format!("; {to_do}"));
                let more = but.or_else(to_do).unwrap_or_default();
                let ran = self.programs.as_ref().map(|programs| format!(" ({programs})"));
                format!("confirmed, BIOS version {version}{}{more}", ran.unwrap_or_default())
            }
            Kind::DryRun => {
                let doubt = self.doubt_text();
                format!("CANNOT be updated: {message}{in_brackets}{doubt}; {advice}")
            }
            Kind::Look => format!("NOT confirmed: {message}{in_brackets}; {advice}"),
            Kind::Update | Kind::Drill | Kind::Rescue => {
                let reset = if self.reboot_safe { "safe" } else { "NOT known to be safe" };
                format!(
                    "FAILED: {message}{in_brackets}; flash {flash}{condition}, reset {reset}; \
                     {advice}"
                )
            }
        }
    }
}

impl HostResult {
    /// Returns how long the host was in each stage that took it noticeable time.
    pub fn stages_text(&self) -> String {
        let noticeable = self.stages.iter().filter(|stage| stage.seconds >= NOTICEABLE_S);
        let texts: Vec<String> = noticeable
            .map(|StageTime { stage, seconds }| format!("{stage} {seconds:.1} s"))
            .collect();
        texts.join(", ")
    }

    /// Returns what is added about firmware that is not whole.
    pub fn doubt_text(&self) -> String {
        let Some(condition) = &self.condition else { return String::new() };
        let doubt = self.doubt.as_ref().map(|doubt| format!(": {doubt}")).unwrap_or_default();
        format!("; its firmware is {condition}{doubt}")
    }
}

/// Returns a number of hosts, in words.
pub fn count_of_hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}
