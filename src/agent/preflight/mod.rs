//! What has to be true before a host leaves its normal operating system for an update.

mod drivers;
mod flash;
mod host;
mod reading;
mod recovery;

use super::check::Checklist;
use super::machine::Order;
use super::system::System;
use super::trust::with_causes;
use crate::flash::Flash as _;
use crate::image::Board;
use crate::power::Power;
use crate::reason::Reason;

/// Who wants to know; the chip is read accordingly.
#[derive(Clone, Copy)]
pub(super) enum Purpose<'a> {
    /// A manager that looks around, which must cost little.
    Query,
    /// An instruction, whose bundle and manager have preconditions of their own.
    Order(&'a Order<'a>),
    /// A person at this machine.
    Check,
}

impl<'a> Purpose<'a> {
    fn order(self) -> Option<&'a Order<'a>> {
        match self {
            Self::Order(order) => Some(order),
            Self::Query | Self::Check => None,
        }
    }
}

/// Everything that an update needs of `system`; with an order also what its bundle and its manager need.
pub(super) fn checklist(system: &System, purpose: Purpose<'_>) -> Checklist {
    let mut list = Checklist::default();
    host::host_key(&mut list, system);
    host::trusted_keys(&mut list, system);
    host::state_folder(&mut list, system);
    let mut board = host::board(&mut list, system);
    let mut mtd = None;
    match flash::flash(&mut list, system) {
        Some(mut flash) => {
            mtd = Some(flash.info().index);
            board.flash_size_bytes = flash.geometry().size_bytes();
            bundle(&mut list, &board, purpose.order());
            flash::flash_locks(&mut list, &mut flash);
            reading::reads_the_same(&mut list, &mut flash, purpose);
        }
        None => list.unknown("flash-locks", "no flash chip to ask"),
    }
    let mut of_network = Checklist::default();
    let interfaces = network(&mut of_network, system, purpose.order());
    recovery::recovery(&mut list, system, board.flash_size_bytes, mtd, &interfaces);
    power(&mut list, system);
    list.append(of_network);
    list
}

fn bundle(list: &mut Checklist, board: &Board, order: Option<&Order<'_>>) {
    let Some(order) = order else { return };
    match board.admit(order.manifest) {
        Ok(()) => list.ok("bundle", order.manifest.version()),
        Err(refusal) => {
            list.not_ok("bundle", refusal.reason, refusal.detail, refusal.reason.advice())
        }
    }
}

fn power(list: &mut Checklist, system: &System) {
    match Power::read(&system.root) {
        Power::Safe(why) => list.ok("power", why),
        Power::Unknown(why) => list.unknown("power", why),
        Power::Unsafe(why) => {
            list.not_ok("power", Reason::PowerUnsafe, why, Reason::PowerUnsafe.advice());
        }
    }
}

/// Returns the interfaces that lead to the manager.
fn network(list: &mut Checklist, system: &System, order: Option<&Order<'_>>) -> Vec<String> {
    let Some(order) = order else { return system.interfaces_to_managers() };
    match system.network(order) {
        Ok(interfaces) => match interfaces.first() {
            Some(interface) => {
                list.ok("network", &interface.name);
                return interfaces.into_iter().map(|interface| interface.name).collect();
            }
            None => list.unknown("network", "recovery will ask DHCP"),
        },
        Err(error) => list.not_ok("network", Reason::NetworkUnknown, with_causes(&error), ""),
    }
    Vec::new()
}
