//! `/authz` for accounts in memory, against the handler that does nothing.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bare::BareServer;
use super::load::send;
use super::partners::{access_token, question};
use super::processes::processor_time;
use super::world::{AUTH_SERVER, World};

/// The measurements of each server, taken in turn.
const ROUNDS: usize = 5;
const CONNECTIONS: usize = 16;
const REQUESTS_OF_A_CONNECTION: usize = 2_500;

/// The bounds of the promise.
const CPU_OF_BARE: f64 = 1.3;
const THROUGHPUT_OF_BARE: f64 = 0.8;

pub struct Measured {
    bare: Series,
    authorize: Series,
    database_reads: u64,
}

/// The figures of one server: for each round, the processor time of a request and the requests in a second.
#[derive(Default)]
struct Series {
    cpu: Vec<Duration>,
    per_second: Vec<f64>,
}

impl Measured {
    fn cpu_ratio(&self) -> f64 {
        self.authorize.cpu().as_secs_f64() / self.bare.cpu().as_secs_f64()
    }

    fn throughput_ratio(&self) -> f64 {
        self.authorize.per_second() / self.bare.per_second()
    }

    pub fn is_within_bounds(&self) -> bool {
        self.cpu_ratio() <= CPU_OF_BARE && self.throughput_ratio() >= THROUGHPUT_OF_BARE && self.database_reads == 0
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} us of CPU and {:.0} a second, against {:.1} us and {:.0} of the bare handler: {:.2} (at most {CPU_OF_BARE}) \
             and {:.2} (at least {THROUGHPUT_OF_BARE}); {} database reads",
            self.authorize.cpu().as_secs_f64() * 1e6,
            self.authorize.per_second(),
            self.bare.cpu().as_secs_f64() * 1e6,
            self.bare.per_second(),
            self.cpu_ratio(),
            self.throughput_ratio(),
            self.database_reads,
        )
    }
}

impl Series {
    async fn round(&mut self, process: &str, address: &str, requests: Vec<Vec<String>>) {
        let count = u32::try_from(requests.iter().map(Vec::len).sum::<usize>()).expect("it is a small number");
        let before = cpu_of(process);
        let took = send(address, requests, |answer| assert!(answer.status < 300, "{}", answer.status)).await;
        self.cpu.push(cpu_of(process).saturating_sub(before) / count);
        self.per_second.push(f64::from(count) / took.as_secs_f64());
    }

    fn cpu(&self) -> Duration {
        let mut sorted = self.cpu.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    fn per_second(&self) -> f64 {
        let mut sorted = self.per_second.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// Measures both servers in turn, so that another load on the machine meets both.
pub async fn measure(world: &World) -> Measured {
    let (server, bare) = (world.serve().await, BareServer::start().await);
    let tokens = log_in(world, &server.public).await;
    let questions = || -> Vec<Vec<String>> {
        let of_connection = |connection: usize| {
            let tokens = tokens.iter().cycle().skip(connection).step_by(7);
            tokens.take(REQUESTS_OF_A_CONNECTION).map(|token| question(token)).collect()
        };
        (0..CONNECTIONS).map(of_connection).collect()
    };
    let (mut authorize, mut unused) = (Series::default(), Series::default());
    let mut bare_series = Series::default();
    // The first round of each is to warm up.
    unused.round(AUTH_SERVER, &server.internal, questions()).await;
    unused.round(&BareServer::process_name(), &bare.address, questions()).await;
    let misses = server.metric(MISSES).await;
    for _ in 0..ROUNDS {
        bare_series.round(&BareServer::process_name(), &bare.address, questions()).await;
        authorize.round(AUTH_SERVER, &server.internal, questions()).await;
    }
    let database_reads = server.metric(MISSES).await - misses;
    server.stop().await;
    Measured { bare: bare_series, authorize, database_reads }
}

const MISSES: &str = r#"opsadmin_access_cache_total{result="miss"}"#;

/// Logs each partner in, and returns the tokens.
async fn log_in(world: &World, address: &str) -> Vec<String> {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&tokens);
    let logins = world.partners.iter().enumerate().map(|(number, partner)| partner.login(number)).collect();
    send(address, vec![logins], move |answer| {
        assert_eq!(answer.status, 200, "{}", answer.body);
        kept.lock().expect("no panic").push(access_token(&answer.body));
    })
    .await;
    let tokens = tokens.lock().expect("no panic");
    tokens.clone()
}

fn cpu_of(process: &str) -> Duration {
    processor_time().get(process).copied().unwrap_or_default()
}
