//! Key files: the secret in NAME.key, readable by its owner only; the public key in NAME.pub.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyError, PublicKey, SecretKey, text};
use crate::durable::{self, NewFile};

/// Largest key file that is read, in bytes.
pub const KEY_FILE_MAX: usize = 4096;

/// Mode of a file with a public key.
const PUBLIC: u32 = 0o644;

/// The environment variable with the folder of a service's credentials (systemd.exec(5),
/// `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Why a key file could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The contents are not the key that was asked for.
    #[error("cannot use key file {path}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        #[source]
        source: KeyError,
    },
    /// A key given in place of a file's name is not one.
    #[error("cannot use the key that was given as text")]
    Text(#[source] KeyError),
    /// Others than the owner have access to a secret key.
    #[error(
        "key file {path} has mode {mode:04o}, so others can read it: run `chmod 600 {path}`, and \
        make a new key if someone may have"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file is never overwritten.
    #[error("{path} exists already and is not overwritten: choose another name or move it away")]
    Exists {
        /// The file that stands in the way.
        path: PathBuf,
    },
    /// Not a regular file, or too large to be a key.
    #[error("{path} is not a key file: expected a regular file of at most {KEY_FILE_MAX} bytes")]
    NotAKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Returns where the public key of the secret in `secret_path` lies: `manager.pub` for
/// `manager.key`, else the same name with `.pub` appended.
pub fn public_path(secret_path: &Path) -> PathBuf {
    if secret_path.extension().is_some_and(|end| end == "key") {
        return secret_path.with_extension("pub");
    }
    let mut name = secret_path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Returns a public key from a configuration value: the key itself, or the path of its file.
///
/// A value that starts with `firmcast-` and holds a space is taken as the key itself.
///
/// # Errors
/// When the file cannot be read or the text is not a public key of type `K`.
pub fn load_public<K: PublicKey>(path_or_text: &str) -> Result<K, KeyFileError> {
    if path_or_text.starts_with("firmcast-") && path_or_text.contains(' ') {
        return path_or_text.parse().map_err(KeyFileError::Text);
    }
    let path = Path::new(path_or_text);
    let file = open(path)?;
    parse(path, &read(path, file)?)
}

/// Returns the secret key in the file `path`.
///
/// # Errors
/// When group or others have any access, the file cannot be read, or it is not a secret key of type
/// `S`.
pub fn load_secret<S: SecretKey>(path: &Path) -> Result<S, KeyFileError> {
    load_secret_of(path, std::env::var_os(CREDENTIALS).as_deref().map(Path::new))
}

/// Returns the secret key in `path`, where `credentials` is the folder that systemd has made for
/// this service alone: it lets the service's user in by an ACL, which shows as access of the group.
fn load_secret_of<S: SecretKey>(
    path: &Path,
    credentials: Option<&Path>,
) -> Result<S, KeyFileError> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(io_error("read", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    let is_credential =
        metadata.uid() == 0 && credentials.is_some_and(|folder| path.parent() == Some(folder));
    let exposed = if is_credential { 0o037 } else { 0o077 };
    let parsed = parse(path, &read(path, file)?);
    // Others may well read a public key: that it is one is what there is to say.
    let is_public = matches!(&parsed, Err(KeyFileError::Key { source: KeyError::IsPublic, .. }));
    if mode & exposed != 0 && !is_public {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    parsed
}

/// Writes `key` to the new file `path` (mode 0600) and its public key, with `comment`, to
/// [`public_path`] (mode 0644).
///
/// # Errors
/// When either file exists or cannot be written; then neither is left behind.
pub fn create_pair<S: SecretKey>(
    path: &Path,
    key: &S,
    comment: Option<&str>,
) -> Result<(), KeyFileError> {
    let public_path = public_path(path);
    let mut line = key.public().to_string();
    if let Some(comment) = comment {
        text::check_comment(comment)
            .map_err(|source| KeyFileError::Key { path: public_path.clone(), source })?;
        line.push(' ');
        line.push_str(comment);
    }
    line.push('\n');
    create(&public_path, PUBLIC, line.as_bytes())?;
    create(path, durable::PRIVATE, key.to_text().as_bytes()).inspect_err(|_| {
        // Best effort: the error that counts is the one that led here.
        let _ = fs::remove_file(&public_path);
    })
}

/// Makes `key` the one in the file `path` (mode 0600), whatever is there.
///
/// # Errors
/// When it cannot be written; the old file stays then.
pub(crate) fn replace_secret<S: SecretKey>(path: &Path, key: &S) -> Result<(), KeyFileError> {
    let text = key.to_text();
    durable::replace(path, durable::PRIVATE, text.as_bytes()).map_err(io_error("write", path))
}

/// Makes the file beside the secret key in `secret_path` the one of its public key, unless it is.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn mend_public<K: PublicKey>(secret_path: &Path, key: &K) -> Result<(), KeyFileError> {
    let path = public_path(secret_path);
    durable::remove_leftover(&path);
    let found = open(&path).and_then(|file| parse::<K>(&path, &read(&path, file)?));
    if found.is_ok_and(|found| found == *key) {
        return Ok(());
    }
    let line = format!("{key}\n");
    durable::replace(&path, PUBLIC, line.as_bytes()).map_err(io_error("write", &path))
}

/// Returns whether the file holds the beginning of a secret key of type `S`, or nothing but zeros:
/// what a power cut leaves of a file that was being written. `example` is a key of that type.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn is_unfinished<S: SecretKey>(path: &Path, example: &S) -> Result<bool, KeyFileError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_MAX));
    let file = open(path)?.take(KEY_FILE_MAX as u64);
    { file }.read_to_end(&mut bytes).map_err(io_error("read", path))?;
    let whole = example.to_text();
    let first_line = whole.split_inclusive('\n').next().unwrap_or_default().as_bytes();
    let compared = first_line.len().min(bytes.len());
    let begins =
        bytes.len() < whole.trim_end().len() && bytes[..compared] == first_line[..compared];
    Ok(begins || bytes.iter().all(|byte| *byte == 0))
}

/// Writes a file that did not exist, durably.
fn create(path: &Path, mode: u32, contents: &[u8]) -> Result<(), KeyFileError> {
    let created = NewFile::begin(path, mode).and_then(|new| new.create(contents));
    created.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
        _ => KeyFileError::Io { action: "create", path: path.into(), source },
    })
}

