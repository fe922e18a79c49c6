//! What tokens of systemd-cryptenroll and clevis are bound to.
//!
//! Sources: `tpm2_make_luks2_json` in systemd's `tpm2-util.c`; clevis(1), clevis-encrypt-tpm2(1)
//! and clevis-encrypt-sss(1). A token of clevis is a JWE (RFC 7516); its protected header names
//! pin and settings.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::binding::{Binding, Pcrs, printable};

/// Maximum number of `sss` pins inside one another that are followed.
const DEPTH_MAX: usize = 4;
/// Maximum number of pins in one `sss` pin.
const PINS_MAX: usize = 32;
/// Tokens that ask no TPM.
const WITHOUT_TPM: [&str; 5] =
    ["systemd-recovery", "systemd-fido2", "systemd-pkcs11", "luks2-keyring", "ssh"];
/// Pins of clevis that ask no TPM.
const PINS_WITHOUT_TPM: [&str; 4] = ["tang", "null", "pkcs11", "yubikey"];

/// Returns the bindings of a LUKS2 token that another firmware may close, and what it has that is
/// not understood.
pub(super) fn of_token(token: &Value) -> Vec<Binding> {
    let slots = token.get("keyslots").and_then(Value::as_array);
    if slots.is_some_and(Vec::is_empty) {
        // It unlocks nothing.
        return Vec::new();
    }
    let slot = slots.and_then(|slots| slots.first()?.as_str());
    let slot = printable(slot.unwrap_or_default());
    match token.get("type").and_then(Value::as_str) {
        Some("systemd-tpm2") => systemd(token, slot).into_iter().collect(),
        Some("clevis") => of_jwe(token.get("jwe").unwrap_or(&Value::Null), &slot),
        Some(known) if WITHOUT_TPM.contains(&known) => Vec::new(),
        Some(other) => unknown(format!("a token of the kind \"{}\"", printable(other))),
        None => unknown("a token without a kind".to_owned()),
    }
}

fn unknown(what: String) -> Vec<Binding> {
    vec![Binding::Unknown(what)]
}

fn systemd(token: &Value, slot: String) -> Option<Binding> {
    const TOOL: &str = "systemd-cryptenroll";
    // The PCRs of such a policy stand in the TPM and in a file of systemd-pcrlock.
    if token.get("tpm2_pcrlock").and_then(Value::as_bool) == Some(true) {
        let what = format!("{TOOL} with a policy of systemd-pcrlock (slot {slot})");
        return Some(Binding::Unknown(what));
    }
    let fixed = token.get("tpm2-pcrs").and_then(numbers);
    // Those of a signed policy: it is signed anew for another firmware, if somebody does that.
    let signed = match token.get("tpm2_pubkey_pcrs") {
        None => Some(Pcrs::default()),
        Some(pcrs) => numbers(pcrs),
    };
    match (fixed, signed) {
        (Some(fixed), Some(signed)) => sealed(TOOL, fixed.and(signed), &slot),
        _ => Some(Binding::Unknown(format!("{TOOL} with PCRs that are not understood"))),
    }
}

fn sealed(tool: &'static str, pcrs: Pcrs, slot: &str) -> Option<Binding> {
    let slot = slot.to_owned();
    pcrs.are_of_firmware().then_some(Binding::Sealed { tool, pcrs, slot })
}

fn numbers(pcrs: &Value) -> Option<Pcrs> {
    let number = |pcr: &Value| pcr.as_u64().and_then(|pcr| u8::try_from(pcr).ok());
    Pcrs::of(pcrs.as_array()?.iter().map(number))
}

/// Returns the same of a JWE of clevis, compact or as JSON, for a key slot.
pub(super) fn of_jwe(jwe: &Value, slot: &str) -> Vec<Binding> {
    of_pin(jwe, slot, DEPTH_MAX)
}

/// Follows pins that hold others at most `depth` deep.
fn of_pin(jwe: &Value, slot: &str, depth: usize) -> Vec<Binding> {
    let Some(header) = protected(jwe) else {
        return unknown("a binding of clevis that is not understood".to_owned());
    };
    let clevis = header.get("clevis").unwrap_or(&Value::Null);
    let pin = clevis.get("pin").and_then(Value::as_str).unwrap_or_default();
    let settings = clevis.get(pin).unwrap_or(&Value::Null);
    match pin {
        "tpm2" => match clevis_pcrs(settings.get("pcr_ids")) {
            Some(pcrs) => {
                let tool = match depth {
                    DEPTH_MAX => "clevis tpm2",
                    _ => "clevis sss with tpm2",
                };
                sealed(tool, pcrs, slot).into_iter().collect()
            }
            None => unknown("clevis tpm2 with PCRs that are not understood".to_owned()),
        },
        "sss" => match settings.get("jwe").and_then(Value::as_array) {
            Some(pins) if depth > 0 && pins.len() <= PINS_MAX => {
                pins.iter().flat_map(|pin| of_pin(pin, slot, depth - 1)).collect()
            }
            _ => unknown("clevis sss with pins that are not understood".to_owned()),
        },
        known if PINS_WITHOUT_TPM.contains(&known) => Vec::new(),
        other => unknown(format!("clevis with the pin \"{}\"", printable(other))),
    }
}

