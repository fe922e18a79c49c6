//! What a person does with a rollout that was created.

use std::path::Path;

use firmcast::keys;
use firmcast_fleet::deeds::{self, Deed, Order};
use firmcast_fleet::rollout::approval::Question;
use firmcast_fleet::store::Store;
use firmcast_fleet::store::requests::Changed;

use crate::commands::now;
use crate::commands::people::who;
use crate::commands::terminal::{say, shown};

/// Does it, or says that all is so already.
pub(super) fn carry_out(
    store: &mut dyn Store,
    deed: Deed,
    name: &str,
    because: &str,
) -> anyhow::Result<()> {
    let order = Order { deed, because, by: &who(), at: now(), revision: None };
    say(&shown(&deeds::carry_out(store, name, &order)?.words(name)));
    Ok(())
}

/// Signs that a wave may begin.
pub(super) fn approve(
    store: &mut dyn Store,
    name: &str,
    wave: &str,
    key: &Path,
) -> anyhow::Result<()> {
    let changed = deeds::approve(store, name, wave, (&who(), now()), |known, wave| {
        let secret = keys::load_secret(key)?;
        let rollout = &known.rollout;
        let (plan_digest, created_by) = (&rollout.plan_digest, &rollout.created_by);
        anyhow::Ok(Question { plan_digest, wave: &wave.name, created_by }.sign(&secret))
    })?;
    let already = match changed {
        Changed::Now => "",
        Changed::Before => " already: nothing was changed",
    };
    say(&format!("wave {wave} of rollout {name} is approved{already}"));
    Ok(())
}

/// Writes a signature as the API takes it.
pub(super) fn sign(wave: &str, plan_digest: &str, key: &Path) -> anyhow::Result<()> {
    let secret = keys::load_secret(key)?;
    let (key, signature) = Question { plan_digest, wave, created_by: "" }.sign(&secret);
    say(&serde_json::json!({ "wave": wave, "key": key, "signature": signature }).to_string());
    Ok(())
}
