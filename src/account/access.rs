//! The access rules: decides from the stored account whether one use of it is allowed, with a verdict for each rule.
//!
//! The functions are pure, so that a check gives the same answer as enforcement. The database may hold any text: a role
//! or a network that cannot be read grants no access.

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

    fn of(passes: bool) -> Self {
        if passes { Self::Pass } else { Self::Fail }
    }
}

/// A rule with its verdict and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// The rule.
    pub rule: Rule,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, safe to print: texts from the database are quoted and escaped.
    pub why: String,
}

/// The result of all rules for one use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Every rule, in the order in which the rules are applied.
    pub rules: Vec<RuleResult>,
    /// The roles that the account has.
    pub roles: Vec<Role>,
    /// The groups of endpoints that the account's roles reach.
    pub endpoints: Vec<EndpointGroup>,
    /// The plans that the API returns to the account.
    pub plans: VisiblePlans,
}

/// The plans that the API returns to an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisiblePlans {
    /// The plans of every affiliate.
    All,
    /// The plans of this affiliate only.
    Of(String),
}

impl Access {
    /// Returns whether no rule refuses the use.
    pub fn is_allowed(&self) -> bool {
        self.refusals().next().is_none()
    }

    /// Returns the rules that refuse the use.
    pub fn refusals(&self) -> impl Iterator<Item = &RuleResult> {
        self.rules.iter().filter(|judged| judged.verdict == Verdict::Fail)
    }
}

/// Applies every rule to one use of the account at the time `now`.
pub fn access(account: &Account, asked: &AccessRequest, now: Timestamp) -> Access {
    let roles = known_roles(&account.settings);
    let endpoints = EndpointGroup::ALL.into_iter().filter(|group| opened_by(&roles, *group).is_some()).collect();
    let plans = plans(&account.settings, &roles);
    let judged = vec![
        judge_life(account.life),
        judge_enabled(account.settings.enabled),
        judge_suspension(account),
        judge_keys(account, asked.key, now),
        judge_address(&account.settings, asked.ip),
        judge_endpoints(&account.settings, &roles, asked.reach),
        judge_plans(&plans, asked.affiliate.as_deref()),
    ];
    Access { rules: judged, roles, endpoints, plans }
}

/// Returns the account's known roles. An unknown role grants no access.
fn known_roles(settings: &StoredSettings) -> Vec<Role> {
    settings.roles.iter().filter_map(|text| Role::parse(text).ok()).collect()
}

fn opened_by(roles: &[Role], group: EndpointGroup) -> Option<Role> {
    roles.iter().copied().find(|role| role.endpoint_groups().contains(&group))
}

fn plans(settings: &StoredSettings, roles: &[Role]) -> VisiblePlans {
    match &settings.affiliate {
        Some(affiliate) if !roles.contains(&Role::Administrator) => VisiblePlans::Of(affiliate.clone()),
        _ => VisiblePlans::All,
    }
}

fn judge_life(life: Life) -> RuleResult {
    let (verdict, why) = match life {
        Life::Live => (Verdict::Pass, "the account is live".to_owned()),
        Life::Retained { since } => (
            Verdict::Pass,
            format!("no resource has declared the account since {since:.0}; the account is retained as it was"),
        ),
        Life::Deleted { since } => (Verdict::Fail, format!("the account is deleted since {since:.0}")),
    };
    RuleResult { rule: Rule::Life, verdict, why }
}

fn judge_enabled(enabled: bool) -> RuleResult {
    let why = if enabled { "the account is enabled" } else { "the account is disabled" };
    RuleResult { rule: Rule::Enabled, verdict: Verdict::of(enabled), why: why.to_owned() }
}

fn judge_suspension(account: &Account) -> RuleResult {
    let why = match &account.suspension {
        None => "the account is not suspended".to_owned(),
        Some(suspension) => format!("the account is suspended since {:.0}: {:?}", suspension.since, suspension.reason),
    };
    RuleResult { rule: Rule::Suspension, verdict: Verdict::of(account.suspension.is_none()), why }
}

fn judge_keys(account: &Account, asked: Option<KeyId>, now: Timestamp) -> RuleResult {
    let judged = |passes, why| RuleResult { rule: Rule::Keys, verdict: Verdict::of(passes), why };
    if let Some(asked) = asked {
        let (passes, why) = match account.keys.iter().find(|key| key.id == asked) {
            None => (false, "the account does not have this key pair"),
            Some(key) if works(key, now) => (true, "the account has this key pair to authenticate with"),
            Some(_) => (false, "this key pair has expired"),
        };
        return judged(passes, why.to_owned());
    }
    let (working, expired): (Vec<_>, Vec<_>) = account.keys.iter().partition(|key| works(key, now));
    let why = match (working.len(), expired.len()) {
        (0, 0) => "the account has no key pair".to_owned(),
        (0, _) => "every key pair has expired".to_owned(),
        (1, _) => "the account has a key pair to authenticate with".to_owned(),
        (working, _) => format!("the account has {working} key pairs to authenticate with"),
    };
    judged(!working.is_empty(), why)
}

