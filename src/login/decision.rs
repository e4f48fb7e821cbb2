//! May this client do this? One decision for a login, and one for each request that a proxy asks about.
//!
//! Both ask [`access`], which knows all rules of an account. What is decided here besides is only what belongs to a
//! login and not to an account: the token, and the path.

use super::{
    AccessToken, Allowed, AmbiguousPath, EndReason, IssuedToken, KnownAccount, Lifetimes, Login, PathTable,
    ProxiedRequest, RequestPath, TokenFault, Tokens, UnknownAddress,
};
use crate::account::{Access, AccessRequest, Account, ApiKey, EndpointGroup, KeyId, Reach, Rule, access};
use jiff::Timestamp;
use std::net::IpAddr;
use std::sync::Arc;

/// The answer to a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Status 200, with the headers for the API.
    Allowed(Arc<Allowed>),
    /// Status 401: the token, the state of the account or the address is refused. The client is not told which.
    Unauthorized(Unauthorized),
    /// Status 403: the client may do something, but not this.
    Forbidden(Forbidden),
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
    pub account: Option<&'a KnownAccount>,
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
    match allowed(client.account, &access, group) {
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
    pub allowed: Arc<Allowed>,
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
    let allowed = account.allowed().map_err(|_| Unauthorized::Rule(Rule::Plans))?;
    Ok(ActiveToken { api_key: pair.api_key.clone(), allowed, issued: login.began, expires: issued.expires })
}

/// A client with a token that works.
struct Client<'a> {
    login: &'a Login,
    account: &'a KnownAccount,
    address: IpAddr,
}

/// The login and the account of a token that has neither expired nor ended.
struct Holder<'a> {
    login: &'a Login,
    account: &'a KnownAccount,
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
    account: &KnownAccount,
    access: &Access<'_>,
    group: Result<EndpointGroup, AmbiguousPath>,
) -> Result<Arc<Allowed>, Forbidden> {
    let group = group.map_err(Forbidden::Path)?;
    if access.is_allowed() { account.allowed() } else { Err(Forbidden::Endpoints(group)) }
}

#[cfg(test)]
mod tests;
