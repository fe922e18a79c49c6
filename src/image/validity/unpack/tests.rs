#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::tiano::{TianoError, Variant};
use super::*;

/// What [`EFI`] and [`TIANO`] come to.
fn plain() -> Vec<u8> {
    let mut plain = b"firmware, firmware, and more firmware: ".repeat(3);
    plain.extend(0..40);
    plain
}

/// As uefi-firmware (PyPI) compresses it.
const EFI: &str = "4d0000009d000000003f4b6f90d300000000380515a6097c8f48a1e49d458f46179c00115c7226\
    f0825d43e893adc0dd897d16c1fe638f41149351559761969b71d79f8218a39259a7a29aabb2d0bafc31cb3d0000";
const TIANO: &str = "4d0000009d000000003f4b6f90d300000000380515a6097c8f48a1e49d458f46178e0008ae39\
    1378412ea1f449d6e06ec4be8b60ff31c7a08a49a8aacbb0cb4db8ebcfc10c51c92cd3d14d55d9685d7e18e59e8000";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hexadecimal.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn lzma(data: &[u8]) -> Vec<u8> {
    use lzma_rust2::{LzmaOptions, LzmaWriter, Write as _};
    let options = LzmaOptions::with_preset(6);
    let mut writer =
        LzmaWriter::new_use_header(Vec::new(), &options, Some(data.len() as u64)).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn amd_zlib(data: &[u8]) -> Vec<u8> {
    let stream = miniz_oxide::deflate::compress_to_vec_zlib(data, 6);
    let mut packed = vec![0; 0x100];
    packed[0x14..0x18].copy_from_slice(&(stream.len() as u32).to_le_bytes());
    packed.extend(stream);
    packed
}

fn samples() -> [(Codec, Vec<u8>); 4] {
    [
        (Codec::Lzma, lzma(&plain())),
        (Codec::Efi, bytes(EFI)),
        (Codec::Tiano, bytes(TIANO)),
        (Codec::AmdZlib, amd_zlib(&plain())),
    ]
}

fn unpack(codec: Codec, packed: &[u8]) -> Result<Unpacked, String> {
    Budget::default().unpack(codec, packed)
}

#[test]
fn every_codec_unpacks_what_others_have_packed() {
    for (codec, packed) in samples() {
        assert_eq!(unpack(codec, &packed), Ok(Unpacked::Bytes(plain())), "{codec:?}");
    }
    // Makers mix these up.
    assert_eq!(unpack(Codec::Tiano, &bytes(EFI)), Ok(Unpacked::Bytes(plain())));
    assert_eq!(unpack(Codec::Efi, &bytes(TIANO)), Ok(Unpacked::Bytes(plain())));
}

#[test]
fn the_filter_for_x86_code_is_undone() {
    use lzma_rust2::Write as _;
    use lzma_rust2::filter::bcj::BcjWriter;
    // Calls of one function from many places.
    let call =
        |at: u32| [vec![0x90; 11], vec![0xe8], (0x2000 - at).to_le_bytes().to_vec()].concat();
    let code: Vec<u8> = (0..100u32).flat_map(|nth| call(nth * 16 + 16)).collect();
    let mut writer = BcjWriter::new_x86(Vec::new(), 0);
    writer.write_all(&code).unwrap();
    let filtered = writer.finish().unwrap();
    assert_ne!(filtered, code);
    assert_eq!(unpack(Codec::LzmaX86, &lzma(&filtered)), Ok(Unpacked::Bytes(code)));
}

#[test]
fn a_stream_that_is_cut_or_goes_on_is_damaged() {
    for (codec, packed) in samples() {
        for end in 0..packed.len() - 4 {
            assert!(unpack(codec, &packed[..end]).is_err(), "{codec:?} of 0x{end:x} bytes");
        }
        if codec == Codec::Lzma {
            let more = [packed.as_slice(), b"rubbish behind it"].concat();
            assert!(unpack(codec, &more).unwrap_err().contains("0x11 bytes behind its end"));
            let filled = [packed.as_slice(), &[0xff; 70]].concat();
            assert_eq!(unpack(codec, &filled), Ok(Unpacked::Bytes(plain())), "filled up");
        }
    }
    let mut long = bytes(EFI);
    long[0] += 9;
    long.extend(b"rubbish!!");
    assert_eq!(tiano::unpack(&long, Variant::Efi, 1000), Err(TianoError::Rest));
}

/// Bombs stay unseen, and nothing is allocated for them.
#[test]
fn what_goes_beyond_a_limit_stays_unseen() {
    let zeros = lzma(&vec![0; 1 << 20]);
    assert!(zeros.len() * RATIO_MAX < 1 << 20, "{}", zeros.len());
    assert_eq!(unpack(Codec::Lzma, &zeros), Ok(Unpacked::Unseen));
    let mut huge = lzma(&plain());
    huge[5..13].copy_from_slice(&(1u64 << 29).to_le_bytes());
    assert_eq!(unpack(Codec::Lzma, &huge), Ok(Unpacked::Unseen));
    let mut huge = bytes(EFI);
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(unpack(Codec::Efi, &huge), Ok(Unpacked::Unseen));
    assert_eq!(unpack(Codec::AmdZlib, &amd_zlib(&vec![0; 1 << 20])), Ok(Unpacked::Unseen));
}

/// Whatever an image holds, so much is held and so much is done, by construction.
#[test]
fn a_budget_is_used_up_and_only_what_is_held_comes_back() {
    let mut budget = Budget::default();
    let packed = lzma(&plain());
    let length = plain().len();
    // Room for two streams, and for less than a third.
    budget.work_bytes = 2 * (length + PACKED_WORK * packed.len()) + 1;
    budget.held_bytes = 3 * length;
    assert!(matches!(budget.unpack(Codec::Lzma, &packed), Ok(Unpacked::Bytes(_))));
    // The dictionary is as long, and does not fit any more.
    budget.held_bytes -= 1;
    assert_eq!(budget.unpack(Codec::Lzma, &packed), Ok(Unpacked::Unseen));
    budget.release(length);
    assert!(matches!(budget.unpack(Codec::Lzma, &packed), Ok(Unpacked::Bytes(_))));
    budget.release(length);
    assert_eq!(budget.unpack(Codec::Lzma, &packed), Ok(Unpacked::Unseen), "no work is left");
    budget.release(usize::MAX / 2);
    assert_eq!(budget.held_bytes, HELD_BYTES_MAX);
}

proptest! {
    /// No bytes panic or come to more than there is room for.
    #[test]
    fn arbitrary_streams_never_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        at in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        for (codec, packed) in samples() {
            let mut with_header = packed[..13].to_vec();
            with_header.extend(&noise);
            for packed in [&noise, &with_header] {
                if let Ok(Unpacked::Bytes(bytes)) = unpack(codec, packed) {
                    prop_assert!(bytes.len() <= packed.len() * RATIO_MAX);
                }
            }
            let mut flipped = packed;
            let at = at.index(flipped.len());
            flipped[at] ^= 1u8 << bit;
            if let Ok(Unpacked::Bytes(bytes)) = unpack(codec, &flipped) {
                prop_assert!(bytes.len() <= flipped.len() * RATIO_MAX);
            }
        }
    }
}
