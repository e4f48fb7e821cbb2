//! One ordered record of all that a controller asks of the world, and the faults that some of it is answered with.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// How much of a statement a person needs to know it by.
const SHOWN: usize = 60;

/// Longer than anything that a controller waits for without a call.
const QUIET_WITHIN: Duration = Duration::from_mins(2);

/// Whom a call is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    ApiServer,
    Database,
}

/// One call: a request to the API server, or a statement to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Whom it is made to.
    pub to: To,
    /// What it asks, such as `POST secrets` or the statement: the same in each run of the same thing.
    pub what: String,
    /// The object that it names, if it does; of a list, the namespace.
    pub name: String,
    /// Which of the calls that ask the same, from 1.
    pub number: usize,
    /// What came of it: an HTTP status, `ok`, an SQL state, or what a fault made of it; empty as long as nothing did.
    pub answer: String,
}

impl Call {
    /// Does it only read?
    pub fn is_read(&self) -> bool {
        ["GET ", "LIST ", "WATCH ", "SELECT ", "BEGIN ", "ROLLBACK", "COMMIT READ ONLY", "LISTEN "]
            .iter()
            .any(|verb| self.what.starts_with(verb))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what.chars().take(SHOWN).collect::<String>())?;
        if self.number > 1 {
            write!(f, " (no. {})", self.number)?;
        }
        Ok(())
    }
}

/// What is done with a call instead of passing it on and its answer back.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It and all that comes after it gets nowhere, as if the controller had ended just before it.
    End,
    /// It is carried out, and the connection ends instead of an answer.
    LoseAnswer,
    /// It is carried out, and the answer is never sent, on a connection that stays open.
    KeepAnswer,
    /// It is carried out, and half of the answer is sent, on a connection that stays open; of the API server alone.
    HalfAnswer,
    /// It is not carried out, and the connection ends.
    Disconnect,
    /// It is not carried out and never answered, on a connection that stays open.
    Stall,
    /// It is carried out after this time.
    Delay(Duration),
    /// It is carried out once the test heals what is wrong.
    Hold,
    /// It is not carried out, and the API server answers so.
    Refuse(Refusal),
}

/// An answer of the API server that says no.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The reason in the answer's `Status`.
    pub reason: &'static str,
    /// The header `Retry-After`.
    pub retry_after: Option<u32>,
}

impl Fault {
    /// Refuses with a status and its reason.
    pub fn refuse(code: u16, reason: &'static str) -> Self {
        Self::Refuse(Refusal { code, reason, retry_after: None })
    }
}

type Matches = Box<dyn Fn(&Call) -> bool + Send>;

struct Rule {
    is: Matches,
    faults: Faults,
}

enum Faults {
    Each(VecDeque<Fault>),
    All(Fault),
}

/// The record and the rules. Both proxies of a controller share one, so that the order of all calls is known.
pub struct Trace {
    inner: Mutex<Inner>,
    ended: watch::Sender<bool>,
    /// How often the faults were healed.
    healed: watch::Sender<usize>,
    happened: Notify,
}

struct Inner {
    calls: Vec<Call>,
    numbers: HashMap<String, usize>,
    /// The place in `calls` where the present record begins; answers to what came before it are not in it.
    record: u64,
    rules: Vec<Rule>,
    /// Connections of an earlier generation belong to a controller that has ended.
    generation: u64,
    under_way: Arc<AtomicUsize>,
    last: Instant,
}

/// A call that was let in: what to do with it, and how to say what came of it.
pub struct Passage {
    pub fault: Option<Fault>,
    place: usize,
    record: u64,
    under_way: Option<UnderWay>,
}

