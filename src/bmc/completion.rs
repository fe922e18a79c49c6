//! Completion codes of a BMC's answers.

/// Not now.
pub(super) const NODE_BUSY: u8 = 0xc0;
/// The same of a FRU device (sections 34.2 and 34.3).
pub(super) const FRU_BUSY: u8 = 0x81;
/// The BMC, or the host's interface to it, waited for something in vain.
pub(super) const TIMEOUT: u8 = 0xc3;

/// The command is not known.
pub(super) const NO_SUCH_COMMAND: u8 = 0xc1;

/// Returns a completion code in words (IPMI v2.0, table 5-2; below C0h those of the FRU and system
/// info commands).
pub(super) fn meaning(code: u8) -> &'static str {
    match code {
        0x80 => "write-protected, or parameter not supported",
        FRU_BUSY | NODE_BUSY => "busy",
        NO_SUCH_COMMAND => "no such command",
        0xc2 => "no such command for this LUN",
        TIMEOUT => "timeout",
        0xc4 => "out of space",
        0xc5 => "reservation cancelled",
        0xc7 => "request data length invalid",
        0xc8 => "request too long",
        0xc9 => "parameter out of range",
        0xca => "cannot return so many bytes",
        0xcb => "not present",
        0xcc => "invalid data in the request",
        0xcd => "command not allowed for this device",
        0xce => "no response could be made",
        0xcf => "duplicate request",
        0xd0 => "the SDR repository is being updated",
        0xd1 => "the device is being updated",
        0xd2 => "the BMC is starting",
        0xd3 => "destination not there",
        0xd4 => "insufficient privilege",
        0xd5 => "not possible in this state",
        0xd6 => "switched off",
        0xff => "unspecified error",
        _ => "a code of its maker",
    }
}
