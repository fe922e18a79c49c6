//! Bringing a manifest to one host, a window of parts at a time.
//!
//! A host keeps parts that come behind a gap, and says how much it holds without one. So answers
//! that say the same again tell of a part that is missing, and it alone is sent again; when that
//! fills the gap, the answer tells of the next one (as NewReno does it, RFC 6582). A host of
//! an older release keeps only what continues what it holds: then each part that it has dropped is
//! sent by the answer to the one before.

use firmcast::wire::command::{Command, MANIFEST_PART_SIZE_MAX};

/// Most parts that are under way to one host at a time.
const WINDOW_PARTS: usize = 8;

/// So many answers in a row that say nothing new tell of a gap. One may be to a part that overtook
/// another.
const GAP_ANSWERS: u32 = 2;

/// How much of the manifest was sent to a host and how much it holds.
#[derive(Debug, Default)]
pub(super) struct ManifestDelivery {
    sent_bytes: usize,
    held_bytes: usize,
    /// What was sent when a gap was noticed: until the host holds that, there may be more gaps.
    gaps_until: usize,
    /// Answers in a row that said nothing new.
    equal_answers: u32,
    /// Repeats whose answers say nothing new if they were in vain.
    repeated: u32,
    /// The part behind what the host holds goes out again.
    repeats: bool,
}

impl ManifestDelivery {
    /// Takes over what the host says it holds; true when that is more than before.
    pub(super) fn acknowledge(&mut self, held_bytes: u32, manifest: &[u8]) -> bool {
        let held_bytes = usize::try_from(held_bytes).unwrap_or(usize::MAX);
        if held_bytes < self.held_bytes || held_bytes > manifest.len() {
            return false;
        }
        if held_bytes == self.held_bytes {
            if self.repeated > 0 {
                self.repeated -= 1;
                return false;
            }
            self.equal_answers = self.equal_answers.saturating_add(1);
            // Further ones tell of the same gap.
            if self.equal_answers == GAP_ANSWERS && held_bytes >= self.gaps_until {
                self.fill_gaps();
            }
            return false;
        }
        self.equal_answers = 0;
        self.held_bytes = held_bytes;
        self.sent_bytes = self.sent_bytes.max(held_bytes);
        self.repeats = held_bytes < self.gaps_until;
        true
    }

    /// Returns whether the host holds all of it.
    pub(super) fn is_complete(&self, manifest: &[u8]) -> bool {
        self.held_bytes == manifest.len()
    }

    fn fill_gaps(&mut self) {
        self.gaps_until = self.sent_bytes;
        self.repeats = self.held_bytes < self.sent_bytes;
    }

    /// What the host is told now; the part behind what it holds once more when that is due.
    pub(super) fn commands(&mut self, due: bool, campaign: u64, manifest: &[u8]) -> Vec<Command> {
        if due {
            self.repeated = 0;
            self.fill_gaps();
        }
        let repeats = std::mem::take(&mut self.repeats);
        self.repeated += u32::from(repeats);
        let mut parts: Vec<Command> = repeats
            .then(|| part(campaign, manifest, self.held_bytes))
            .flatten()
            .into_iter()
            .collect();
        let window_end = self.held_bytes + WINDOW_PARTS * MANIFEST_PART_SIZE_MAX;
        while end_of_part(manifest, self.sent_bytes) <= window_end
            && let Some(next) = part(campaign, manifest, self.sent_bytes)
        {
            self.sent_bytes = end_of_part(manifest, self.sent_bytes);
            parts.push(next);
        }
        parts
    }
}

fn end_of_part(manifest: &[u8], start: usize) -> usize {
    manifest.len().min(start + MANIFEST_PART_SIZE_MAX)
}

