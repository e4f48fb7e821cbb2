//! Limits on logins, in bounded memory: all tries for each address, and failures for each account and address.
//!
//! Nothing is limited for an account alone, because API keys are public: anybody could lock a partner out.

use crate::account::ApiKey;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The time for which attempts count.
const PERIOD: Duration = Duration::from_mins(1);

/// The most entries of one period. Two periods of both kinds together need less than 20 MiB.
const MOST: usize = 50_000;

/// The limits for one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimits {
    /// The most requests from one address.
    pub tries: u32,
    /// The most failed logins with one API key from one address.
    pub failures: u32,
}

/// Counts attempts.
pub(super) struct Attempts {
    limits: AttemptLimits,
    tries: Counts<IpAddr>,
    failures: Counts<(u64, IpAddr)>,
    hasher: RandomState,
}

impl Attempts {
    pub fn new(limits: AttemptLimits, now: Instant) -> Self {
        Self { limits, tries: Counts::new(MOST, now), failures: Counts::new(MOST, now), hasher: RandomState::new() }
    }

    /// Counts a request from this address.
    ///
    /// # Errors
    /// There were too many: how long to wait.
    pub fn count_try(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let network = network(address);
        self.tries.check(&network, self.limits.tries, now)?;
        self.tries.add(network, now);
        Ok(())
    }

    /// Checks whether this API key may be tried from this address.
    ///
    /// # Errors
    /// There were too many failures: how long to wait.
    pub fn check_failures(&mut self, key: &ApiKey, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let failed = self.failed(key, address);
        self.failures.check(&failed, self.limits.failures, now)
    }

    /// Counts a failed login.
    pub fn count_failure(&mut self, key: &ApiKey, address: IpAddr, now: Instant) {
        let failed = self.failed(key, address);
        self.failures.add(failed, now);
    }

    fn failed(&self, key: &ApiKey, address: IpAddr) -> (u64, IpAddr) {
        (self.hasher.hash_one(key), network(address))
    }
}

/// Returns the address, or the network of one customer for IPv6: the first 64 bits (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Counts of the present period and of the one before, which counts less the longer the present one lasts.
struct Counts<K> {
    most: usize,
    began: Instant,
    present: HashMap<K, u32>,
    previous: HashMap<K, u32>,
}

impl<K: Hash + Eq> Counts<K> {
    fn new(most: usize, now: Instant) -> Self {
        Self { most, began: now, present: HashMap::new(), previous: HashMap::new() }
    }

    fn check(&mut self, key: &K, limit: u32, now: Instant) -> Result<(), Duration> {
        self.advance(now);
        let passed = now.duration_since(self.began);
        let left = PERIOD.saturating_sub(passed);
        let share = left.as_secs_f64() / PERIOD.as_secs_f64();
        let count = |counts: &HashMap<K, u32>| f64::from(counts.get(key).copied().unwrap_or(0));
        if count(&self.present) + count(&self.previous) * share < f64::from(limit) {
            return Ok(());
        }
        Err(left.max(Duration::from_secs(1)))
    }

    fn add(&mut self, key: K, now: Instant) {
        self.advance(now);
        // A period ends early if it has no room, so that what was counted last still counts.
        if self.present.len() >= self.most && !self.present.contains_key(&key) {
            self.begin(now);
        }
        let count = self.present.entry(key).or_default();
        *count = count.saturating_add(1);
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.duration_since(self.began);
        if passed >= PERIOD {
            self.begin(now);
        }
        if passed >= PERIOD * 2 {
            self.previous = HashMap::new();
        }
    }

    fn begin(&mut self, now: Instant) {
        self.previous = std::mem::take(&mut self.present);
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AttemptLimits = AttemptLimits { tries: 3, failures: 2 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn key(text: &str) -> ApiKey {
        ApiKey::stored(text).unwrap()
    }

    #[test]
    fn an_address_that_tries_too_often_waits_and_others_do_not() {
        let start = Instant::now();
        let mut attempts = Attempts::new(LIMITS, start);
        for _ in 0..3 {
            assert_eq!(attempts.count_try(ip("192.0.2.1"), start), Ok(()));
        }
        assert_eq!(attempts.count_try(ip("192.0.2.1"), start + PERIOD / 2), Err(PERIOD / 2));
        assert_eq!(attempts.count_try(ip("192.0.2.2"), start), Ok(()));
        assert!(attempts.count_try(ip("192.0.2.1"), start + PERIOD).is_err(), "the minute before still counts");
        assert_eq!(attempts.count_try(ip("192.0.2.1"), start + PERIOD + PERIOD / 2), Ok(()));
        assert_eq!(attempts.count_try(ip("192.0.2.1"), start + PERIOD * 4), Ok(()));
    }

    #[test]
    fn failures_count_for_the_key_and_the_address_together() {
        let start = Instant::now();
        let mut attempts = Attempts::new(LIMITS, start);
        let (one, other) = (key("legacy-1"), key("legacy-2"));
        for _ in 0..2 {
            assert_eq!(attempts.check_failures(&one, ip("192.0.2.1"), start), Ok(()));
            attempts.count_failure(&one, ip("192.0.2.1"), start);
        }
        assert!(attempts.check_failures(&one, ip("192.0.2.1"), start).is_err());
        assert_eq!(attempts.check_failures(&one, ip("192.0.2.2"), start), Ok(()), "nobody can lock an account");
        assert_eq!(attempts.check_failures(&other, ip("192.0.2.1"), start), Ok(()));
    }

    #[test]
    fn a_customer_with_many_ipv6_addresses_is_one() {
        let start = Instant::now();
        let mut attempts = Attempts::new(LIMITS, start);
        for last in 1..=3 {
            assert_eq!(attempts.count_try(ip(&format!("2001:db8::{last}")), start), Ok(()));
        }
        assert!(attempts.count_try(ip("2001:db8::4"), start).is_err());
        assert_eq!(attempts.count_try(ip("2001:db8:0:1::4"), start), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_what_was_counted_last_still_counts() {
        let start = Instant::now();
        let mut counts = Counts::new(10, start);
        for number in 0..1000 {
            counts.add(number, start);
        }
        assert!(counts.present.len() <= 10 && counts.previous.len() <= 10);
        assert!(counts.check(&999, 1, start).is_err() && counts.check(&0, 1, start).is_ok());
    }
}
