//! Random walks: many steps in a row of users, staff, others, trouble and time, with every promise of the design checked at
//! every write and whenever all is quiet.
//!
//! A walk is made from its number and nothing else. `OPSADMIN_TEST_WALKS` says how many to take, and
//! `OPSADMIN_TEST_WALK` takes only the one of this number, as a failure says.

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

/// How many are taken unless more are asked for.
const WALKS: u64 = 400;

#[test]
fn every_promise_holds_on_random_walks() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let walks = match number("OPSADMIN_TEST_WALK") {
        Some(only) => only..only + 1,
        None => 0..number("OPSADMIN_TEST_WALKS").unwrap_or(WALKS),
    };
    for seed in walks {
        if let Err(failure) = runner(seed).run(&walk(), |steps| go(&steps).map_err(TestCaseError::fail)) {
            let TestError::Fail(broken, steps) = failure else { panic!("{failure}") };
            let steps: Vec<_> = steps.iter().map(|step| format!("    {step:?}")).collect();
            panic!(
                "walk {seed} breaks a promise. Again: OPSADMIN_TEST_WALK={seed} cargo test --lib random_walks\n{}\n{broken}",
                steps.join("\n")
            );
        }
    }
}

/// Goes a walk, and tells what was broken first and at which step.
fn go(steps: &[Step]) -> Result<(), String> {
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
