//! May this client do this? One decision for a login, and one for each request that a proxy asks about.
//!
//! Both ask [`access`], which knows all rules of an account. What is decided here besides is only what belongs to a
//! login and not to an account: the token, and the path.

use super::{
    AccessToken, AmbiguousPath, EndReason, IssuedToken, Lifetimes, Login, PathTable, ProxiedRequest, RequestPath,
    TokenFault, Tokens, UnknownAddress,
};
use crate::account::{
    Access, AccessRequest, Account, AccountId, AffiliateName, ApiKey, EndpointGroup, KeyId, Reach, Role, Rule,
    VisiblePlans, access,
};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::net::IpAddr;

/// The answer to a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Status 200, with the headers for the API.
    Allowed(Allowed),
    /// Status 401: the token, the state of the account or the address is refused. The client is not told which.
    Unauthorized(Unauthorized),
    /// Status 403: the client may do something, but not this.
    Forbidden(Forbidden),
}

/// What the API learns about a client that is let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The account.
    pub account: AccountId,
    /// Its roles: at least one.
    pub roles: Vec<Role>,
    /// The plans that it sees.
    pub plans: AllowedPlans,
}

/// The plans that a client that is let through sees. Unlike [`VisiblePlans`], it cannot hold a stored text that is not
/// the name of an affiliate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedPlans {
    /// The plans of every affiliate.
    All,
    /// The plans of this affiliate only.
    Of(AffiliateName),
}

/// Why the answer is 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unauthorized {
    /// There is no usable token.
    Token(TokenFault),
    /// No login has the token. It may never have been issued, or be replaced by newer ones.
    UnknownToken,
    /// The token has expired.
    Expired,
    /// The login has ended.
    Ended(EndReason),
    /// The account no longer exists.
    NoAccount,
    /// The account must use refresh tokens now, and this token was issued before that.
    MustRefresh,
    /// The client's address is not known.
    Address(UnknownAddress),
    /// A rule of the account refuses the client, whatever it asks for.
    Rule(Rule),
}

/// Why the answer is 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forbidden {
    /// The path could be read differently by the proxy or the API.
    Path(AmbiguousPath),
    /// The account's roles do not open the endpoints.
    Endpoints(EndpointGroup),
    /// The account is limited to an affiliate whose stored name cannot be one.
    Affiliate,
}

impl Unauthorized {
    /// The reason's name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token(fault) => fault.as_str(),
            Self::UnknownToken => "token-unknown",
            Self::Expired => "token-expired",
            Self::Ended(EndReason::Revoked) => "login-revoked",
            Self::Ended(EndReason::LoggedOut) => "login-logged-out",
            Self::Ended(EndReason::Reused) => "login-ended-by-reuse",
            Self::NoAccount => "no-account",
            Self::MustRefresh => "must-refresh",
            Self::Address(unknown) => unknown.as_str(),
            Self::Rule(rule) => rule.as_str(),
        }
    }
}

impl Forbidden {
    /// The reason's name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path(ambiguous) => ambiguous.as_str(),
            Self::Endpoints(_) => "endpoints",
            Self::Affiliate => "affiliate-unreadable",
        }
    }
}

/// What a decision about a request rests on besides the request.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The login that has the request's token, and its account; each `None` if the database has none.
    pub login: Option<&'a Login>,
    /// The account of the login.
    pub account: Option<&'a Account>,
    /// The client's address.
    pub address: Result<IpAddr, UnknownAddress>,
    /// The endpoint groups.
    pub paths: &'a PathTable,
    /// The lifetimes of tokens.
    pub lifetimes: Lifetimes,
    /// The time of the request.
    pub now: Timestamp,
}

/// Decides whether an account may log in with this key pair from this address.
///
/// # Errors
/// The first rule that refuses it.
pub fn may_log_in(account: &Account, key: KeyId, address: IpAddr, now: Timestamp) -> Result<(), Rule> {
    let asked = AccessRequest { key: Some(key), ip: Some(address), ..AccessRequest::default() };
    match access(account, &asked, now).refusals().next() {
        None => Ok(()),
        Some(refusal) => Err(refusal.rule),
    }
}

/// Decides about a request that a proxy asks about.
pub fn decide(request: &ProxiedRequest<'_>, circumstances: &Circumstances<'_>) -> Decision {
    let client = match client_of(request, circumstances) {
        Ok(client) => client,
        Err(reason) => return Decision::Unauthorized(reason),
    };
    let path = RequestPath::parse(request.target);
    let group = path.map(|path| circumstances.paths.group(request.method.as_str(), &path));
    // Without a group, only the rules that do not depend on it are asked.
    let asked = AccessRequest {
        key: Some(client.login.key),
        ip: Some(client.address),
        reach: group.ok().map(Reach::Endpoint),
        affiliate: None,
    };
    let access = access(client.account, &asked, circumstances.now);
    if let Some(rule) = refusal_of_the_client(&access) {
        return Decision::Unauthorized(Unauthorized::Rule(rule));
    }
    match allowed(client.account, access, group) {
        Ok(allowed) => Decision::Allowed(allowed),
        Err(reason) => Decision::Forbidden(reason),
    }
}

/// A token that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveToken {
    /// The API key with which the account logged in.
    pub api_key: ApiKey,
    /// What the API learns about the account.
    pub allowed: Allowed,
    /// The time of the login.
    pub issued: Timestamp,
    /// The time from which the token does not work.
    pub expires: Timestamp,
}

