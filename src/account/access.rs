//! The access rules: decides from the stored account whether one use of it is allowed, with a verdict for each rule.
//!
//! The functions are pure, so that a check gives the same answer as enforcement. The database may hold any text: a role
//! or a network that cannot be read grants no access.

mod why;

pub use why::{ListedNetworks, ListedRoles, Why};

use super::{Account, AllowedIp, KeyId, KeyState, Life, Role, StoredKey, StoredSettings};
use jiff::Timestamp;
use std::fmt;
use std::net::IpAddr;

/// A group of endpoints of the OpsAdmin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointGroup {
    /// The data of the customer's own account.
    MyAccount,
    /// Plans and rates.
    Plans,
    /// Enrollments in plans.
    Enrollments,
    /// The whole API: the other three groups and all other endpoints.
    Everything,
}

impl EndpointGroup {
    /// All groups.
    pub const ALL: [Self; 4] = [Self::MyAccount, Self::Plans, Self::Enrollments, Self::Everything];

    /// The group's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MyAccount => "MyAccount",
            Self::Plans => "Plans",
            Self::Enrollments => "Enrollments",
            Self::Everything => "Everything",
        }
    }
}

impl fmt::Display for EndpointGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Role {
    /// Returns the groups of endpoints that the role may reach.
    pub fn endpoint_groups(self) -> &'static [EndpointGroup] {
        match self {
            Self::Customer => &[EndpointGroup::MyAccount],
            Self::PlansAndRates => &[EndpointGroup::Plans, EndpointGroup::Enrollments],
            Self::Administrator => &EndpointGroup::ALL,
        }
    }
}

/// One use of an account to check. A field that is `None` is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessRequest {
    /// The key pair that the client authenticated with.
    pub key: Option<KeyId>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The endpoints that the client calls.
    pub reach: Option<Reach>,
    /// The affiliate whose plans the client wants to see.
    pub affiliate: Option<String>,
}

/// The endpoints that a use wants to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every group of endpoints that the role may reach.
    Role(Role),
    /// One group of endpoints.
    Endpoint(EndpointGroup),
}

/// An access rule. A use is refused as soon as one rule refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The account is not deleted.
    Life,
    /// The account is enabled.
    Enabled,
    /// OpsAdmin staff have not suspended the account.
    Suspension,
    /// The key pair that the client authenticated with still authenticates, or any key pair of the account.
    Keys,
    /// The account may be used from the address.
    Address,
    /// The account's roles reach the endpoints.
    Endpoints,
    /// The account sees the affiliate's plans.
    Plans,
}

impl Rule {
    /// The rule's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Life => "life",
            Self::Enabled => "enabled",
            Self::Suspension => "suspension",
            Self::Keys => "keys",
            Self::Address => "address",
            Self::Endpoints => "endpoints",
            Self::Plans => "plans",
        }
    }
}

/// The result of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The rule allows the use.
    Pass,
    /// The rule refuses the use.
    Fail,
    /// The rule depends on a field that is `None` in [`AccessRequest`].
    NotAsked,
}

impl Verdict {
    /// The verdict's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotAsked => "notAsked",
        }
    }
}

/// A rule with its verdict and the reason for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleResult<'a> {
    /// The rule.
    pub rule: Rule,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason.
    pub why: Why<'a>,
}

/// The result of all rules for one use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access<'a> {
    /// Every rule, in the order in which the rules are applied.
    pub rules: [RuleResult<'a>; 7],
    /// The roles that the account has.
    pub roles: Vec<Role>,
    /// The plans that the API returns to the account.
    pub plans: VisiblePlans<'a>,
}

/// The plans that the API returns to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisiblePlans<'a> {
    /// The plans of every affiliate.
    All,
    /// The plans of this affiliate only.
    Of(&'a str),
}

impl<'a> Access<'a> {
    /// Returns whether no rule refuses the use.
    pub fn is_allowed(&self) -> bool {
        self.refusals().next().is_none()
    }

    /// Returns the rules that refuse the use.
    pub fn refusals(&self) -> impl Iterator<Item = &RuleResult<'a>> {
        self.rules.iter().filter(|judged| judged.verdict == Verdict::Fail)
    }

    /// Returns the groups of endpoints that the account's roles reach.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointGroup> {
        endpoints_of(&self.roles)
    }
}

/// Applies every rule to one use of the account at the time `now`.
pub fn access<'a>(account: &'a Account, asked: &'a AccessRequest, now: Timestamp) -> Access<'a> {
    let settings = &account.settings;
    let roles = settings.known_roles();
    let plans = settings.visible_plans(&roles);
    let judged = |rule, (verdict, why)| RuleResult { rule, verdict, why };
    let results = [
        judged(Rule::Life, judge_life(account.life)),
        judged(Rule::Enabled, judge_enabled(settings.enabled)),
        judged(Rule::Suspension, judge_suspension(account)),
        judged(Rule::Keys, judge_keys(account, asked.key, now)),
        judged(Rule::Address, judge_address(settings, asked.ip)),
        judged(Rule::Endpoints, judge_endpoints(settings, &roles, asked.reach)),
        judged(Rule::Plans, judge_plans(plans, asked.affiliate.as_deref())),
    ];
    Access { rules: results, roles, plans }
}

impl StoredSettings {
    /// Returns the roles that are known, in the order of their names. An unknown role grants no access.
    pub fn known_roles(&self) -> Vec<Role> {
        self.roles.iter().filter_map(|text| Role::parse(text).ok()).collect()
    }

