//! Runs the flash engine on a real MTD device and says what held: for virtual machines, whose chips
//! may be destroyed.
//!
//! ```text
//! flash_exercise --device NAME --destroy-contents
//!     exercises the engine: lines "ok ..." and "FAIL ...", status 1 if any failed
//! flash_exercise --device NAME --beyond-4-gib
//!     writes, erases and reads one block there, and nothing below
//! flash_exercise --device LOW+HIGH --joint
//!     reads, writes and locks across the place where the second chip begins
//! flash_exercise --device NAME --update FILE
//!     brings the chip to the file, preserving `name,offset,length` of --preserve
//! flash_exercise --device NAME --rescue FILE
//!     the same for a chip whose contents are known to be bad
//! flash_exercise --device NAME --bench FILE ...
//!     flashes each file in turn: one JSON object for each, with its time
//! flash_exercise --rehearse OLD NEW
//!     brings a chip in memory from one file to the other, for callgrind
//! flash_exercise --time COMMAND ...
//!     runs a command: one JSON object with its time
//! ```
//! `--update` and `--rescue` show each step as `PHASE DONE/TOTAL`, flushed, so that the power can
//! be cut at a chosen one; they end with `end: ` and the engine's sentence.

mod bench;
mod exercise;
mod joined;
mod own;
mod rehearse;
mod replace;
mod timed;

use std::process::ExitCode;

use anyhow::Context as _;
use firmcast::flash::{End, Flash, Job, Step};
use firmcast::image::{
    Description, Manifest, PayloadFormat, Region, SignedManifest, VerifiedImage,
};
use firmcast::keys::{ReleaseSecretKey, SecretKey as _};
use rand_core::OsRng;

const USAGE: &str = "usage: flash_exercise --device NAME (--destroy-contents | --beyond-4-gib | \
    --joint | (--update | --rescue) FILE [--preserve NAME,OFFSET,LENGTH ...] | --bench FILE ...), \
    or flash_exercise --rehearse OLD NEW, or flash_exercise --time COMMAND ...";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["--device", device, "--destroy-contents"] => exercise::exercise(device),
        ["--device", device, "--beyond-4-gib"] => exercise::beyond_4_gib(device).map(|()| true),
        ["--device", device, "--joint"] => joined::joined(device).map(|()| true),
        ["--device", device, "--update", file, ref rest @ ..] => {
            replace::replace(device, file, rest, Job::new)
        }
        ["--device", device, "--rescue", file, ref rest @ ..] => {
            replace::replace(device, file, rest, Job::rescue)
        }
        ["--device", device, "--bench", ref files @ ..] => {
            bench::bench(device, files).map(|()| true)
        }
        ["--rehearse", old, new] => rehearse::rehearse(old, new).map(|()| true),
        ["--time", ref command @ ..] => bench::time(command),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAIL {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns a bundle's way from bytes to a verified image, with a key that nobody keeps.
fn sign(image: Vec<u8>, regions: Vec<Region>) -> anyhow::Result<VerifiedImage> {
    let key = ReleaseSecretKey::generate(&mut OsRng);
    let description = Description {
        version: "1".to_owned(),
        security_version: 1,
        vendor: "vendor".to_owned(),
        products: vec!["product".to_owned()],
        regions,
        // Images here are noise over whatever the chip held.
        new_layout: true,
        new_boot_guard: true,
        ..Description::default()
    };
    let manifest = Manifest::describe(description, &image, PayloadFormat::Raw, &image)?;
    let signed = SignedManifest::parse(&SignedManifest::sign(&manifest, &key)?)?;
    Ok(signed.verify(&[key.public()])?.open_payload(&image)?)
}

fn run(mut job: Job, chip: &mut dyn Flash) -> anyhow::Result<End> {
    loop {
        match job.step(chip) {
            Step::Continue => {}
            Step::ReadyToChange => job.allow_change(),
            Step::Ended => return job.into_end().context("an ended job has no end"),
        }
    }
}
