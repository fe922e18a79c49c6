//! A bond in the kernel's form: reading how it is, and the request for one like it.

use netlink_packet_route::link::{
    BondFailOverMac, BondXmitHashPolicy, InfoBond, InfoData, InfoKind, LinkAttribute, LinkInfo,
};

use super::config::{BondConfig, BondMode, MacAddress};

/// How often recovery looks at links where the bond did not, or asked its neighbours by ARP: before
/// it has an address it could not do that.
const MIIMON_MS: u32 = 100;

/// Returns the configuration of a bond with the address `mac`; none where its mode is not known.
pub(super) fn read(data: &[InfoBond], mac: MacAddress) -> Option<BondConfig> {
    let mode = data.iter().find_map(|attribute| match attribute {
        InfoBond::Mode(mode) => BondMode::from_code((*mode).into()),
        _ => None,
    })?;
    let mut bond = BondConfig {
        mode,
        mac,
        miimon_ms: MIIMON_MS,
        xmit_hash_policy: 0,
        fail_over_mac: 0,
        min_links: 0,
        lacp_is_fast: false,
        ad_select: 0,
    };
    for attribute in data {
        match attribute {
            InfoBond::MiiMon(ms) if *ms > 0 => bond.miimon_ms = *ms,
            InfoBond::XmitHashPolicy(policy) => bond.xmit_hash_policy = (*policy).into(),
            InfoBond::FailOverMac(policy) => bond.fail_over_mac = (*policy).into(),
            InfoBond::MinLinks(count) => bond.min_links = *count,
            InfoBond::AdLacpRate(rate) => bond.lacp_is_fast = *rate == 1,
            InfoBond::AdSelect(logic) => bond.ad_select = *logic,
            _ => {}
        }
    }
    Some(bond)
}

/// Whether the bond looks at its neighbours by ARP.
pub(super) fn asks_by_arp(data: &[InfoBond]) -> bool {
    data.iter().any(|attribute| matches!(attribute, InfoBond::ArpInterval(ms) if *ms > 0))
}

/// Returns the index of the member in use.
pub(super) fn active_member(data: &[InfoBond]) -> Option<u32> {
    data.iter().find_map(|attribute| match attribute {
        InfoBond::ActivePort(index) => Some(*index),
        _ => None,
    })
}

/// Returns what the kernel has to be told to make this bond. What another mode alone has is left
/// out: the kernel refuses it.
pub(super) fn request(bond: &BondConfig, name: &str) -> Vec<LinkAttribute> {
    let mut data = vec![
        InfoBond::Mode((bond.mode as u8).into()),
        InfoBond::MiiMon(bond.miimon_ms),
        InfoBond::MinLinks(bond.min_links),
    ];
    let fail_over_mac = BondFailOverMac::from(bond.fail_over_mac);
    let policy = BondXmitHashPolicy::from(bond.xmit_hash_policy);
    match bond.mode {
        BondMode::ActiveBackup => data.push(InfoBond::FailOverMac(fail_over_mac)),
        BondMode::BalanceXor | BondMode::BalanceTlb => data.push(InfoBond::XmitHashPolicy(policy)),
        BondMode::Lacp => data.extend([
            InfoBond::XmitHashPolicy(policy),
            InfoBond::AdLacpRate(bond.lacp_is_fast.into()),
            InfoBond::AdSelect(bond.ad_select),
        ]),
        BondMode::BalanceRr | BondMode::Broadcast | BondMode::BalanceAlb => {}
    }
    vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(bond.mac.0.to_vec()),
        of_bond(data),
    ]
}

/// The request to prefer the member with this index.
pub(super) fn prefer(index: u32) -> LinkAttribute {
    of_bond(vec![InfoBond::Primary(index)])
}

fn of_bond(data: Vec<InfoBond>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bond),
        LinkInfo::Data(InfoData::Bond(data)),
    ])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn data_of(request: &[LinkAttribute]) -> &[InfoBond] {
        let found = request.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Data(InfoData::Bond(data)) => Some(data.as_slice()),
                _ => None,
            }),
            _ => None,
        });
        found.unwrap()
    }

    #[test]
    fn what_is_asked_for_is_what_was_read() {
        let mac = MacAddress([2, 0, 0, 0, 0, 9]);
        for code in 0..7 {
            let bond = BondConfig {
                mode: BondMode::from_code(code).unwrap(),
                mac,
                miimon_ms: 50,
                xmit_hash_policy: if matches!(code, 2 | 4 | 5) { 1 } else { 0 },
                fail_over_mac: if code == 1 { 2 } else { 0 },
                min_links: 1,
                lacp_is_fast: code == 4,
                ad_select: if code == 4 { 2 } else { 0 },
            };
            assert_eq!(read(data_of(&request(&bond, "lag0")), mac), Some(bond));
        }
    }

    #[test]
    fn a_bond_that_recovery_cannot_make_alike_is_told_apart() {
        let mac = MacAddress([2, 0, 0, 0, 0, 9]);
        let of_mode = |code: u8| InfoBond::Mode(code.into());
        assert_eq!(read(&[], mac), None);
        assert_eq!(read(&[of_mode(9)], mac), None);
        let by_arp = [of_mode(1), InfoBond::MiiMon(0), InfoBond::ArpInterval(1000)];
        assert!(asks_by_arp(&by_arp) && !asks_by_arp(&[of_mode(1), InfoBond::ArpInterval(0)]));
        assert_eq!(read(&by_arp, mac).unwrap().miimon_ms, MIIMON_MS);
        assert_eq!(active_member(&[of_mode(1), InfoBond::ActivePort(7)]), Some(7));
    }
}
