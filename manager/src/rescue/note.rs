//! What happens while dead hosts are answered, one JSON object per event. docs/EVENTS.md lists them
//! for users.

use std::time::SystemTime;

use serde::Serialize;

use crate::clock;
use crate::news::{BundleFacts, News, campaign_text};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// The campaign that it belongs to, if any.
    pub campaign: Option<u64>,
    /// What.
    pub line: Line,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// In a campaign, as in `firmcast update`.
    Campaign(News),
    /// Else.
    Service(ServiceEvent),
}

/// What happens to the service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ServiceEvent {
    /// The service listens.
    Serving {
        /// Where.
        address: String,
        /// `broadcast`, `multicast` or `unicast`.
        delivery: String,
        /// Cap on the rate.
        rate_mbit: u32,
        /// Hosts in the inventory.
        hosts: usize,
        /// Bundles that are served.
        bundles: usize,
    },
    /// A bundle is served.
    Bundle(BundleFacts),
    /// A file in the bundle directory is not served.
    BundleRefused {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// Policy, bundles and inventory were read again.
    Reloaded {
        /// Hosts in the inventory.
        hosts: usize,
        /// Bundles that are served.
        bundles: usize,
    },
    /// A host asks for help, or only tells what it found.
    HelpRequest(Box<HelpFacts>),
    /// A host is told to ask again later.
    Held {
        /// Host name.
        host: String,
        /// Name of the reason.
        reason: String,
        /// What more is known.
        detail: String,
    },
    /// A campaign begins for the hosts that want this bundle.
    CampaignStarted {
        /// What is brought to them.
        bundle: BundleFacts,
        /// Whether hosts give their backup into keeping before their flash is changed.
        escrow: bool,
    },
    /// A host failed too often, or asks again after too many rescues, and is left alone.
    Parked {
        /// Host name.
        host: String,
        /// Times that it failed.
        failures: u32,
        /// Times that it was rescued within a day; after these it asks again.
        rescues: u32,
        /// Name of the last reason.
        reason: String,
    },
    /// A host was still in a campaign that nobody does any more, and was let go.
    Recalled {
        /// Host name.
        host: String,
        /// What it said that it was doing.
        phase: String,
    },
    /// The service ends.
    Stopped,
}

/// A request for help.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HelpFacts {
    /// Name in the inventory, else the fingerprint of its key.
    pub host: String,
    /// Fingerprint of its key.
    pub key: String,
    /// Whether it is in the inventory.
    pub known: bool,
    /// Where it is.
    pub address: String,
    /// Whether it waits for an image.
    pub wants_image: bool,
    /// `valid`, `invalid` or `unknown`.
    pub finding: String,
    /// Where the damage is.
    pub offset_bytes: u64,
    /// Why.
    pub why: String,
    /// What it calls itself.
    pub host_name: String,
    /// DMI vendor.
    pub vendor: String,
    /// DMI product.
    pub product: String,
    /// How its last attempt ended, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
}

#[derive(Serialize)]
struct Entry<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    campaign: Option<String>,
    #[serde(flatten)]
    line: &'a Line,
}

impl Note {
    /// A note that belongs to no campaign.
    pub fn of(event: ServiceEvent) -> Self {
        Self { campaign: None, line: Line::Service(event) }
    }

    /// A note that belongs to a campaign.
    pub fn in_campaign(campaign: u64, news: News) -> Self {
        Self { campaign: Some(campaign), line: Line::Campaign(news) }
    }

    /// One line of JSON, without line end.
    pub fn to_json(&self, time: SystemTime) -> String {
        let (time, campaign) = (clock::rfc3339(time), self.campaign.map(campaign_text));
        serde_json::to_string(&Entry { time, campaign, line: &self.line }).unwrap_or_default()
    }
}

impl ServiceEvent {
    /// One line for people.
    pub fn to_text(&self) -> String {
        match self {
            Self::Serving { address, delivery, rate_mbit, hosts, bundles } => format!(
                "waiting for dead hosts at {address}: {hosts} in the inventory, {bundles} \
                 bundles, by {delivery}, at most \
                 {rate_mbit} Mbit/s"
            ),
            Self::Bundle(facts) => {
                let BundleFacts { file, vendor, products, version, .. } = facts;
                format!("bundle {file}: {vendor} / {} version {version}", products.join(", "))
            }
            Self::BundleRefused { file, why } => {
                format!("WARNING: bundle {file} is not served: {why}")
            }
            Self::Reloaded { hosts, bundles } => {
                format!("read again: {hosts} hosts in the inventory, {bundles} bundles")
            }
            Self::HelpRequest(facts) => facts.to_text(),
            Self::Held { host, reason, detail } if detail.is_empty() => {
                format!("{host}: not now, {reason}")
            }
            Self::Held { host, reason, detail } => format!("{host}: not now, {reason} ({detail})"),
            Self::CampaignStarted { bundle, .. } => {
                format!("bringing {} {} from {}", bundle.vendor, bundle.version, bundle.file)
            }
            Self::Parked { host, failures, rescues, reason } => {
                let why = match failures {
                    0 => format!("was rescued {rescues} times within a day, and asks again"),
                    _ => format!("failed {failures} times, last with {reason}"),
                };
                format!(
                    "WARNING: {host} {why}: it is left alone until the policy is read again \
                     (SIGHUP) or this service restarted"
                )
            }
            Self::Recalled { host, phase } => {
                format!("{host}: was {phase} in a campaign that nobody does any more, let go")
            }
            Self::Stopped => "stopped; hosts that write their flash go on by themselves".into(),
        }
    }
}

impl HelpFacts {
    fn to_text(&self) -> String {
        let Self { host, address, vendor, product, finding, why, .. } = self;
        let wants = if self.wants_image { "asks for help" } else { "tells" };
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let last = self.last_end.as_ref().map(|end| format!("; last attempt: {end}"));
        let last = last.unwrap_or_default();
        format!("{host} at {address} {wants}: {vendor} / {product}, firmware {finding}{why}{last}")
    }
}
