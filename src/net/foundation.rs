//! What an interface stands on, down to its NICs: how much of it recovery makes again.

use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVlan, LinkMessage, VlanProtocol,
};

use super::NetError;
use super::bond;
use super::config::{BondConfig, MacAddress, NICS_MAX};
use super::view::View;
use crate::order::sort_by_rank;

/// How many interfaces may stand on each other (bridge on VLAN on bond on NIC is four).
const STACK_DEPTH_MAX: usize = 8;

/// What an interface stands on.
#[derive(Debug, Default)]
pub(super) struct Foundation {
    pub(super) nics: Vec<MacAddress>,
    pub(super) bond: Option<BondConfig>,
    pub(super) vlan: Option<u16>,
    /// What is not made again, from the top.
    pub(super) left_out: Vec<String>,
    /// What an operator should know.
    pub(super) remarks: Vec<String>,
    /// Why recovery may not reach what this interface reaches.
    pub(super) doubts: Vec<String>,
}

impl Foundation {
    /// Walks down from interface `index` to its NICs.
    pub(super) fn find(links: &[LinkMessage], index: u32) -> Result<Self, NetError> {
        let top = View::find(links, index).ok_or_else(|| gone(index))?;
        let (mut foundation, mut view) = (Foundation::default(), top);
        for _ in 0..STACK_DEPTH_MAX {
            match foundation.step(links, &view)? {
                Some(below) => view = below,
                None => {
                    foundation.nics.truncate(NICS_MAX);
                    return Ok(foundation);
                }
            }
        }
        Err(top.unsuitable("which stands on too many others"))
    }

