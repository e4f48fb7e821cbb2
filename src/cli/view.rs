//! Shows an account: as JSON and YAML fields for programs, and as text for people. The fields are public:
//! docs/commands-accounts.md documents them, and they must not change.

use super::text::{display_name, named};
use crate::account::{Account, KeyState, KeyUse, Life, Owner, StoredKey, Suspension};
use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// The state of a key pair that is refused.
const EXPIRED: &str = "Expired";

/// What a table shows in the place of a time that there is not.
const NONE: &str = "-";

/// An account for output. docs/commands-accounts.md documents the fields, and they do not change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountView {
    id: String,
    name: String,
    description: String,
    version: i64,
    life: &'static str,
    life_since: Option<Timestamp>,
    enabled: bool,
    suspension: Option<SuspensionView>,
    owner: Option<OwnerView>,
    adopter: Option<String>,
    roles: BTreeSet<String>,
    affiliate: Option<String>,
    #[serde(rename = "anyIP")]
    any_ip: bool,
    #[serde(rename = "allowedIPs")]
    allowed_ips: BTreeSet<String>,
    use_refresh_token: bool,
    keys: Vec<KeyView>,
}

#[derive(Debug, Serialize)]
struct SuspensionView {
    since: Timestamp,
    reason: String,
}

/// The resource that owns an account.
#[derive(Debug, Serialize)]
pub struct OwnerView {
    cluster: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyView {
    id: String,
    api_key: String,
    state: &'static str,
    created: Timestamp,
    expires: Option<Timestamp>,
    /// Whether the secret key has too few characters to log in with it.
    secret_too_short: bool,
    /// Present only if the uses were read.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    uses: Option<UsesView>,
    /// The secret key. Present only if a user on a terminal asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<Shown>,
}

/// When a key pair was used to log in; null: never, as far as it is recorded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UsesView {
    first_used: Option<Timestamp>,
    last_used: Option<Timestamp>,
}

