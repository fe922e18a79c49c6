//! The handshakes, on crate `snow` with randomness passed in.

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};

/// Sessions: both sides know the other's static key in the end (Noise section 7.5, IK).
const SESSION_PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// Discovery answers: one message to a known key that proves the sender's (Noise section 7.4, X).
const SEALED_PATTERN: &str = "Noise_X_25519_ChaChaPoly_BLAKE2s";
/// Mixed into every handshake, so that nothing of another protocol or version fits.
const PROLOGUE: &[u8] = b"firmcast 1";

/// Size of an X25519 key.
pub(super) const KEY_SIZE: usize = 32;

struct SeededRandom(ChaCha20Rng);

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

/// Names the one hash and the one cipher of [`SESSION_PATTERN`], so that no other comes into the
/// program: what a resolver might return stays in it.
struct SeededResolver([u8; 32]);

impl CryptoResolver for SeededResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom(ChaCha20Rng::from_seed(self.0))))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::Blake2s => DefaultResolver.resolve_hash(&HashChoice::Blake2s),
            _ => None,
        }
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => RingResolver.resolve_cipher(&CipherChoice::ChaChaPoly),
            CipherChoice::AESGCM => None,
        }
    }
}

fn builder<'a>(
    pattern: &str,
    secret: &'a [u8; KEY_SIZE],
    seed: [u8; 32],
) -> Result<Builder<'a>, snow::Error> {
    let params: NoiseParams = pattern.parse()?;
    Builder::with_resolver(params, Box::new(SeededResolver(seed)))
        .prologue(PROLOGUE)?
        .local_private_key(secret)
}

/// Makes the first message of a session with the owner of `peer`.
pub(super) fn initiate(
    secret: &[u8; KEY_SIZE],
    peer: &[u8; KEY_SIZE],
    stamp: u64,
    seed: [u8; 32],
) -> Result<(HandshakeState, [u8; 104]), snow::Error> {
    let mut state =
        builder(SESSION_PATTERN, secret, seed)?.remote_public_key(peer)?.build_initiator()?;
    let mut message = [0; 104];
    state.write_message(&stamp.to_be_bytes(), &mut message)?;
    Ok((state, message))
}

/// Who sent a first message, and its stamp; the handshake goes on with [`respond`].
pub(super) struct Initiated {
    pub(super) peer: [u8; KEY_SIZE],
    pub(super) stamp: u64,
    state: HandshakeState,
}

/// Opens the first message of a session.
pub(super) fn open_initiation(
    secret: &[u8; KEY_SIZE],
    message: &[u8; 104],
    seed: [u8; 32],
) -> Option<Initiated> {
    let mut state = builder(SESSION_PATTERN, secret, seed).ok()?.build_responder().ok()?;
    let mut stamp = [0; 8];
    (state.read_message(message, &mut stamp).ok()? == stamp.len()).then_some(())?;
    let peer = state.get_remote_static()?.try_into().ok()?;
    Some(Initiated { peer, stamp: u64::from_be_bytes(stamp), state })
}

/// Makes the second message of a session and the keys.
pub(super) fn respond(initiated: Initiated) -> Option<(StatelessTransportState, [u8; 48])> {
    let mut state = initiated.state;
    let mut message = [0; 48];
    state.write_message(&[], &mut message).ok()?;
    Some((state.into_stateless_transport_mode().ok()?, message))
}

/// Opens the second message of a session.
///
/// The handshake stays when the message is not authentic, because the right one may still come.
pub(super) fn open_response(
    handshake: &mut Option<HandshakeState>,
    message: &[u8; 48],
) -> Option<StatelessTransportState> {
    handshake.as_mut()?.read_message(message, &mut []).ok()?;
    handshake.take()?.into_stateless_transport_mode().ok()
}

/// Seals one message from the owner of `secret` to the owner of `peer`.
pub(super) fn seal(
    secret: &[u8; KEY_SIZE],
    peer: &[u8; KEY_SIZE],
    message: &[u8],
    seed: [u8; 32],
) -> Option<Vec<u8>> {
    let builder = builder(SEALED_PATTERN, secret, seed).ok()?;
    let mut state = builder.remote_public_key(peer).ok()?.build_initiator().ok()?;
    let mut sealed = vec![0; message.len() + 96];
    let length = state.write_message(message, &mut sealed).ok()?;
    sealed.truncate(length);
    Some(sealed)
}

/// Opens a message made by [`seal`]: the sender's key and the message.
pub(super) fn open(secret: &[u8; KEY_SIZE], sealed: &[u8]) -> Option<([u8; KEY_SIZE], Vec<u8>)> {
    let mut state = builder(SEALED_PATTERN, secret, [0; 32]).ok()?.build_responder().ok()?;
    let mut message = vec![0; sealed.len()];
    let length = state.read_message(sealed, &mut message).ok()?;
    message.truncate(length);
    Some((state.get_remote_static()?.try_into().ok()?, message))
}
