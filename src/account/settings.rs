//! The settings of an account: as a resource declares them (always valid) and as the database holds them (any text).

use super::text::{InvalidText, check_prose};
use super::{AccountName, AffiliateName, AllowedIps, Role};
use std::collections::BTreeSet;
use thiserror::Error;

/// The description of an account: up to 1024 characters, with line breaks allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description(String);

/// The error for a text that cannot be a description.
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

    /// The description as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The settings a resource declares. Every value is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The account's name, unique in OpsAdmin.
    pub name: AccountName,
    /// Who uses the account and why.
    pub description: Description,
    /// Whether it may authenticate.
    pub enabled: bool,
    /// Whether the API user must re-authenticate every few seconds.
    pub use_refresh_token: bool,
    /// The only affiliate whose plans the account sees; `None`: every affiliate's.
    pub affiliate: Option<AffiliateName>,
    /// The roles, which decide the endpoints that the account reaches.
    pub roles: BTreeSet<Role>,
    /// The addresses from which the account may be used.
    pub allowed_ips: AllowedIps,
}

/// The settings that the database holds, as text. They may be invalid, since other programs can edit the database.
///
/// A separate type from [`Settings`], so that the controller can report an invalid value and correct it. An invalid
/// value must not stop the reader or be read as one that grants more access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSettings {
    /// The account's name.
    pub name: String,
    /// Who uses the account and why.
    pub description: String,
    /// Whether it may authenticate.
    pub enabled: bool,
    /// Whether the API user must re-authenticate every few seconds.
    pub use_refresh_token: bool,
    /// The only affiliate whose plans the account sees; `None`: every affiliate's.
    pub affiliate: Option<String>,
    /// The names of roles.
    pub roles: BTreeSet<String>,
    /// Whether any address is allowed. A field of its own, so that a list that lost its rows allows no address.
    pub any_ip: bool,
    /// The allowed networks as CIDR texts.
    pub allowed_ips: BTreeSet<String>,
}

impl StoredSettings {
    /// Returns the settings of an account that is not created yet: empty, and without any access.
    pub fn empty() -> Self {
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
    /// Returns whether these settings grant no more access than `other`. The check is conservative: it compares each
    /// field on its own and addresses by their text, so that `false` may be returned for settings that grant no more.
    pub fn grants_no_more_than(&self, other: &Self) -> bool {
        // Names every field, so that a new one is not forgotten here: it would fail open.
        let Self { name: _, description: _, enabled, use_refresh_token, affiliate, roles, any_ip, allowed_ips } = self;
        let grants_no_more_addresses = other.any_ip || (!any_ip && allowed_ips.is_subset(&other.allowed_ips));
        let grants_no_more_plans = other.affiliate.is_none() || *affiliate == other.affiliate;
        let asks_as_many_logins = *use_refresh_token || !other.use_refresh_token;
        !enabled
            || (other.enabled
                && grants_no_more_addresses
                && grants_no_more_plans
                && asks_as_many_logins
                && roles.is_subset(&other.roles))
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
