//! What whoever runs the campaigns has to do, until it is taken.

use crate::work::party::{Campaign, Program};

/// What whoever runs the campaigns has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Begin a campaign.
    Begin(Campaign),
    /// Run a program for a host, to its end or the end of its time.
    Run(Program),
    /// Ask a program to end, as if its time were over.
    Stop {
        /// Its number.
        number: u64,
    },
    /// End a campaign or a program at once, as if its machine lost its power.
    Kill {
        /// Its number.
        number: u64,
    },
    /// Fetch a bundle out of the store onto the shelf, then [`super::Crew::handle_fetched`].
    Fetch {
        /// Digest of the release.
        release: String,
    },
}

/// What nobody has been told yet.
#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting: Vec<Order>,
    last_number: u64,
}

impl Orders {
    /// Returns the next number of a campaign or program.
    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn give(&mut self, order: Order) {
        self.waiting.push(order);
    }

    /// Has a campaign or program ended, or not begun.
    pub(super) fn kill(&mut self, number: u64) {
        let is_its_begin = |order: &Order| match order {
            Order::Begin(campaign) => campaign.number == number,
            Order::Run(program) => program.number == number,
            Order::Stop { .. } | Order::Kill { .. } | Order::Fetch { .. } => false,
        };
        match self.waiting.iter().position(is_its_begin) {
            Some(place) => drop(self.waiting.remove(place)),
            None => self.waiting.push(Order::Kill { number }),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Order> {
        std::mem::take(&mut self.waiting)
    }
}
