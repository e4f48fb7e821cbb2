//! Who is let in: what the stored account says about one use of it, rule by rule. Pure, and the same for whoever enforces
//! it or only asks.
//!
//! It reads what the database holds, which may be anything. Whatever cannot be read gives nothing.

use super::{Account, AllowedIp, KeyState, Life, Role, StoredSettings};
use jiff::Timestamp;
use std::fmt;
use std::net::IpAddr;

/// A group of the API's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointGroup {
    /// What a customer sees of their own.
    MyAccount,
    /// Plans and rates.
    Plans,
    /// Enrollments in plans.
    Enrollments,
    /// The whole API, these three and all the others.
    Everything,
}

impl EndpointGroup {
    /// Every group there is.
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
    /// The groups of endpoints that the role opens.
    pub fn opens(self) -> &'static [EndpointGroup] {
        match self {
            Self::Customer => &[EndpointGroup::MyAccount],
            Self::PlansAndRates => &[EndpointGroup::Plans, EndpointGroup::Enrollments],
            Self::Administrator => &EndpointGroup::ALL,
        }
    }
}

/// One use of an account. What is `None` is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Use {
    /// From where.
    pub ip: Option<IpAddr>,
    /// To what.
    pub reach: Option<Reach>,
    /// To see the plans of this affiliate.
    pub affiliate: Option<String>,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything that a role opens.
    Role(Role),
    /// One group of endpoints.
    Endpoint(EndpointGroup),
}

/// One of the rules, each of which can refuse by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The account is not deleted.
    Life,
    /// It is enabled.
    Enabled,
    /// `OpsAdmin`'s staff have not suspended it.
    Suspension,
    /// It has a pair of keys to authenticate with.
    Keys,
    /// It may be used from the address.
    Address,
    /// One of its roles opens the endpoints.
    Endpoints,
    /// It sees the affiliate's plans.
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

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It lets the use through.
    Pass,
    /// It refuses.
    Fail,
    /// It depends on what was not asked.
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

/// One rule with what it says and why, in words that may be shown to anybody: texts from the database are quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The rule.
    pub rule: Rule,
    /// What it says.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

/// What the rules say about one use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Every rule, in the order in which they are applied.
    pub rules: Vec<Judged>,
    /// The groups of endpoints that the account reaches once it is let in.
    pub endpoints: Vec<EndpointGroup>,
    /// Whose plans the API returns to it.
    pub plans: Plans,
}

/// Whose plans the API returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plans {
    /// Every affiliate's.
    All,
    /// This affiliate's alone.
    Of(String),
}

impl Access {
    /// Whether no rule refuses.
    pub fn is_let_in(&self) -> bool {
        self.refusals().next().is_none()
    }

    /// The rules that refuse.
    pub fn refusals(&self) -> impl Iterator<Item = &Judged> {
        self.rules.iter().filter(|judged| judged.verdict == Verdict::Fail)
    }
}

/// Whether this use of the account is let in at this time.
pub fn access(account: &Account, asked: &Use, now: Timestamp) -> Access {
    let roles = known_roles(&account.settings);
    let endpoints = EndpointGroup::ALL.into_iter().filter(|group| opened_by(&roles, *group).is_some()).collect();
    let plans = plans(&account.settings, &roles);
    let judged = vec![
        judge_life(account.life),
        judge_enabled(account.settings.enabled),
        judge_suspension(account),
        judge_keys(account, now),
        judge_address(&account.settings, asked.ip),
        judge_endpoints(&account.settings, &roles, asked.reach),
        judge_plans(&plans, asked.affiliate.as_deref()),
    ];
    Access { rules: judged, endpoints, plans }
}

/// A role that is not known opens nothing.
fn known_roles(settings: &StoredSettings) -> Vec<Role> {
    settings.roles.iter().filter_map(|text| Role::parse(text).ok()).collect()
}

fn opened_by(roles: &[Role], group: EndpointGroup) -> Option<Role> {
    roles.iter().copied().find(|role| role.opens().contains(&group))
}

fn plans(settings: &StoredSettings, roles: &[Role]) -> Plans {
    match &settings.affiliate {
        Some(affiliate) if !roles.contains(&Role::Administrator) => Plans::Of(affiliate.clone()),
        _ => Plans::All,
    }
}

fn judge_life(life: Life) -> Judged {
    let (verdict, why) = match life {
        Life::Live => (Verdict::Pass, "the account is there".to_owned()),
        Life::Retained { since } => {
            (Verdict::Pass, format!("no resource declares the account since {since:.0}; it was left as it is"))
        }
        Life::Deleted { since } => (Verdict::Fail, format!("the account is deleted since {since:.0}")),
    };
    Judged { rule: Rule::Life, verdict, why }
}

