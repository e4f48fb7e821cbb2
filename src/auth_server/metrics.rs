//! The Prometheus metrics of the auth server. Metric names never change, and no label names an account.

use super::current_access::CurrentAccess;
use crate::login::EndReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::{Arc, Weak};

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// The counters and gauges of one auth server.
#[derive(Debug)]
pub(super) struct Metrics {
    pub logins: Counter,
    pub refreshes: Counter,
    pub limited: Counter,
    pub unavailable: Counter,
    pub secrets_travelled: Counter,
    pub allowed: Counter,
    pub unauthorized: Counter,
    pub forbidden: Counter,
    pub unknown: Counter,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    pub keyring_refused: Gauge,
    login_refusals: Labelled,
    authorization_refusals: Labelled,
    ended: Labelled,
}

/// The metrics with what is read at each scrape.
pub(super) struct Exposition {
    registry: Registry,
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            logins: Counter::default(),
            refreshes: Counter::default(),
            limited: Counter::default(),
            unavailable: Counter::default(),
            secrets_travelled: Counter::default(),
            allowed: Counter::default(),
            unauthorized: Counter::default(),
            forbidden: Counter::default(),
            unknown: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            keyring_refused: Gauge::default(),
            login_refusals: Labelled::default(),
            authorization_refusals: Labelled::default(),
            ended: Labelled::default(),
        }
    }

    /// Counts a refused request for a token or for a revocation.
    pub fn login_refused(&self, rule: &'static str) {
        self.login_refusals.get_or_create(&[("rule", rule)]).inc();
    }

    /// Counts a request of a proxy that is refused by this rule.
    pub fn authorization_refused(&self, rule: &'static str) {
        self.authorization_refusals.get_or_create(&[("rule", rule)]).inc();
    }

    /// Counts a login that this server ended.
    pub fn login_ended(&self, reason: EndReason) {
        self.ended.get_or_create(&[("reason", reason.as_str())]).inc();
    }
}

impl Exposition {
    /// Registers all metrics. Those whose labels are known exist from the start.
    pub fn new(metrics: &Metrics, access: &Arc<CurrentAccess>) -> Self {
        let mut registry = Registry::with_prefix("opsadmin");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(ScrapedAccess(Arc::downgrade(access))));
        let logins = labelled("kind", [("login", &metrics.logins), ("refresh", &metrics.refreshes)]);
        registry.register("logins", "Tokens that were issued, for a login or a refresh", logins);
        registry.register("login_refusals", "Refused requests at /token and /revoke", metrics.login_refusals.clone());
        registry.register("logins_limited", "Requests that came too often", metrics.limited.clone());
        let help = "Requests at /token and /revoke that could not be answered, and got 503";
        registry.register("logins_unavailable", help, metrics.unavailable.clone());
        let help = "Requests with a secret in them: somebody may have read a secret key";
        registry.register("secrets_travelled", help, metrics.secrets_travelled.clone());
        for reason in EndReason::ALL {
            metrics.ended.get_or_create_owned(&[("reason", reason.as_str())]);
        }
        registry.register("logins_ended", "Logins that this server ended before they expired", metrics.ended.clone());
        let results = [
            ("allowed", &metrics.allowed),
            ("unauthorized", &metrics.unauthorized),
            ("forbidden", &metrics.forbidden),
            ("unknown", &metrics.unknown),
        ];
        registry.register("authorizations", "Answers to proxies, by result", labelled("result", results));
        let help = "Requests that a proxy asked about and that a rule refused";
        registry.register("authorization_refusals", help, metrics.authorization_refusals.clone());
        let cache = labelled("result", [("hit", &metrics.cache_hits), ("miss", &metrics.cache_misses)]);
        registry.register("access_cache", "Look-ups of tokens, answered from memory or by the database", cache);
        let help = "Whether the keyring's file has changed to a keyring that this server does not use";
        registry.register("keyring_refused", help, metrics.keyring_refused.clone());
        Self { registry }
    }

    /// Returns all metrics in Prometheus' text format, or as `OpenMetrics` text.
    ///
    /// # Errors
    /// A metric cannot be encoded.
    pub fn text(&self, is_open: bool) -> Result<String, fmt::Error> {
        let mut written = String::new();
        if is_open {
            text::encode(&mut written, &self.registry)?;
        } else {
            prometheus_text::encode(&mut written, &self.registry)?;
        }
        Ok(written)
    }
}

/// Several counters as the series of one metric.
#[derive(Debug)]
struct Labelling {
    label: &'static str,
    series: Vec<(&'static str, Counter)>,
}

fn labelled<const N: usize>(label: &'static str, series: [(&'static str, &Counter); N]) -> Labelling {
    Labelling { label, series: series.map(|(value, counter)| (value, counter.clone())).into() }
}

impl EncodeMetric for Labelling {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (value, counter) in &self.series {
            counter.encode(encoder.encode_family(&[(self.label, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// What is read from the cache at each scrape.
#[derive(Debug)]
struct ScrapedAccess(Weak<CurrentAccess>);

impl Collector for ScrapedAccess {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(access) = self.0.upgrade() else { return Ok(()) };
        let help = "Tokens in memory.";
        let tokens = ConstGauge::new(i64::try_from(access.tokens_in_memory()).unwrap_or(i64::MAX));
        tokens.encode(encoder.encode_descriptor("cached_tokens", help, None, MetricType::Gauge)?)?;
        if let Some(age) = access.heartbeat_age() {
            let help = "Time since the last heartbeat that came back was sent.";
            let age = ConstGauge::new(age.as_secs_f64());
            age.encode(encoder.encode_descriptor("heartbeat_age", help, Some(&Unit::Seconds), MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
