//! Decides what a candidate for the leadership does next. Pure: observed Leases, times of the local clock and results of
//! calls go in, the next step comes out.
//!
//! The rules are those of `client-go`. The times that other candidates write into the Lease are never compared with the
//! local clock: a Lease has expired if it did not change for its duration, measured here. A leader counts its own time
//! from before the call that renewed the Lease. So it stops before any other candidate can see an expired Lease.

use std::time::Duration;

/// A time of a clock that never steps and does not stop while the machine sleeps, as the time since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// Returns the time `later` after this one.
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// Returns the time from `now` until this moment; zero if it has passed.
    pub fn left(self, now: Self) -> Duration {
        self.0.saturating_sub(now.0)
    }
}

/// The times of the election.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long other candidates wait after the last change of the Lease that they saw.
    pub lease: Duration,
    /// How long after the start of its last successful renewal a leader may write.
    pub renew_deadline: Duration,
    /// The pause between two renewals, and between two reads of a follower.
    pub retry: Duration,
    /// How long a call may take.
    pub call: Duration,
}

impl Timing {
    /// The times that Kubernetes' own components use.
    pub const DEFAULT: Self = Self {
        lease: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
        call: Duration::from_secs(5),
    };
}

/// The content of a Lease that matters for the election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The identity of the holder; empty if the Lease was released.
    pub holder: String,
    /// How long the Lease is valid after its last change.
    pub duration: Duration,
    /// The times that the holder wrote, as text. They are only compared with themselves.
    pub times: [String; 2],
}

/// What a candidate does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease.
    Read,
    /// Create the Lease with this candidate as the holder.
    Create,
    /// Replace the Lease that was last seen, with this candidate as the holder.
    Replace,
    /// Wait until this time, or until the Lease changes.
    Wait(Moment),
    /// The leadership is lost: stop.
    End(Loss),
}

/// Why a leadership ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Another candidate holds the Lease; empty: another program released it.
    Taken {
        /// The identity of the holder.
        by: String,
    },
    /// The Lease was not renewed within the renew deadline.
    Expired {
        /// The last failure, as text for people.
        last_failure: Option<String>,
    },
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    timing: Timing,
    identity: String,
    seen: Option<Seen>,
    /// Whether the Lease did not exist when it was last read.
    is_absent: bool,
    /// Whether the Lease must be read before the next decision.
    needs_read: bool,
    next_call: Moment,
    role: Role,
    last_failure: Option<String>,
}

/// The Lease as it was last seen, and when its content was last seen to change.
#[derive(Debug)]
struct Seen {
    record: Record,
    changed: Moment,
}

#[derive(Debug)]
enum Role {
    Follower,
    Leader { renewed: Moment },
    Lost(Loss),
}

impl Election {
    /// Creates a candidate that has not seen the Lease. No other candidate may have the same identity.
    pub fn new(identity: String, timing: Timing, now: Moment) -> Self {
        Self {
            timing,
            identity,
            seen: None,
            is_absent: false,
            needs_read: true,
            next_call: now,
            role: Role::Follower,
            last_failure: None,
        }
    }

    /// Returns what to do now.
    pub fn next(&mut self, now: Moment) -> Step {
        match &self.role {
            Role::Lost(loss) => Step::End(loss.clone()),
            Role::Leader { renewed } => {
                let deadline = renewed.after(self.timing.renew_deadline);
                if now >= deadline {
                    let loss = Loss::Expired { last_failure: self.last_failure.take() };
                    self.role = Role::Lost(loss.clone());
                    return Step::End(loss);
                }
                if now < self.next_call {
                    return Step::Wait(self.next_call.min(deadline));
                }
                self.read_or_claim()
            }
            Role::Follower => match self.held_until(now) {
                // A Lease that was read is claimed as soon as it is free. Only a failed call makes a pause before that.
                None if self.needs_read && now < self.next_call => Step::Wait(self.next_call),
                None => self.read_or_claim(),
                Some(_) if now >= self.next_call => Step::Read,
                Some(until) => Step::Wait(self.next_call.min(until)),
            },
        }
    }

