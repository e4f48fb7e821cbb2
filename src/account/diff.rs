//! The diff between stored and desired settings, field by field, as texts that are safe to print.

use super::{Settings, StoredSettings};
use std::collections::BTreeSet;
use std::fmt;

/// A field of an account whose changes are reported. A field that a resource declares has its name in `spec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `name`
    Name,
    /// `description`
    Description,
    /// `enabled`
    Enabled,
    /// `useRefreshToken`
    UseRefreshToken,
    /// `affiliate`
    Affiliate,
    /// `roles`
    Roles,
    /// `allowedIPs`
    AllowedIps,
    /// The active key pair, shown by its id.
    Keys,
    /// The suspension with its reason. OpsAdmin staff set it, not a resource.
    Suspension,
    /// The adopter. OpsAdmin staff set it, not a resource.
    Adopter,
}

impl Field {
    /// The field's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Description => "description",
            Self::Enabled => "enabled",
            Self::UseRefreshToken => "useRefreshToken",
            Self::Affiliate => "affiliate",
            Self::Roles => "roles",
            Self::AllowedIps => "allowedIPs",
            Self::Keys => "keys",
            Self::Suspension => "suspension",
            Self::Adopter => "adopter",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text for an account that may be used from any address.
pub const ANY_ADDRESS: &str = "any";
/// The text for an account that sees every affiliate's plans.
pub const NO_AFFILIATE: &str = "none";

/// One field's change, printed as `enabled: true → false`. Texts are quoted and escaped, so that they cannot forge a
/// line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// The field.
    pub field: Field,
    /// The old value as text.
    pub old: String,
    /// The new value as text.
    pub new: String,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.old, self.new)
    }
}

/// Returns the fields in which `stored` differs from `desired`, in the order of [`Field`].
pub fn changes(stored: &StoredSettings, desired: &Settings) -> Vec<FieldChange> {
    let old = stored;
    let new = &StoredSettings::from(desired);
    let mut changes = Vec::new();
    let mut compare = |field, same: bool, show: &dyn Fn(&StoredSettings) -> String| {
        if !same {
            changes.push(FieldChange { field, old: show(old), new: show(new) });
        }
    };
    compare(Field::Name, old.name == new.name, &|s| quoted(&s.name));
    compare(Field::Description, old.description == new.description, &|s| quoted(&s.description));
    compare(Field::Enabled, old.enabled == new.enabled, &|s| s.enabled.to_string());
    compare(Field::UseRefreshToken, old.use_refresh_token == new.use_refresh_token, &|s| {
        s.use_refresh_token.to_string()
    });
    compare(Field::Affiliate, old.affiliate == new.affiliate, &|s| {
        s.affiliate.as_deref().map_or(NO_AFFILIATE.to_owned(), quoted)
    });
    compare(Field::Roles, old.roles == new.roles, &|s| listed(&s.roles));
    let same_addresses = old.any_ip == new.any_ip && old.allowed_ips == new.allowed_ips;
    compare(Field::AllowedIps, same_addresses, &addresses);
    changes
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// Joins texts. Plain words are not quoted; any other text from the database is.
fn listed(texts: &BTreeSet<String>) -> String {
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'/'));
    let texts: Vec<String> = texts.iter().map(|text| if plain(text) { text.clone() } else { quoted(text) }).collect();
    format!("[{}]", texts.join(", "))
}

fn addresses(settings: &StoredSettings) -> String {
    match (settings.any_ip, settings.allowed_ips.is_empty()) {
        (true, true) => ANY_ADDRESS.to_owned(),
        (false, true) => "none".to_owned(),
        (false, false) => listed(&settings.allowed_ips),
        (true, false) => format!("any, beside {}", listed(&settings.allowed_ips)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountName, AffiliateName, AllowedIp, AllowedIps, Description, Role};

    fn settings() -> Settings {
        Settings {
            name: AccountName::parse("acme").unwrap(),
            description: Description::default(),
            enabled: true,
            use_refresh_token: false,
            affiliate: None,
            roles: BTreeSet::from([Role::Customer]),
            allowed_ips: AllowedIps::any(),
        }
    }

    #[test]
    fn the_same_settings_differ_in_nothing() {
        assert_eq!(changes(&StoredSettings::from(&settings()), &settings()), []);
    }

    #[test]
    fn each_difference_shows_the_old_and_the_new_value() {
        let stored = StoredSettings::from(&settings());
        let desired = Settings {
            description: Description::parse("two\nlines").unwrap(),
            enabled: false,
            affiliate: Some(AffiliateName::parse("North").unwrap()),
            roles: BTreeSet::from([Role::PlansAndRates, Role::Customer]),
            allowed_ips: AllowedIps::from_networks([AllowedIp::parse("10.0.0.0/8").unwrap()]),
            ..settings()
        };
        let shown: Vec<_> = changes(&stored, &desired).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                r#"description: "" → "two\nlines""#,
                "enabled: true → false",
                r#"affiliate: none → "North""#,
                "roles: [Customer] → [Customer, PlansAndRates]",
                "allowedIPs: any → [10.0.0.0/8]",
            ]
        );
    }

    #[test]
    fn an_empty_stored_list_does_not_mean_any_address() {
        let stored = StoredSettings { any_ip: false, ..StoredSettings::from(&settings()) };
        let shown: Vec<_> = changes(&stored, &settings()).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["allowedIPs: none → any"]);
    }
}
