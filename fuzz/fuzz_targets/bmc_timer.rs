//! What a BMC says of its watchdog, as the helper passes it on: understood or refused, and never
//! taken for a timer that does not run when its bit says that it does.

#![no_main]

use firmcast::bmc::TimerState;
use firmcast::bmc::watchdog::Timer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match (TimerState::parse(bytes), Timer::parse(&text)) {
        (Ok(state), passed_on) => {
            assert_eq!(state.is_running, bytes[0] & 0x40 != 0);
            assert_eq!(passed_on, Ok(Timer::State(state)));
            let _ = state.to_string();
        }
        (Err(_), passed_on) => assert!(passed_on.is_err()),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Timer::parse(text);
    }
});
