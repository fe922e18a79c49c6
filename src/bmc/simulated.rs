//! A simulated BMC: FRU devices, an SDR repository, system info, and moods in which it answers
//! badly.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::command::{Command, run_with};
use super::message::{Ipmi, Request, Response};
use super::{BmcError, look_up_with};

const URL: &str = "firmcast://192.0.2.7:9848";

/// A FRU device.
#[derive(Clone, Debug)]
struct SimulatedFru {
    bytes: Vec<u8>,
    by_words: bool,
    /// The code that writes are refused with.
    write_code: u8,
    /// Writes are answered well and forgotten.
    forgets: bool,
}

#[derive(Clone, Debug, Default)]
struct Bmc {
    frus: BTreeMap<u8, SimulatedFru>,
    /// Records by number; no repository if there are none.
    sdrs: Vec<Vec<u8>>,
    system_info: BTreeMap<u8, Vec<u8>>,
    /// How many units may be read at a time.
    read_max: u8,
    /// After this many requests it does not answer any more.
    dies_after: Option<usize>,
    requests: usize,
}

impl Bmc {
    fn with(frus: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Self {
        let frus = frus.into_iter().map(|(number, bytes)| {
            (number, SimulatedFru { bytes, by_words: false, write_code: 0, forgets: false })
        });
        Self { frus: frus.collect(), read_max: 255, ..Self::default() }
    }

    fn answer(&mut self, request: &Request) -> Result<Vec<u8>, u8> {
        match (request.netfn, request.command, request.data.as_slice()) {
            (6, 0x01, []) => Ok(vec![0x20; 11]),
            (6, 0x59, [0, parameter, set, 0]) => self.string(*parameter, usize::from(*set)),
            (0xa, 0x10, [number]) => {
                let fru = self.frus.get(number).ok_or(0xcb)?;
                let [low, high] = (fru.bytes.len() as u16).to_le_bytes();
                Ok(vec![low, high, u8::from(fru.by_words)])
            }
            (0xa, 0x11, [number, low, high, count]) => {
                let fru = self.frus.get(number).ok_or(0xcb)?;
                if *count > self.read_max {
                    return Err(0xca);
                }
                let unit = 1 + usize::from(fru.by_words);
                let offset = usize::from(u16::from_le_bytes([*low, *high])) * unit;
                let end = offset + usize::from(*count) * unit;
                let data = fru.bytes.get(offset..end).ok_or(0xc9)?;
                Ok([&[*count], data].concat())
            }
            (0xa, 0x12, [number, low, high, data @ ..]) => {
                let fru = self.frus.get_mut(number).ok_or(0xcb)?;
                if fru.write_code != 0 {
                    return Err(fru.write_code);
                }
                let unit = 1 + usize::from(fru.by_words);
                let offset = usize::from(u16::from_le_bytes([*low, *high])) * unit;
                if !fru.forgets {
                    fru.bytes
                        .get_mut(offset..offset + data.len())
                        .ok_or(0xc9)?
                        .copy_from_slice(data);
                }
                Ok(vec![(data.len() / unit) as u8])
            }
            (0xa, 0x23, [0, 0, low, high, 0, count]) => {
                let number = usize::from(u16::from_le_bytes([*low, *high]));
                let record = self.sdrs.get(number).ok_or(0xcb)?;
                let next = if number + 1 < self.sdrs.len() { number as u16 + 1 } else { 0xffff };
                let data = &record[..record.len().min(usize::from(*count))];
                Ok([&next.to_le_bytes(), data].concat())
            }
            _ => Err(0xc1),
        }
    }

    fn string(&self, parameter: u8, set: usize) -> Result<Vec<u8>, u8> {
        let text = self.system_info.get(&parameter).ok_or(0x80)?;
        let mut all = vec![0, text.len() as u8];
        all.extend_from_slice(text);
        let mut block = all.chunks(16).nth(set).ok_or(0xc9)?.to_vec();
        block.resize(16, 0);
        Ok([&[0x11, set as u8], block.as_slice()].concat())
    }
}

impl Ipmi for Bmc {
    fn request(&mut self, request: &Request) -> Result<Response, BmcError> {
        self.requests += 1;
        if self.dies_after.is_some_and(|count| self.requests > count) {
            return Err(BmcError::Timeout { request: request.name, timeout_ms: 5000 });
        }
        Ok(match self.answer(request) {
            Ok(data) => Response { code: 0, data },
            Err(code) => Response { code, data: vec![] },
        })
    }

