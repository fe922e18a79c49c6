//! The three commands of a TPM 2.0 that keep a few bytes in its NV memory, and their responses.
//!
//! Source: TCG TPM 2.0 Library 1.59, part 3, sections 31.3 (NV_DefineSpace), 31.7
//! (NV_Write), 31.13 (NV_Read); part 1, section 18 for the header and a password session.
//! All numbers are big-endian.
//!
//! ```text
//! command:  tag u16 | size u32 | code u32 | handles u32 ... | size of session u32 | session |
//!           parameters
//! session:  TPM_RS_PW u32 | nonce, 0 bytes: u16 | attributes u8 | password, 0 bytes: u16
//! response: tag u16 | size u32 | result u32 | with a session: size of parameters u32 |
//!           parameters | session
//! ```

/// Maximum length of a command or response here, in bytes.
pub const MESSAGE_SIZE_MAX: usize = 512;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
const NV_DEFINE_SPACE: u32 = 0x12a;
const NV_WRITE: u32 = 0x137;
const NV_READ: u32 = 0x14e;
/// The owner's hierarchy, whose password is empty unless somebody has set one.
const OWNER: u32 = 0x4000_0001;
const PASSWORD_SESSION: u32 = 0x4000_0009;
const SHA256: u16 = 0x000b;
const HEAD_SIZE: usize = 10;

/// `TPMA_NV`: the owner and the index's own (empty) password may read and write; wrong passwords do
/// not count (part 2, section 13.4).
const ATTRIBUTES: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18 | 1 << 25;

/// Why a response has nothing to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The TPM said no.
    #[error("the TPM answered {0:#x}")]
    Refused(u32),
    /// The response is not one.
    #[error("the TPM's answer was not understood")]
    Malformed,
}

impl ResponseError {
    /// Whether nothing has been written there: `TPM_RC_HANDLE` for the first or second handle,
    /// `TPM_RC_NV_UNINITIALIZED` (part 2, section 6.6.3).
    pub fn is_nothing_kept(self) -> bool {
        matches!(self, Self::Refused(0x18b | 0x28b | 0x14a))
    }

    /// Whether the index is there already: `TPM_RC_NV_DEFINED`.
    pub fn is_defined(self) -> bool {
        self == Self::Refused(0x14c)
    }
}

/// Makes the index, with room for `size` bytes.
pub fn define(index: u32, size: u16) -> Vec<u8> {
    let mut public = Vec::new();
    public.extend(index.to_be_bytes());
    public.extend(SHA256.to_be_bytes());
    public.extend(ATTRIBUTES.to_be_bytes());
    // No policy.
    public.extend(0_u16.to_be_bytes());
    public.extend(size.to_be_bytes());
    // An empty password, then the public area with its length.
    let mut parameters = 0_u16.to_be_bytes().to_vec();
    parameters.extend((public.len() as u16).to_be_bytes());
    parameters.extend(public);
    command(NV_DEFINE_SPACE, &[OWNER], &parameters)
}

/// Writes all of the index.
pub fn write(index: u32, bytes: &[u8]) -> Vec<u8> {
    let mut parameters = (bytes.len() as u16).to_be_bytes().to_vec();
    parameters.extend(bytes);
    parameters.extend(0_u16.to_be_bytes());
    command(NV_WRITE, &[index, index], &parameters)
}

/// Reads the first `size` bytes of the index.
pub fn read(index: u32, size: u16) -> Vec<u8> {
    let mut parameters = size.to_be_bytes().to_vec();
    parameters.extend(0_u16.to_be_bytes());
    command(NV_READ, &[index, index], &parameters)
}

fn command(code: u32, handles: &[u32], parameters: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
    let mut session = PASSWORD_SESSION.to_be_bytes().to_vec();
    // No nonce, no attributes, no password.
    session.extend([0; 5]);
    body.extend((session.len() as u32).to_be_bytes());
    body.extend(session);
    body.extend(parameters);
    let mut command = SESSIONS.to_be_bytes().to_vec();
    command.extend(((HEAD_SIZE + body.len()) as u32).to_be_bytes());
    command.extend(code.to_be_bytes());
    command.extend(body);
    command
}