fn open(path: &Path) -> Result<File, KeyFileError> {
    // Without O_NONBLOCK a FIFO would hang the open.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(io_error("open", path))?;
    if !file.metadata().map_err(io_error("read", path))?.is_file() {
        return Err(KeyFileError::NotAKeyFile { path: path.into() });
    }
    Ok(file)
}

fn read(path: &Path, file: File) -> Result<Zeroizing<String>, KeyFileError> {
    // Room for everything from the start: growing would leave unwiped copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_MAX + 1));
    let limit = KEY_FILE_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    if bytes.len() > KEY_FILE_MAX {
        return Err(KeyFileError::NotAKeyFile { path: path.into() });
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(KeyFileError::Key { path: path.into(), source: KeyError::NotAKey }),
    }
}

fn parse<K: std::str::FromStr<Err = KeyError>>(path: &Path, text: &str) -> Result<K, KeyFileError> {
    text.parse().map_err(|source| KeyFileError::Key { path: path.into(), source })
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { action, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::keys::ManagerSecretKey;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn the_group_may_read_a_credential_of_systemd_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manager.key");
        let key = ManagerSecretKey::generate(&mut ChaCha20Rng::from_seed([7; 32]));
        create_pair(&path, &key, None).unwrap();
        if fs::metadata(&path).unwrap().uid() != 0 {
            eprintln!("skipped: credentials belong to root");
            return;
        }
        let load = |mode, credentials: Option<&Path>| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            load_secret_of::<ManagerSecretKey>(&path, credentials).is_ok()
        };
        let (own, other) = (Some(folder.path()), Some(Path::new("/run/credentials/x.service")));
        assert!(load(0o600, None) && load(0o400, own) && load(0o440, own));
        assert!(!load(0o440, None) && !load(0o440, other));
        assert!(!load(0o444, own) && !load(0o460, own) && !load(0o450, own));
    }
}