    fn pause(&mut self, _: u64) {}
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte))
}

/// FRU information with one OEM record and room.
fn fru(size_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 0, 1, 0, 0xfe, 0xc0, 0x82, 2, sum(&[7, 8]), 0, 7, 8];
    bytes[12] = sum(&bytes[8..12]);
    bytes.resize(size_bytes, 0);
    bytes
}

fn locator(number: u8) -> Vec<u8> {
    vec![0, 0, 0x51, 0x11, 11, 0x20, number, 0x80, 0, 0, 0x10, 0, 0, 0, 0, 0]
}

fn urls(bmc: &mut Bmc) -> Vec<String> {
    look_up_with(bmc).unwrap().urls.iter().map(ToString::to_string).collect()
}

fn set(url: &str) -> Command {
    Command::Set { url: url.parse().unwrap() }
}

#[test]
fn a_url_is_set_found_moved_and_cleared() {
    for (by_words, read_max) in [(false, 255), (false, 7), (true, 255), (true, 3)] {
        let mut bmc = Bmc::with([(0, fru(256)), (9, fru(256))]);
        bmc.sdrs = vec![vec![0, 0, 0x51, 0xc0, 3, 0, 0, 0], locator(9)];
        bmc.read_max = read_max;
        bmc.frus.values_mut().for_each(|fru| fru.by_words = by_words);
        assert!(urls(&mut bmc).is_empty());
        run_with(&mut bmc, &set(URL)).unwrap();
        assert_eq!(urls(&mut bmc), [URL]);
        assert_eq!(bmc.frus[&9].bytes, fru(256), "only the board's own device got it");
        let shown = run_with(&mut bmc, &Command::Show { json: true }).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["managers"], serde_json::json!([URL]));
        assert_eq!(shown["fru_devices"][1]["device"], 9);
        assert!(run_with(&mut bmc, &set(URL)).unwrap().contains("nothing to change"));
        assert!(run_with(&mut bmc, &Command::Clear).unwrap().contains("removed"));
        assert_eq!(bmc.frus[&0].bytes, fru(256));
        assert!(run_with(&mut bmc, &Command::Clear).unwrap().starts_with("no FRU device"));
    }
}

#[test]
fn the_url_stays_in_the_device_that_has_it_and_older_ones_go() {
    let mut bmc = Bmc::with([(0, fru(256)), (1, fru(256))]);
    run_with(&mut bmc, &set("firmcast://one")).unwrap();
    let with_url = bmc.frus[&0].bytes.clone();
    // Without an SDR repository the devices behind the first are tried in turn.
    let mut bmc = Bmc::with([(0, fru(256)), (1, with_url.clone()), (2, with_url)]);
    assert_eq!(urls(&mut bmc), ["firmcast://one:9848"]);
    run_with(&mut bmc, &set(URL)).unwrap();
    assert_eq!(urls(&mut bmc), [URL]);
    assert_eq!((&bmc.frus[&0].bytes, &bmc.frus[&2].bytes), (&fru(256), &fru(256)));
}

#[test]
fn system_info_is_the_second_place() {
    let mut bmc = Bmc::with([(0, fru(64))]);
    let long = format!("firmcast://{}.example:9848", "a".repeat(60));
    bmc.system_info =
        BTreeMap::from([(6, b"https://bmc".to_vec()), (7, long.clone().into_bytes())]);
    assert_eq!(urls(&mut bmc), [long]);
    let shown = run_with(&mut bmc, &Command::Show { json: false }).unwrap();
    assert!(shown.contains("system info 6 (BMC URL): https://bmc\n"), "{shown}");
}

