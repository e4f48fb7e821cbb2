//! The domain: the OpsAdmin API account with its settings, keys and rules.
//!
//! This module uses no Kubernetes, no database, no clock and no random numbers. Its types hold only valid values;
//! callers parse text into them once, where the text enters the program. The exception is `StoredSettings`, which holds
//! whatever text the database contains.

mod access;
mod affiliate;
pub(crate) mod base62;
mod diff;
mod id;
mod invisible;
mod ips;
mod key_use;
mod keys;
mod mark;
mod name;
mod owner;
mod period;
mod requester;
mod role;
mod rotation;
#[cfg(test)]
pub(crate) mod samples;
mod settings;
mod stored;
mod suspension;
mod text;
mod twins;

pub use access::{
    Access, AccessRequest, EndpointGroup, ListedNetworks, ListedRoles, Reach, Rule, RuleResult, Verdict, VisiblePlans,
    Why, access,
};
pub use affiliate::{AffiliateName, EVERY_AFFILIATE, InvalidAffiliate};
pub use diff::{ANY_ADDRESS, Field, FieldChange, NO_AFFILIATE, changes};
pub(crate) use id::id;
pub use id::{AccountId, KeyId};
pub use invisible::{INVISIBLE, is_invisible};
pub use ips::{AllowedIp, AllowedIps, InvalidIp, IpFault};
pub use key_use::KeyUse;
pub use keys::{ApiKey, HIDDEN_KEY, InvalidKey, KeyEntropy, KeyPair, KeyState, MIN_SECRET_OCTETS, SecretKey};
pub use mark::Mark;
pub use name::{AccountName, InvalidName, comparable_name};
pub use owner::{Adopter, ClusterId, InvalidClusterId, Owner};
pub use period::{InvalidPeriod, Period};
pub use requester::Requester;
pub use role::{Role, UnknownRole};
pub use rotation::{
    InvalidTrigger, MAX_LIVE_KEY_PAIRS, RotationEffect, RotationPolicy, RotationReason, RotationRequests,
    check_trigger, expired, next_expiry, next_key_event, next_rotation, over_limit, rotation_effect, rotation_reason,
};
pub use settings::{Description, InvalidDescription, Settings, StoredSettings};
pub use stored::{Account, Life, SealedSecret, StoredKey, Suspension, UnassignedPolicy, Version};
pub use suspension::{InvalidReason, SuspensionReason};
pub use twins::{SameName, twins};
