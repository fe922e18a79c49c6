use super::{DeedError, named};
use crate::model::{Stamp, Wave};
use crate::store::Store;
use crate::store::requests::{Changed, RolloutWaves, SignedApproval};

/// Keeps the word of `by` that a wave may begin. `sign` gets the rollout and the wave, and returns
/// the fingerprint of a manager key and its signature.
///
/// # Errors
/// There is no such rollout or wave, or `by` created the rollout; those of `sign` and of the store.
pub fn approve<E: From<DeedError>>(
    store: &mut dyn Store,
    name: &str,
    wave: &str,
    (by, at): (&str, Stamp),
    sign: impl FnOnce(&RolloutWaves, &Wave) -> Result<(String, String), E>,
) -> Result<Changed, E> {
    let known = named(store, name)?;
    let Some(wave) = known.waves.iter().find(|known| known.name == wave) else {
        let waves = known.waves.iter().map(|wave| wave.name.clone()).collect();
        let (name, wave) = (name.to_owned(), wave.to_owned());
        return Err(DeedError::NoWave { name, wave, known: waves }.into());
    };
    if by == known.rollout.created_by {
        let (by, name) = (by.to_owned(), name.to_owned());
        return Err(DeedError::OwnRollout { by, name }.into());
    }
    let (key, signature) = sign(&known, wave)?;
    let approval = SignedApproval { wave: wave.number, key, signature, by: by.to_owned(), at };
    Ok(store.approve(known.rollout.id, &approval).map_err(DeedError::from)?)
}
