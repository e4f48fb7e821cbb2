//! The issuer: the name of this auth server, which is the audience of assertions and the base of its URLs (RFC 8414).

use crate::login::Audience;
use std::fmt;
use url::Url;

/// The issuer, as clients must write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    /// The path of its URL without a slash at its end; empty for none.
    path: String,
}

impl Issuer {
    /// Reads a URL. It is compared as it is written, so nothing is changed.
    ///
    /// # Errors
    /// What is wrong with it, and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let help = "write the URL at which clients reach this server, such as https://auth.example.com";
        let url = Url::parse(text).map_err(|error| format!("{error}; {help}"))?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(format!("it is no URL of https; {help}"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(format!("it has a query, a fragment or a user (RFC 8414 section 2); {help}"));
        }
        Ok(Self { text: text.to_owned(), path: url.path().trim_end_matches('/').to_owned() })
    }

    /// Returns the audience of assertions.
    pub fn audience(&self) -> Audience {
        Audience { issuer: self.text.clone(), token_endpoint: self.endpoint("/token") }
    }

    /// Returns the URL of this path below the issuer.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.text.trim_end_matches('/'))
    }

    /// Returns the path of the metadata: the path of the issuer comes last (RFC 8414 section 3.1).
    pub fn metadata_path(&self) -> String {
        format!("/.well-known/oauth-authorization-server{}", self.path)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_stays_as_it_is_written_and_gives_the_urls() {
        let issuer = Issuer::parse("https://auth.example.com").unwrap();
        assert_eq!(issuer.to_string(), "https://auth.example.com");
        assert_eq!(issuer.audience().token_endpoint, "https://auth.example.com/token");
        assert_eq!(issuer.metadata_path(), "/.well-known/oauth-authorization-server");
        let below = Issuer::parse("https://example.com/opsadmin/").unwrap();
        assert_eq!(below.endpoint("/revoke"), "https://example.com/opsadmin/revoke");
        assert_eq!(below.metadata_path(), "/.well-known/oauth-authorization-server/opsadmin");
    }

    #[test]
    fn what_is_no_issuer_is_refused_with_how_to_write_one() {
        for text in ["", "auth.example.com", "ftp://auth", "https://a?b", "https://a#b", "https://me@a", "mailto:a"] {
            assert!(Issuer::parse(text).unwrap_err().contains("https://auth.example.com"), "{text}");
        }
    }
}
