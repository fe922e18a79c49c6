//! The manifests that managers send part by part, until a trusted release key vouches for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::image::VerifiedManifest;
use crate::image::assembly::ManifestAssembly;
use crate::keys::ReleasePublicKey;
use crate::reason::{Reason, Refusal};
use crate::session::PeerKey;

/// What each manager has sent of its manifest.
pub(super) struct Manifests {
    releases: Vec<ReleasePublicKey>,
    /// One at most for each trusted manager.
    assemblies: BTreeMap<PeerKey, ManifestAssembly>,
    /// The manifest that was asked about last: its questions follow each other.
    verified: Option<Verified>,
}

/// A manifest that a trusted release key signed, parsed once for all questions about it.
struct Verified {
    by: PeerKey,
    campaign: u64,
    manifest: Arc<VerifiedManifest>,
}

impl Manifests {
    /// Returns an empty shelf for manifests that these keys sign.
    pub(super) fn new(releases: Vec<ReleasePublicKey>) -> Self {
        Self { releases, assemblies: BTreeMap::new(), verified: None }
    }

    /// Returns the manager's manifest in the making; an older one of the same manager makes room.
    pub(super) fn assembly(
        &mut self,
        peer: PeerKey,
        campaign: u64,
        total_bytes: u32,
    ) -> &mut ManifestAssembly {
        let fresh = || ManifestAssembly::new(campaign, total_bytes);
        let assembly = self.assemblies.entry(peer).or_insert_with(fresh);
        if !assembly.is_for(campaign, total_bytes) {
            *assembly = fresh();
            self.verified = None;
        }
        assembly
    }

    /// Returns the campaign's manifest. One that is wrong is dropped, so that it can be sent again.
    ///
    /// # Errors
    /// [`Reason::ManifestIncomplete`]; what is wrong with its signature or its form.
    pub(super) fn verified(
        &mut self,
        peer: PeerKey,
        campaign: u64,
    ) -> Result<Arc<VerifiedManifest>, Refusal> {
        let held = self.assemblies.get(&peer).filter(|assembly| assembly.campaign() == campaign);
        let bytes = held.and_then(ManifestAssembly::complete).ok_or_else(|| {
            let held_bytes = held.map_or(0, ManifestAssembly::held_bytes);
            Refusal::new(Reason::ManifestIncomplete, format_args!("{held_bytes} bytes are held"))
        })?;
        let is_it = |known: &&Verified| known.by == peer && known.campaign == campaign;
        if let Some(known) = self.verified.as_ref().filter(is_it) {
            return Ok(Arc::clone(&known.manifest));
        }
        let manifest = VerifiedManifest::verify(bytes, &self.releases).map_err(|error| {
            self.assemblies.remove(&peer);
            Refusal::from(&error)
        })?;
        let manifest = Arc::new(manifest);
        self.verified = Some(Verified { by: peer, campaign, manifest: Arc::clone(&manifest) });
        Ok(manifest)
    }

    /// Drops the manager's manifest of this campaign.
    pub(super) fn forget(&mut self, peer: PeerKey, campaign: u64) {
        if self.assemblies.get(&peer).is_some_and(|assembly| assembly.campaign() == campaign) {
            self.assemblies.remove(&peer);
            self.verified = None;
        }
    }
}