/// Decides whether a token works, whatever it is used for. An address that is not known is not checked.
///
/// # Errors
/// Why it does not work.
pub fn active_token(token: &AccessToken, circumstances: &Circumstances<'_>) -> Result<ActiveToken, Unauthorized> {
    let holder = holder_of(token, circumstances)?;
    let Holder { login, account, issued } = holder;
    let asked = AccessRequest { key: Some(login.key), ip: circumstances.address.ok(), reach: None, affiliate: None };
    let access = access(account, &asked, circumstances.now);
    if let Some(refusal) = access.refusals().next() {
        return Err(Unauthorized::Rule(refusal.rule));
    }
    let pair = account.keys.iter().find(|pair| pair.id == login.key).ok_or(Unauthorized::Rule(Rule::Keys))?;
    let plans = allowed_plans(access.plans).map_err(|_| Unauthorized::Rule(Rule::Plans))?;
    let allowed = Allowed { account: account.id, roles: access.roles, plans };
    Ok(ActiveToken { api_key: pair.api_key.clone(), allowed, issued: login.began, expires: issued.expires })
}

/// A client with a token that works.
struct Client<'a> {
    login: &'a Login,
    account: &'a Account,
    address: IpAddr,
}

/// The login and the account of a token that has neither expired nor ended.
struct Holder<'a> {
    login: &'a Login,
    account: &'a Account,
    issued: &'a IssuedToken,
}

fn client_of<'a>(request: &ProxiedRequest<'_>, circumstances: &Circumstances<'a>) -> Result<Client<'a>, Unauthorized> {
    let token = request.token.as_ref().map_err(|fault| Unauthorized::Token(*fault))?;
    let Holder { login, account, .. } = holder_of(token, circumstances)?;
    Ok(Client { login, account, address: circumstances.address.map_err(Unauthorized::Address)? })
}

fn holder_of<'a>(token: &AccessToken, circumstances: &Circumstances<'a>) -> Result<Holder<'a>, Unauthorized> {
    let &Circumstances { login, account, lifetimes, now, .. } = circumstances;
    let login = login.ok_or(Unauthorized::UnknownToken)?;
    let issued = login.access_token(&token.hash()).ok_or(Unauthorized::UnknownToken)?;
    if let Some(end) = login.end {
        return Err(Unauthorized::Ended(end.reason));
    }
    if issued.expires <= now {
        return Err(Unauthorized::Expired);
    }
    let account = account.filter(|account| account.id == login.account).ok_or(Unauthorized::NoAccount)?;
    let is_short = match login.tokens {
        Tokens::Family(_) => true,
        Tokens::Access(_) => now.duration_since(login.began) < lifetimes.short_token,
    };
    if account.settings.use_refresh_token && !is_short {
        return Err(Unauthorized::MustRefresh);
    }
    Ok(Holder { login, account, issued })
}

/// Returns the first rule that refuses the client whatever it asks for.
fn refusal_of_the_client(access: &Access<'_>) -> Option<Rule> {
    access.refusals().map(|refusal| refusal.rule).find(|rule| !matches!(rule, Rule::Endpoints | Rule::Plans))
}

fn allowed(
    account: &Account,
    access: Access<'_>,
    group: Result<EndpointGroup, AmbiguousPath>,
) -> Result<Allowed, Forbidden> {
    let group = group.map_err(Forbidden::Path)?;
    if !access.is_allowed() {
        return Err(Forbidden::Endpoints(group));
    }
    let plans = allowed_plans(access.plans)?;
    Ok(Allowed { account: account.id, roles: access.roles, plans })
}

/// Returns the plans for the API, which could take an empty or strange name for no limit.
fn allowed_plans(plans: VisiblePlans<'_>) -> Result<AllowedPlans, Forbidden> {
    match plans {
        VisiblePlans::All => Ok(AllowedPlans::All),
        VisiblePlans::Of(affiliate) => {
            Ok(AllowedPlans::Of(AffiliateName::parse(affiliate).map_err(|_| Forbidden::Affiliate)?))
        }
    }
}

/// What a percent-encoded name keeps: the unreserved characters of RFC 3986 section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Allowed {
    /// The name of the header with the account's id, in lower case as all three: case does not count (RFC 9110 section
    /// 5.1). The names have no punctuation: a proxy or an API may take `X_Y` or `X.Y` from a client for `X-Y`.
    pub const ACCOUNT: &'static str = "opsadminaccount";
    /// The name of the header with the roles.
    pub const ROLES: &'static str = "opsadminroles";
    /// The name of the header with the plans.
    pub const PLANS: &'static str = "opsadminplans";

    /// Returns the headers for the API. No value is empty, because proxies leave out empty headers.
    ///
    /// `OpsadminRoles` has the roles with commas between them. `OpsadminPlans` is `all`, or `affiliate=` and the
    /// affiliate's name, percent-encoded.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let roles: Vec<_> = self.roles.iter().map(|role| role.as_str()).collect();
        let plans = match &self.plans {
            AllowedPlans::All => "all".to_owned(),
            AllowedPlans::Of(name) => format!("affiliate={}", utf8_percent_encode(name.as_str(), ENCODED)),
        };
        [(Self::ACCOUNT, self.account.to_string()), (Self::ROLES, roles.join(",")), (Self::PLANS, plans)]
    }
}

#[cfg(test)]
mod tests;