fn judge_enabled(enabled: bool) -> Judged {
    let why = if enabled { "the account is enabled" } else { "the account is disabled" };
    Judged { rule: Rule::Enabled, verdict: Verdict::of(enabled), why: why.to_owned() }
}

fn judge_suspension(account: &Account) -> Judged {
    let why = match &account.suspension {
        None => "the account is not suspended".to_owned(),
        Some(suspension) => format!("the account is suspended since {:.0}: {:?}", suspension.since, suspension.reason),
    };
    Judged { rule: Rule::Suspension, verdict: Verdict::of(account.suspension.is_none()), why }
}

fn judge_keys(account: &Account, now: Timestamp) -> Judged {
    let works = |state| match state {
        KeyState::Active => true,
        KeyState::Retiring { expires } => expires > now,
    };
    let (working, expired): (Vec<_>, Vec<_>) = account.keys.iter().partition(|key| works(key.state));
    let why = match (working.len(), expired.len()) {
        (0, 0) => "the account has no pair of keys".to_owned(),
        (0, _) => "every pair of keys has expired".to_owned(),
        (1, _) => "the account has a pair of keys to authenticate with".to_owned(),
        (working, _) => format!("the account has {working} pairs of keys to authenticate with"),
    };
    Judged { rule: Rule::Keys, verdict: Verdict::of(!working.is_empty()), why }
}

fn judge_address(settings: &StoredSettings, ip: Option<IpAddr>) -> Judged {
    let judged = |verdict, why| Judged { rule: Rule::Address, verdict, why };
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
        return judged(Verdict::Fail, format!("no address at all is listed, so it may be used from none{aside}"));
    }
    let Some(ip) = ip else {
        return judged(Verdict::NotAsked, format!("only from {}{aside}", networks_in_words(&networks)));
    };
    // Dual-stack sockets show an IPv4 address as `::ffff:a.b.c.d`.
    let ip = ip.to_canonical();
    let holds = |text: &&&String| AllowedIp::from_cidr(text).is_some_and(|network| network.contains(ip));
    match networks.iter().find(holds) {
        Some(network) => judged(Verdict::Pass, format!("{ip} lies in {network}")),
        None => {
            judged(Verdict::Fail, format!("{ip} lies in none of the networks {}{aside}", networks_in_words(&networks)))
        }
    }
}

/// What was read as a network has nothing in it that could need quotes.
fn networks_in_words(networks: &[&String]) -> String {
    networks.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(", ")
}

fn listed(texts: &[&String]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}

fn judge_endpoints(settings: &StoredSettings, roles: &[Role], reach: Option<Reach>) -> Judged {
    let judged = |verdict, why| Judged { rule: Rule::Endpoints, verdict, why };
    let unknown: Vec<_> = settings.roles.iter().filter(|text| Role::parse(text).is_err()).collect();
    let aside = match unknown.as_slice() {
        [] => String::new(),
        unknown => format!("; {} is no role and opens nothing", listed(unknown)),
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
        Some(Reach::Role(role)) => (format!("all that {role} opens"), role.opens().to_vec()),
        Some(Reach::Endpoint(group)) => (group.to_string(), vec![group]),
    };
    let openers: Option<Vec<Role>> = groups.into_iter().map(|group| opened_by(roles, group)).collect();
    match openers.as_deref() {
        Some([opener, ..]) => judged(Verdict::Pass, format!("{opener} opens {wanted}{aside}")),
        _ => judged(Verdict::Fail, format!("{held}, which does not open {wanted}{aside}")),
    }
}

fn judge_plans(plans: &Plans, affiliate: Option<&str>) -> Judged {
    let judged = |verdict, why| Judged { rule: Rule::Plans, verdict, why };
    match (plans, affiliate) {
        (Plans::All, None) => judged(Verdict::NotAsked, "it sees every affiliate's plans".to_owned()),
        (Plans::Of(own), None) => judged(Verdict::NotAsked, format!("it sees the plans of {own:?} alone")),
        (Plans::All, Some(asked)) => {
            judged(Verdict::Pass, format!("it sees every affiliate's plans, those of {asked:?} too"))
        }
        // To the letter: a near miss must not widen access.
        (Plans::Of(own), Some(asked)) if own == asked => judged(Verdict::Pass, format!("it sees the plans of {own:?}")),
        (Plans::Of(own), Some(asked)) => {
            judged(Verdict::Fail, format!("it sees the plans of {own:?} alone, and not those of {asked:?}"))
        }
    }
}

#[cfg(test)]
mod tests;