/// Counted as long as it is there: a call whose connection ends before its answer is not under way either.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Trace {
    pub fn new() -> Self {
        let inner = Inner {
            calls: Vec::new(),
            numbers: HashMap::new(),
            record: 0,
            rules: Vec::new(),
            generation: 0,
            under_way: Arc::default(),
            last: Instant::now(),
        };
        Self {
            inner: Mutex::new(inner),
            ended: watch::channel(false).0,
            healed: watch::channel(0).0,
            happened: Notify::new(),
        }
    }

    /// Starts the record, and the numbers of calls, anew.
    pub fn begin(&self) {
        let mut inner = self.inner();
        inner.calls.clear();
        inner.numbers.clear();
        inner.record += 1;
    }

    /// The calls so far, in the order in which they were made.
    pub fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    /// Meets the calls for which `is` holds with these faults, one each, and lets the later ones pass.
    pub fn meet(&self, is: impl Fn(&Call) -> bool + Send + 'static, faults: impl IntoIterator<Item = Fault>) {
        self.inner().rules.push(Rule { is: Box::new(is), faults: Faults::Each(faults.into_iter().collect()) });
    }

    /// Meets every call for which `is` holds with this fault, until [`Trace::heal`].
    pub fn meet_all(&self, is: impl Fn(&Call) -> bool + Send + 'static, fault: Fault) {
        self.inner().rules.push(Rule { is: Box::new(is), faults: Faults::All(fault) });
    }

    /// Meets this very call of a record that was made before.
    pub fn meet_call(&self, call: &Call, fault: Fault) {
        let (what, number) = (call.what.clone(), call.number);
        self.meet(move |call| call.what == what && call.number == number, [fault]);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.inner().rules.clear();
        self.healed.send_modify(|times| *times += 1);
    }

    /// Are there faults that no call has met yet?
    pub fn is_waiting(&self) -> bool {
        self.inner().rules.iter().any(|rule| matches!(&rule.faults, Faults::Each(faults) if !faults.is_empty()))
    }

    /// Waits until a call has met [`Fault::End`]; answers whether one has within this time.
    pub async fn is_ended(&self, within: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        timeout(within, ended.wait_for(|ended| *ended)).await.is_ok()
    }

    /// Lets calls pass again that come on new connections; those on the old ones are of a controller that has ended.
    pub fn next_controller(&self) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner.under_way = Arc::default();
        inner.record += 1;
        self.ended.send_replace(false);
    }

    /// Waits until nothing is under way and nothing was asked for this long. Watches do not count once they are begun.
    pub async fn quiet(&self, time: Duration) {
        let deadline = Instant::now() + QUIET_WITHIN;
        loop {
            assert!(Instant::now() < deadline, "it is never quiet:\n{}", listed(&self.calls()));
            let (under_way, last) = {
                let inner = self.inner();
                (inner.under_way.load(Ordering::SeqCst), inner.last)
            };
            if under_way == 0 && last.elapsed() >= time {
                return;
            }
            sleep(if under_way == 0 { time.saturating_sub(last.elapsed()) } else { time / 10 }).await;
        }
    }

    /// Waits until there is a call for which `is` holds, and gives it.
    pub async fn seen(&self, within: Duration, is: impl Fn(&Call) -> bool) -> Option<Call> {
        let deadline = Instant::now() + within;
        loop {
            let happened = self.happened.notified();
            if let Some(call) = self.inner().calls.iter().find(|call| is(call)) {
                return Some(call.clone());
            }
            if tokio::time::timeout_at(deadline, happened).await.is_err() {
                return None;
            }
        }
    }

    /// For a new connection: whose it is.
    pub(super) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// A call arrives: never returns if it is to get nowhere.
    pub(super) async fn arrive(&self, generation: u64, to: To, what: String, name: String) -> Passage {
        let mut healed = self.healed.subscribe();
        let Some(mut passage) = self.let_in(generation, to, what, name) else {
            return std::future::pending().await;
        };
        match passage.fault {
            Some(Fault::Stall) => {
                self.answered(&mut passage, "stalled");
                std::future::pending::<()>().await;
            }
            Some(Fault::Delay(time)) => sleep(time).await,
            // The sender lives as long as this trace does.
            Some(Fault::Hold) => drop(healed.changed().await),
            _ => {}
        }
        passage
    }

    fn let_in(&self, generation: u64, to: To, what: String, name: String) -> Option<Passage> {
        let mut inner = self.inner();
        if *self.ended.borrow() || generation != inner.generation {
            return None;
        }
        let number = inner.numbers.entry(what.clone()).or_default();
        *number += 1;
        let call = Call { to, what, name, number: *number, answer: String::new() };
        let fault = inner.rules.iter_mut().find_map(|rule| rule.meet(&call));
        if matches!(fault, Some(Fault::End)) {
            self.ended.send_replace(true);
            return None;
        }
        inner.calls.push(call);
        inner.last = Instant::now();
        let under_way = Some(UnderWay::begin(&inner.under_way));
        let passage = Passage { fault, place: inner.calls.len() - 1, record: inner.record, under_way };
        drop(inner);
        self.happened.notify_waiters();
        Some(passage)
    }

    /// What came of a call; to be said before the answer is passed on, so that nobody acts on an answer unrecorded.
    pub(super) fn answered(&self, passage: &mut Passage, answer: impl Into<String>) {
        let mut inner = self.inner();
        passage.under_way = None;
        inner.last = Instant::now();
        if passage.record == inner.record {
            inner.calls[passage.place].answer = answer.into();
        }
        drop(inner);
        self.happened.notify_waiters();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding it")
    }
}

impl Rule {
    fn meet(&mut self, call: &Call) -> Option<Fault> {
        match &mut self.faults {
            _ if !(self.is)(call) => None,
            Faults::Each(faults) => faults.pop_front(),
            Faults::All(fault) => Some(fault.clone()),
        }
    }
}

/// The calls, one a line, each with its answer.
pub fn listed(calls: &[Call]) -> String {
    let lines: Vec<_> = calls.iter().map(|call| format!("  {call} {} -> {}\n", call.name, call.answer)).collect();
    lines.concat()
}
