//! The places that know a manager's address, on the real machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::resolve::resolve;
use super::seek::{Candidate, Source};
use crate::manager_url::{ManagerUrl, UrlHost};
use crate::net::dns::Wanted;
use crate::recovery::platform::NetworkUp;
use crate::recovery::stay::LookUp;
use crate::time::Time;
use crate::wire::MANAGER_PORT;

/// `ff02::1`, all nodes of the link (RFC 4291 section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Every place on this machine and in its network.
#[derive(Debug)]
pub(super) struct Places {
    /// URLs of the command line and the provision.
    pub(super) stored: Vec<String>,
    pub(super) network: NetworkUp,
}

impl LookUp for Places {
    fn look_up(&mut self, source: Source, _now: Time) -> Result<Vec<Candidate>, String> {
        match source {
            Source::Stored => self.stored(),
            Source::Bmc | Source::Dhcp | Source::Dns => Ok(Vec::new()),
            Source::Broadcast => Ok(self.broadcast()),
        }
    }
}

impl Places {
    /// Whether the host speaks IPv6, because it has no IPv4 address.
    pub(super) fn is_ipv6(&self) -> bool {
        !self.network.addresses.iter().any(|address| address.address.is_ipv4())
    }

    fn stored(&self) -> Result<Vec<Candidate>, String> {
        let parse = |url: &String| {
            let problem = |error| log::warn!("the stored address {url:?} is no manager's: {error}");
            url.parse::<ManagerUrl>().map_err(problem).ok()
        };
        let urls: Vec<ManagerUrl> = self.stored.iter().filter_map(parse).collect();
        self.candidates(urls)
    }

    fn broadcast(&self) -> Vec<Candidate> {
        let address = match self.is_ipv6() {
            false => SocketAddr::new(Ipv4Addr::BROADCAST.into(), MANAGER_PORT),
            true => SocketAddrV6::new(ALL_NODES, MANAGER_PORT, 0, self.network.index).into(),
        };
        vec![Candidate { address, broadcast: true, key: None }]
    }

    fn resolve(&self, wanted: &Wanted) -> Result<Vec<SocketAddr>, String> {
        resolve(wanted, &[])
    }

    /// The addresses of URLs. One that cannot be looked up does not keep the others back.
    fn candidates(
        &self,
        urls: impl IntoIterator<Item = ManagerUrl>,
    ) -> Result<Vec<Candidate>, String> {
        let mut candidates = Vec::new();
        for url in urls {
            let addresses: Vec<IpAddr> = match &url.host {
                UrlHost::Address(address) => vec![*address],
                UrlHost::Name(name) => {
                    match self.resolve(&Wanted::Host { name: name.clone(), port: url.port }) {
                        Ok(found) => found.into_iter().map(|address| address.ip()).collect(),
                        Err(error) => {
                            log::warn!("{url}: {error}");
                            Vec::new()
                        }
                    }
                }
            };
            for address in addresses {
                candidates.push(candidate(SocketAddr::new(address, url.port), url.key.clone()));
            }
        }
        Ok(self.reachable(candidates))
    }

    /// Those of the family that the host has an address of.
    fn reachable(&self, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
        let is_ipv6 = self.is_ipv6();
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
