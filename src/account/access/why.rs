//! Why an access rule allows or refuses a use: kept as data, and put into words only where somebody reads them.

use super::{EndpointGroup, Reach, endpoints_of};
use crate::account::{AllowedIp, MIN_SECRET_OCTETS, Role, Suspension};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

/// The reason for a verdict. Its text is safe to print: texts from the database are quoted and escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the text of each variant says what it means")]
pub enum Why<'a> {
    Live,
    Retained { since: Timestamp },
    Deleted { since: Timestamp },
    Enabled,
    Disabled,
    NotSuspended,
    Suspended(&'a Suspension),
    UnknownPair,
    PairWorks,
    PairExpired,
    PairTooShort,
    NoPair,
    EveryPairExpired,
    PairsWork { working: usize },
    AnyAddress,
    OnlyFrom(ListedNetworks<'a>),
    NoValidAddress(ListedNetworks<'a>),
    InNetwork { ip: IpAddr, network: &'a str },
    InNoNetwork { ip: IpAddr, listed: ListedNetworks<'a> },
    Reaches(ListedRoles<'a>),
    Opens { opener: Role, wanted: Reach, held: ListedRoles<'a> },
    DoesNotOpen { wanted: Reach, held: ListedRoles<'a> },
    SeesAllPlans,
    SeesAllPlansAlsoOf { asked: &'a str },
    SeesPlansOf { own: &'a str },
    SeesOnlyPlansOf { own: &'a str },
    SeesOnlyOtherPlans { own: &'a str, asked: &'a str },
}

/// The networks that an account lists. A text that cannot be read matches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedNetworks<'a>(pub(super) &'a BTreeSet<String>);

/// The roles that an account lists. An unknown one grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedRoles<'a>(pub(super) &'a BTreeSet<String>);

impl<'a> ListedNetworks<'a> {
    /// Returns the texts that are networks.
    pub(super) fn readable(self) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(|text| AllowedIp::from_cidr(text).is_some())
    }

    /// Joins the readable networks. They need no quotes: a text that was read as a network has nothing to escape.
    fn in_words(self) -> String {
        self.readable().collect::<Vec<_>>().join(", ")
    }

    /// Returns what to add for texts that cannot be read.
    fn aside(self) -> String {
        let unread = self.0.iter().filter(|text| AllowedIp::from_cidr(text).is_none());
        aside(unread, "cannot be read and matches nothing")
    }
}

impl ListedRoles<'_> {
    fn known(self) -> Vec<Role> {
        self.0.iter().filter_map(|text| Role::parse(text).ok()).collect()
    }

    fn in_words(self) -> String {
        match self.known().as_slice() {
            [] => "the account has no role".to_owned(),
            roles => {
                format!("the account is {}", roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Returns what to add for unknown roles.
    fn aside(self) -> String {
        aside(self.0.iter().filter(|text| Role::parse(text).is_err()), "is not a role and grants no access")
    }
}

fn aside<'a>(unread: impl Iterator<Item = &'a String>, what: &str) -> String {
    match unread.map(|text| format!("{text:?}")).collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        unread => format!("; {} {what}", unread.join(", ")),
    }
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Live => f.write_str("the account is live"),
            Self::Retained { since } => {
                write!(f, "no resource has declared the account since {since:.0}; the account is retained as it was")
            }
            Self::Deleted { since } => write!(f, "the account is deleted since {since:.0}"),
            Self::Enabled => f.write_str("the account is enabled"),
            Self::Disabled => f.write_str("the account is disabled"),
            Self::NotSuspended => f.write_str("the account is not suspended"),
            Self::Suspended(Suspension { since, reason }) => {
                write!(f, "the account is suspended since {since:.0}: {reason:?}")
            }
            Self::UnknownPair => f.write_str("the account does not have this key pair"),
            Self::PairWorks => f.write_str("the account has this key pair to authenticate with"),
            Self::PairExpired => f.write_str("this key pair has expired"),
            Self::PairTooShort => write!(
                f,
                "the secret key has fewer than {MIN_SECRET_OCTETS} characters, so that nobody can log in with it until the keys are rotated"
            ),
            Self::NoPair => f.write_str("the account has no key pair"),
            Self::EveryPairExpired => f.write_str("every key pair has expired"),
            Self::PairsWork { working: 1 } => f.write_str("the account has a key pair to authenticate with"),
            Self::PairsWork { working } => write!(f, "the account has {working} key pairs to authenticate with"),
            Self::AnyAddress => f.write_str("the account may be used from any address"),
            Self::OnlyFrom(listed) => write!(f, "only from {}{}", listed.in_words(), listed.aside()),
            Self::NoValidAddress(listed) => {
                let aside = listed.aside();
                write!(f, "no valid address is listed, so the account may not be used from any address{aside}")
            }
            Self::InNetwork { ip, network } => write!(f, "{ip} is in {network}"),
            Self::InNoNetwork { ip, listed } => {
                write!(f, "{ip} is in none of the networks {}{}", listed.in_words(), listed.aside())
            }
            Self::Reaches(held) => {
                let groups: Vec<_> = endpoints_of(&held.known()).map(EndpointGroup::as_str).collect();
                let reaches = if groups.is_empty() { "no endpoint".to_owned() } else { groups.join(", ") };
                write!(f, "{} and reaches {reaches}{}", held.in_words(), held.aside())
            }
            Self::Opens { opener, wanted, held } => write!(f, "{opener} opens {wanted}{}", held.aside()),
            Self::DoesNotOpen { wanted, held } => {
                write!(f, "{}, which does not open {wanted}{}", held.in_words(), held.aside())
            }
            Self::SeesAllPlans => f.write_str("the account sees every affiliate's plans"),
            Self::SeesAllPlansAlsoOf { asked } => {
                write!(f, "the account sees every affiliate's plans, those of {asked:?} too")
            }
            Self::SeesPlansOf { own } => write!(f, "the account sees the plans of {own:?}"),
            Self::SeesOnlyPlansOf { own } => write!(f, "the account sees only the plans of {own:?}"),
            Self::SeesOnlyOtherPlans { own, asked } => {
                write!(f, "the account sees only the plans of {own:?}, and not those of {asked:?}")
            }
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => write!(f, "all that {role} opens"),
            Self::Endpoint(group) => write!(f, "{group}"),
        }
    }
}
