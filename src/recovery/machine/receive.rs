//! Taking the manifest and the image.

use std::net::IpAddr;

use log::{info, warn};
use rand_core::RngCore;

use super::merge::Merge;
use super::{Action, Recovery, State};
use crate::image::assembly::ManifestAssembly;
use crate::image::{VerifiedImage, VerifiedManifest};
use crate::reason::{Reason, Refusal};
use crate::time::Time;
use crate::transfer::Receiver;
use crate::wire::answer::{Answer, Phase};
use crate::wire::broadcast::TransferParameters;
use crate::wire::excerpt::Excerpt;

impl Recovery {
    pub(super) fn take_manifest(
        &mut self,
        now: Time,
        total_bytes: u32,
        offset_bytes: u32,
        bytes: &[u8],
    ) {
        let campaign = self.mission.campaign;
        let mut assembly = self
            .assembly
            .take()
            .filter(|assembly| assembly.is_for(campaign, total_bytes))
            .unwrap_or_else(|| ManifestAssembly::new(campaign, total_bytes));
        assembly.add(offset_bytes, bytes);
        let held_bytes = assembly.held_bytes();
        if self.manifest.is_none()
            && let Some(whole) = assembly.complete()
        {
            match self.admit(whole) {
                Ok(manifest) => self.manifest = Some(manifest),
                Err(refusal) => self.give_up(now, &refusal),
            }
        }
        self.assembly = Some(assembly);
        self.send(now, &Answer::ManifestHeld { campaign, held_bytes });
    }

    fn admit(&self, manifest: &[u8]) -> Result<VerifiedManifest, Refusal> {
        let manifest = VerifiedManifest::verify(manifest, &self.mission.releases)
            .map_err(|error| Refusal::from(&error))?;
        let mut board = self.mission.board.clone();
        let runs = self.flash.reboot_is_safe();
        if let (false, Some(first)) = (runs, manifest.update_from().first()) {
            // What is installed does not run: which version an update could start from says nothing
            // here.
            board.bios_version.clone_from(first);
        }
        board.admit(&manifest)?;
        info!("the manifest of version {} is signed by a trusted release key", manifest.version());
        Ok(manifest)
    }

    pub(super) fn join(
        &mut self,
        now: Time,
        parameters: TransferParameters,
        group: Option<IpAddr>,
        excerpt: Option<Excerpt>,
    ) {
        let Some(manifest) = &self.manifest else { return };
        let open = matches!(self.state, State::Waiting | State::Receiving);
        if !open || self.parameters.as_ref() == Some(&parameters) {
            return;
        }
        let (size_bytes, whole_bytes) =
            (parameters.payload_size_bytes as usize, manifest.payload_size_bytes());
        let merge = match excerpt {
            None if size_bytes == whole_bytes => None,
            // The host has memory for the whole payload.
            Some(excerpt) if size_bytes <= whole_bytes => match Merge::of(excerpt, manifest) {
                Some(merge) => Some(merge),
                None => return,
            },
            _ => return,
        };
        let seed = self.rng.next_u64();
        match Receiver::new(&parameters, seed) {
            Ok(receiver) => {
                self.actions.extend(group.map(Action::JoinGroup));
                self.report.phase = Phase::Receiving;
                (self.report.done, self.report.total) = receiver.progress();
                self.parameters = Some(parameters);
                self.receiver = Some(Box::new(receiver));
                self.state = State::Receiving;
                let next = merge.as_ref().and_then(|merge| merge.next(manifest));
                let read = next.map(|(piece, range)| Action::ReadPiece { piece, range });
                self.actions.extend(read);
                (self.merge, self.report.lacking) = (merge, None);
                info!("receiving the image");
            }
            Err(error) => self.give_up(now, &Refusal::new(Reason::RecoveryFailed, error)),
        }
    }

    /// Decodes and hashes a part of what is there of the payload: to be called while no datagram
    /// waits. True as long as there is more to do.
    pub fn work(&mut self, now: Time) -> bool {
        self.receiver.as_mut().is_some_and(|receiver| receiver.work(now))
    }

    /// Checks the payload that is whole now; one that is wrong is received again. An excerpt waits
    /// for the pieces of the host's own chip, and is of no use without them.
    pub(super) fn open_payload(&mut self, now: Time) {
        let (Some(receiver), Some(manifest)) = (&mut self.receiver, &self.manifest) else { return };
        let payload = receiver.take_payload().map_err(|error| error.to_string());
        let opened = payload.and_then(|payload| {
            match &mut self.merge {
                None => manifest.open_hashed(payload.bytes, &payload.digest).map(Some),
                Some(merge) => merge.keep(payload).map(|()| None),
            }
            .map_err(|error| error.to_string())
        });
        match opened {
            Ok(Some(image)) => self.become_verified(now, image),
            Ok(None) => self.open_merged(now),
            Err(error) => {
                warn!("the received image is not the signed one: {error}");
                if receiver.restart().is_err() {
                    self.give_up(now, &Refusal::new(Reason::PayloadInvalid, error));
                }
            }
        }
    }

    /// Puts the excerpt and the pieces of the host's own chip together, once both are there. Each
    /// has the right digest: to receive them again would change nothing.
    pub(super) fn open_merged(&mut self, now: Time) {
        let (Some(merge), Some(manifest)) = (&mut self.merge, &self.manifest) else { return };
        match merge.open(manifest) {
            Some(Ok(image)) => self.become_verified(now, image),
            Some(Err(error)) => self.give_up(now, &Refusal::new(Reason::PayloadInvalid, error)),
            None => {}
        }
    }

    fn become_verified(&mut self, now: Time, image: VerifiedImage) {
        info!("the whole image is verified");
        (self.image, self.merge) = (Some(image), None);
        self.report.phase = Phase::Verified;
        self.state = State::Verified;
        self.send_report(now);
    }

    pub(super) fn answer_status_request(&mut self, now: Time) {
        if let Some(receiver) = &mut self.receiver
            && let Some(status) = receiver.poll_status(now)
        {
            self.send(now, &Answer::FragmentStatus(status));
        }
    }
}
