//! What the API learns about a client that is let through: three headers that depend on the account alone.

use super::Forbidden;
use crate::account::{Account, AccountId, AffiliateName, Role, VisiblePlans};
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::ops::Deref;
use std::sync::Arc;

/// What a percent-encoded name keeps: the unreserved characters of RFC 3986 section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An account, with what the API learns about its clients. That is worked out once, and not for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccount {
    account: Account,
    allowed: Result<Arc<Allowed>, Forbidden>,
}

/// What the API learns about a client that is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    account: AccountId,
    roles: String,
    plans: String,
    headers: [(HeaderName, HeaderValue); 3],
}

impl KnownAccount {
    /// Takes the account as it is stored now.
    pub fn new(account: Account) -> Self {
        Self { allowed: Allowed::about(&account).map(Arc::new), account }
    }

    /// What the API learns about a client of this account, if the client is let through.
    ///
    /// # Errors
    /// [`Forbidden::Affiliate`] if the account is limited to an affiliate whose stored name cannot be one.
    pub fn allowed(&self) -> Result<Arc<Allowed>, Forbidden> {
        self.allowed.clone()
    }
}

impl Deref for KnownAccount {
    type Target = Account;

    fn deref(&self) -> &Account {
        &self.account
    }
}

impl Allowed {
    /// The name of the header with the account's id, in lower case as all three: case does not count (RFC 9110 section
    /// 5.1). The names have no punctuation: a proxy or an API may take `X_Y` or `X.Y` from a client for `X-Y`.
    pub const ACCOUNT: HeaderName = HeaderName::from_static("opsadminaccount");
    /// The name of the header with the roles.
    pub const ROLES: HeaderName = HeaderName::from_static("opsadminroles");
    /// The name of the header with the plans.
    pub const PLANS: HeaderName = HeaderName::from_static("opsadminplans");

    fn about(account: &Account) -> Result<Self, Forbidden> {
        let roles = account.settings.known_roles();
        let plans = match account.settings.visible_plans(&roles) {
            VisiblePlans::All => "all".to_owned(),
            // The API could take an empty or strange name for no limit.
            VisiblePlans::Of(affiliate) => {
                let name = AffiliateName::parse(affiliate).map_err(|_| Forbidden::Affiliate)?;
                format!("affiliate={}", utf8_percent_encode(name.as_str(), ENCODED))
            }
        };
        let roles = roles.into_iter().map(Role::as_str).collect::<Vec<_>>().join(",");
        let headers = [
            (Self::ACCOUNT, value(account.id.to_string())),
            (Self::ROLES, value(roles.clone())),
            (Self::PLANS, value(plans.clone())),
        ];
        Ok(Self { account: account.id, roles, plans, headers })
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The roles with commas between them.
    pub fn roles(&self) -> &str {
        &self.roles
    }

    /// `all`, or `affiliate=` and the affiliate's name, percent-encoded.
    pub fn plans(&self) -> &str {
        &self.plans
    }

    /// The headers for the API: account, roles and plans. No value of a client that is let through is empty, because
    /// proxies leave out empty headers.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue); 3] {
        &self.headers
    }
}

#[expect(clippy::expect_used, reason = "an id, names of roles and percent-encoded text are visible ASCII characters")]
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("it has visible ASCII characters only")
}