/// Returns the parameters of a response.
///
/// # Errors
/// The TPM refused, or the bytes are no response.
pub fn response(bytes: &[u8]) -> Result<&[u8], ResponseError> {
    const MALFORMED: ResponseError = ResponseError::Malformed;
    let mut rest = bytes;
    let tag = take16(&mut rest).ok_or(MALFORMED)?;
    let size = take32(&mut rest).ok_or(MALFORMED)? as usize;
    let result = take32(&mut rest).ok_or(MALFORMED)?;
    if size != bytes.len() || size > MESSAGE_SIZE_MAX {
        return Err(MALFORMED);
    }
    match (tag, result) {
        (SESSIONS, 0) => {
            let length = take32(&mut rest).ok_or(MALFORMED)? as usize;
            rest.get(..length).ok_or(MALFORMED)
        }
        (NO_SESSIONS, refused) => Err(ResponseError::Refused(refused)),
        _ => Err(MALFORMED),
    }
}

/// What the response to [`read`] says.
///
/// # Errors
/// As [`response`].
pub fn data(bytes: &[u8]) -> Result<&[u8], ResponseError> {
    let mut parameters = response(bytes)?;
    let length = take16(&mut parameters).ok_or(ResponseError::Malformed)?;
    parameters.get(..length.into()).ok_or(ResponseError::Malformed)
}

fn take16(rest: &mut &[u8]) -> Option<u16> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u16::from_be_bytes(*head))
}

fn take32(rest: &mut &[u8]) -> Option<u32> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const INDEX: u32 = 0x0180_f1ca;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    #[test]
    fn commands_are_what_a_tpm_has_taken() {
        // swtpm 0.7.1 did what these say.
        assert_eq!(
            hex(&define(INDEX, 48)),
            "80020000002d0000012a40000001000000094000000900000000000000000e0180f1ca000b02060006\
             00000030"
        );
        assert_eq!(
            hex(&read(INDEX, 48)),
            "8002000000230000014e0180f1ca0180f1ca0000000940000009000000000000300000"
        );
        assert_eq!(
            hex(&write(INDEX, &[7; 4])),
            "800200000027000001370180f1ca0180f1ca0000000940000009000000000000040707070700\
             00"
        );
    }

    #[test]
    fn responses_of_a_tpm_are_read() {
        let read = format!("80020000004500000000000000320030{}0000010000", "07".repeat(48));
        assert_eq!(data(&bytes(&read)), Ok(&[7; 48][..]));
        assert_eq!(response(&bytes("80020000001300000000000000000000010000")), Ok(&[][..]));
        let refused = response(&bytes("80010000000a0000018b")).unwrap_err();
        assert!(refused.is_nothing_kept() && !refused.is_defined());
        assert_eq!(refused.to_string(), "the TPM answered 0x18b");
        assert!(response(&bytes("80010000000a0000014a")).unwrap_err().is_nothing_kept());
        assert!(response(&bytes("80010000000a0000014c")).unwrap_err().is_defined());
        assert!(!response(&bytes("80010000000a00000101")).unwrap_err().is_nothing_kept());
    }

    #[test]
    fn a_response_that_is_cut_is_none() {
        let whole = bytes("8002000000140000000000000006000407070707");
        assert_eq!(data(&whole), Ok(&[7; 4][..]));
        for length in 0..whole.len() {
            assert_eq!(data(&whole[..length]), Err(ResponseError::Malformed), "{length}");
            let mut cut = whole[..length].to_vec();
            if let Some(size) = cut.get_mut(2..6) {
                size.copy_from_slice(&(length as u32).to_be_bytes());
            }
            assert!(data(&cut).is_err(), "{length}");
        }
    }
}
