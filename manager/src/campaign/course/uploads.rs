//! Who of a course may upload its backup now.

use firmcast::time::Time;

use super::Course;
use crate::campaign::host::Host;
use crate::campaign::stage::Stage;

/// How many hosts of a course have a turn to upload their backup, and how many wait for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploads {
    pub(crate) held: usize,
    pub(crate) known: usize,
    pub(crate) strangers: usize,
}

impl Course {
    /// Hosts that have a turn to upload their backup, and those that wait for one.
    pub(crate) fn uploads(&self) -> Uploads {
        let held = self.uploading.iter().filter(|index| holds_turn(&self.hosts[**index])).count();
        let is_stranger = |index: &&usize| self.hosts[**index].is_stranger;
        let strangers = self.upload_queue.iter().filter(is_stranger).count();
        Uploads { held, known: self.upload_queue.len() - strangers, strangers }
    }

    /// Gives turns to upload until so many hosts have one; those that have one keep it. A course
    /// of a service gives no others.
    pub(crate) fn set_uploads_max(&mut self, now: Time, uploads_max: usize) {
        self.uploads_max = uploads_max;
        self.grant_uploads(now);
    }

    /// Gives free turns to upload to hosts that wait for one: to known ones first, then to who
    /// waits longest.
    pub(super) fn grant_uploads(&mut self, now: Time) {
        let hosts = &self.hosts;
        self.uploading.retain(|index| holds_turn(&hosts[*index]));
        while self.uploading.len() < self.uploads_max && !self.upload_queue.is_empty() {
            let known = self.upload_queue.iter().position(|index| !self.hosts[*index].is_stranger);
            let index = self.upload_queue[known.unwrap_or(0)];
            self.uploading.push(index);
            self.touch(now, index, |host, plan, _| host.grant_turn(now, plan));
        }
    }

    /// Something happened to a host; `waited` is whether it waited for a turn before.
    pub(super) fn queue_for_upload(&mut self, index: usize, waited: bool) {
        match (waited, self.hosts[index].waits_for_upload()) {
            (false, true) => self.upload_queue.push_back(index),
            (true, false) => self.upload_queue.retain(|waiting| *waiting != index),
            _ => {}
        }
    }
}

fn holds_turn(host: &Host) -> bool {
    host.stage() == Stage::Escrow && !host.waits_for_upload()
}
