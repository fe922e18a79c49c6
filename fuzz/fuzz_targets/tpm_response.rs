//! Responses of a TPM, whatever it is.

#![no_main]

use firmcast::tpm::command::{MESSAGE_SIZE_MAX, data, response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(parameters) = response(bytes) {
        assert!(parameters.len() <= MESSAGE_SIZE_MAX);
    }
    if let Ok(data) = data(bytes) {
        assert!(data.len() < bytes.len());
    }
});