    /// Takes in one interface; returns the one that it stands on, none where its NICs are known.
    fn step<'a>(
        &mut self,
        links: &'a [LinkMessage],
        view: &View<'a>,
    ) -> Result<Option<View<'a>>, NetError> {
        match view.kind() {
            None | Some(InfoKind::Veth) => {
                let mac = view.nic_address();
                let mac = mac.ok_or_else(|| view.unsuitable("which stands on no Ethernet NIC"))?;
                self.nics.push(mac);
                Ok(None)
            }
            Some(InfoKind::Vlan) => self.add_vlan(links, view).map(Some),
            Some(InfoKind::Bond) => self.add_bond(links, view).map(|()| None),
            Some(InfoKind::Bridge) => self.add_bridge(links, view),
            Some(kind @ (InfoKind::MacVlan | InfoKind::IpVlan)) => {
                self.leave_out(&kind, view);
                lower(links, view).map(Some)
            }
            Some(InfoKind::Other(kind)) if kind == "team" => Err(view.unsuitable(
                "a team, which needs a daemon that recovery does not have; make it a bond",
            )),
            Some(kind) => Err(view.unsuitable(&format!(
                "which recovery does not make ({kind}); give this host a way to the manager by a \
                 NIC, a VLAN, a bond or a bridge"
            ))),
        }
    }

    fn add_vlan<'a>(
        &mut self,
        links: &'a [LinkMessage],
        view: &View<'a>,
    ) -> Result<View<'a>, NetError> {
        let data: &[InfoVlan] = match view.data() {
            Some(InfoData::Vlan(data)) => data,
            _ => &[],
        };
        let is_ad = data.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad));
        if self.vlan.is_some() || is_ad {
            let reason = "a VLAN inside another (802.1ad), which recovery does not make; give the \
                          manager a VLAN with one tag";
            return Err(view.unsuitable(reason));
        }
        self.vlan = data.iter().find_map(|attribute| match attribute {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        });
        self.vlan.ok_or_else(|| view.unsuitable("a VLAN without an id"))?;
        lower(links, view)
    }

    fn add_bond(&mut self, links: &[LinkMessage], view: &View<'_>) -> Result<(), NetError> {
        let data: &[_] = match view.data() {
            Some(InfoData::Bond(data)) => data,
            _ => &[],
        };
        let mac = view.address().ok_or_else(|| view.unsuitable("a bond of no Ethernet NICs"))?;
        let read = bond::read(data, mac);
        self.bond = Some(read.ok_or_else(|| view.unsuitable("a bond in a mode of its own"))?);
        let members = ports_of(links, view, bond::active_member(data));
        for member in &members {
            let is_nic = matches!(member.kind(), None | Some(InfoKind::Veth));
            let Some(mac) = member.nic_address().filter(|_| is_nic) else {
                let reason = format!("a bond of {}, which is no NIC", member.name());
                return Err(view.unsuitable(&reason));
            };
            self.nics.push(mac);
        }
        if bond::asks_by_arp(data) {
            let name = view.name();
            self.remarks.push(format!("{name} looks at links (miimon) in recovery, not by ARP"));
        }
        match members.is_empty() {
            true => Err(view.unsuitable("a bond without members")),
            false => Ok(()),
        }
    }

    /// Takes the port that leads out: NICs before what may stand on NICs, before virtual cables.
    fn add_bridge<'a>(
        &mut self,
        links: &'a [LinkMessage],
        view: &View<'a>,
    ) -> Result<Option<View<'a>>, NetError> {
        self.leave_out(&InfoKind::Bridge, view);
        if let Some(InfoData::Bridge(data)) = view.data()
            && data.contains(&InfoBridge::VlanFiltering(true))
        {
            self.doubts.push(format!(
                "{} knows VLANs, and recovery sends without a tag on its port",
                view.name()
            ));
        }
        let mut ports = ports_of(links, view, None);
        let is_outward =
            |port: &View<'_>| matches!(port.kind(), None | Some(InfoKind::Vlan | InfoKind::Bond));
        let has_outward = ports.iter().any(is_outward);
        ports.retain(|port| match has_outward {
            true => is_outward(port),
            false => matches!(port.kind(), Some(InfoKind::Veth)),
        });
        let Some(first) = ports.first().copied() else {
            return Err(view.unsuitable("a bridge without a port that leads out"));
        };
        if ports.len() > 1 {
            let names: Vec<&str> = ports.iter().map(View::name).collect();
            self.doubts.push(format!(
                "{} has several ports that lead out ({}), and recovery takes one with a link",
                view.name(),
                names.join(", ")
            ));
        }
        if first.kind().is_some_and(|kind| kind != InfoKind::Veth) {
            return Ok(Some(first));
        }
        let is_alike = |port: &View<'_>| port.kind() == first.kind();
        let macs = ports.iter().filter(|port| is_alike(port)).filter_map(View::nic_address);
        self.nics.extend(macs);
        match self.nics.is_empty() {
            true => Err(first.unsuitable("which stands on no Ethernet NIC")),
            false => Ok(None),
        }
    }

    fn leave_out(&mut self, kind: &InfoKind, view: &View<'_>) {
        self.left_out.push(format!("{kind} {}", view.name()));
    }
}

fn gone(index: u32) -> NetError {
    NetError::Unsuitable { interface: format!("interface {index}"), reason: "which is gone".into() }
}

/// Returns what a VLAN or the like stands on. In another name space it is not to be seen.
fn lower<'a>(links: &'a [LinkMessage], view: &View<'a>) -> Result<View<'a>, NetError> {
    let below = view.lower().and_then(|index| View::find(links, index));
    below.ok_or_else(|| view.unsuitable("which stands on an interface that is not to be seen"))
}

/// Returns the ports of a bond or bridge: the one in use first, then those with a carrier.
fn ports_of<'a>(links: &'a [LinkMessage], upper: &View<'_>, active: Option<u32>) -> Vec<View<'a>> {
    let index = upper.0.header.index;
    let mut ports: Vec<View<'a>> =
        links.iter().map(View).filter(|view| view.upper() == Some(index)).collect();
    sort_by_rank(&mut ports, |view| {
        let is_idle = Some(view.0.header.index) != active;
        [is_idle.into(), (!view.has_carrier()).into()]
    });
    ports
}
