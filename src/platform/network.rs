//! Brings the network up: as configured on the NIC that is meant, else by DHCP, else by what IPv6
//! routers advertise, with the patience that switches need.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::bonds::{Base, Bonds};
use super::lease::{DhcpDriver, configure};
use super::modules::{Modules, wait_readable};
use super::{PlatformError, Watchdogs};
use crate::manager_url::ManagerUrl;
use crate::net::config::NICS_MAX;
use crate::net::dhcp::LeaseEvent;
use crate::net::ip_option;
use crate::net::link::{self, Nic};
use crate::net::{Events, InterfaceAddress, InterfaceConfig, Method, Netlink};
use crate::order::sort_by_rank;
use crate::reason::with_causes;

/// Enough for switches that hold a new link for 50 s (spanning tree) and NICs that train for as
/// long before.
pub const LINK_PATIENCE: Duration = Duration::from_secs(300);

/// How long the NICs that are meant are waited for alone. After that DHCP is asked on every NIC
/// beside it: the NIC may have been exchanged, or its port be dead.
const CONFIGURED_PATIENCE: Duration = Duration::from_secs(120);

/// How long an IPv6 address that nobody has asked for stands before it does without a DHCP answer.
/// DHCP asks again after 16 s at the latest.
const IPV6_ALONE_AFTER: Duration = Duration::from_secs(20);

/// Most ways that are tried at once: each is a NIC, or a VLAN on one, with its DHCP client.
const PLANS_MAX: usize = 64;

/// How the host got its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSource {
    /// From the agent, the stored configuration or the kernel command line.
    Configured,
    /// From a DHCP server.
    Dhcp,
    /// From the advertisements of IPv6 routers.
    Advertised,
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
    /// Where the manager is, by the DHCP server.
    pub manager: Option<ManagerUrl>,
    /// The domain in which the manager may be looked for.
    pub domain: Option<String>,
    /// Name servers, best first.
    pub dns: Vec<IpAddr>,
}

impl NetworkUp {
    /// Returns whether the host speaks IPv6, because it has no IPv4 address.
    pub fn is_ipv6(&self) -> bool {
        !self.addresses.iter().any(|address| address.address.is_ipv4())
    }

    /// Returns `address` as it is reached here: one of the link alone is behind this interface,
    /// whatever its number was elsewhere.
    pub fn scoped(&self, mut address: SocketAddr) -> SocketAddr {
        if let SocketAddr::V6(v6) = &mut address
            && v6.ip().is_unicast_link_local()
        {
            v6.set_scope_id(self.index);
        }
        address
    }
}

pub(super) fn bring_up(
    modules: &mut Modules,
    watchdogs: &mut Watchdogs,
    wanted: &[InterfaceConfig],
    patience: Duration,
) -> Result<NetworkUp, PlatformError> {
    // Subscribed before the first look, so that no change falls between looking and waiting.
    let events = Events::open()?;
    let asked_for = of_command_line();
    let mut bringer = Bringer::new(if asked_for.is_empty() { wanted } else { &asked_for })?;
    if !bringer.bonds.is_empty() {
        modules.load("bonding");
    }
    let started = Instant::now();
    let deadline = started + patience;
    loop {
        watchdogs.feed();
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
        let wake = deadline.min(now + watchdogs.feed_interval()).min(bringer.deadline());
        let mut descriptors = vec![events.as_fd(), modules.as_fd()];
        descriptors.extend(bringer.clients.iter().map(|(client, _)| client.as_fd()));
        wait_readable(&descriptors, wake)?;
    }
}

/// Returns what the kernel command line asks for, which somebody wrote after everything else was
/// stored.
fn of_command_line() -> Vec<InterfaceConfig> {
    let text = std::fs::read_to_string("/proc/cmdline").unwrap_or_else(|error| {
        log::warn!("cannot read the kernel command line: {error}");
        String::new()
    });
    let wishes = ip_option::parse(&text);
    for error in &wishes.errors {
        log::warn!("{error}; this option is left out");
    }
    if !wishes.interfaces.is_empty() {
        let names: Vec<&str> =
            wishes.interfaces.iter().map(|config| config.name.as_str()).collect();
        log::info!("network as on the kernel command line: {}", names.join(", "));
    }
    wishes.interfaces
}

