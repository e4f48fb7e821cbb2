//! Resources that wait for what others have to bring about: the database's return, a name, or the lists of all namespaces.
//! Each is looked at when that has come, however long its pause after so many failures would last.
//!
//! Looking is all that this asks for: the work queue bounds how many do so at a time.

use super::queues::Queues;
use crate::account::{Field, FieldChange, comparable_name};
use crate::api::ApiAccount;
use crate::database::DatabaseError;
use crate::reconcile::{Done, Outcome, Refusal};
use kube::runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The shortest time from one waking of those that wait for the database to the next. It doubles each time: a database that
/// answers some and not others would otherwise never let those be.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

type Resource = ObjectRef<ApiAccount>;

/// Who waits, and the way to have them looked at.
pub(super) struct Waiting {
    queues: Queues,
    began: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    database: HashSet<Resource>,
    names: HashMap<String, HashSet<Resource>>,
    lists: HashSet<Resource>,
    /// When those that waited for the database were woken, and how long not to do so again.
    woken: Option<(Instant, Duration)>,
}

impl Waiting {
    /// Nobody waits yet; these have them looked at.
    pub fn new(queues: Queues) -> Self {
        Self { queues, began: Notify::new(), state: Mutex::default() }
    }

    /// Takes in what came of a resource: what it waits for now, and what others may no longer have to wait for.
    pub fn hear(&self, resource: &Resource, outcome: &Outcome, now: Instant) {
        self.forget(resource);
        if let Some(Refusal::Database(DatabaseError::Unavailable { .. })) = &outcome.refusal {
            self.state().database.insert(resource.clone());
            self.began.notify_one();
        }
        if let Some(name) = outcome.refusal.as_ref().and_then(Refusal::waits_for) {
            let waiting = key(&format!("{:?}", name.as_str()));
            self.state().names.entry(waiting).or_default().insert(resource.clone());
        }
        self.let_go(outcome);
        if outcome.account.is_some() && !matches!(outcome.refusal, Some(Refusal::Database(_))) {
            self.answered(now);
        }
    }