/// A secret key to show on a terminal. [`std::fmt::Debug`] does not show it.
#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Zeroizing<String>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl AccountView {
    /// Returns the view of an account at this time, without secret keys.
    pub fn of(account: &Account, now: Timestamp) -> Self {
        let (life, life_since) = match account.life {
            Life::Live => ("live", None),
            Life::Retained { since } => ("retained", Some(since)),
            Life::Deleted { since } => ("deleted", Some(since)),
        };
        let settings = account.settings.clone();
        Self {
            id: account.id.to_string(),
            name: settings.name,
            description: settings.description,
            version: account.version.0,
            life,
            life_since,
            enabled: settings.enabled,
            suspension: account.suspension.as_ref().map(SuspensionView::of),
            owner: account.owner.as_ref().map(OwnerView::of),
            adopter: account.adopter.as_ref().map(ToString::to_string),
            roles: settings.roles,
            affiliate: settings.affiliate,
            any_ip: settings.any_ip,
            allowed_ips: settings.allowed_ips,
            use_refresh_token: settings.use_refresh_token,
            keys: account.keys.iter().map(|key| KeyView::of(key, now)).collect(),
        }
    }

    /// Adds when the key pairs were used, if it is known.
    pub fn with_uses(mut self, uses: Option<&[KeyUse]>) -> Self {
        let Some(uses) = uses else { return self };
        for key in &mut self.keys {
            let of_key = uses.iter().find(|used| used.key.to_string() == key.id);
            let (first_used, last_used) = (of_key.map(|used| used.first), of_key.map(|used| used.last));
            key.uses = Some(UsesView { first_used, last_used });
        }
        self
    }

    /// Adds secret keys, in the order of the key pairs of the account.
    pub fn with_secret_keys(mut self, secret_keys: Vec<Zeroizing<String>>) -> Self {
        for (key, secret_key) in self.keys.iter_mut().zip(secret_keys) {
            key.secret_key = Some(Shown(secret_key));
        }
        self
    }

    /// Returns the row of the account in a list, for the columns of [`Self::heading`].
    pub fn row(&self) -> [String; 7] {
        [
            display_name(&self.name),
            self.state().to_owned(),
            self.roles_in_words(),
            self.affiliate_in_words(),
            self.addresses_in_words(),
            self.owner_in_words(),
            self.id.clone(),
        ]
    }

    /// Returns the style of the row: yellow if suspended, plain if enabled, dimmed otherwise.
    pub fn style(&self) -> Style {
        match self.state() {
            "suspended" => AnsiColor::Yellow.on_default(),
            "enabled" => Style::new(),
            _ => Style::new().dimmed(),
        }
    }

    /// Returns the heading of a list.
    pub fn heading() -> [String; 7] {
        ["NAME", "STATE", "ROLES", "AFFILIATE", "ADDRESSES", "OWNER", "ID"].map(str::to_owned)
    }

    /// Returns everything but the keys, one property for each line.
    pub fn lines(&self) -> Vec<[String; 2]> {
        let since = |word: &str, since: Timestamp| format!("{word} since {since:.0}");
        let mut state = match (self.life, self.life_since) {
            ("deleted", Some(at)) => since("deleted", at),
            _ if self.enabled => "enabled".to_owned(),
            _ => "disabled".to_owned(),
        };
        if let Some(suspension) = &self.suspension {
            state = format!("{}, {}: {:?}", since("suspended", suspension.since), state, suspension.reason);
        }
        let owner = match (self.life, self.life_since) {
            ("retained", Some(at)) => format!("{}; {}", self.owner_in_words(), since("retained", at)),
            _ => self.owner_in_words(),
        };
        [
            ("Name", display_name(&self.name)),
            ("Id", self.id.clone()),
            ("Owner", owner),
            ("State", state),
            (
                "Description",
                if self.description.is_empty() { "none".to_owned() } else { display_name(&self.description) },
            ),
            ("Roles", self.roles_in_words()),
            ("Affiliate", self.affiliate_in_words()),
            ("Addresses", self.addresses_in_words()),
            ("Refresh token", if self.use_refresh_token { "yes" } else { "no" }.to_owned()),
            ("Version", self.version.to_string()),
        ]
        .map(|(what, text)| [format!("{what}:"), text])
        .into()
    }

    /// Returns a table of the key pairs, with a heading and without secret keys.
    pub fn key_rows(&self) -> Vec<[String; 6]> {
        let mut rows = vec![["PAIR", "API KEY", "STATE", "CREATED", "EXPIRES", "LAST USED"].map(str::to_owned)];
        let time = |time: Option<Timestamp>| time.map_or_else(|| NONE.to_owned(), |at| format!("{at:.0}"));
        rows.extend(self.keys.iter().map(|key| {
            let last_used = key.uses.as_ref().and_then(|uses| uses.last_used);
            let (created, expires, last_used) = (time(Some(key.created)), time(key.expires), time(last_used));
            [key.id.clone(), key.api_key.clone(), key.state.to_owned(), created, expires, last_used]
        }));
        rows
    }

    /// Returns the ids of the key pairs that nobody can log in with because their secret key is too short. Those that
    /// have expired do not count.
    pub fn too_short(&self) -> impl Iterator<Item = &str> {
        let short = self.keys.iter().filter(|key| key.secret_too_short && key.state != EXPIRED);
        short.map(|key| key.id.as_str())
    }

    /// Returns the key pairs for a terminal that is too narrow for the table: one property for each line.
    pub fn key_lines(&self) -> Vec<[String; 2]> {
        let lines =
            self.key_rows().into_iter().skip(1).flat_map(|[id, api_key, state, created, expires, last_used]| {
                let times = [("created", created), ("expires", expires), ("last used", last_used)];
                let times = times.into_iter().filter(|(_, at)| at != NONE).map(|(what, at)| format!("{what} {at}"));
                let state = [state].into_iter().chain(times).collect::<Vec<_>>().join(", ");
                [("Pair:", id), ("  API key:", api_key), ("  State:", state)]
                    .map(|(what, text)| [what.to_owned(), text])
            });
        lines.collect()
    }

    /// Returns the added secret keys, each with the id of its key pair.
    pub fn secret_keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().filter_map(|key| Some((key.id.as_str(), key.secret_key.as_ref()?.0.as_str())))
    }

    fn state(&self) -> &'static str {
        match self {
            Self { life: "deleted", .. } => "deleted",
            Self { suspension: Some(_), .. } => "suspended",
            Self { enabled: false, .. } => "disabled",
            Self { .. } => "enabled",
        }
    }

    fn roles_in_words(&self) -> String {
        if self.roles.is_empty() { "none".to_owned() } else { named(&self.roles) }
    }

    fn affiliate_in_words(&self) -> String {
        match self.affiliate.as_deref() {
            None => "every".to_owned(),
            Some(name) => named([name]),
        }
    }

    fn addresses_in_words(&self) -> String {
        match (self.any_ip, self.allowed_ips.is_empty()) {
            (true, _) => "any".to_owned(),
            (false, true) => "none".to_owned(),
            (false, false) => named(&self.allowed_ips),
        }
    }

    fn owner_in_words(&self) -> String {
        match &self.owner {
            Some(owner) if self.life == "retained" => format!("none (was {})", owner.in_words()),
            Some(owner) => owner.in_words(),
            None => "none".to_owned(),
        }
    }
}

impl SuspensionView {
    fn of(suspension: &Suspension) -> Self {
        Self { since: suspension.since, reason: suspension.reason.clone() }
    }
}

impl OwnerView {
    /// Returns the view of an owner.
    pub fn of(owner: &Owner) -> Self {
        Self {
            cluster: owner.cluster.as_str().to_owned(),
            namespace: owner.namespace.clone(),
            name: owner.name.clone(),
        }
    }

    fn in_words(&self) -> String {
        display_name(&format!("{}/{}/{}", self.cluster, self.namespace, self.name))
    }
}

impl KeyView {
    fn of(key: &StoredKey, now: Timestamp) -> Self {
        let (state, expires) = match key.state {
            KeyState::Active => ("Active", None),
            KeyState::Retiring { expires } if expires > now => ("Retiring", Some(expires)),
            KeyState::Retiring { expires } => (EXPIRED, Some(expires)),
        };
        Self {
            id: key.id.to_string(),
            api_key: key.api_key.printable().to_owned(),
            state,
            created: key.created,
            expires,
            secret_too_short: key.is_too_short(),
            uses: None,
            secret_key: None,
        }
    }
}
