//! Tests with real pods on a real node: the operator and its partners' programs run according to their manifests.
//!
//! The node is this machine. So the tests run isolated from the rest of it (`apart.sh`), which needs root.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod apart;
mod database;
mod disturbances;
mod harness;
mod images;
mod load;
mod logins;
mod node;
mod operator;
mod partners;
mod registry;
mod release;
mod scene;
#[allow(unused_imports, reason = "it is the suite's, which uses all of it")]
#[path = "../suite/support/mod.rs"]
mod support;
mod trial;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

/// The number of tests that run at the same time.
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most tests wait for a kubelet or for a Lease, and need no processor meanwhile.
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    if arguments.list || apart::cgroup().is_some() {
        return libtest_mimic::run(&arguments, trials()).exit_code();
    }
    match apart::run_again() {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("The tests of real pods cannot run: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the tests with their names. All of them share one runtime and the cluster.
fn trials() -> Vec<Trial> {
    let runtime: &'static Runtime = Box::leak(Box::new(Runtime::new().expect("the system gives threads")));
    macro_rules! trials {
        ($($module:ident::$test:ident),* $(,)?) => {
            vec![$(Trial::test(concat!(stringify!($module), "::", stringify!($test)), || {
                runtime.block_on($module::$test());
                Ok(())
            })),*]
        };
    }
    trials![
        harness::nothing_outlives_its_owner,
        trial::the_defaults_reach_a_first_account_that_survives_its_pod_and_leave_nothing,
        operator::runs_as_the_chart_says_and_is_replaced_without_a_key_changing,
        partners::keys_as_files_change_while_the_program_runs,
        partners::keys_as_variables_change_with_a_restart_within_the_overlap,
        operator::a_config_map_changes_the_log_filter_without_a_restart,
        disturbances::an_upgrade_and_a_rollback_under_load_change_no_key,
        disturbances::the_leaders_death_under_load_loses_and_doubles_nothing,
        disturbances::a_restart_of_the_database_under_load_restarts_no_pod_of_the_operator,
        disturbances::uninstalled_and_installed_again_it_has_the_same_keys,
        logins::a_pod_logs_in_with_its_secret_and_may_do_what_its_account_says,
        partners::a_suspended_and_a_deleted_account_no_longer_serve_a_pod,
    ]
}
