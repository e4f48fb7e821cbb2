//! Random walks: long sequences of random steps by users, OpsAdmin's staff, other programs, failures and the clock. The
//! promises of the design are checked at every write and whenever nothing is left to do.
//!
//! A walk is generated from its number alone. `OPSADMIN_TEST_WALKS` sets how many walks run. `OPSADMIN_TEST_WALK` runs
//! only the walk with this number, which the message of a failure contains.

mod declared;
mod edits;
mod ports;
mod promises;
mod rest;
mod steps;
mod world;

use super::memory::lock;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use steps::{Step, walk};
use world::World;

/// How many walks run by default.
const WALKS: u64 = 400;

#[test]
fn every_promise_holds_on_random_walks() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let walks = match number("OPSADMIN_TEST_WALK") {
        Some(only) => only..only + 1,
        None => 0..number("OPSADMIN_TEST_WALKS").unwrap_or(WALKS),
    };
    for seed in walks {
        if let Err(failure) = runner(seed).run(&walk(), |steps| execute_walk(&steps).map_err(TestCaseError::fail)) {
            let TestError::Fail(broken, steps) = failure else { panic!("{failure}") };
            let steps: Vec<_> = steps.iter().map(|step| format!("    {step:?}")).collect();
            panic!(
                "walk {seed} breaks a promise. Again: OPSADMIN_TEST_WALK={seed} cargo test --lib random_walks\n{}\n{broken}",
                steps.join("\n")
            );
        }
    }
}

/// Executes a walk. Returns the promises that were broken first, and the step that broke them.
fn execute_walk(steps: &[Step]) -> Result<(), String> {
    let mut world = World::new();
    for (at, step) in steps.iter().enumerate() {
        world.take(step);
        let broken = std::mem::take(&mut lock(&world.ports.witness).broken);
        if !broken.is_empty() {
            return Err(format!("at step {at}, {step:?}:\n{}", broken.join("\n")));
        }
    }
    Ok(())
}

fn runner(seed: u64) -> TestRunner {
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 5_000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
