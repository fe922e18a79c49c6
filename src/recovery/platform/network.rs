//! Brings the network up: the handed-over configuration on its NIC, else DHCP, with the patience that switches need.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::lease::{DhcpDriver, configure};
use super::modules::{Modules, wait_readable};
use super::{PlatformError, Watchdog};
use crate::net::dhcp::Event;
use crate::net::link::{self, Nic};
use crate::net::{Events, InterfaceAddress, InterfaceConfig, Netlink};

/// Enough for switches that hold a new link for 50 s (spanning tree) and NICs that train for as long before.
pub const LINK_PATIENCE: Duration = Duration::from_secs(300);

/// How long the handed-over NIC alone is waited for. After that DHCP is asked on every NIC beside it: the NIC may have
/// been exchanged, or its port be dead.
const HANDED_OVER_PATIENCE: Duration = Duration::from_secs(120);

/// Most NICs on which DHCP is asked at once.
const DHCP_NICS_MAX: usize = 64;

/// How the host got its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// From the agent.
    HandedOver,
    /// From a DHCP server.
    Dhcp,
}

/// The network as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkUp {
    /// The interface with the addresses (a VLAN's, when there is one).
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddress>,
    /// How it got them.
    pub source: AddressSource,
}

pub(super) fn bring_up(
    modules: &mut Modules,
    watchdog: &mut Watchdog,
    wanted: &[InterfaceConfig],
    patience: Duration,
) -> Result<NetworkUp, PlatformError> {
    // Subscribed before the first look, so that no change falls between looking and waiting.
    let events = Events::open()?;
    let mut bringer = Bringer::new(wanted)?;
    let started = Instant::now();
    let deadline = started + patience;
    loop {
        watchdog.feed();
        modules.load_new();
        events.drain();
        if let Some(up) = bringer.step()? {
            let addresses: Vec<String> = up.addresses.iter().map(|a| a.to_string()).collect();
            log::info!("network: {} has {}", up.interface, addresses.join(", "));
            return Ok(up);
        }
        let now = Instant::now();
        if now >= deadline {
            let state = bringer.describe()?;
            return Err(PlatformError::NoNetwork { waited_s: started.elapsed().as_secs(), state });
        }
        let wake = deadline.min(now + watchdog.feed_interval()).min(bringer.deadline());
        let mut descriptors = vec![events.as_fd(), modules.as_fd()];
        descriptors.extend(bringer.clients.iter().map(AsFd::as_fd));
        wait_readable(&descriptors, wake)?;
    }
}

/// What is done with a NIC that has a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan<'a> {
    /// Give it the addresses of this configuration.
    Static(&'a InterfaceConfig),
    /// Ask DHCP, on the VLAN of this configuration if there is one.
    Dhcp(Option<&'a InterfaceConfig>),
}

/// The plan for `nic`, and its rank: the lower, the sooner it is used.
fn plan<'a>(
    nic: &Nic,
    wanted: &'a [InterfaceConfig],
    takes_any: bool,
) -> Option<(usize, Plan<'a>)> {
    for config in wanted {
        if let Some(rank) = config.nics.iter().position(|mac| *mac == nic.mac) {
            let is_static = !config.addresses.is_empty();
            let plan = if is_static { Plan::Static(config) } else { Plan::Dhcp(Some(config)) };
            return Some((rank, plan));
        }
    }
    takes_any.then_some((usize::MAX, Plan::Dhcp(None)))
}

struct Bringer<'a> {
    netlink: Netlink,
    wanted: &'a [InterfaceConfig],
    started: Instant,
    set_up: BTreeSet<u32>,
    asked: BTreeSet<u32>,
    clients: Vec<DhcpDriver>,
}

impl<'a> Bringer<'a> {
    fn new(wanted: &'a [InterfaceConfig]) -> Result<Self, PlatformError> {
        let mut netlink = Netlink::open()?;
        link::set_loopback_up(&mut netlink)?;
        for config in wanted {
            if let Some(note) = &config.note {
                log::info!("{} was a {note}; recovery uses one of its NICs alone", config.name);
            }
        }
        Ok(Bringer {
            netlink,
            wanted,
            started: Instant::now(),
            set_up: BTreeSet::new(),
            asked: BTreeSet::new(),
            clients: Vec::new(),
        })
    }

    fn takes_any(&self) -> bool {
        self.wanted.is_empty() || self.started.elapsed() >= HANDED_OVER_PATIENCE
    }

    /// When to look again even if nothing happens.
    fn deadline(&self) -> Instant {
        let clients = self.clients.iter().map(DhcpDriver::deadline).min();
        let widening = (!self.takes_any()).then(|| self.started + HANDED_OVER_PATIENCE);
        let far = Instant::now() + LINK_PATIENCE;
        clients.into_iter().chain(widening).min().unwrap_or(far)
    }

