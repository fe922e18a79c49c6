//! The places that may know a manager: right, wrong, silent or broken.

use std::net::SocketAddr;

use firmcast::keys::{PublicKey as _, SecretKey as _};
use firmcast::rescue::seek::{Candidate, Source};

use super::manager::Post;
use super::scenario::Scenario;
use super::truth::Truth;
use crate::chance::Chance;

/// Returns the address of everybody in the network.
pub(crate) fn everybody() -> SocketAddr {
    ([255, 255, 255, 255], 9848).into()
}

/// Returns what a place says now. A broadcast always reaches everybody who is there.
pub(crate) fn look_up(
    source: Source,
    scenario: &Scenario,
    truth: &Truth,
    posts: &[Post],
    chance: &mut Chance,
) -> Result<Vec<Candidate>, String> {
    if source == Source::Broadcast {
        return Ok(vec![Candidate { address: everybody(), broadcast: true, key: None }]);
    }
    let key = scenario.names_keys.then(|| hint(truth, chance)).flatten();
    let candidate = |address| Candidate { address, broadcast: false, key: key.clone() };
    let nobody = SocketAddr::from(([10, 0, 0, 9], 9848));
    if !chance.happens(scenario.bad_places) {
        return Ok(posts.iter().map(|post| candidate(post.address)).collect());
    }
    match chance.within(0..5) {
        0 => Ok(Vec::new()),
        1 => Err("it hangs".into()),
        2 => Ok(vec![candidate(nobody)]),
        3 => Ok(vec![candidate(nobody), candidate(posts[0].address)]),
        _ => Ok(posts.iter().rev().take(1).map(|post| candidate(post.address)).collect()),
    }
}

/// Mostly none; sometimes the key of one that is trusted, or of one that is not.
fn hint(truth: &Truth, chance: &mut Chance) -> Option<String> {
    let key = match chance.within(0..8) {
        0 => &truth.managers[0],
        1 => &truth.managers[1],
        2 => &truth.impostor,
        _ => return None,
    };
    Some(key.public().fingerprint().to_string())
}
