//! An ordered record of all calls of a controller, and the faults that some of the calls meet.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// The number of characters of a statement that are shown. A reader can recognize the statement by them.
const SHOWN: usize = 60;

/// Longer than any time that a controller waits without a call.
const QUIET_WITHIN: Duration = Duration::from_mins(2);

/// The server that a call is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    ApiServer,
    Database,
}

/// One call: a request to the API server, or a statement to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The server that the call is made to.
    pub to: To,
    /// The request, such as `POST secrets`, or the statement. It is the same in each run of the same operation.
    pub what: String,
    /// The name of the object, if the call names one. For a list, the namespace.
    pub name: String,
    /// The number of the call among the calls with the same `what`, from 1.
    pub number: usize,
    /// The answer: an HTTP status, `ok`, an SQL state, or the effect of a fault. Empty until there is an answer.
    pub answer: String,
}

impl Call {
    /// Returns whether the call only reads. `SET` limits the time of later statements on the same connection.
    pub fn is_read(&self) -> bool {
        ["GET ", "LIST ", "WATCH ", "SELECT ", "BEGIN ", "ROLLBACK", "COMMIT READ ONLY", "LISTEN ", "SET "]
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

/// A fault: what the proxy does instead of forwarding a call and its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Drops the call and all later calls, as if the controller had ended just before the call.
    End,
    /// Forwards the call, and ends the connection instead of returning the answer.
    LoseAnswer,
    /// Forwards the call, and never returns the answer. The connection stays open.
    KeepAnswer,
    /// Forwards the call, and returns half of the answer. The connection stays open. Only for the API server.
    HalfAnswer,
    /// Drops the call, and ends the connection.
    Disconnect,
    /// Drops the call, and never answers. The connection stays open.
    Stall,
    /// Forwards the call after this time.
    Delay(Duration),
    /// Forwards the call after the next [`Trace::heal`].
    Hold,
    /// Drops the call, and answers with this error of the API server.
    Refuse(Refusal),
}

/// An error that the API server returns.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The reason in the `Status` of the answer.
    pub reason: &'static str,
    /// The header `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
}

impl Fault {
    /// Creates a refusal with a status and its reason.
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
    /// The number of calls of [`Trace::heal`].
    healed: watch::Sender<usize>,
    happened: Notify,
}

struct Inner {
    calls: Vec<Call>,
    numbers: HashMap<String, usize>,
    /// The number of the present record. Answers to calls of an earlier record are not recorded.
    record: u64,
    rules: Vec<Rule>,
    /// The number of the present controller. Connections of an earlier generation belong to a controller that has
    /// ended.
    generation: u64,
    under_way: Arc<AtomicUsize>,
    last: Instant,
}

/// A call that was let through, with its fault and its place in the record.
pub struct Passage {
    pub fault: Option<Fault>,
    place: usize,
    record: u64,
    under_way: Option<UnderWay>,
}

/// Counts a call until it is answered. A call whose connection ends before the answer is no longer counted either.
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

    /// Starts a new record. The numbers of the calls start at 1 again.
    pub fn begin(&self) {
        let mut inner = self.inner();
        inner.calls.clear();
        inner.numbers.clear();
        inner.record += 1;
    }

    /// Returns the calls so far, in the order in which they were made.
    pub fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }

    /// Applies one of these faults to each call for which `is` returns true. When all faults are used, later calls
    /// pass.
    pub fn meet(&self, is: impl Fn(&Call) -> bool + Send + 'static, faults: impl IntoIterator<Item = Fault>) {
        self.inner().rules.push(Rule { is: Box::new(is), faults: Faults::Each(faults.into_iter().collect()) });
    }

    /// Applies this fault to every call for which `is` returns true, until [`Trace::heal`].
    pub fn meet_all(&self, is: impl Fn(&Call) -> bool + Send + 'static, fault: Fault) {
        self.inner().rules.push(Rule { is: Box::new(is), faults: Faults::All(fault) });
    }

    /// Applies this fault to the call with the same `what` and number as a call of an earlier record.
    pub fn meet_call(&self, call: &Call, fault: Fault) {
        let (what, number) = (call.what.clone(), call.number);
        self.meet(move |call| call.what == what && call.number == number, [fault]);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.inner().rules.clear();
        self.healed.send_modify(|times| *times += 1);
    }

    /// Returns whether there are faults that no call has met yet.
    pub fn is_waiting(&self) -> bool {
        self.inner().rules.iter().any(|rule| matches!(&rule.faults, Faults::Each(faults) if !faults.is_empty()))
    }

    /// Waits until a call has met [`Fault::End`]. Returns whether a call has met it within this time.
    pub async fn is_ended(&self, within: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        timeout(within, ended.wait_for(|ended| *ended)).await.is_ok()
    }

    /// Lets calls on new connections pass again. Calls on old connections belong to a controller that has ended.
    pub fn next_controller(&self) {
        let mut inner = self.inner();
        inner.generation += 1;
        inner.under_way = Arc::default();
        inner.record += 1;
        self.ended.send_replace(false);
    }

    /// Waits until no call is under way and no call was made for `time`. A watch does not count once its answer has
    /// begun.
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

    /// Waits for a call for which `is` returns true, and returns it. Returns `None` after `within`.
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

    /// Returns the generation for a new connection.
    pub(super) fn generation(&self) -> u64 {
        self.inner().generation
    }

    /// Records a call that arrives. Never returns if the call must be dropped without an answer.
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
            // The sender lives as long as the trace.
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

    /// Records the answer of a call. Must be called before the answer is forwarded, so that the controller cannot act
    /// on an answer that is not recorded.
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

/// Returns the calls as text, one per line, each with its answer.
pub fn listed(calls: &[Call]) -> String {
    let lines: Vec<_> = calls.iter().map(|call| format!("  {call} {} -> {}\n", call.name, call.answer)).collect();
    lines.concat()
}