/// What is done with a NIC that has a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan<'a> {
    /// Give it the addresses of this configuration.
    Static(&'a InterfaceConfig),
    /// Ask DHCP, on the VLAN of this configuration if there is one.
    Dhcp(Option<&'a InterfaceConfig>),
    /// Wait for a router's advertisement, on the VLAN of this configuration if there is one.
    Advertised(&'a InterfaceConfig),
}

impl<'a> Plan<'a> {
    fn of(config: &'a InterfaceConfig) -> Self {
        match config.method {
            _ if !config.addresses.is_empty() => Plan::Static(config),
            Method::Dhcp => Plan::Dhcp(Some(config)),
            Method::Advertised => Plan::Advertised(config),
        }
    }
}

/// Returns the plans for `nic`, with their ranks: the lower, the sooner it is used.
fn plans<'a>(nic: &Nic, wanted: &'a [InterfaceConfig], takes_any: bool) -> Vec<(usize, Plan<'a>)> {
    let mut plans = Vec::new();
    for (number, config) in wanted.iter().enumerate() {
        let Some(place) = place_of(nic, config) else { continue };
        plans.push((number * NICS_MAX + place, Plan::of(config)));
    }
    let is_plain = |plan: &Plan<'_>| match plan {
        Plan::Dhcp(config) => config.is_none_or(|config| config.vlan.is_none()),
        _ => false,
    };
    if takes_any && !plans.iter().any(|(_, plan)| is_plain(plan)) {
        plans.push((usize::MAX, Plan::Dhcp(None)));
    }
    plans
}

/// Returns how well `nic` is the one that `config` means; none when it is another, or not to be
/// used alone.
fn place_of(nic: &Nic, config: &InterfaceConfig) -> Option<usize> {
    match &config.device {
        _ if config.bond.is_some() => None,
        _ if !config.nics.is_empty() => config.nics.iter().position(|mac| *mac == nic.mac),
        Some(device) => (*device == nic.name).then_some(0),
        None => Some(0),
    }
}

/// An interface on which the kernel may make itself an IPv6 address.
#[derive(Debug)]
struct Listener<'a> {
    index: u32,
    interface: String,
    config: Option<&'a InterfaceConfig>,
    /// How long an address has to stand before it is taken.
    patience: Duration,
    /// Since when one is there.
    seen: Option<Instant>,
}

struct Bringer<'a> {
    netlink: Netlink,
    wanted: &'a [InterfaceConfig],
    started: Instant,
    set_up: BTreeSet<u32>,
    /// NICs and ranks of the plans that run, or have failed.
    asked: BTreeSet<(u32, usize)>,
    clients: Vec<(DhcpDriver, Option<&'a InterfaceConfig>)>,
    listeners: Vec<Listener<'a>>,
    bonds: Bonds<'a>,
}

impl<'a> Bringer<'a> {
    fn new(wanted: &'a [InterfaceConfig]) -> Result<Self, PlatformError> {
        let mut netlink = Netlink::open()?;
        link::set_loopback_up(&mut netlink)?;
        for config in wanted {
            if let Some(note) = &config.note {
                log::info!("{}: recovery uses what is below {note}", config.name);
            }
        }
        Ok(Bringer {
            netlink,
            wanted,
            started: Instant::now(),
            set_up: BTreeSet::new(),
            asked: BTreeSet::new(),
            clients: Vec::new(),
            listeners: Vec::new(),
            bonds: Bonds::new(wanted),
        })
    }

    fn takes_any(&self) -> bool {
        self.wanted.is_empty() || self.started.elapsed() >= CONFIGURED_PATIENCE
    }

    /// When to look again even if nothing happens.
    fn deadline(&self) -> Instant {
        let clients = self.clients.iter().map(|(client, _)| client.deadline()).min();
        let listeners = self.listeners.iter().filter_map(|l| Some(l.seen? + l.patience)).min();
        let widening = (!self.takes_any()).then(|| self.started + CONFIGURED_PATIENCE);
        let now = Instant::now();
        let members = self.bonds.deadline(now);
        let ends = clients.into_iter().chain(listeners).chain(widening).chain(members);
        ends.min().unwrap_or(now + LINK_PATIENCE)
    }

