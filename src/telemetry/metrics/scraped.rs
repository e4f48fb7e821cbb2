//! The metrics whose values are read from the controller at each scrape, so that they cannot be wrong after a restart or a
//! missed event.

use super::labels::{PENDING, number};
use crate::api::Reason;
use crate::reconcile::OverlapHalf;
use crate::telemetry::controller_stats::ControllerHandle;
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// The metrics whose values are read from the controller at each scrape.
#[derive(Debug)]
pub(super) struct ScrapedStats(pub(super) ControllerHandle);

impl Collector for ScrapedStats {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(stats) = self.0.get() else {
            return Ok(());
        };
        if let Some(fleet) = stats.fleet() {
            let help = "ApiAccounts, by the reason of their Ready condition.";
            let mut family = encoder.encode_descriptor("accounts", help, None, MetricType::Gauge)?;
            for reason in [None].into_iter().chain(Reason::ALL.map(Some)) {
                let count = ConstGauge::new(number(fleet.accounts.get(&reason).copied().unwrap_or_default()));
                count.encode(family.encode_family(&[("reason", reason.map_or(PENDING, Reason::as_str))])?)?;
            }
            let help = "Time at which the oldest active key pair was created.";
            encode_time(&mut encoder, "oldest_active_key_timestamp", help, fleet.oldest_active_key)?;
            let help = "ApiAccounts that logged in with an old key pair, by the half of its overlap.";
            let mut family = encoder.encode_descriptor("old_keys_in_use", help, None, MetricType::Gauge)?;
            for half in OverlapHalf::ALL {
                let count = ConstGauge::new(number(fleet.old_keys_in_use.get(&half).copied().unwrap_or_default()));
                count.encode(family.encode_family(&[("overlap_half", half.as_str())])?)?;
            }
            let help = "Time at which the first old key pair expires that was used in the second half of its overlap.";
            encode_time(&mut encoder, "used_old_key_expiry_timestamp", help, fleet.next_used_key_expiry)?;
            let help = "Time of the next scheduled rotation of an account that is Ready.";
            encode_time(&mut encoder, "next_rotation_timestamp", help, fleet.next_rotation)?;
        }
        if let Some(held) = stats.held_deletions() {
            let help = "Deletions that the brake holds until a user confirms them.";
            let count = ConstGauge::new(number(held));
            count.encode(encoder.encode_descriptor("deletions_held", help, None, MetricType::Gauge)?)?;
        }
        let help = "Whether this controller is the leader.";
        let leader = ConstGauge::new(i64::from(stats.is_leader()));
        leader.encode(encoder.encode_descriptor("leader", help, None, MetricType::Gauge)?)?;
        let help = "Whether this controller is frozen: it observes and reports, and changes nothing.";
        let frozen = ConstGauge::new(i64::from(stats.is_frozen()));
        frozen.encode(encoder.encode_descriptor("frozen", help, None, MetricType::Gauge)?)
    }
}

/// Encodes a time as a gauge in seconds; nothing if there is no such time.
fn encode_time(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    time: Option<Timestamp>,
) -> Result<(), fmt::Error> {
    let Some(time) = time else { return Ok(()) };
    ConstGauge::new(time.as_second()).encode(encoder.encode_descriptor(
        name,
        help,
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?)
}
