//! The agent's configuration: defaults, the TOML file above them, `FIRMCAST_*` in the environment
//! above both.
//!
//! docs/agent.toml is the commented example. A key that does not exist is an error that names it,
//! wherever it stands.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::hooks;
use crate::handover::OnUnknown;
use crate::wire::DEFAULT_PORT;
use crate::wire::finding::Acceptance;

/// The configuration file when none is named; it need not exist.
pub const CONFIG_PATH_DEFAULT: &str = "/etc/firmcast/agent.toml";

/// Largest configuration file that is read, in bytes.
pub const CONFIG_SIZE_MAX: usize = 64 * 1024;

/// Most entries in each trust list; keys rotate, so two or three are usual.
pub const TRUSTED_MAX: usize = 16;

/// What every environment variable of the agent starts with.
const ENVIRONMENT_PREFIX: &str = "FIRMCAST_";

/// What starts with that and then with this belongs to `firmcast-fleet`.
const FLEET_PREFIX: &str = "FLEET_";

/// The agent's settings, all with a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and UDP port to listen on.
    pub listen: SocketAddr,
    /// The file of this host's secret key; made at the first start.
    pub host_key: PathBuf,
    /// Managers that may give instructions: files of public keys, or the keys themselves.
    pub trusted_managers: Vec<String>,
    /// Release keys whose bundles may be flashed: files of public keys, or the keys themselves.
    pub trusted_releases: Vec<String>,
    /// A folder whose `*.pub` files are trusted besides, each for the role that it states. Empty:
    /// none is.
    pub trusted_dir: PathBuf,
    /// The firmware's flash chip: an MTD name or `/dev/mtdN`; or the names of two chips that are
    /// one BIOS together, `LOW+HIGH`, from the lower addresses on. Empty: the one that is the
    /// firmware's without doubt.
    pub flash: String,
    /// The distribution's kernel that the recovery initramfs was built for. Empty, as its
    /// initramfs: the newest of `recovery` in the state folder that can be started.
    pub recovery_kernel: PathBuf,
    /// The recovery initramfs.
    pub recovery_initramfs: PathBuf,
    /// Where the agent keeps the security version floor and the record of the last campaign.
    pub state_dir: PathBuf,
    /// Where a manager may be when this machine has to ask for help: URLs, tried in this order.
    pub managers: Vec<String>,
    /// The archive with what the recovery environment needs when it comes up by itself. Empty: one
    /// that is there already is kept up to date.
    pub rescue_archive: PathBuf,
    /// What the recovery environment does when nothing tells whether the firmware is whole.
    pub on_unknown_firmware: OnUnknown,
    /// Checks whose problem is accepted on this host, by name.
    pub accept: Vec<String>,
    /// Whether managers may accept such problems too, for one update.
    pub accept_from_managers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT),
            host_key: "/var/lib/firmcast/host.key".into(),
            trusted_managers: Vec::new(),
            trusted_releases: Vec::new(),
            trusted_dir: "/etc/firmcast/trusted.d".into(),
            flash: String::new(),
            recovery_kernel: PathBuf::new(),
            recovery_initramfs: PathBuf::new(),
            state_dir: "/var/lib/firmcast".into(),
            managers: Vec::new(),
            rescue_archive: PathBuf::new(),
            on_unknown_firmware: OnUnknown::default(),
            accept: Vec::new(),
            accept_from_managers: true,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Longer than any configuration.
    #[error(
        "the configuration {path} is longer than {CONFIG_SIZE_MAX} bytes: is it the right file?"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` in {place}; the keys are {known}")]
    UnknownKey {
        /// As it is written.
        key: String,
        /// The file, or the environment.
        place: String,
        /// The keys that exist.
        known: String,
    },
    /// A value of another kind than the key's.
    #[error("{place}: {problem}; docs/agent.toml shows every key")]
    Invalid {
        /// The file, or the environment.
        place: String,
        /// What is wrong, with the key where there is one.
        problem: String,
    },
    /// One of two files that belong together.
    #[error(
        "{place}: recovery_kernel and recovery_initramfs belong together: set both, or neither for \
         the images that firmcast-mkrecovery --all keeps"
    )]
    HalfRecovery {
        /// The file.
        place: String,
    },
    /// More keys than the agent keeps.
    #[error("{list} has {found} entries, at most {TRUSTED_MAX} are possible")]
    TooManyKeys {
        /// The list.
        list: &'static str,
        /// Its length.
        found: usize,
    },
}

impl Config {
    /// The configuration from `path`, or from [`CONFIG_PATH_DEFAULT`] if that exists, under the
    /// environment.
    ///
    /// # Errors
    /// When a named file cannot be read, or for anything in it or in the environment that is not
    /// understood.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let default_path = Path::new(CONFIG_PATH_DEFAULT);
        let shown_path = path.unwrap_or(default_path);
        let text = match read(shown_path) {
            Err(ConfigError::Read { source, .. })
                if path.is_none() && source.kind() == io::ErrorKind::NotFound =>
            {
                String::new()
            }
            other => other?,
        };
        let of_others = hooks::VARIABLES.map(|name| &name[ENVIRONMENT_PREFIX.len()..]);
        let environment = Env::prefixed(ENVIRONMENT_PREFIX)
            .ignore(&of_others)
            .filter(|name| !name.starts_with(FLEET_PREFIX));
        Self::from_layers(shown_path, &text, environment)
    }

    /// The configuration in `text` alone, without file and environment.
    ///
    /// # Errors
    /// For anything in it that is not understood.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // No variable has a name with a zero byte in it.
        Self::from_layers(Path::new(CONFIG_PATH_DEFAULT), text, Env::prefixed("\0"))
    }

    fn from_layers(path: &Path, text: &str, environment: Env) -> Result<Self, ConfigError> {
        let config: Self = Figment::from(Serialized::defaults(Self::default()))
            .merge(Toml::string(text))
            .merge(environment)
            .extract()
            .map_err(|error| explain(path, error))?;
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        if is_set(&config.recovery_kernel) != is_set(&config.recovery_initramfs) {
            return Err(ConfigError::HalfRecovery { place: path.display().to_string() });
        }
        if let Err(problem) = Acceptance::of_names(config.accept.iter().map(String::as_str)) {
            let (place, problem) = (path.display().to_string(), format!("accept: {problem}"));
            return Err(ConfigError::Invalid { place, problem });
        }
        let lists = [
            ("trusted_managers", config.trusted_managers.len()),
            ("trusted_releases", config.trusted_releases.len()),
            ("managers", config.managers.len()),
        ];
        match lists.into_iter().find(|(_, found)| *found > TRUSTED_MAX) {
            Some((list, found)) => Err(ConfigError::TooManyKeys { list, found }),
            None => Ok(config),
        }
    }
}

impl Config {
    /// What [`Config::accept`] stands for; its names were checked when it was loaded.
    pub fn accepted(&self) -> Acceptance {
        Acceptance::of_names(self.accept.iter().map(String::as_str)).unwrap_or_default()
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.into(), source };
    let mut text = String::new();
    let limit = CONFIG_SIZE_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)).map_err(failed)?;
    if text.len() > CONFIG_SIZE_MAX {
        return Err(ConfigError::TooLong { path: path.into() });
    }
    Ok(text)
}

/// TOML for figment. What figment brings for this stands on an older parser, which is three times
/// as large.
struct Toml;

impl Format for Toml {
    type Error = toml::de::Error;

    const NAME: &'static str = "TOML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        toml::from_str(text)
    }
}

/// figment's error in the words of whoever wrote the file.
fn explain(path: &Path, error: figment::Error) -> ConfigError {
    let from_environment =
        error.metadata.as_ref().is_some_and(|metadata| metadata.name.contains("environment"));
    let in_environment = |key: &str| format!("{ENVIRONMENT_PREFIX}{}", key.to_uppercase());
    let place =
        if from_environment { "the environment".to_owned() } else { path.display().to_string() };
    match error.kind {
        Kind::UnknownField(key, known) => ConfigError::UnknownKey {
            key: if from_environment { in_environment(&key) } else { key },
            place,
            known: known.join(", "),
        },
        kind => {
            let key = error.path.join(".");
            let problem = match kind.to_string() {
                text if key.is_empty() => text.trim_end().to_owned(),
                text if from_environment => format!("{}: {text}", in_environment(&key)),
                text => format!("{key}: {text}"),
            };
            ConfigError::Invalid { place, problem }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_commented_example_shows_the_defaults() {
        let example = include_str!("../../docs/agent.toml");
        assert_eq!(Config::parse(example).unwrap(), Config::default());
        let uncommented: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if setting.starts_with(char::is_alphabetic) => setting,
                _ => "",
            })
            .flat_map(|line| [line, "\n"])
            .collect();
        let config = Config::parse(&uncommented).unwrap();
        let defaults = Config {
            trusted_managers: config.trusted_managers.clone(),
            trusted_releases: config.trusted_releases.clone(),
            flash: config.flash.clone(),
            recovery_kernel: config.recovery_kernel.clone(),
            recovery_initramfs: config.recovery_initramfs.clone(),
            managers: config.managers.clone(),
            rescue_archive: config.rescue_archive.clone(),
            ..Config::default()
        };
        assert_eq!(config, defaults);
        assert!(!config.flash.is_empty() && !config.trusted_managers.is_empty());
    }

    #[test]
    fn errors_say_where_and_what() {
        let cases = [
            (
                "flsh = \"BIOS\"",
                "unknown key `flsh` in /etc/firmcast/agent.toml; the keys are listen, host_key, \
                trusted_managers, trusted_releases, trusted_dir, flash, recovery_kernel, \
                recovery_initramfs, state_dir, managers, rescue_archive, on_unknown_firmware, \
                accept, accept_from_managers",
            ),
            (
                "flash = 3",
                "/etc/firmcast/agent.toml: flash: invalid type: found signed int `3`, expected a \
                string; docs/agent.toml shows every key",
            ),
            (
                "listen = \"here\"",
                "/etc/firmcast/agent.toml: listen: invalid socket address syntax; docs/agent.toml \
                shows every key",
            ),
            (
                "flash = \"BIOS\n",
                "/etc/firmcast/agent.toml: TOML parse error at line 1, column 14\n  |\n\
                 1 | flash = \"BIOS\n  |              ^\n\
                 invalid basic string, expected `\"`; docs/agent.toml shows every key",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(Config::parse(text).unwrap_err().to_string(), message);
        }
        let half = Config::parse("recovery_kernel = \"/boot/vmlinuz\"").unwrap_err();
        assert!(matches!(half, ConfigError::HalfRecovery { .. }), "{half}");
        let many = format!("trusted_managers = [{}]", "\"x\",".repeat(TRUSTED_MAX + 1));
        assert_eq!(
            Config::parse(&many).unwrap_err().to_string(),
            "trusted_managers has 17 entries, at most 16 are possible"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error(
            lines in proptest::collection::vec(
                "[a-z_]{0,18} ?=? ?[\\[\"]?\\PC{0,20}[\\]\"]?", 0..6),
        ) {
            if let Ok(config) = Config::parse(&lines.join("\n")) {
                prop_assert!(config.trusted_managers.len() <= TRUSTED_MAX);
            }
        }
    }

    #[test]
    fn only_the_default_file_may_be_absent() {
        let absent = Path::new("/nonexistent/agent.toml");
        assert!(matches!(Config::load(Some(absent)), Err(ConfigError::Read { .. })));
        assert!(matches!(read(Path::new("/dev/zero")), Err(ConfigError::TooLong { .. })));
    }
}