    /// Looks at the NICs as they are now and does what can be done.
    fn step(&mut self) -> Result<Option<NetworkUp>, PlatformError> {
        let nics = link::nics(&mut self.netlink)?;
        let bases = self.bonds.step(&mut self.netlink, &nics, Instant::now());
        for (rank, plan, nic) in self.planned(&nics, &bases) {
            if self.set_up.insert(nic.index) {
                log::info!("{} ({}): set up, waiting for its link", nic.name, nic.mac);
                if let Err(error) = link::set_up(&mut self.netlink, nic.index) {
                    // As when the driver misses its firmware.
                    log::warn!("{}: {}", nic.name, with_causes(&error));
                }
            }
            let is_new = nic.has_carrier && self.asked.len() < PLANS_MAX;
            if !is_new || !self.asked.insert((nic.index, rank)) {
                continue;
            }
            let done = match plan {
                Plan::Static(config) => self.configure(nic, config).map(Some),
                Plan::Dhcp(config) => self.ask(nic, config).map(|()| None),
                Plan::Advertised(config) => self.listen(nic, config).map(|()| None),
            };
            match done {
                Ok(None) => {}
                Ok(up) => return Ok(up),
                // One way less; a dead computer takes any other.
                Err(error) => log::warn!("{}: {}", nic.name, with_causes(&error)),
            }
        }
        match self.step_clients()? {
            None => self.step_listeners(),
            up => Ok(up),
        }
    }

    /// Returns what can be tried, best first. What belongs to a bond is not used alone.
    fn planned<'n>(&self, nics: &'n [Nic], bases: &'n [Base]) -> Vec<(usize, Plan<'a>, &'n Nic)> {
        let takes_any = self.takes_any();
        let mut planned: Vec<(usize, Plan<'a>, &Nic)> = Vec::new();
        for nic in nics.iter().filter(|nic| nic.upper.is_none()) {
            let plans = plans(nic, self.wanted, takes_any);
            planned.extend(plans.into_iter().map(|(rank, plan)| (rank, plan, nic)));
        }
        planned.extend(bases.iter().filter_map(|Base { number, rank, nic }| {
            Some((*rank, Plan::of(self.wanted.get(*number)?), nic))
        }));
        sort_by_rank(&mut planned, |(rank, _, nic)| [*rank as u64, nic.index.into()]);
        planned
    }

    fn configure(
        &mut self,
        nic: &Nic,
        config: &InterfaceConfig,
    ) -> Result<NetworkUp, PlatformError> {
        let (index, interface) = link::stack(&mut self.netlink, nic, config)?;
        link::address(&mut self.netlink, index, &config.addresses, &config.routes)?;
        let source = AddressSource::Configured;
        Ok(network_up(interface, index, config.addresses.clone(), source, Some(config)))
    }

    fn ask(&mut self, nic: &Nic, config: Option<&'a InterfaceConfig>) -> Result<(), PlatformError> {
        let (index, interface) = match config {
            Some(config) => link::stack(&mut self.netlink, nic, config)?,
            None => (nic.index, nic.name.clone()),
        };
        log::info!("{interface}: link is there, asking DHCP");
        self.clients.push((DhcpDriver::open(index, &interface, nic.mac)?, config));
        let patience = IPV6_ALONE_AFTER;
        self.listeners.push(Listener { index, interface, config, patience, seen: None });
        Ok(())
    }

    fn listen(&mut self, nic: &Nic, config: &'a InterfaceConfig) -> Result<(), PlatformError> {
        let (index, interface) = link::stack(&mut self.netlink, nic, config)?;
        log::info!("{interface}: link is there, waiting for an IPv6 router");
        let (config, patience) = (Some(config), Duration::ZERO);
        self.listeners.push(Listener { index, interface, config, patience, seen: None });
        Ok(())
    }

    /// The first client that gets a lease ends the search; the others ask no more.
    fn step_clients(&mut self) -> Result<Option<NetworkUp>, PlatformError> {
        let mut bound = None;
        for (number, (client, _)) in self.clients.iter_mut().enumerate() {
            if let Some(LeaseEvent::Bound(lease)) = client.step() {
                bound = Some((number, lease));
                break;
            }
        }
        let Some((number, lease)) = bound else { return Ok(None) };
        let (client, config) = self.clients.swap_remove(number);
        configure(&mut self.netlink, client.index, &client.interface, &lease)?;
        if let Some(config) = config {
            link::address(&mut self.netlink, client.index, &[], &config.routes)?;
        }
        let (interface, addresses) = (client.interface.clone(), vec![lease.address]);
        let mut up = network_up(interface, client.index, addresses, AddressSource::Dhcp, config);
        up.manager = lease.manager.clone();
        up.domain = up.domain.or_else(|| lease.domain.clone());
        up.dns.extend(lease.dns.iter().copied().map(IpAddr::V4));
        client.keep(*lease);
        Ok(Some(up))
    }

