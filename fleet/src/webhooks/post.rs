use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firmcast_manager::clock::unix_micros;
use thiserror::Error;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::message::Message;
use super::signature::{SecretError, sign, timestamp};
use crate::model::Secret;

/// How long a request may take, with its answer, unless somebody has less patience.
pub const REQUEST_MAX: Duration = Duration::from_secs(10);

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Maximum number of bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Maximum number of bytes of an answer's body that are read, so that its connection can be used
/// again. What they say does not matter.
const BODY_BYTES_MAX: u64 = 16 * 1024;

/// The media type of a CloudEvent in structured mode.
const MEDIA_TYPE: &str = "application/cloudevents+json; charset=UTF-8";

/// Why a message was not delivered, or may not have been.
#[derive(Debug, Error)]
pub enum PostError {
    /// The receiver does not want it, or cannot take it now.
    #[error("answered {status}, expected 2xx; see the receiver's log")]
    Status {
        /// Of HTTP.
        status: u16,
    },
    /// A signed message goes where the operator said, nowhere else.
    #[error("answered {status}: redirects are not followed; add the webhook with its new URL")]
    Redirect {
        /// Of HTTP.
        status: u16,
    },
    /// No answer in time.
    #[error("no answer in time; see that the receiver runs, and answers before it works")]
    Silence,
    /// It could not be reached, or its answer is no HTTP.
    #[error("cannot be reached ({0}); see that the receiver runs and can be reached from here")]
    Unreachable(Box<ureq::Error>),
    /// The store has a secret that is none.
    #[error("{0}; give it another one with webhook rotate")]
    Secret(#[from] SecretError),
}

/// Sends messages. Connections are kept and used again.
#[derive(Clone, Debug)]
pub struct Postman {
    agent: ureq::Agent,
}

impl Postman {
    /// Returns one that waits for each answer at most that long. It trusts the certificate
    /// authorities of this system, in `/etc/ssl/certs`, or in `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub fn new(request_max: Duration) -> Self {
        let found = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> =
            found.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(request_max))
            .timeout_connect(Some(CONNECT_MAX.min(request_max)))
            .max_response_header_size(HEAD_BYTES_MAX)
            .user_agent(concat!("firmcast-fleet/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent() }
    }

    /// Sends a message, signed now.
    ///
    /// # Errors
    /// When the receiver did not answer with 2xx. It may have the message all the same.
    pub fn post(&self, url: &str, secrets: &[Secret], message: &Message) -> Result<(), PostError> {
        let at = i64::try_from(unix_micros(SystemTime::now())).unwrap_or(i64::MAX);
        let signature = sign(secrets, &message.id, at, &message.body)?;
        let request = self.agent.post(url).header("content-type", MEDIA_TYPE);
        let request = request.header("webhook-id", &message.id);
        let request = request.header("webhook-timestamp", timestamp(at));
        let answer = request.header("webhook-signature", signature).send(&message.body[..]);
        let mut answer = answer.map_err(|error| match error {
            ureq::Error::Timeout(_) => PostError::Silence,
            other => PostError::Unreachable(Box::new(other)),
        })?;
        let status = answer.status().as_u16();
        match status {
            200..=299 => {
                let body = answer.body_mut().as_reader().take(BODY_BYTES_MAX);
                // A body that breaks off costs the connection, no more.
                let _ = std::io::copy(&mut { body }, &mut std::io::sink());
                Ok(())
            }
            300..=399 => Err(PostError::Redirect { status }),
            _ => Err(PostError::Status { status }),
        }
    }
}