/// None behind the end.
fn part(campaign: u64, manifest: &[u8], start: usize) -> Option<Command> {
    let bytes = manifest.get(start..end_of_part(manifest, start))?;
    (!bytes.is_empty()).then_some(Command::ManifestPart {
        campaign,
        total_bytes: u32::try_from(manifest.len()).ok()?,
        offset_bytes: u32::try_from(start).ok()?,
        bytes: bytes.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use firmcast::image::assembly::ManifestAssembly;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{RngCore, SeedableRng};

    use super::*;

    const MANIFEST_BYTES: usize = 40_000;
    const PARTS: usize = MANIFEST_BYTES.div_ceil(MANIFEST_PART_SIZE_MAX);

    fn manifest() -> Vec<u8> {
        (0..MANIFEST_BYTES).map(|i| i as u8).collect()
    }

    /// A host of an older release, which keeps only parts that continue what it holds.
    #[derive(Default)]
    struct OlderHost(Vec<u8>);

    trait Host {
        fn take(&mut self, offset_bytes: u32, bytes: &[u8]) -> u32;
    }

    impl Host for OlderHost {
        fn take(&mut self, offset_bytes: u32, bytes: &[u8]) -> u32 {
            if offset_bytes as usize == self.0.len() {
                self.0.extend(bytes);
            }
            self.0.len() as u32
        }
    }

    impl Host for ManifestAssembly {
        fn take(&mut self, offset_bytes: u32, bytes: &[u8]) -> u32 {
            self.add(offset_bytes, bytes);
            self.held_bytes()
        }
    }

    /// Brings a manifest to a host while every fifth part and every fifth answer is lost; returns
    /// the parts that were sent, and how often the manager had to wait for nothing.
    fn deliver(host: &mut impl Host) -> (usize, usize) {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let manifest = manifest();
        let (mut delivery, mut sent, mut waits) = (ManifestDelivery::default(), 0, 0);
        let mut under_way = VecDeque::from(delivery.commands(true, 7, &manifest));
        while !delivery.is_complete(&manifest) {
            assert!(sent < 1000, "it never ends");
            let Some(part) = under_way.pop_front() else {
                waits += 1;
                under_way.extend(delivery.commands(true, 7, &manifest));
                continue;
            };
            sent += 1;
            let Command::ManifestPart { offset_bytes, bytes, .. } = part else { panic!() };
            if rng.next_u32() % 5 == 0 {
                continue;
            }
            let held = host.take(offset_bytes, &bytes);
            if rng.next_u32() % 5 != 0 {
                delivery.acknowledge(held, &manifest);
                let next = delivery.commands(false, 7, &manifest);
                assert!(next.len() <= WINDOW_PARTS);
                under_way.extend(next);
            }
        }
        assert!(!delivery.acknowledge(50_000, &manifest), "more than there is");
        assert!(delivery.commands(true, 7, &manifest).is_empty());
        (sent, waits)
    }

    #[test]
    fn a_manifest_arrives_whole_though_every_fifth_part_and_answer_is_lost() {
        let mut host = ManifestAssembly::new(7, MANIFEST_BYTES as u32);
        let (sent, waits) = deliver(&mut host);
        assert_eq!(host.complete(), Some(&manifest()[..]));
        assert!(sent <= PARTS * 3 / 2 && waits <= PARTS / 2, "{sent} parts, {waits} waits");
    }

    #[test]
    fn a_manifest_arrives_at_a_host_that_drops_what_comes_behind_a_gap() {
        let mut host = OlderHost::default();
        deliver(&mut host);
        assert_eq!(host.0, manifest());
    }

    /// Whatever was repeated in vain, the answers to it do not have more repeated.
    #[test]
    fn repeats_come_to_an_end_on_a_slow_way_where_parts_overtake_others() {
        let manifest = manifest();
        let mut delivery = ManifestDelivery::default();
        let mut host = ManifestAssembly::new(7, MANIFEST_BYTES as u32);
        let mut under_way = delivery.commands(true, 7, &manifest);
        let (mut sent, mut rounds) = (under_way.len(), 0);
        while !delivery.is_complete(&manifest) {
            // Before the first answers are there, it is due once more.
            let mut next = delivery.commands(rounds == 0, 7, &manifest);
            if under_way.len() > 3 {
                under_way.swap(2, 3);
            }
            let answers: Vec<u32> = (under_way.drain(..))
                .map(|part| match part {
                    Command::ManifestPart { offset_bytes, bytes, .. } => {
                        host.take(offset_bytes, &bytes)
                    }
                    _ => panic!(),
                })
                .collect();
            for held in answers {
                delivery.acknowledge(held, &manifest);
                next.extend(delivery.commands(false, 7, &manifest));
            }
            (sent, rounds, under_way) = (sent + next.len(), rounds + 1, next);
            assert!(rounds < 20, "it never ends");
        }
        assert_eq!(host.complete(), Some(&manifest[..]));
        assert!(sent <= PARTS + 2 * WINDOW_PARTS, "{sent} parts sent instead of {PARTS}");
    }

    #[test]
    fn nothing_is_sent_twice_where_nothing_is_lost() {
        let manifest = manifest();
        let mut delivery = ManifestDelivery::default();
        let mut under_way = VecDeque::from(delivery.commands(true, 7, &manifest));
        assert_eq!(under_way.len(), WINDOW_PARTS);
        let mut host = ManifestAssembly::new(7, MANIFEST_BYTES as u32);
        let mut sent = 0;
        while let Some(Command::ManifestPart { offset_bytes, bytes, .. }) = under_way.pop_front() {
            sent += 1;
            delivery.acknowledge(host.take(offset_bytes, &bytes), &manifest);
            under_way.extend(delivery.commands(false, 7, &manifest));
        }
        assert_eq!((sent, host.complete()), (PARTS, Some(&manifest[..])));
    }
}
