//! Drives the election: does what [`Election`] decides, with the Lease on the cluster and the clock of this machine.

use super::clock;
use super::election::{Election, Loss, Moment, Step, Timing};
use super::fence::Leadership;
use super::lease::{Claimed, LeaseClient, LeaseSettings};
use crate::reconcile::Environment;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use kube::api::DynamicObject;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

type Events = BoxStream<'static, Option<DynamicObject>>;

/// The election of one process.
pub(super) struct Drive {
    lease: LeaseClient,
    settings: LeaseSettings,
    election: Election,
    timing: Timing,
    leadership: Leadership,
    environment: Arc<dyn Environment>,
    events: Option<Events>,
    /// The last failure that was logged. It is logged once.
    logged: Option<String>,
    /// The last holder that was logged.
    followed: Option<String>,
}

impl Drive {
    /// Creates a candidate that has not read the Lease.
    pub fn new(
        client: Client,
        settings: LeaseSettings,
        leadership: Leadership,
        environment: Arc<dyn Environment>,
    ) -> Self {
        let timing = Timing::DEFAULT;
        Self {
            lease: LeaseClient::new(client, settings.clone(), &timing),
            election: Election::new(settings.identity.clone(), timing, clock::now()),
            settings,
            timing,
            leadership,
            environment,
            events: None,
            logged: None,
            followed: None,
        }
    }

    /// Takes part in the election until `stopped`, and then releases the Lease.
    ///
    /// # Errors
    /// [`Loss`] if this process led and lost the Lease.
    pub async fn run(mut self, mut stopped: oneshot::Receiver<()>) -> Result<(), Loss> {
        loop {
            let step = self.election.next(clock::now());
            self.leadership.set(self.election.knows_lease(), self.election.leads_until());
            match step {
                Step::End(loss) => {
                    self.leadership.end();
                    return Err(loss);
                }
                Step::Create | Step::Replace => self.claim(&step).await,
                Step::Read => tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    () = self.read() => {}
                },
                Step::Wait(until) => tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    () = self.wait(until) => {}
                },
            }
        }
        self.release().await;
        Ok(())
    }

    /// Waits until this time, or for the next change of the Lease. Only a follower watches: a leader learns from its
    /// renewals.
    async fn wait(&mut self, until: Moment) {
        let pause = sleep(until.left(clock::now()));
        let Some(events) = self.events.as_mut().filter(|_| self.election.leads_until().is_none()) else {
            return pause.await;
        };
        tokio::select! {
            () = pause => {}
            event = events.next() => match event {
                Some(lease) => {
                    let record = self.lease.watched(lease);
                    self.election.saw(record, clock::now());
                    self.log_holder();
                }
                None => self.events = None,
            },
        }
    }

    async fn read(&mut self) {
        let sent = clock::now();
        match timeout(self.election.call_limit(sent), self.lease.get()).await {
            Ok(Ok(found)) => {
                self.election.saw(found, clock::now());
                self.logged = None;
                self.log_holder();
                if self.events.is_none() && self.election.leads_until().is_none() {
                    let limit = self.election.call_limit(clock::now());
                    self.events = timeout(limit, self.lease.watch()).await.ok().flatten();
                }
            }
            Ok(Err(failure)) => self.failed(failure, sent),
            Err(_) => self.failed(self.no_answer(), sent),
        }
    }

    async fn claim(&mut self, step: &Step) {
        let (sent, now) = (clock::now(), self.environment.now());
        let led = self.election.leads_until().is_some();
        let limit = self.election.call_limit(sent);
        let claiming =
            async { if *step == Step::Create { self.lease.create(now).await } else { self.lease.replace(now).await } };
        match timeout(limit, claiming).await {
            Ok(Ok(Claimed::Stored(record))) => {
                self.election.claimed(record, sent, clock::now());
                self.logged = None;
                if !led && self.election.leads_until().is_some() {
                    self.events = None;
                    let LeaseSettings { namespace, name, identity } = &self.settings;
                    tracing::info!(lease = %format!("{namespace}/{name}"), identity, "this controller is the leader now");
                }
            }
            Ok(Ok(Claimed::Overtaken)) => self.election.overtaken(clock::now()),
            Ok(Err(failure)) => self.failed(failure, sent),
            Err(_) => self.failed(self.no_answer(), sent),
        }
    }

    /// Gives the Lease up. All writes of this process have ended.
    async fn release(&mut self) {
        let leads = self.election.leads_until().is_some();
        self.leadership.end();
        if !leads {
            return;
        }
        let lease = format!("{}/{}", self.settings.namespace, self.settings.name);
        let mut releasing = timeout(self.timing.call, self.lease.release(self.environment.now())).await;
        if matches!(releasing, Ok(Ok(Claimed::Overtaken))) {
            // Others may have changed an annotation, so that this process still holds it.
            releasing = timeout(self.timing.call, self.read_and_release()).await;
        }
        let failure = match releasing {
            Ok(Ok(Claimed::Stored(_))) => {
                tracing::info!(lease, "released the Lease");
                return;
            }
            Ok(Ok(Claimed::Overtaken)) => "another program has changed it".to_owned(),
            Ok(Err(failure)) => failure,
            Err(_) => self.no_answer(),
        };
        tracing::warn!(lease, "the Lease was not released, so another controller waits until it expires: {failure}");
    }

    async fn read_and_release(&mut self) -> Result<Claimed, String> {
        self.lease.get().await?;
        self.lease.release(self.environment.now()).await
    }

    fn failed(&mut self, failure: String, sent: Moment) {
        let lease = format!("{}/{}", self.settings.namespace, self.settings.name);
        if self.logged.as_ref() == Some(&failure) {
            tracing::debug!(lease, "the Lease cannot be read or written: {failure}");
        } else {
            tracing::warn!(lease, "the Lease cannot be read or written: {failure}; trying again");
            self.logged = Some(failure.clone());
        }
        self.election.failed(failure, sent);
    }

    fn no_answer(&self) -> String {
        format!("the API server gave no answer within {} s", self.timing.call.as_secs())
    }

    fn log_holder(&mut self) {
        let holder = self.election.other_holder();
        if holder != self.followed.as_deref() {
            if let Some(holder) = holder {
                let lease = format!("{}/{}", self.settings.namespace, self.settings.name);
                tracing::info!(
                    lease,
                    leader = holder,
                    "another controller is the leader; this one is ready to take over"
                );
            }
            self.followed = holder.map(ToOwned::to_owned);
        }
    }
}
