//! What can be set on an account: as declared (valid by construction) and as found in the database (anything).

use super::text::{InvalidText, check_prose};
use super::{AccountName, AffiliateName, AllowedIps, Role};
use std::collections::BTreeSet;
use thiserror::Error;

/// Who uses the account and why: up to 1024 characters, several lines if need be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description(String);

/// The text cannot be a description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a description {0}")]
pub struct InvalidDescription(InvalidText);

impl Description {
    /// The most characters (Unicode code points) in a description.
    pub const MAX_CHARS: usize = 1024;

    /// Takes the text as a description, unchanged.
    ///
    /// # Errors
    /// The text is longer than [`Self::MAX_CHARS`] or has control characters other than tabs and line breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidDescription> {
        check_prose(text, Self::MAX_CHARS).map_err(InvalidDescription)?;
        Ok(Self(text.to_owned()))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The settings a resource declares. Every value is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The account's name, unique in OpsAdmin.
    pub name: AccountName,
    /// Who uses it and why.
    pub description: Description,
    /// Whether it may authenticate.
    pub enabled: bool,
    /// Whether the API user must re-authenticate every few seconds.
    pub use_refresh_token: bool,
    /// The one affiliate whose plans it sees; `None`: every affiliate's.
    pub affiliate: Option<AffiliateName>,
    /// What it may reach.
    pub roles: BTreeSet<Role>,
    /// Where it may be used from.
    pub allowed_ips: AllowedIps,
}

/// The settings found in the database, as text: whoever edited them, whatever they wrote.
///
/// Kept apart from [`Settings`] so that a wrong value is something to report and put back, not something that stops
/// the reader or, worse, reads as a wider one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSettings {
    /// The account's name.
    pub name: String,
    /// Who uses it and why.
    pub description: String,
    /// Whether it may authenticate.
    pub enabled: bool,
    /// Whether the API user must re-authenticate every few seconds.
    pub use_refresh_token: bool,
    /// The one affiliate whose plans it sees.
    pub affiliate: Option<String>,
    /// Names of roles.
    pub roles: BTreeSet<String>,
    /// Whether any address is allowed. Stored on its own, so that a list that lost its rows lets nobody in.
    pub any_ip: bool,
    /// CIDR texts.
    pub allowed_ips: BTreeSet<String>,
}

impl StoredSettings {
    /// What is set on an account that is yet to be made: nothing, and nobody is let in.
    pub fn nothing() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            enabled: false,
            use_refresh_token: false,
            affiliate: None,
            roles: BTreeSet::new(),
            any_ip: false,
            allowed_ips: BTreeSet::new(),
        }
    }
}

impl StoredSettings {
    /// Whether nobody gets in with these who does not get in with the others, nor gets to more. In doubt it is `false`:
    /// every field is compared by itself, and addresses by their text.
    pub fn lets_in_no_more_than(&self, other: &Self) -> bool {
        let addresses = other.any_ip || (!self.any_ip && self.allowed_ips.is_subset(&other.allowed_ips));
        let affiliate = other.affiliate.is_none() || self.affiliate == other.affiliate;
        let refresh = self.use_refresh_token || !other.use_refresh_token;
        !self.enabled || (other.enabled && addresses && affiliate && refresh && self.roles.is_subset(&other.roles))
    }
}

impl From<&Settings> for StoredSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            name: settings.name.as_str().to_owned(),
            description: settings.description.as_str().to_owned(),
            enabled: settings.enabled,
            use_refresh_token: settings.use_refresh_token,
            affiliate: settings.affiliate.as_ref().map(|a| a.as_str().to_owned()),
            roles: settings.roles.iter().map(ToString::to_string).collect(),
            any_ip: settings.allowed_ips.is_any(),
            allowed_ips: settings.allowed_ips.cidrs(),
        }
    }
}