    /// Returns the plans that the API returns to an account with these settings, whose known roles are `roles`.
    pub fn visible_plans(&self, roles: &[Role]) -> VisiblePlans<'_> {
        match &self.affiliate {
            Some(affiliate) if !roles.contains(&Role::Administrator) => VisiblePlans::Of(affiliate),
            _ => VisiblePlans::All,
        }
    }
}

fn opened_by(roles: &[Role], group: EndpointGroup) -> Option<Role> {
    roles.iter().copied().find(|role| role.endpoint_groups().contains(&group))
}

fn endpoints_of(roles: &[Role]) -> impl Iterator<Item = EndpointGroup> {
    EndpointGroup::ALL.into_iter().filter(|group| opened_by(roles, *group).is_some())
}

fn judge_life(life: Life) -> (Verdict, Why<'static>) {
    match life {
        Life::Live => (Verdict::Pass, Why::Live),
        Life::Retained { since } => (Verdict::Pass, Why::Retained { since }),
        Life::Deleted { since } => (Verdict::Fail, Why::Deleted { since }),
    }
}

fn judge_enabled(enabled: bool) -> (Verdict, Why<'static>) {
    if enabled { (Verdict::Pass, Why::Enabled) } else { (Verdict::Fail, Why::Disabled) }
}

fn judge_suspension(account: &Account) -> (Verdict, Why<'_>) {
    match &account.suspension {
        None => (Verdict::Pass, Why::NotSuspended),
        Some(suspension) => (Verdict::Fail, Why::Suspended(suspension)),
    }
}

fn judge_keys(account: &Account, asked: Option<KeyId>, now: Timestamp) -> (Verdict, Why<'static>) {
    if let Some(asked) = asked {
        return match account.keys.iter().find(|key| key.id == asked) {
            None => (Verdict::Fail, Why::UnknownPair),
            Some(key) if key.is_too_short() => (Verdict::Fail, Why::PairTooShort),
            Some(key) if works(key, now) => (Verdict::Pass, Why::PairWorks),
            Some(_) => (Verdict::Fail, Why::PairExpired),
        };
    }
    let unexpired = || account.keys.iter().filter(|key| works(key, now));
    match unexpired().filter(|key| !key.is_too_short()).count() {
        0 if account.keys.is_empty() => (Verdict::Fail, Why::NoPair),
        0 if unexpired().next().is_some() => (Verdict::Fail, Why::PairTooShort),
        0 => (Verdict::Fail, Why::EveryPairExpired),
        working => (Verdict::Pass, Why::PairsWork { working }),
    }
}

fn works(key: &StoredKey, now: Timestamp) -> bool {
    match key.state {
        KeyState::Active => true,
        KeyState::Retiring { expires } => expires > now,
    }
}

fn judge_address(settings: &StoredSettings, ip: Option<IpAddr>) -> (Verdict, Why<'_>) {
    if settings.any_ip {
        return (Verdict::Pass, Why::AnyAddress);
    }
    let listed = ListedNetworks(&settings.allowed_ips);
    // Dual-stack sockets report an IPv4 address as `::ffff:a.b.c.d`.
    let ip = ip.map(|ip| ip.to_canonical());
    let network = ip.and_then(|ip| settings.allowed_ips.iter().find(|text| AllowedIp::covers(text, ip)));
    match (ip, network) {
        (Some(ip), Some(network)) => (Verdict::Pass, Why::InNetwork { ip, network }),
        _ if listed.readable().next().is_none() => (Verdict::Fail, Why::NoValidAddress(listed)),
        (Some(ip), None) => (Verdict::Fail, Why::InNoNetwork { ip, listed }),
        (None, _) => (Verdict::NotAsked, Why::OnlyFrom(listed)),
    }
}

fn judge_endpoints<'a>(settings: &'a StoredSettings, roles: &[Role], reach: Option<Reach>) -> (Verdict, Why<'a>) {
    let held = ListedRoles(&settings.roles);
    let Some(wanted) = reach else { return (Verdict::NotAsked, Why::Reaches(held)) };
    let opener = match wanted {
        Reach::Endpoint(group) => opened_by(roles, group),
        Reach::Role(role) => {
            let mut openers = role.endpoint_groups().iter().map(|group| opened_by(roles, *group));
            let first = openers.next().flatten();
            first.filter(|_| openers.all(|opener| opener.is_some()))
        }
    };
    match opener {
        Some(opener) => (Verdict::Pass, Why::Opens { opener, wanted, held }),
        None => (Verdict::Fail, Why::DoesNotOpen { wanted, held }),
    }
}

fn judge_plans<'a>(plans: VisiblePlans<'a>, affiliate: Option<&'a str>) -> (Verdict, Why<'a>) {
    match (plans, affiliate) {
        (VisiblePlans::All, None) => (Verdict::NotAsked, Why::SeesAllPlans),
        (VisiblePlans::Of(own), None) => (Verdict::NotAsked, Why::SeesOnlyPlansOf { own }),
        (VisiblePlans::All, Some(asked)) => (Verdict::Pass, Why::SeesAllPlansAlsoOf { asked }),
        // The comparison is exact, so that a similar name cannot widen access.
        (VisiblePlans::Of(own), Some(asked)) if own == asked => (Verdict::Pass, Why::SeesPlansOf { own }),
        (VisiblePlans::Of(own), Some(asked)) => (Verdict::Fail, Why::SeesOnlyOtherPlans { own, asked }),
    }
}

#[cfg(test)]
mod tests;
