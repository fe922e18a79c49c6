//! Whether recovery reaches the manager as this system does.

use std::net::SocketAddr;

use crate::agent::check::{Checklist, Subject};
use crate::agent::local_machine::LocalMachine;
use crate::host::drivers::default_interface;
use crate::net::survey::Surveyed;
use crate::net::{InterfaceConfig, NetError};
use crate::reason::{Reason, with_causes};

const NAME: Subject = Subject::Network;

/// Looks at the way to `manager`, the one that instructs or asks; else to the managers of the
/// settings, else along the default route. Returns what is handed over.
pub(super) fn network(
    list: &mut Checklist,
    machine: &LocalMachine,
    manager: Option<SocketAddr>,
) -> Option<Vec<InterfaceConfig>> {
    if let Some(manager) = manager {
        return tell(list, machine.network_to(manager)).map(|interface| vec![interface]);
    }
    let managers = machine.managers();
    if !managers.is_empty() {
        let found = managers.into_iter().map(|manager| machine.network_to(manager));
        // One line for the interface of several managers.
        let mut interfaces: Vec<InterfaceConfig> = Vec::new();
        for way in found {
            let name = way.as_ref().ok().map(|surveyed| surveyed.interface.name.clone());
            if name.is_none_or(|name| interfaces.iter().all(|known| known.name != name)) {
                interfaces.extend(tell(list, way));
            }
        }
        return Some(interfaces).filter(|interfaces| !interfaces.is_empty());
    }
    let Some(name) = default_interface(&machine.root) else {
        list.unknown(NAME, "no default route, and no manager in agent.toml");
        return None;
    };
    match LocalMachine::network_of(&name) {
        // A manager may be elsewhere.
        Err(error) => {
            list.unknown(NAME, format_args!("by the default route {}", with_causes(&error)));
            None
        }
        found => tell(list, found).map(|interface| vec![interface]),
    }
}

/// Adds what was found; returns the interface if recovery can make it.
fn tell(list: &mut Checklist, found: Result<Surveyed, NetError>) -> Option<InterfaceConfig> {
    match found {
        Ok(found) => {
            match (found.doubts.as_slice(), found.remarks.as_slice()) {
                ([], []) => list.ok(NAME, &found),
                ([], _) => list.told(NAME, &found, ""),
                _ => list.unknown(NAME, &found),
            }
            Some(found.interface)
        }
        Err(error) => {
            let reason = match error {
                NetError::Unsuitable { .. } => Reason::NetworkNotCarried,
                _ => Reason::NetworkUnknown,
            };
            list.not_ok(NAME, reason, with_causes(&error), reason.advice());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::agent::check::Verdict;
    use crate::agent::config::Config;
    use crate::agent::trust::Trust;

    fn told(found: Result<Surveyed, NetError>) -> (Verdict, Reason, bool) {
        let mut list = Checklist::default();
        let is_handed_over = tell(&mut list, found).is_some();
        (list.checks()[0].verdict, list.checks()[0].reason, is_handed_over)
    }

    #[test]
    fn what_recovery_makes_alike_is_met_and_what_it_cannot_make_is_in_the_way() {
        let surveyed = |remarks: &[&str], doubts: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let interface = InterfaceConfig::default();
            Ok(Surveyed { interface, remarks: texts(remarks), doubts: texts(doubts) })
        };
        let none = Reason::None;
        assert_eq!(told(surveyed(&[], &[])), (Verdict::Ok, none, true));
        assert_eq!(told(surveyed(&["a bridge"], &[])), (Verdict::Told, none, true));
        assert_eq!(told(surveyed(&["a"], &["two ports"])), (Verdict::Unknown, none, true));
        let team = NetError::Unsuitable { interface: "team0".into(), reason: "a team".into() };
        assert_eq!(told(Err(team)), (Verdict::NotOk, Reason::NetworkNotCarried, false));
        let no_route = NetError::NoRoute("192.0.2.1".parse().unwrap());
        assert_eq!(told(Err(no_route)), (Verdict::NotOk, Reason::NetworkUnknown, false));
    }

    #[test]
    fn a_manager_on_this_host_is_out_of_recoverys_reach() {
        let machine = LocalMachine::new(Config::default(), Trust::default());
        let mut list = Checklist::default();
        let found = network(&mut list, &machine, Some("127.0.0.1:9848".parse().unwrap()));
        assert_eq!(found, None);
        assert_eq!(list.checks()[0].reason, Reason::NetworkNotCarried);
    }
}