    /// Takes in that the database has answered.
    pub fn answered(&self, now: Instant) {
        let mut state = self.state();
        if state.database.is_empty() {
            return;
        }
        let pause = match state.woken {
            Some((at, pause)) if now.duration_since(at) < pause => return,
            Some((at, pause)) if now.duration_since(at) < LONGEST_PAUSE * 2 => (pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        state.woken = Some((now, pause));
        let woken = std::mem::take(&mut state.database);
        drop(state);
        tracing::debug!(resources = woken.len(), "the account database answers again");
        for resource in &woken {
            self.queues.send(resource);
        }
    }

    /// Takes in which names an outcome has left to others.
    pub fn let_go(&self, outcome: &Outcome) {
        let holder = outcome.account.as_ref().map(|account| format!("{:?}", account.settings.name));
        let freed = outcome.done.iter().filter_map(|done| match done {
            Done::Disabled | Done::Retained => holder.as_deref(),
            Done::Restored { changes } | Done::Updated { changes } | Done::DriftCorrected { changes } => {
                old_name(changes)
            }
            _ => None,
        });
        for name in freed {
            let woken = self.state().names.remove(&key(name));
            for resource in woken.iter().flatten() {
                self.queues.send(resource);
            }
        }
    }

    /// This one waits until every namespace has been listed.
    pub fn for_lists(&self, resource: &Resource) {
        self.state().lists.insert(resource.clone());
    }

    /// Takes in that every namespace has been listed.
    pub fn listed(&self) {
        let woken = std::mem::take(&mut self.state().lists);
        for resource in &woken {
            self.queues.send(resource);
        }
    }

    /// Done when a resource begins to wait for the database, or did so since the last time.
    pub async fn began(&self) {
        self.began.notified().await;
    }

    /// Whether any resource waits for the database.
    pub fn is_for_database(&self) -> bool {
        !self.state().database.is_empty()
    }

    /// The resource is gone, or about to be looked at.
    pub fn forget(&self, resource: &Resource) {
        let mut state = self.state();
        state.database.remove(resource);
        state.lists.remove(resource);
        state.names.retain(|_, waiting| {
            waiting.remove(resource);
            !waiting.is_empty()
        });
    }

    /// A panic elsewhere cannot leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn old_name(changes: &[FieldChange]) -> Option<&str> {
    changes.iter().find(|change| change.field == Field::Name).map(|change| change.old.as_str())
}

/// What a name, quoted as changes tell it, is compared by.
fn key(quoted: &str) -> String {
    comparable_name(&unquoted(quoted))
}

/// The text that was quoted by `{:?}`. Names have no line breaks, so that a letter after a backslash is only that of a code.
fn unquoted(quoted: &str) -> String {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    let mut text = String::new();
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        match (character, if character == '\\' { rest.next() } else { None }) {
            ('\\', Some('u')) => {
                let code: String = rest.by_ref().take_while(|character| *character != '}').collect();
                let code = u32::from_str_radix(code.trim_start_matches('{'), 16).ok();
                text.extend(code.and_then(char::from_u32));
            }
            ('\\', escaped) => text.extend(escaped),
            (plain, _) => text.push(plain),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountName;
    use crate::controller::queues::Queue;
    use crate::controller::scope::Scope;
    use tokio::sync::mpsc::UnboundedReceiver;

    fn waiting() -> (Waiting, UnboundedReceiver<Resource>) {
        let mut queues = Queue::each(Scope::each(&[]));
        let waiting = Waiting::new(Queues::of(&queues));
        (waiting, queues.remove(0).receiver)
    }

    fn resource(name: &str) -> Resource {
        ObjectRef::new(name).within("ns")
    }

    fn woken(receiver: &mut UnboundedReceiver<Resource>) -> Vec<String> {
        let mut names: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).map(|resource| resource.name).collect();
        names.sort();
        names
    }

    fn away() -> Outcome {
        Outcome::refused(Refusal::Database(DatabaseError::Unavailable { reason: "away".to_owned() }))
    }

    fn taken(name: &str) -> Outcome {
        let name = AccountName::parse(name).unwrap();
        Outcome::refused(Refusal::NameTaken { name, holder: "somebody".to_owned() })
    }

    #[test]
    fn who_waits_for_the_database_is_woken_once_it_answers() {
        let (waiting, mut receiver) = waiting();
        let now = Instant::now();
        for name in ["a", "b", "healed", "gone"] {
            waiting.hear(&resource(name), &away(), now);
        }
        waiting.hear(&resource("healed"), &Outcome::default(), now);
        waiting.forget(&resource("gone"));
        assert!(waiting.is_for_database());
        waiting.answered(now);
        assert_eq!(woken(&mut receiver), ["a", "b"]);
        assert!(!waiting.is_for_database());
    }

    #[test]
    fn who_fails_again_is_woken_ever_less_often_while_others_are_answered() {
        let (waiting, mut receiver) = waiting();
        let start = Instant::now();
        let mut at = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            waiting.hear(&resource("locked"), &away(), now);
            waiting.answered(now);
            if !woken(&mut receiver).is_empty() {
                at.push(second);
            }
        }
        assert_eq!(at, [0, 5, 15, 35, 75, 135, 195]);
    }

    #[test]
    fn names_that_look_the_same_are_waited_for_as_one() {
        let quoted = |name: &str| key(&format!("{name:?}"));
        for name in ["Cafe\u{301}", "CAF\u{c9}", "Ca\u{200b}f\u{e9}"] {
            assert_eq!(quoted(name), "caf\u{e9}", "{name:?}");
        }
        for name in ["a\"b\\c\\", "\\u{e9}", "it's"] {
            assert_eq!(unquoted(&format!("{name:?}")), name);
        }
    }

    #[test]
    fn a_name_that_its_holder_leaves_wakes_those_who_want_it() {
        let (waiting, mut receiver) = waiting();
        let now = Instant::now();
        waiting.hear(&resource("wants"), &taken("Acme"), now);
        waiting.hear(&resource("other"), &taken("Other"), now);
        let renamed = |old: &str| Outcome {
            done: vec![Done::Updated {
                changes: vec![FieldChange { field: Field::Name, old: format!("{old:?}"), new: "\"new\"".to_owned() }],
            }],
            ..Outcome::default()
        };
        waiting.hear(&resource("holder"), &renamed("somebody"), now);
        assert_eq!(woken(&mut receiver), [""; 0]);
        waiting.hear(&resource("holder"), &renamed("ACME"), now);
        assert_eq!(woken(&mut receiver), ["wants"]);
        // A retained account kept its name until its resource came back with another.
        let name = AccountName::parse("Acme").unwrap();
        let required = Refusal::AdoptionRequired { name, difference: "it is retained".to_owned() };
        waiting.hear(&resource("wants"), &Outcome::refused(required), now);
        let restored = match renamed("Acme").done.remove(0) {
            Done::Updated { changes } => Outcome { done: vec![Done::Restored { changes }], ..Outcome::default() },
            other => panic!("{other:?}"),
        };
        waiting.hear(&resource("holder"), &restored, now);
        assert_eq!(woken(&mut receiver), ["wants"]);
    }
}