#[test]
fn a_locked_device_a_forgetful_one_and_none_are_told() {
    let error = |change: fn(&mut Bmc)| {
        let mut bmc = Bmc::with([(0, fru(256))]);
        change(&mut bmc);
        run_with(&mut bmc, &set(URL)).unwrap_err()
    };
    let refuse = |code: u8| {
        let mut bmc = Bmc::with([(0, fru(256))]);
        bmc.frus.get_mut(&0).unwrap().write_code = code;
        run_with(&mut bmc, &set(URL)).unwrap_err()
    };
    assert!(matches!(refuse(0x80), BmcError::Locked { fru: 0, code: 0x80 }));
    assert!(matches!(refuse(0xff), BmcError::Unfinished { fru: 0, number: 1, count: 2, .. }));
    let forgets = error(|bmc| bmc.frus.get_mut(&0).unwrap().forgets = true);
    assert!(matches!(
        forgets,
        BmcError::NotWritten { offset_bytes: 9, expected: 0x02, got: 0x82, .. }
    ));
    assert!(matches!(error(|bmc| bmc.frus.clear()), BmcError::NoFru { fru: 0 }));
    let small = error(|bmc| bmc.frus.get_mut(&0).unwrap().bytes = fru(40));
    assert!(small.in_full().contains("FRU device 0: no room"), "{small}");
}

#[test]
fn a_bmc_that_dies_ends_the_look_up_but_what_it_told_counts() {
    let mut told = Bmc::with([(0, fru(256)), (1, fru(256))]);
    run_with(&mut told, &set(URL)).unwrap();
    let all = Bmc { requests: 0, ..told.clone() };
    let mut whole = all.clone();
    urls(&mut whole);
    for count in 0..whole.requests {
        let mut bmc = Bmc { dies_after: Some(count), ..all.clone() };
        match look_up_with(&mut bmc) {
            Ok(found) => {
                assert_eq!(found.urls.len(), 1);
                assert!(found.remarks.last().unwrap().contains("does not answer"));
            }
            Err(error) => assert!(matches!(error, BmcError::Timeout { .. }), "{count}: {error}"),
        }
        assert_eq!(bmc.requests, count + 1, "nothing more is asked of a dead BMC");
    }
}

const BABBLE_MAX: usize = 20_000;

/// Answers anything, but a Get Device ID well.
struct Babbler(Vec<(u8, Vec<u8>)>, usize);

impl Ipmi for Babbler {
    fn request(&mut self, request: &Request) -> Result<Response, BmcError> {
        self.1 += 1;
        // Devices of 64 KiB may come byte by byte: the time is limited, as the kernel's device does
        // it.
        if self.1 > BABBLE_MAX {
            assert_eq!(self.1, BABBLE_MAX + 1, "nothing is asked when the time is over");
            return Err(BmcError::TooSlow { request: request.name, limit_ms: 0 });
        }
        let (code, data) = self.0[self.1 % self.0.len()].clone();
        Ok(Response { code: if request.command == 1 { 0 } else { code }, data })
    }

    fn pause(&mut self, _: u64) {}
}

proptest! {
    #[test]
    fn answers_of_any_length_and_code_come_to_an_end(
        answers in proptest::collection::vec(
            (
                prop_oneof![4 => Just(0_u8), 1 => any::<u8>()],
                proptest::collection::vec(prop_oneof![any::<u8>(), 0..4_u8], 0..40),
            ),
            1..30,
        ),
    ) {
        let _ = look_up_with(&mut Babbler(answers.clone(), 0));
        for command in [Command::Show { json: false }, Command::Clear, set(URL)] {
            let _ = run_with(&mut Babbler(answers.clone(), 0), &command);
        }
    }
}