    fn read_or_claim(&self) -> Step {
        if self.needs_read {
            Step::Read
        } else if self.is_absent {
            Step::Create
        } else {
            Step::Replace
        }
    }

    /// Returns until when another candidate may lead; `None` if no other candidate can lead now. A deleted Lease counts
    /// as held until it would have expired, because its holder may not have noticed the deletion.
    fn held_until(&self, now: Moment) -> Option<Moment> {
        let seen = self.seen.as_ref()?;
        let is_held = !seen.record.holder.is_empty() && seen.record.holder != self.identity;
        Some(seen.changed.after(seen.record.duration)).filter(|until| is_held && now < *until)
    }

    /// Records the Lease as it was read or watched; `None`: it does not exist.
    pub fn saw(&mut self, found: Option<Record>, now: Moment) {
        self.needs_read = false;
        self.is_absent = found.is_none();
        if matches!(self.role, Role::Follower) && self.next_call <= now {
            self.next_call = now.after(self.timing.retry);
        }
        let Some(record) = found else { return };
        if matches!(self.role, Role::Leader { .. }) && record.holder != self.identity {
            self.role = Role::Lost(Loss::Taken { by: record.holder.clone() });
        }
        if self.seen.as_ref().is_none_or(|seen| seen.record != record) {
            self.seen = Some(Seen { record, changed: now });
        }
    }

    /// Records that the API server stored this claim. `sent` is the time before the call.
    pub fn claimed(&mut self, stored: Record, sent: Moment, now: Moment) {
        self.seen = Some(Seen { record: stored, changed: now });
        self.is_absent = false;
        self.needs_read = false;
        self.last_failure = None;
        self.next_call = sent.after(self.timing.retry);
        let is_late = now >= sent.after(self.timing.renew_deadline);
        match &self.role {
            // A follower whose call took too long does not begin to lead. It holds the Lease and claims it again.
            Role::Follower if is_late => self.next_call = now,
            Role::Follower | Role::Leader { .. } => self.role = Role::Leader { renewed: sent },
            Role::Lost(_) => {}
        }
    }

    /// Records that the API server refused a claim because the Lease has changed, exists, or does not exist any more.
    pub fn overtaken(&mut self, now: Moment) {
        self.needs_read = true;
        self.next_call = now;
    }

    /// Records that a call failed that began at `sent`. It is unknown whether a claim was stored. If it was, the next
    /// claim is refused as overtaken, and a read finds this candidate as the holder.
    pub fn failed(&mut self, failure: String, sent: Moment) {
        if !matches!(self.role, Role::Leader { .. }) {
            self.needs_read = true;
        }
        self.next_call = sent.after(self.timing.retry);
        self.last_failure = Some(failure);
    }

    /// Returns until when this candidate may write; `None` if it does not lead.
    pub fn leads_until(&self) -> Option<Moment> {
        match self.role {
            Role::Leader { renewed } => Some(renewed.after(self.timing.renew_deadline)),
            Role::Follower | Role::Lost(_) => None,
        }
    }

    /// Returns how long a call that begins now may take.
    pub fn call_limit(&self, now: Moment) -> Duration {
        let left = self.leads_until().map(|until| until.left(now));
        left.map_or(self.timing.call, |left| left.min(self.timing.call))
    }

    /// Returns whether the Lease has been read at least once.
    pub fn knows_lease(&self) -> bool {
        self.seen.is_some() || self.is_absent
    }

    /// Returns the holder that was last seen, if it is another candidate.
    pub fn other_holder(&self) -> Option<&str> {
        let holder = self.seen.as_ref()?.record.holder.as_str();
        Some(holder).filter(|holder| !holder.is_empty() && *holder != self.identity)
    }
}

#[cfg(test)]
mod tests;
