//! Any agent.toml, and any handoff: understood or refused.

#![no_main]

use firmcast::agent::config::Config;
use firmcast::handover::Handoff;
use firmcast::kexec::recovery_cmdline;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Handoff::from_json(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::parse(text);
        let _ = recovery_cmdline(text, None);
    }
});
