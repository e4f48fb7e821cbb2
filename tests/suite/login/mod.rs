//! The auth server as a process: partners log in, and proxies ask, over SQLite and PostgreSQL.
//!
//! Each case is written once, as a function that takes a scene, and becomes one test for each database.

mod authorization;
mod black_hole;
mod clients;
mod feed;
mod introspection;
mod keyring;
mod limits;
mod logins;
mod openapi;
mod operation;
mod partner_program;
mod proxies;
mod refreshes;
mod refusals;
mod replicas;
mod rotations;
pub mod scene;
mod shell_client;
mod tls;
#[path = "../../../examples/login/clients/with_ureq.rs"]
mod with_ureq;

macro_rules! on_each_database {
    ($($module:ident::{$($case:ident),* $(,)?}),* $(,)?) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$module::$case(super::scene::Scene::sqlite().await).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$module::$case(super::scene::Scene::postgres(stringify!($case)).await).await;
                }
            )*)*
        }
    };
}

on_each_database!(
    logins::{
        an_account_logs_in_and_is_let_through_in_each_dialect,
        an_assertion_is_accepted_once_by_all_replicas_and_after_a_restart,
        the_metadata_names_the_endpoints,
        the_commands_of_the_page_log_in,
    },
    refusals::{
        every_failed_login_has_one_answer,
        a_secret_that_travelled_is_refused_and_alarms_and_is_in_no_log,
        a_form_with_a_mistake_is_told_which,
    },
    refreshes::{
        a_lost_answer_is_given_again,
        an_old_refresh_token_ends_the_login_and_its_tokens,
        a_client_revokes_its_token_and_no_other_one,
    },
    authorization::{
        roles_open_their_endpoints,
        an_affiliate_limits_the_plans_and_not_those_of_an_administrator,
        the_address_counts_at_each_use,
        a_change_of_the_account_acts_on_issued_tokens,
        a_proxy_that_asks_wrongly_is_refused,
    },
    replicas::{replicas_whose_clocks_differ_take_each_other_s_tokens_and_no_assertion_twice},
    rotations::{no_login_fails_while_keys_are_rotated_again_and_again},
    introspection::{only_a_caller_with_the_token_learns_about_tokens},
    keyring::{a_rotation_of_the_keyring_refuses_no_login},
    limits::{too_many_tries_and_too_many_failures_wait},
    operation::{
        what_is_noted_is_written_at_the_end,
        the_internal_listener_is_for_listed_networks,
        the_metrics_are_those_of_the_page,
        staff_see_logins_and_end_them,
    },
);
