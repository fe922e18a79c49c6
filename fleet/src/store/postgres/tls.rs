//! TLS to the database. Files are read for each connection: whoever renews a certificate needs not
//! start anything anew.

use std::error::Error;
use std::io;
use std::sync::Arc;

use ::postgres::error::SqlState;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::client;
use super::options::{Mode, Options};
use crate::store::error::StoreError;

/// Returns what connects with TLS as the operator said.
///
/// # Errors
/// When a file cannot be read, or has nothing of what it should have.
pub(super) fn connector(options: &Options) -> Result<MakeRustlsConnect, StoreError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier {
        server: match options.mode {
            Mode::VerifyCa | Mode::VerifyFull => Some(trusted(options, &provider)?),
            Mode::Disable | Mode::Prefer | Mode::Require => None,
        },
        is_name_checked: options.mode == Mode::VerifyFull,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Tls { problem: error.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &options.client {
        None => config.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = client::identity(files)?;
            config.with_client_auth_cert(chain, key).map_err(|error| StoreError::Tls {
                problem: format!(
                    "sslcert={} and sslkey={} do not go together: {error}",
                    files.cert.display(),
                    files.key.display()
                ),
            })?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// What verifies by the authorities that are trusted.
fn trusted(
    options: &Options,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, StoreError> {
    let (found, place) = match &options.root_cert {
        Some(file) => (client::certificates(file)?, file.display().to_string()),
        None => (rustls_native_certs::load_native_certs().certs, "/etc/ssl/certs".to_owned()),
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found);
    let built =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map_err(|_| StoreError::Tls {
        problem: format!(
            "there is no certificate of an authority in {place}; name the file of the one that \
             signed the database's certificate by sslrootcert=FILE"
        ),
    })
}

/// What went wrong with TLS, if that is why there is no connection.
pub(super) fn problem(error: &::postgres::Error) -> Option<StoreError> {
    if let Some(refused) = error.as_db_error() {
        return refusal(refused.code(), refused.message());
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.to_string() == "server does not support TLS" {
            let problem = "the server does not offer TLS; set ssl = on in its postgresql.conf, or \
                           say sslmode=disable if nobody can listen on the way";
            return Some(StoreError::Tls { problem: problem.to_owned() });
        }
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(StoreError::Tls { problem: words(error) });
        }
        source = cause.source();
    }
    None
}

/// What is wrong with the client's certificate, if that is why the server refuses it.
fn refusal(code: &SqlState, message: &str) -> Option<StoreError> {
    if *code != SqlState::INVALID_AUTHORIZATION_SPECIFICATION || !message.contains("certificate") {
        return None;
    }
    let problem = format!(
        "the server says: {message}; name a certificate for this user (its CN, or pg_ident.conf) \
         by sslcert=FILE and its key by sslkey=FILE"
    );
    Some(StoreError::Tls { problem })
}

fn words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => {
            format!("{why}; see the database's certificate (ssl_cert_file)")
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented,
        }) => format!(
            "the database's certificate is for {}, not for {}; name the host so, or give it a \
             certificate for that name",
            list(presented),
            expected.to_str()
        ),
        rustls::Error::InvalidCertificate(why) => {
            format!("the database's certificate is not accepted: {why}; renew it there")
        }
        rustls::Error::AlertReceived(alert) => format!(
            "the server ends the handshake ({alert:?}); see its log, and whether the authority of \
             the certificate in sslcert is in its ssl_ca_file"
        ),
        other => format!("{other}; see the server's log"),
    }
}

/// The names of a certificate, which come as `DnsName("db.example")`.
fn list(names: &[String]) -> String {
    let name = |name: &String| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"').to_owned()
    };
    match names {
        [] => "no name at all (subjectAltName)".to_owned(),
        names => names.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// Why a certificate is not trusted.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database's certificate is signed by {issuer}, which is not trusted here: name the file of \
     that authority's certificate by sslrootcert=FILE"
)]
struct UnknownAuthority {
    issuer: String,
}

/// A server shows the certificate of an authority, as `openssl req -x509` makes it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database's certificate says that it is one of an authority, and no server may show such \
     a one: make it again with -addext basicConstraints=critical,CA:FALSE, or have an authority \
     sign it"
)]
struct OfAuthority;

/// What rustls-webpki calls that.
const CA_USED_AS_END_ENTITY: &str = "CaUsedAsEndEntity";

/// Verifies as much as the operator wants. The server always has to have the key of its
/// certificate.
#[derive(Debug)]
struct Verifier {
    /// None when nothing is known of who it is.
    server: Option<Arc<WebPkiServerVerifier>>,
    is_name_checked: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(server) = &self.server else { return Ok(ServerCertVerified::assertion()) };
        match server.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last, when everything else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.is_name_checked => Ok(ServerCertVerified::assertion()),
            Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                let why = UnknownAuthority { issuer: issuer(certificate, intermediates) };
                Err(CertificateError::Other(OtherError(Arc::new(why))).into())
            }
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))))
                if why.to_string() == CA_USED_AS_END_ENTITY =>
            {
                Err(CertificateError::Other(OtherError(Arc::new(OfAuthority))).into())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The authority that is missing: who signed the last certificate that the server sent.
fn issuer(certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> String {
    let last = intermediates.last().unwrap_or(certificate);
    match Certificate::from_der(last) {
        Ok(last) => format!("{:?}", last.tbs_certificate.issuer.to_string()),
        Err(_) => "somebody unknown".to_owned(),
    }
}