fn works(key: &StoredKey, now: Timestamp) -> bool {
    match key.state {
        KeyState::Active => true,
        KeyState::Retiring { expires } => expires > now,
    }
}

fn judge_address(settings: &StoredSettings, ip: Option<IpAddr>) -> RuleResult {
    let judged = |verdict, why| RuleResult { rule: Rule::Address, verdict, why };
    if settings.any_ip {
        return judged(Verdict::Pass, "the account may be used from any address".to_owned());
    }
    let (networks, unread): (Vec<_>, Vec<_>) =
        settings.allowed_ips.iter().partition(|text| AllowedIp::from_cidr(text).is_some());
    let aside = match unread.as_slice() {
        [] => String::new(),
        unread => format!("; {} cannot be read and matches nothing", listed(unread)),
    };
    if networks.is_empty() {
        return judged(
            Verdict::Fail,
            format!("no valid address is listed, so the account may not be used from any address{aside}"),
        );
    }
    let Some(ip) = ip else {
        return judged(Verdict::NotAsked, format!("only from {}{aside}", networks_in_words(&networks)));
    };
    // Dual-stack sockets report an IPv4 address as `::ffff:a.b.c.d`.
    let ip = ip.to_canonical();
    let holds = |text: &&&String| AllowedIp::from_cidr(text).is_some_and(|network| network.contains(ip));
    match networks.iter().find(holds) {
        Some(network) => judged(Verdict::Pass, format!("{ip} is in {network}")),
        None => {
            judged(Verdict::Fail, format!("{ip} is in none of the networks {}{aside}", networks_in_words(&networks)))
        }
    }
}

/// Joins networks without quotes: a text that was read as a network holds no character that needs them.
fn networks_in_words(networks: &[&String]) -> String {
    networks.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(", ")
}

fn listed(texts: &[&String]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}

fn judge_endpoints(settings: &StoredSettings, roles: &[Role], reach: Option<Reach>) -> RuleResult {
    let judged = |verdict, why| RuleResult { rule: Rule::Endpoints, verdict, why };
    let unknown: Vec<_> = settings.roles.iter().filter(|text| Role::parse(text).is_err()).collect();
    let aside = match unknown.as_slice() {
        [] => String::new(),
        unknown => format!("; {} is not a role and grants no access", listed(unknown)),
    };
    let held = match roles {
        [] => "the account has no role".to_owned(),
        roles => format!("the account is {}", roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")),
    };
    let (wanted, groups) = match reach {
        None => {
            let reaches = match roles {
                [] => "reaches no endpoint".to_owned(),
                roles => {
                    let open = EndpointGroup::ALL.into_iter().filter(|group| opened_by(roles, *group).is_some());
                    format!("reaches {}", open.map(EndpointGroup::as_str).collect::<Vec<_>>().join(", "))
                }
            };
            return judged(Verdict::NotAsked, format!("{held} and {reaches}{aside}"));
        }
        Some(Reach::Role(role)) => (format!("all that {role} opens"), role.endpoint_groups().to_vec()),
        Some(Reach::Endpoint(group)) => (group.to_string(), vec![group]),
    };
    let openers: Option<Vec<Role>> = groups.into_iter().map(|group| opened_by(roles, group)).collect();
    match openers.as_deref() {
        Some([opener, ..]) => judged(Verdict::Pass, format!("{opener} opens {wanted}{aside}")),
        _ => judged(Verdict::Fail, format!("{held}, which does not open {wanted}{aside}")),
    }
}

fn judge_plans(plans: &VisiblePlans, affiliate: Option<&str>) -> RuleResult {
    let judged = |verdict, why| RuleResult { rule: Rule::Plans, verdict, why };
    match (plans, affiliate) {
        (VisiblePlans::All, None) => judged(Verdict::NotAsked, "the account sees every affiliate's plans".to_owned()),
        (VisiblePlans::Of(own), None) => {
            judged(Verdict::NotAsked, format!("the account sees only the plans of {own:?}"))
        }
        (VisiblePlans::All, Some(asked)) => {
            judged(Verdict::Pass, format!("the account sees every affiliate's plans, those of {asked:?} too"))
        }
        // The comparison is exact, so that a similar name cannot widen access.
        (VisiblePlans::Of(own), Some(asked)) if own == asked => {
            judged(Verdict::Pass, format!("the account sees the plans of {own:?}"))
        }
        (VisiblePlans::Of(own), Some(asked)) => {
            judged(Verdict::Fail, format!("the account sees only the plans of {own:?}, and not those of {asked:?}"))
        }
    }
}

#[cfg(test)]
mod tests;
