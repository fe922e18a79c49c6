//! A host that takes what the stream leaves out from its own chip.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::wire::excerpt::PieceSet;

const PIECE: usize = 0x1_0000;

/// A host that is told to receive the second of two pieces.
fn joined(image: &[u8]) -> (Bench, Sender) {
    let mut bench = Bench::new();
    bench.run(Time::ZERO);
    let manifest = bench.manifest(3, image);
    bench.send_manifest(Time::ZERO, &manifest);
    let payload = zstd::bulk::compress(&image[PIECE..], 3).unwrap();
    let mut carried = PieceSet::none_of(2).unwrap();
    carried.insert(1);
    let excerpt = Excerpt { payload_digest: Sha256::digest(&payload).into(), carried };
    let sender = bench.join_excerpt(Time::ZERO, &payload, 1, Some(excerpt));
    match bench.host.poll_action() {
        Some(Action::ReadPiece { piece: 0, range }) => assert_eq!(range, 0..PIECE as u64),
        other => panic!("{other:?}"),
    }
    assert!(bench.host.poll_action().is_none());
    (bench, sender)
}

#[test]
fn an_image_is_whole_when_the_chip_has_what_was_left_out_whichever_comes_first() {
    let image = image(1);
    let own = image[..PIECE].to_vec();
    for chip_is_first in [true, false] {
        let (mut bench, mut sender) = joined(&image);
        if chip_is_first {
            bench.host.piece_read(Time::ZERO, 0, Some(own.clone()));
        }
        let mut now = bench.transfer(Time::ZERO, &mut sender);
        if !chip_is_first {
            assert_eq!(bench.host.report().phase, Phase::Receiving);
            now += Duration::from_millis(1);
            bench.host.piece_read(now, 0, Some(own.clone()));
        }
        bench.run(now);
        assert_eq!(bench.last().phase, Phase::Verified);
        bench.command(now, &Command::Commit { campaign: CAMPAIGN });
        match bench.host.poll_action() {
            Some(Action::Flash { image: verified, .. }) => assert_eq!(verified.bytes(), image),
            other => panic!("{other:?}"),
        }
    }
}

/// What a host says about the excerpt does not wait for its chip, which may be slower than the
/// stream: later nobody would send it again.
#[test]
fn a_forged_excerpt_is_received_again_while_the_chip_is_still_read() {
    let image = image(1);
    let (mut bench, mut sender) = joined(&image);
    let payload = zstd::bulk::compress(&image[PIECE..], 3).unwrap();
    let mut forged = payload.clone();
    forged[9] ^= 1;
    let mut forger = bench.join(Time::ZERO, &forged, 1);
    let now = bench.transfer(Time::ZERO, &mut forger);
    bench.transfer(now, &mut sender);
    let now = now + Duration::from_secs(10);
    assert_eq!(bench.host.report().phase, Phase::Receiving);
    bench.host.piece_read(now, 0, Some(image[..PIECE].to_vec()));
    bench.run(now);
    assert_eq!(bench.last().phase, Phase::Verified);
}

#[test]
fn a_chip_without_what_was_left_out_is_never_flashed_but_by_all_of_the_image() {
    let image = image(1);
    let mut other = image[..PIECE].to_vec();
    other[7] ^= 1;
    for read in [None, Some(other), Some(Vec::new())] {
        let (mut bench, mut sender) = joined(&image);
        bench.host.piece_read(Time::ZERO, 0, read);
        let now = bench.transfer(Time::ZERO, &mut sender);
        bench.run(now);
        let report = bench.last();
        assert_eq!(report.phase, Phase::Receiving);
        assert_eq!(report.lacking.unwrap().iter().collect::<Vec<_>>(), [0]);
        bench.command(now, &Command::Commit { campaign: CAMPAIGN });
        assert!(bench.host.poll_action().is_none());
        // The manager sends everything after all.
        let mut sender = bench.join(now, &image, 2);
        let now = bench.transfer(now, &mut sender);
        bench.run(now);
        assert_eq!((bench.last().phase, bench.last().lacking), (Phase::Verified, None));
    }
}
