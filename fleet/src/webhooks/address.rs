use thiserror::Error;

/// Why a URL is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a URL.
    #[error("{url:?} is no URL; write it as https://HOST/PATH")]
    Malformed {
        /// What it is.
        url: String,
    },
    /// Neither HTTP nor HTTPS.
    #[error("{url:?} begins with neither https:// nor http://; write it as https://HOST/PATH")]
    Scheme {
        /// What it is.
        url: String,
    },
    /// It would be shown in lists and errors.
    #[error("the URL has a user or a password; leave them out, messages are signed")]
    Password,
}

/// Checks where events are to be sent to.
///
/// # Errors
/// When it is not the URL of an HTTP server, or has a password in it.
pub fn check_url(url: &str) -> Result<(), UrlError> {
    let malformed = || UrlError::Malformed { url: url.to_owned() };
    let parsed: ureq::http::Uri = url.parse().map_err(|_| malformed())?;
    if !matches!(parsed.scheme_str(), Some("https" | "http")) {
        return Err(UrlError::Scheme { url: url.to_owned() });
    }
    let authority = parsed.authority().ok_or_else(malformed)?;
    if authority.as_str().contains('@') {
        return Err(UrlError::Password);
    }
    if parsed.host().is_none_or(str::is_empty) {
        return Err(malformed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_without_passwords_is_taken() {
        for good in ["https://a/b?c=d", "http://127.0.0.1:8080", "https://[::1]/x"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in ["", "a/b", "file:///etc/passwd", "gopher://a/", "https://", "http://a b/"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        assert_eq!(check_url("https://me:secret@a/"), Err(UrlError::Password));
    }
}
