/// What a browser says of where a request comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// `Sec-Fetch-Site` (W3C Fetch Metadata); sent over TLS and to loopback.
    pub site: Option<&'a str>,
    /// `Origin` (RFC 6454); sent with each POST.
    pub origin: Option<&'a str>,
    /// `Host`.
    pub host: Option<&'a str>,
}

impl Origin<'_> {
    /// Says whether the page itself made the request. Without a word of the browser it did not:
    /// programs have tokens.
    pub fn is_own(&self) -> bool {
        match (self.site, self.origin, self.host) {
            (Some(site), _, _) => site == "same-origin",
            (None, Some(origin), Some(host)) => {
                let rest = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
                rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_s_own_requests_are_its_own() {
        let host = Some("fleet.example:8420");
        let own = |site, origin| Origin { site, origin, host }.is_own();
        assert!(own(Some("same-origin"), None));
        assert!(own(None, Some("https://fleet.example:8420")));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!own(Some(site), Some("https://fleet.example:8420")), "{site}");
        }
        let others = [
            "null",
            "",
            "https://fleet.example:8421",
            "https://fleet.example:8420.evil.example",
            "https://evil.example/fleet.example:8420",
            "fleet.example:8420",
        ];
        for origin in others {
            assert!(!own(None, Some(origin)), "{origin}");
        }
        assert!(!own(None, None), "says nothing");
        assert!(!Origin { site: None, origin: Some("https://"), host: None }.is_own());
    }
}
