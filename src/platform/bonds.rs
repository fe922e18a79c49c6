//! Bonds, made again of the NICs that were their members: a switch that expects LACP blocks a port
//! that does not speak it.

use std::time::{Duration, Instant};

use crate::net::config::NICS_MAX;
use crate::net::link::{self, Nic};
use crate::net::{BondConfig, InterfaceConfig, Netlink};
use crate::order::sort_by_rank;
use crate::reason::with_causes;

/// How long members that do not appear are waited for while others have a link.
const MEMBERS_PATIENCE: Duration = Duration::from_secs(15);

/// One bond in the making.
#[derive(Debug)]
struct Making<'a> {
    /// Which of the wanted interfaces stands on it.
    number: usize,
    config: &'a InterfaceConfig,
    bond: &'a BondConfig,
    /// When its first member appeared.
    since: Option<Instant>,
    /// The kernel does not make it: each of its NICs is tried alone.
    has_failed: bool,
}

/// The bonds that the wanted interfaces stand on.
#[derive(Debug)]
pub(super) struct Bonds<'a>(Vec<Making<'a>>);

/// A NIC, or a bond, that an interface can stand on.
#[derive(Debug)]
pub(super) struct Base {
    /// Which of the wanted interfaces.
    pub(super) number: usize,
    /// The lower, the sooner it is used.
    pub(super) rank: usize,
    pub(super) nic: Nic,
}

impl<'a> Bonds<'a> {
    pub(super) fn new(wanted: &'a [InterfaceConfig]) -> Self {
        let bonded = wanted.iter().enumerate().filter_map(|(number, config)| {
            let bond = config.bond.as_ref()?;
            Some(Making { number, config, bond, since: None, has_failed: false })
        });
        Self(bonded.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When to look again even if nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let ends = self.0.iter().filter_map(|making| Some(making.since? + MEMBERS_PATIENCE));
        ends.filter(|end| *end > now).min()
    }

    /// Makes the bonds whose members have begun to appear, and adds those that are new. Returns
    /// what the interfaces can stand on.
    pub(super) fn step(&mut self, netlink: &mut Netlink, nics: &[Nic], now: Instant) -> Vec<Base> {
        self.0.iter_mut().flat_map(|making| making.step(netlink, nics, now)).collect()
    }
}

impl Making<'_> {
    fn step(&mut self, netlink: &mut Netlink, nics: &[Nic], now: Instant) -> Vec<Base> {
        let place = |nic: &Nic| self.config.nics.iter().position(|mac| *mac == nic.mac);
        let mut members: Vec<(usize, &Nic)> =
            nics.iter().filter_map(|nic| Some((place(nic)?, nic))).collect();
        sort_by_rank(&mut members, |(place, _)| [*place as u64]);
        if members.is_empty() {
            return Vec::new();
        }
        let since = *self.since.get_or_insert(now);
        if !self.has_failed {
            match self.join(netlink, &members) {
                Ok(mut nic) => {
                    let is_whole = members.len() >= self.config.nics.len();
                    nic.has_carrier &= is_whole || now >= since + MEMBERS_PATIENCE;
                    let rank = self.number * NICS_MAX;
                    return vec![Base { number: self.number, rank, nic }];
                }
                Err(error) => {
                    log::error!("{}; each NIC is tried alone", with_causes(&error));
                    self.has_failed = true;
                }
            }
        }
        let alone = members.into_iter().map(|(place, nic)| Base {
            number: self.number,
            rank: self.number * NICS_MAX + place,
            nic: nic.clone(),
        });
        alone.collect()
    }

    /// Makes the bond of `members`, as far as they have not joined; returns it.
    fn join(
        &self,
        netlink: &mut Netlink,
        members: &[(usize, &Nic)],
    ) -> Result<Nic, crate::net::NetError> {
        let name = format!("{}{}", link::BOND_PREFIX, self.number);
        let bond = link::add_bond(netlink, self.bond, &name)?;
        for (place, nic) in members.iter().filter(|(_, nic)| nic.upper != Some(bond.index)) {
            if let Err(error) = link::join_bond(netlink, nic, bond.index) {
                log::warn!("{}", with_causes(&error));
                continue;
            }
            log::info!("{} ({}) joins {name} ({})", nic.name, nic.mac, self.bond.mode);
            if *place == 0
                && self.bond.mode.has_primary()
                && let Err(error) = link::prefer_member(netlink, bond.index, nic)
            {
                log::warn!("{}", with_causes(&error));
            }
        }
        Ok(bond)
    }
}
