//! What state machines draw from their seeded generator.

use std::time::Duration;

use rand_core::RngCore;

/// Returns the seed of another generator, or of a key.
pub fn seed(rng: &mut impl RngCore) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// Returns `pause`, longer or shorter by up to `spread_permille`, so that hosts that began together
/// do not go on together.
pub fn jitter(pause: Duration, spread_permille: u32, rng: &mut impl RngCore) -> Duration {
    pause * (1000 - spread_permille + rng.next_u32() % (2 * spread_permille)) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    #[test]
    fn pauses_differ_within_the_spread() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let pause = Duration::from_secs(1);
        let pauses: Vec<Duration> = (0..1000).map(|_| jitter(pause, 250, &mut rng)).collect();
        assert!(pauses.iter().all(|one| (750..1250).contains(&one.as_millis())));
        assert!(pauses.iter().min() < pauses.iter().max());
        assert_ne!(seed(&mut rng), seed(&mut rng));
    }
}
