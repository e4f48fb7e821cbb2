//! The work queues of all scopes, for code that requeues a resource.

use super::scope::Scope;
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The senders of the queues of all scopes.
pub(super) struct Queues(Vec<(Scope, UnboundedSender<ObjectRef<ApiAccount>>)>);

/// Both ends of the queue of one scope.
pub(super) struct Queue {
    pub scope: Scope,
    pub sender: UnboundedSender<ObjectRef<ApiAccount>>,
    pub receiver: UnboundedReceiver<ObjectRef<ApiAccount>>,
}

impl Queue {
    /// Creates a queue for each scope.
    pub fn each(scopes: Vec<Scope>) -> Vec<Self> {
        let queue = |scope| {
            let (sender, receiver) = unbounded_channel();
            Self { scope, sender, receiver }
        };
        scopes.into_iter().map(queue).collect()
    }
}

impl Queues {
    /// Returns the senders of these queues.
    pub fn of(queues: &[Queue]) -> Self {
        Self(queues.iter().map(|queue| (queue.scope.clone(), queue.sender.clone())).collect())
    }

    /// Requeues the resource, if it is in one of the scopes.
    pub fn send(&self, resource: &ObjectRef<ApiAccount>) {
        let namespace = resource.namespace.as_deref().unwrap_or_default();
        for (_, sender) in self.0.iter().filter(|(scope, _)| scope.has(namespace)) {
            if sender.send(resource.clone()).is_err() {
                tracing::debug!(%resource, "no queue accepts the resource any more: stopping");
            }
        }
    }
}
