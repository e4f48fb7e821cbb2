//! Tests of the election: single decisions, and candidates in simulated worlds with slow calls, lost answers, stopped
//! processes and clocks that disagree.

use super::*;

const TIMING: Timing = Timing::DEFAULT;

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn record(holder: &str, renewed: u64) -> Record {
    Record { holder: holder.to_owned(), duration: TIMING.lease, times: ["0".to_owned(), renewed.to_string()] }
}

/// Returns a leader whose last renewal began at 100 s.
fn leader() -> Election {
    let mut election = Election::new("me".to_owned(), TIMING, at(100));
    assert_eq!(election.next(at(100)), Step::Read);
    election.saw(None, at(100));
    assert_eq!(election.next(at(100)), Step::Create);
    election.claimed(record("me", 1), at(100), at(101));
    election
}

#[test]
fn a_lease_of_another_candidate_is_claimed_once_it_did_not_change_for_its_duration() {
    let mut election = Election::new("me".to_owned(), TIMING, at(100));
    election.saw(Some(record("other", 1)), at(100));
    assert_eq!(election.next(at(100)), Step::Wait(at(102)));
    assert_eq!(election.next(at(102)), Step::Read);
    election.saw(Some(record("other", 2)), at(102));
    election.saw(Some(record("other", 2)), at(116));
    assert_eq!(election.next(at(116)), Step::Wait(at(117)));
    assert_eq!(election.next(at(117)), Step::Replace);
    election.overtaken(at(117));
    assert_eq!(election.next(at(117)), Step::Read);
    election.saw(Some(record("third", 3)), at(117));
    assert_eq!(election.next(at(117)), Step::Wait(at(119)));
}

#[test]
fn a_released_lease_is_claimed_at_once() {
    let mut election = Election::new("me".to_owned(), TIMING, at(100));
    election.saw(Some(record("other", 1)), at(100));
    assert_eq!(election.next(at(101)), Step::Wait(at(102)));
    election.saw(Some(Record { duration: Duration::from_secs(1), ..record("", 2) }), at(101));
    assert_eq!(election.next(at(101)), Step::Replace);
}

#[test]
fn a_deleted_lease_counts_until_it_would_have_expired() {
    let mut election = Election::new("me".to_owned(), TIMING, at(100));
    election.saw(Some(record("other", 1)), at(100));
    election.saw(None, at(101));
    assert!(matches!(election.next(at(101)), Step::Wait(_)));
    assert_eq!(election.next(at(115)), Step::Create);
}

#[test]
fn a_leader_renews_and_its_time_counts_from_before_the_call() {
    let mut election = leader();
    assert_eq!(election.leads_until(), Some(at(110)));
    assert_eq!(election.next(at(101)), Step::Wait(at(102)));
    assert_eq!(election.next(at(102)), Step::Replace);
    election.claimed(record("me", 2), at(102), at(106));
    assert_eq!(election.leads_until(), Some(at(112)));
}

#[test]
fn a_leader_that_cannot_renew_ends_at_the_renew_deadline() {
    let mut election = leader();
    election.failed("no answer".to_owned(), at(102));
    assert_eq!(election.next(at(104)), Step::Replace);
    assert_eq!(election.call_limit(at(108)), Duration::from_secs(2));
    election.failed("still no answer".to_owned(), at(104));
    let end = Step::End(Loss::Expired { last_failure: Some("still no answer".to_owned()) });
    assert_eq!(election.next(at(110)), end);
    assert_eq!((election.next(at(111)), election.leads_until()), (end, None));
}

#[test]
fn a_leader_that_finds_another_holder_ends_and_one_that_finds_itself_goes_on() {
    let mut election = leader();
    election.overtaken(at(102));
    assert_eq!(election.next(at(102)), Step::Read);
    election.saw(Some(record("me", 2)), at(102));
    assert_eq!(election.next(at(102)), Step::Replace);
    election.overtaken(at(102));
    election.saw(Some(record("other", 3)), at(103));
    assert_eq!(election.next(at(103)), Step::End(Loss::Taken { by: "other".to_owned() }));
}

#[test]
fn a_claim_whose_answer_came_too_late_is_made_again() {
    let mut election = Election::new("me".to_owned(), TIMING, at(100));
    election.saw(None, at(100));
    election.claimed(record("me", 1), at(100), at(130));
    assert_eq!((election.leads_until(), election.next(at(130))), (None, Step::Replace));
}

/// A random number generator (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The Lease as the API server stores it, with its version.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
}

/// A call on its way. The API server handles it at `handled`, and its answer arrives at `answered`, in milliseconds of
/// true time. Its caller may have given up by then.
struct Call {
    step: Step,
    based_on: u64,
    sent: Moment,
    limit: Duration,
    handled: u64,
    answered: u64,
    is_lost: bool,
    answer: Option<Answer>,
}

#[derive(Clone)]
enum Answer {
    Found(Option<Record>, u64),
    Stored(Record, u64),
    Overtaken,
}

struct Candidate {
    election: Election,
    identity: String,
    offset: u64,
    /// How fast the clock runs, in percent.
    speed: u64,
    version: u64,
    stopped_until: u64,
    call: Option<Call>,
    /// Calls whose caller has given up, and which the API server may still handle.
    abandoned: Vec<Call>,
}

