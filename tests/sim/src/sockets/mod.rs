//! The hosts of [`update`](crate::update) under the real clock, on real UDP sockets with an address
//! each. Real managers update them, and do not see the difference.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`fleet`] | the hosts of a seed, and the files that their managers need |
//! | [`sight`] | what a host records of what is done to it |
//! | [`post`] | the sockets |
//! | [`drive`] | the loop |
//!
//! `sockets make` writes the files of a fleet, `sockets run` plays some of its hosts until its
//! standard input ends. A line `round` there makes all of them what they were at first, a line
//! `mend` puts sound ones in the place of those that were made to fail. What is done to the hosts
//! is recorded on the standard output, as JSON.

mod drive;
mod fleet;
mod post;
mod sight;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use drive::Drive;
use fleet::Fleet;
use post::Post;

const USAGE: &str = "usage: firmcast-sim sockets make --seed N --hosts N --folder DIR\n       \
                     firmcast-sim sockets run --seed N --first N --count N --address A \
                     --broadcast A";

/// Does what the words after `sockets` say.
pub(crate) fn run(words: &[String]) -> ExitCode {
    match act(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: &[String]) -> Result<(), String> {
    let Some((verb, options)) = words.split_first() else { return Err(USAGE.into()) };
    let options = Options::read(options)?;
    let fleet = Fleet::of(options.get("--seed")?);
    match verb.as_str() {
        "make" => fleet.write(options.get("--hosts")?, &options.get::<PathBuf>("--folder")?),
        "run" => {
            let (first, count): (usize, usize) = (options.get("--first")?, options.get("--count")?);
            let (address, broadcast) = (options.get("--address")?, options.get("--broadcast")?);
            let post = Post::open(address, count, broadcast).map_err(|error| error.to_string())?;
            Drive::new(fleet, first..first + count, post).run()
        }
        _ => Err(USAGE.into()),
    }
}

/// Names and values of the command line.
struct Options(BTreeMap<String, String>);

impl Options {
    fn read(words: &[String]) -> Result<Self, String> {
        let pairs = words.chunks(2).map(|pair| match pair {
            [name, value] => Ok((name.clone(), value.clone())),
            _ => Err(USAGE.to_owned()),
        });
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    fn get<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let value = self.0.get(name).and_then(|value| value.parse().ok());
        value.ok_or_else(|| format!("{name} is missing or wrong; {USAGE}"))
    }
}

/// The address of the host in this place of a row of hosts.
fn nth(first: Ipv4Addr, place: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits() + place as u32)
}
