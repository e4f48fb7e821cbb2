//! The figures of a fleet, as a table for people and as JSON, and the bounds that no machine and no load change.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::bare::AT_A_TIME;
use super::edits::Edits;
use super::fleet::Measured;
use super::phase::Phase;
use super::times::Times;

/// The most API writes for a new account, events included.
const WRITES_FOR_A_NEW_ACCOUNT: usize = 4;

/// The most statements of the database for a new account: a transaction of its own with two statements that begin it, the
/// creation, the read back and the commit. A read of a page at the start says that there is no account. Accounts that share transactions need fewer. How many do
/// depends on the load, so that figure has no bound.
const STATEMENTS_FOR_A_NEW_ACCOUNT: i64 = 5;

/// The statements that a controller sends in any case, for its start and its sweeps.
const STATEMENTS_OF_A_START: i64 = 200;

impl Measured {
    /// The controller's speed for new accounts as a share of the bare loop's.
    fn speed_ratio(&self) -> f64 {
        let [before, after] = self.bare.each_ref().map(|bare| rate(bare.accounts, bare.time));
        2.0 * rate(self.accounts, self.new.time) / (before + after)
    }

    /// Returns what was more than promised.
    pub fn exceeded_bounds(&self) -> Vec<String> {
        let writes = WRITES_FOR_A_NEW_ACCOUNT * self.accounts;
        let statements = STATEMENTS_OF_A_START + STATEMENTS_FOR_A_NEW_ACCOUNT * whole(self.accounts);
        let mut exceeded = Vec::new();
        let mut check = |what: &str, found: i64, most: i64| {
            if found > most {
                exceeded.push(format!("{what}: {found}, at most {most}"));
            }
        };
        check("API writes for new accounts", whole(self.new.write_count()), whole(writes));
        check("statements for new accounts", self.new.statements, statements);
        check("API writes after a restart", whole(self.restart.write_count()), 0);
        check("objects read one by one after a restart", whole(self.restart.single_reads), 0);
        exceeded
    }

    #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
    fn for_each(&self, number: f64) -> f64 {
        number / self.accounts as f64
    }

    /// The KiB of memory that one more account takes.
    #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
    fn memory_of_one(&self, kib: u64) -> f64 {
        self.for_each(kib.saturating_sub(self.idle.resident) as f64)
    }

    /// All figures on one line.
    pub fn json(&self) -> Value {
        json!({
            "accounts": self.accounts,
            "speedRatio": self.speed_ratio(),
            "bare": self.bare.iter().map(|bare| json!({
                "accounts": bare.accounts,
                "seconds": bare.time.as_secs_f64(),
                "processorSeconds": seconds(&bare.processor_time),
            })).collect::<Vec<_>>(),
            "idleKib": self.idle.resident,
            "new": phase(&self.new),
            "restart": phase(&self.restart),
            "edits": latencies(&self.edits),
            "editsDuringLists": latencies(&self.edits_during_lists),
            "databaseBytes": self.database_bytes,
        })
    }
}

fn phase(phase: &Phase) -> Value {
    json!({
        "seconds": phase.time.as_secs_f64(),
        "writes": phase.writes,
        "singleReads": phase.single_reads,
        "statements": phase.statements,
        "processorSeconds": seconds(&phase.processor_time),
        "residentKib": phase.memory.resident,
        "peakKib": phase.memory.peak,
    })
}

fn latencies(edits: &Edits) -> Value {
    json!({
        "p50Milliseconds": millis(edits.within(50)),
        "p99Milliseconds": millis(edits.within(99)),
        "mostMilliseconds": millis(edits.within(100)),
        "processorSeconds": seconds(&edits.processor_time),
    })
}

/// Leaves out programs that needed no more than a moment.
fn seconds(times: &Times) -> Value {
    let times = times.iter().filter(|(_, time)| **time > Duration::from_millis(50));
    times.map(|(name, time)| (name.clone(), Value::from(time.as_secs_f64()))).collect()
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).expect("a fleet is not that large")
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mib(kib: u64) -> String {
    format!("{:.1} MiB", Duration::from_millis(kib * 1000).as_secs_f64() / 1024.0)
}

/// The number of accounts in a second.
#[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
fn rate(accounts: usize, time: Duration) -> f64 {
    accounts as f64 / time.as_secs_f64()
}

/// The processor time of each program for each account, in milliseconds.
#[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
fn times_of_one(accounts: usize, times: &Times) -> String {
    let of_one = |(name, time): (&String, &Duration)| {
        let of_one = millis(*time) / accounts as f64;
        (of_one >= 0.05).then(|| format!("{name} {of_one:.1}"))
    };
    times.iter().filter_map(of_one).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Measured {
    #[allow(clippy::cast_precision_loss, reason = "the figures are for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accounts, bare, new, restart, edits, .. } = self;
        let writes = new.writes.iter().map(|(kind, count)| format!("{kind} {:.2}", self.for_each(*count as f64)));
        writeln!(f, "| {accounts} accounts | |")?;
        writeln!(f, "|---|---|")?;
        let [before, after] = bare.each_ref().map(|bare| rate(bare.accounts, bare.time));
        writeln!(f, "| bare loop, {AT_A_TIME} at a time | {before:.0} and {after:.0} a second |")?;
        let ratio = self.speed_ratio();
        writeln!(f, "| new accounts | {:.0} a second: {ratio:.2} of the bare loop |", rate(*accounts, new.time))?;
        let of_one = self.for_each(new.write_count() as f64);
        writeln!(f, "| API writes for each | {of_one:.2}: {} |", writes.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "| database statements for each | {:.2} |", self.for_each(new.statements as f64))?;
        writeln!(f, "| the controller's CPU for each | {:.2} ms |", self.for_each(millis(new.own_time())))?;
        writeln!(f, "| all CPU for each, ms | {} |", times_of_one(*accounts, &new.processor_time))?;
        writeln!(
            f,
            "| all CPU for each in the bare loop, ms | {} |",
            times_of_one(bare[0].accounts, &bare[0].processor_time)
        )?;
        writeln!(f, "| memory without accounts | {} |", mib(self.idle.resident))?;
        for (name, memory) in [("after creation", new.memory), ("after a restart", restart.memory)] {
            let (rest, peak) = (self.memory_of_one(memory.resident), self.memory_of_one(memory.peak));
            let (all, most) = (mib(memory.resident), mib(memory.peak));
            writeln!(f, "| memory {name} | {all}, peak {most}: {rest:.1} and {peak:.1} KiB for each |")?;
        }
        let reads = restart.single_reads;
        let time = restart.time.as_secs_f64();
        let (written, asked) = (restart.write_count(), restart.statements);
        writeln!(f, "| restart | {time:.1} s, {written} writes, {reads} single reads, {asked} statements |")?;
        writeln!(f, "| all CPU of a restart for each, ms | {} |", times_of_one(*accounts, &restart.processor_time))?;
        for (when, edits) in [("a sweep each second", edits), ("both lists begin again once", &self.edits_during_lists)]
        {
            let [half, nearly_all, all] = [50, 99, 100].map(|percent| millis(edits.within(percent)));
            writeln!(
                f,
                "| edit to database, 50 a second, {when} | p50 {half:.0} ms, p99 {nearly_all:.0} ms, most {all:.0} ms |"
            )?;
        }
        writeln!(f, "| all CPU for each edit, ms | {} |", times_of_one(edits.count(), &edits.processor_time))?;
        writeln!(f, "| database | {:.0} MiB |", self.database_bytes as f64 / 1024.0 / 1024.0)
    }
}