/// The protected header: the first part of the compact form, or a member of that in JSON.
fn protected(jwe: &Value) -> Option<Value> {
    let text = match jwe {
        Value::String(compact) => compact.split('.').next()?,
        other => other.get("protected")?.as_str()?,
    };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.trim()).ok()?).ok()
}

/// "0,7", or a list of numbers or texts; a key without it is bound to the TPM alone.
fn clevis_pcrs(pcr_ids: Option<&Value>) -> Option<Pcrs> {
    match pcr_ids {
        None => Some(Pcrs::default()),
        Some(Value::String(text)) => Pcrs::of_text(text, ','),
        Some(Value::Number(number)) => Pcrs::of_text(&number.to_string(), ','),
        Some(Value::Array(pcrs)) => Pcrs::of(pcrs.iter().map(|pcr| match pcr {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|pcr| u8::try_from(pcr).ok()),
        })),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(token: &Value) -> Vec<String> {
        of_token(token).iter().map(ToString::to_string).collect()
    }

    fn jwe(clevis: &Value) -> Value {
        let header = json!({ "alg": "dir", "clevis": clevis, "enc": "A256GCM" });
        Value::from(format!("{}..iv.text.tag", URL_SAFE_NO_PAD.encode(header.to_string())))
    }

    fn clevis(clevis: &Value) -> Vec<String> {
        said(&json!({ "type": "clevis", "keyslots": ["2"], "jwe": jwe(clevis) }))
    }

    #[test]
    fn tokens_of_systemd_are_sealed_by_any_pcr_of_the_firmware() {
        let token = |more: Value| {
            let mut token = json!({ "type": "systemd-tpm2", "keyslots": ["1"], "tpm2-pcrs": [] });
            for (name, value) in more.as_object().into_iter().flatten() {
                token[name] = value.clone();
            }
            said(&token)
        };
        assert!(token(json!({})).is_empty());
        assert!(token(json!({ "tpm2-pcrs": [11, 14] })).is_empty());
        assert!(token(json!({ "tpm2_pubkey_pcrs": [11] })).is_empty());
        let sealed = ["systemd-cryptenroll, PCR 7 (slot 1)"];
        assert_eq!(token(json!({ "tpm2-pcrs": [7] })), sealed);
        let both = token(json!({ "tpm2-pcrs": [2, 7], "tpm2_pubkey_pcrs": [11] }));
        assert_eq!(both, ["systemd-cryptenroll, PCR 2,7,11 (slot 1)"]);
        assert_eq!(token(json!({ "tpm2_pubkey_pcrs": [7] })), sealed);
        assert!(token(json!({ "tpm2-pcrs": [0], "keyslots": [] })).is_empty());
        for not_understood in [json!(7), json!(["7"]), json!([-7]), json!([256]), json!(null)] {
            let found = token(json!({ "tpm2-pcrs": not_understood }));
            assert_eq!(found, ["systemd-cryptenroll with PCRs that are not understood"]);
        }
        let locked = token(json!({ "tpm2_pcrlock": true }));
        assert_eq!(locked, ["systemd-cryptenroll with a policy of systemd-pcrlock (slot 1)"]);
    }

    #[test]
    fn pins_of_clevis_are_followed_into_one_another() {
        let tpm2 = |pcrs: Value| json!({ "pin": "tpm2", "tpm2": { "pcr_ids": pcrs } });
        assert!(clevis(&json!({ "pin": "tpm2", "tpm2": { "key": "ecc" } })).is_empty());
        assert!(clevis(&tpm2(json!(""))).is_empty());
        for pcrs in [json!("0,7"), json!(["7", "0"]), json!([0, 7])] {
            assert_eq!(clevis(&tpm2(pcrs)), ["clevis tpm2, PCR 0,7 (slot 2)"]);
        }
        for pcrs in [json!("0;7"), json!({}), json!([300]), json!(7.5)] {
            let found = clevis(&tpm2(pcrs));
            assert_eq!(found, ["clevis tpm2 with PCRs that are not understood"]);
        }
        let tang = json!({ "pin": "tang", "tang": { "url": "http://tang" } });
        assert!(clevis(&tang).is_empty());
        let sss = |pins: Vec<Value>| json!({ "pin": "sss", "sss": { "t": 1, "jwe": pins } });
        assert!(clevis(&sss(vec![jwe(&tang)])).is_empty());
        let inside = sss(vec![jwe(&tang), jwe(&sss(vec![jwe(&tpm2(json!("7")))]))]);
        assert_eq!(clevis(&inside), ["clevis sss with tpm2, PCR 7 (slot 2)"]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        let mut deep = json!({ "pin": "tang" });
        for _ in 0..DEPTH_MAX + 2 {
            deep = json!({ "pin": "sss", "sss": { "jwe": [jwe(&deep)] } });
        }
        assert_eq!(clevis(&deep), ["clevis sss with pins that are not understood"]);
        assert_eq!(clevis(&json!({ "pin": "tpm1" })), ["clevis with the pin \"tpm1\""]);
        let without = said(&json!({ "type": "clevis", "jwe": { "protected": "!" } }));
        assert_eq!(without, ["a binding of clevis that is not understood"]);
        assert_eq!(said(&json!({ "type": "a\nb" })), ["a token of the kind \"a?b\""]);
        assert_eq!(said(&json!(7)), ["a token without a kind"]);
        assert!(said(&json!({ "type": "systemd-recovery", "keyslots": ["1"] })).is_empty());
    }
}
