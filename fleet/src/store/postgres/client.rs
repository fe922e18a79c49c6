//! What this program shows a server that wants to know who connects: a certificate, and that it has
//! the key of it.

use std::fs::{File, Metadata};
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::options::ClientFiles;
use crate::store::error::StoreError;

/// Permissions that the file of a key must not have: for anybody else; where root has it, others
/// of its group may read it. As libpq has it (PostgreSQL's manual, "Client Certificates").
const NOT_FOR_OTHERS: u32 = 0o077;
const NOT_FOR_OTHERS_OF_ROOT: u32 = 0o037;

/// A certificate with those between it and an authority, and its key.
pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads the files.
///
/// # Errors
/// When one cannot be read, has nothing of what it should have, or others may read the key.
pub(super) fn identity(files: &ClientFiles) -> Result<Identity, StoreError> {
    let ClientFiles { cert, key } = files;
    Ok((certificates(cert)?, private_key(key)?))
}

/// Reads all certificates of a file.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    found.map_err(|error| unread(file, &error))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, StoreError> {
    let file = File::open(path).map_err(|error| unread(path, &error))?;
    let about = file.metadata().map_err(|error| unread(path, &error))?;
    if let Some(problem) = exposed(&about) {
        return Err(unread(path, &problem));
    }
    PrivateKeyDer::from_pem_reader(BufReader::new(file)).map_err(|error| {
        let hint = "expected a private key in PEM without a passphrase; openssl pkey removes one";
        unread(path, &format!("{error}: {hint}"))
    })
}

/// Why a file is no place for a key, if that is so.
fn exposed(about: &Metadata) -> Option<String> {
    if !about.is_file() {
        return Some("it is no regular file".to_owned());
    }
    let (mask, wanted) = match about.uid() {
        0 => (NOT_FOR_OTHERS_OF_ROOT, "0640"),
        _ => (NOT_FOR_OTHERS, "0600"),
    };
    (about.mode() & mask != 0).then(|| {
        let mode = about.mode() & 0o7777;
        format!("its mode is {mode:04o}, so others may read the key; chmod {wanted} it")
    })
}

fn unread(file: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Tls { problem: format!("cannot use {}: {error}", file.display()) }
}
