//! The places that know a manager's address, on the real machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use crate::manager_url::{ManagerUrl, UrlHost};
use crate::net::InterfaceConfig;
use crate::net::dns::Wanted;
use crate::platform::{NetworkUp, Platform};
use crate::reason::with_causes;
use crate::rescue::seek::{Candidate, Source};
use crate::wire::MANAGER_PORT;

/// `ff02::1`, all nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// How long one look for a network takes before the display says so and the next begins.
/// Longer than the NICs that are meant are waited for alone.
pub(super) const NETWORK_PATIENCE: Duration = Duration::from_secs(180);

/// Rounds without a manager after which the network is looked for anew: a DHCP server may have come
/// up late, or a cable have moved.
const ROUNDS_MAX: u32 = 5;

/// The network that the host is in, and every place there and on this machine that may know a
/// manager.
#[derive(Debug)]
pub(super) struct Places {
    network: NetworkUp,
    /// The network that is wanted.
    wanted: Vec<InterfaceConfig>,
    /// URLs of the command line and the provision.
    stored: Vec<String>,
    /// Rounds of looking in this network.
    rounds: u32,
}

impl Places {
    pub(super) fn new(
        network: NetworkUp,
        wanted: Vec<InterfaceConfig>,
        stored: Vec<String>,
    ) -> Self {
        Self { network, wanted, stored, rounds: 0 }
    }

    /// Returns the network that the host is in.
    pub(super) fn network(&self) -> &NetworkUp {
        &self.network
    }

    /// Looks for another network when this one has led to nobody for long. Whether another one is
    /// up.
    pub(super) fn renew_network(&mut self, platform: &mut Platform) -> bool {
        self.rounds += 1;
        if self.rounds <= ROUNDS_MAX {
            return false;
        }
        log::info!("no manager was found in this network, looking for another");
        if let Err(error) = platform.leave_network(&self.network) {
            log::warn!("{}", with_causes(&error));
        }
        match platform.network(&self.wanted, NETWORK_PATIENCE) {
            Ok(network) => {
                (self.network, self.rounds) = (network, 0);
                true
            }
            // In the next round again.
            Err(error) => {
                log::error!("no network: {}", with_causes(&error));
                false
            }
        }
    }

    /// Returns what the place knows, or why it says nothing.
    pub(super) fn look_up(
        &self,
        platform: &mut Platform,
        source: Source,
    ) -> Result<Vec<Candidate>, String> {
        match source {
            Source::Stored => Ok(self.stored(platform)),
            Source::Bmc => self.bmc(platform),
            Source::Dhcp => Ok(self.candidates(platform, self.network.manager.clone())),
            Source::Dns => self.srv(platform),
            Source::Broadcast => Ok(self.broadcast()),
        }
    }

    fn stored(&self, platform: &mut Platform) -> Vec<Candidate> {
        let parse = |url: &String| {
            let problem = |error| log::warn!("the stored address {url:?} is no manager's: {error}");
            url.parse::<ManagerUrl>().map_err(problem).ok()
        };
        let urls: Vec<ManagerUrl> = self.stored.iter().filter_map(parse).collect();
        self.candidates(platform, urls)
    }

    fn bmc(&self, platform: &mut Platform) -> Result<Vec<Candidate>, String> {
        let found = crate::bmc::look_up().map_err(|error| with_causes(&error))?;
        for remark in &found.remarks {
            log::warn!("BMC: {remark}");
        }
        Ok(self.candidates(platform, found.urls))
    }

    fn srv(&self, platform: &mut Platform) -> Result<Vec<Candidate>, String> {
        let Some(domain) = &self.network.domain else { return Ok(Vec::new()) };
        let found = self.resolve(platform, &Wanted::Service { domain: domain.clone() })?;
        Ok(self.reachable(found.into_iter().map(|address| candidate(address, None)).collect()))
    }

    fn broadcast(&self) -> Vec<Candidate> {
        let address = match self.network.is_ipv6() {
            false => SocketAddr::new(Ipv4Addr::BROADCAST.into(), MANAGER_PORT),
            true => SocketAddrV6::new(ALL_NODES, MANAGER_PORT, 0, self.network.index).into(),
        };
        vec![Candidate { address, broadcast: true, key: None }]
    }

    fn resolve(&self, platform: &mut Platform, wanted: &Wanted) -> Result<Vec<SocketAddr>, String> {
        let found =
            platform.look_up(wanted, &self.network.dns).map_err(|error| with_causes(&error))?;
        found.map_err(|error| error.to_string())
    }

    /// Returns the addresses of URLs. One that cannot be looked up does not keep the others back.
    fn candidates(
        &self,
        platform: &mut Platform,
        urls: impl IntoIterator<Item = ManagerUrl>,
    ) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for url in urls {
            let addresses: Vec<IpAddr> = match &url.host {
                UrlHost::Address(address) => vec![*address],
                UrlHost::Name(name) => match self
                    .resolve(platform, &Wanted::Host { name: name.clone(), port: url.port })
                {
                    Ok(found) => found.into_iter().map(|address| address.ip()).collect(),
                    Err(error) => {
                        log::warn!("{url}: {error}");
                        Vec::new()
                    }
                },
            };
            for address in addresses {
                let address = self.network.scoped(SocketAddr::new(address, url.port));
                candidates.push(candidate(address, url.key.clone()));
            }
        }
        self.reachable(candidates)
    }

    /// Those of the family that the host has an address of.
    fn reachable(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        let is_ipv6 = self.network.is_ipv6();
        candidates.retain(|candidate| {
            let fits = candidate.address.is_ipv6() == is_ipv6;
            if !fits {
                log::info!(
                    "{} is left out: this host has no address of its kind",
                    candidate.address
                );
            }
            fits
        });
        candidates
    }
}

fn candidate(address: SocketAddr, key: Option<String>) -> Candidate {
    Candidate { address, broadcast: false, key }
}