    /// Looks at the NICs as they are now and does what can be done.
    fn step(&mut self) -> Result<Option<NetworkUp>, PlatformError> {
        let takes_any = self.takes_any();
        let nics = link::nics(&mut self.netlink)?;
        let mut planned: Vec<(usize, Plan<'a>, &Nic)> = nics
            .iter()
            .filter_map(|nic| {
                plan(nic, self.wanted, takes_any).map(|(rank, plan)| (rank, plan, nic))
            })
            .collect();
        planned.sort_by_key(|(rank, _, nic)| (*rank, nic.index));
        for (_, plan, nic) in planned {
            if self.set_up.insert(nic.index) {
                log::info!("{} ({}): set up, waiting for its link", nic.name, nic.mac);
                link::set_up(&mut self.netlink, nic.index)?;
            }
            if !nic.has_carrier {
                continue;
            }
            match plan {
                Plan::Static(config) => return self.configure(nic, config).map(Some),
                Plan::Dhcp(config) => self.ask(nic, config)?,
            }
        }
        self.step_clients()
    }

    fn configure(
        &mut self,
        nic: &Nic,
        config: &InterfaceConfig,
    ) -> Result<NetworkUp, PlatformError> {
        let (index, interface) = link::stack(&mut self.netlink, nic, config)?;
        link::address(&mut self.netlink, index, &config.addresses, &config.routes)?;
        let addresses = config.addresses.clone();
        Ok(NetworkUp { interface, index, addresses, source: AddressSource::HandedOver })
    }

    fn ask(&mut self, nic: &Nic, config: Option<&InterfaceConfig>) -> Result<(), PlatformError> {
        if self.asked.len() >= DHCP_NICS_MAX || !self.asked.insert(nic.index) {
            return Ok(());
        }
        let (index, interface) = match config {
            Some(config) => link::stack(&mut self.netlink, nic, config)?,
            None => (nic.index, nic.name.clone()),
        };
        log::info!("{interface}: link is there, asking DHCP");
        self.clients.push(DhcpDriver::open(index, &interface, nic.mac)?);
        Ok(())
    }

    /// The first client that gets a lease ends the search; the others ask no more.
    fn step_clients(&mut self) -> Result<Option<NetworkUp>, PlatformError> {
        let mut bound = None;
        for (number, client) in self.clients.iter_mut().enumerate() {
            if let Some(Event::Bound(lease)) = client.step() {
                bound = Some((number, lease));
                break;
            }
        }
        let Some((number, lease)) = bound else { return Ok(None) };
        let client = self.clients.swap_remove(number);
        configure(&mut self.netlink, client.index, &client.interface, &lease)?;
        let up = NetworkUp {
            interface: client.interface.clone(),
            index: client.index,
            addresses: vec![lease.address],
            source: AddressSource::Dhcp,
        };
        client.keep(lease);
        Ok(Some(up))
    }

    /// What there is, for the operator.
    fn describe(&mut self) -> Result<String, PlatformError> {
        let nics = link::nics(&mut self.netlink)?;
        if nics.is_empty() {
            return Ok("no NIC found".into());
        }
        let texts: Vec<String> = nics
            .iter()
            .map(|nic| {
                let state = match (nic.has_carrier, self.asked.contains(&nic.index)) {
                    (true, true) => "link, but no DHCP answer",
                    (true, false) => "link, but not the NIC that was handed over",
                    (false, _) => "no link",
                };
                format!("{} ({}): {state}", nic.name, nic.mac)
            })
            .collect();
        Ok(texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::MacAddress;

    #[test]
    fn the_handed_over_nic_comes_first_and_others_only_when_allowed() {
        let nic = |end: u8| Nic {
            index: end.into(),
            name: format!("eth{end}"),
            mac: MacAddress([2, 0, 0, 0, 0, end]),
            has_carrier: true,
        };
        let mut config = InterfaceConfig {
            name: "bond0".into(),
            nics: vec![MacAddress([2, 0, 0, 0, 0, 5]), MacAddress([2, 0, 0, 0, 0, 4])],
            note: None,
            vlan: None,
            mtu: 1500,
            addresses: vec![InterfaceAddress {
                address: "192.0.2.7".parse().unwrap(),
                prefix_len: 24,
            }],
            routes: Vec::new(),
        };
        let wanted = [config.clone()];
        assert_eq!(plan(&nic(5), &wanted, false), Some((0, Plan::Static(&wanted[0]))));
        assert_eq!(plan(&nic(4), &wanted, false), Some((1, Plan::Static(&wanted[0]))));
        assert_eq!(plan(&nic(3), &wanted, false), None);
        assert_eq!(plan(&nic(3), &wanted, true), Some((usize::MAX, Plan::Dhcp(None))));
        config.addresses.clear();
        let wanted = [config];
        assert_eq!(plan(&nic(5), &wanted, false), Some((0, Plan::Dhcp(Some(&wanted[0])))));
    }
}