impl Candidate {
    fn new(identity: String, dice: &mut Dice, now: u64) -> Self {
        let (offset, speed) = (dice.below(1_000_000), 95 + dice.below(11));
        let clock = Moment(Duration::from_millis(offset + now * speed / 100));
        let election = Election::new(identity.clone(), TIMING, clock);
        let (call, abandoned) = (None, Vec::new());
        Self { election, identity, offset, speed, version: 0, stopped_until: 0, call, abandoned }
    }

    fn clock(&self, now: u64) -> Moment {
        Moment(Duration::from_millis(self.offset + now * self.speed / 100))
    }

    fn leads(&self, now: u64) -> bool {
        self.election.leads_until().is_some_and(|until| self.clock(now) < until)
    }

    /// Goes on with what this candidate does, if its process runs.
    fn run(&mut self, now: u64, calm: bool, dice: &mut Dice) {
        let clock = self.clock(now);
        if let Some(call) = &mut self.call {
            let answer = call.answer.clone().filter(|_| now >= call.answered && !call.is_lost);
            let sent = call.sent;
            match answer {
                Some(Answer::Found(found, version)) => {
                    self.version = version;
                    self.election.saw(found, clock);
                }
                Some(Answer::Stored(record, version)) => {
                    self.version = version;
                    self.election.claimed(record, sent, clock);
                }
                Some(Answer::Overtaken) => self.election.overtaken(clock),
                None if clock >= sent.after(call.limit) => {
                    self.election.failed("no answer".to_owned(), sent);
                    self.abandoned.extend(self.call.take());
                }
                None => return,
            }
            self.call = None;
        }
        let step = self.election.next(clock);
        if matches!(step, Step::Read | Step::Create | Step::Replace) {
            let most = if calm || !dice.one_in(5) { 50 } else { 8000 };
            let handled = now + dice.below(most);
            self.call = Some(Call {
                step,
                based_on: self.version,
                sent: clock,
                limit: self.election.call_limit(clock),
                handled,
                answered: handled + dice.below(most),
                is_lost: !calm && dice.one_in(10),
                answer: None,
            });
        }
    }
}

impl Server {
    fn handle(&mut self, call: &mut Call, caller: &str, now: u64) {
        if call.answer.is_some() || now < call.handled {
            return;
        }
        let may_store = match call.step {
            Step::Create => self.lease.is_none(),
            Step::Replace => self.lease.is_some() && self.version == call.based_on,
            _ => false,
        };
        call.answer = Some(match call.step {
            Step::Read => Answer::Found(self.lease.clone(), self.version),
            _ if may_store => {
                self.version += 1;
                let stored = record(caller, self.version);
                self.lease = Some(stored.clone());
                Answer::Stored(stored, self.version)
            }
            _ => Answer::Overtaken,
        });
    }
}

/// Runs three candidates for ten simulated minutes, the last one without faults. Returns how often the leader changed.
fn simulate(seed: u64) -> usize {
    const END: u64 = 600_000;
    let mut dice = Dice(seed);
    let (mut server, mut leaders) = (Server::default(), Vec::new());
    let mut candidates: Vec<_> = (0..3).map(|number| Candidate::new(format!("c{number}"), &mut dice, 0)).collect();
    for now in (0..END).step_by(20) {
        let calm = now > END - 60_000;
        for candidate in &mut candidates {
            for call in candidate.call.iter_mut().chain(&mut candidate.abandoned) {
                server.handle(call, &candidate.identity, now);
            }
            candidate.abandoned.retain(|call| call.answer.is_none());
            if now < candidate.stopped_until {
                continue;
            }
            candidate.run(now, calm, &mut dice);
            let is_over = candidate.election.next(candidate.clock(now));
            if matches!(is_over, Step::End(_)) {
                *candidate = Candidate::new(format!("c{now}"), &mut dice, now);
            } else if !calm && dice.one_in(5000) {
                candidate.stopped_until = now + dice.below(30_000);
            } else if !calm && dice.one_in(5000) && candidate.call.is_none() && candidate.leads(now) {
                // The candidate stops in good order, and another one starts.
                if server.version == candidate.version {
                    server.version += 1;
                    server.lease = Some(Record { duration: Duration::from_secs(1), ..record("", server.version) });
                }
                *candidate = Candidate::new(format!("c{now}"), &mut dice, now);
            } else if dice.one_in(10) && candidate.call.is_none() && !candidate.leads(now) {
                // A watch shows the Lease.
                candidate.version = server.version;
                let clock = candidate.clock(now);
                candidate.election.saw(server.lease.clone(), clock);
            }
        }
        let leading: Vec<_> = candidates.iter().filter(|candidate| candidate.leads(now)).collect();
        assert!(
            leading.len() <= 1,
            "seed {seed}: at {now} ms these lead: {:?}",
            leading.iter().map(|c| &c.identity).collect::<Vec<_>>()
        );
        if let Some(leader) = leading.first()
            && leaders.last() != Some(&leader.identity)
        {
            leaders.push(leader.identity.clone());
        }
        assert!(now < END - 20 || leading.len() == 1, "seed {seed}: without faults there is a leader");
    }
    leaders.len()
}

#[test]
fn there_are_never_two_leaders_at_once() {
    let changes: usize = (0..60).map(simulate).sum();
    assert!(changes > 600, "the faults caused only {changes} changes of the leader");
}