    /// Takes an address that a router's advertisement has brought.
    fn step_listeners(&mut self) -> Result<Option<NetworkUp>, PlatformError> {
        for listener in &mut self.listeners {
            let addresses = link::advertised(&mut self.netlink, listener.index)?;
            if addresses.is_empty() {
                listener.seen = None;
                continue;
            }
            if listener.seen.get_or_insert_with(Instant::now).elapsed() >= listener.patience {
                let (interface, source) = (listener.interface.clone(), AddressSource::Advertised);
                let (index, config) = (listener.index, listener.config);
                return Ok(Some(network_up(interface, index, addresses, source, config)));
            }
        }
        Ok(None)
    }

    /// Returns what there is, for the operator.
    fn describe(&mut self) -> Result<String, PlatformError> {
        let nics = link::nics(&mut self.netlink)?;
        if nics.is_empty() {
            return Ok("no NIC found".into());
        }
        let texts: Vec<String> = nics
            .iter()
            .map(|nic| {
                let is_asked = self.asked.iter().any(|(index, _)| *index == nic.index);
                let state = match (nic.has_carrier, is_asked) {
                    (true, true) => "link, but no answer of DHCP or an IPv6 router",
                    (true, false) => "link, but not a NIC that is configured",
                    (false, _) => "no link",
                };
                format!("{} ({}): {state}", nic.name, nic.mac)
            })
            .collect();
        Ok(texts.join("; "))
    }
}

/// Returns what is known of an interface before DHCP adds to it.
fn network_up(
    interface: String,
    index: u32,
    addresses: Vec<InterfaceAddress>,
    source: AddressSource,
    config: Option<&InterfaceConfig>,
) -> NetworkUp {
    let domain = config.and_then(|config| config.domain.clone());
    let dns = config.map(|config| config.dns.clone()).unwrap_or_default();
    NetworkUp { interface, index, addresses, source, manager: None, domain, dns }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::MacAddress;

    #[test]
    fn the_configured_nic_comes_first_and_others_only_when_allowed() {
        let nic = |end: u8| Nic {
            index: end.into(),
            name: format!("eth{end}"),
            mac: MacAddress([2, 0, 0, 0, 0, end]),
            has_carrier: true,
            upper: None,
        };
        let mut config = InterfaceConfig {
            name: "br0".into(),
            nics: vec![MacAddress([2, 0, 0, 0, 0, 5]), MacAddress([2, 0, 0, 0, 0, 4])],
            note: None,
            vlan: None,
            mtu: 1500,
            addresses: vec![InterfaceAddress {
                address: "192.0.2.7".parse().unwrap(),
                prefix_len: 24,
            }],
            ..InterfaceConfig::default()
        };
        let wanted = [config.clone()];
        assert_eq!(plans(&nic(5), &wanted, false), [(0, Plan::Static(&wanted[0]))]);
        assert_eq!(plans(&nic(4), &wanted, false), [(1, Plan::Static(&wanted[0]))]);
        assert_eq!(plans(&nic(3), &wanted, false), []);
        assert_eq!(plans(&nic(3), &wanted, true), [(usize::MAX, Plan::Dhcp(None))]);
        config.addresses.clear();
        let by_name = InterfaceConfig {
            device: Some("eth3".into()),
            method: Method::Advertised,
            ..InterfaceConfig::default()
        };
        let wanted = [config, by_name, InterfaceConfig::default()];
        let any = (2 * NICS_MAX, Plan::Dhcp(Some(&wanted[2])));
        assert_eq!(plans(&nic(5), &wanted, true), [(0, Plan::Dhcp(Some(&wanted[0]))), any]);
        assert_eq!(plans(&nic(3), &wanted, false), [(NICS_MAX, Plan::Advertised(&wanted[1])), any]);
        assert_eq!(plans(&nic(2), &wanted, false), [any]);
        let tagged = [InterfaceConfig { vlan: Some(7), ..InterfaceConfig::default() }];
        let plain = (usize::MAX, Plan::Dhcp(None));
        assert_eq!(plans(&nic(2), &tagged, true), [(0, Plan::Dhcp(Some(&tagged[0]))), plain]);
    }
}
