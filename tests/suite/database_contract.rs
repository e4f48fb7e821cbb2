//! The contract of an account database, tested on a real SQLite database and on a real PostgreSQL database.
//!
//! Each case is written once, as a function that takes a fresh database. `for_each_adapter!` makes one test per adapter
//! from each listed case, so a new case must be listed there.

mod access_changes;
mod accounts;
mod auth_server_role;
mod changes;
mod concurrency;
mod dry_runs;
mod failures;
pub mod fixture;
mod groups;
mod hand_edits;
mod keys;
mod lifecycle;
mod logins;
mod migrating;
pub mod page;
mod passwords;
mod poolers;
mod queries;
mod recorded;
mod refreshes;
mod retention;
mod rules;
mod schema;
mod sealing;
mod sqlite_logins;
mod staff;
mod statements;
mod sweeping;
mod switchover;
mod triggers;
mod versions;

macro_rules! for_each_adapter {
    ($($module:ident::{$($case:ident),* $(,)?}),* $(,)?) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$module::$case(super::fixture::Fresh::sqlite()).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$module::$case(super::fixture::Fresh::postgres(stringify!($case)).await).await;
                }
            )*)*
        }
    };
}

for_each_adapter!(
    accounts::{
        every_field_reads_back,
        an_account_with_only_a_name_reads_back,
        hostile_text_is_stored_as_text,
        an_account_is_found_by_its_name_in_any_case,
        unknown_owners_and_names_find_no_account,
        a_cluster_list_has_only_the_accounts_of_that_cluster,
        the_accounts_of_many_owners_are_found_in_one_read,
        holders_of_many_names_or_keys_are_found_in_one_read,
        holders_of_names_and_known_affiliates_are_found_in_one_read,
        the_maximum_number_of_addresses_reads_back,
        the_sealing_keys_in_use_are_listed,
    },
    lifecycle::{
        each_field_is_updated_and_journalled,
        a_deleted_account_frees_its_name_and_keeps_its_keys,
        a_restored_account_is_as_before_its_deletion,
        a_restore_with_a_taken_name_changes_nothing,
        a_retained_account_stays_unchanged,
        a_retiring_key_has_an_expiry,
        a_lost_key_is_restored,
        the_journal_records_each_change_and_no_key,
        a_change_of_a_missing_account_is_a_conflict,
    },
    keys::{
        a_rotation_with_overlap_retires_the_old_key_pair,
        a_rotation_without_overlap_leaves_one_key_pair,
        a_revoked_or_purged_key_pair_is_refused,
        a_revocation_never_removes_the_active_key_pair,
        a_second_rotation_of_the_same_version_is_a_conflict,
        only_unowned_and_retained_accounts_can_be_adopted,
        a_suspension_has_a_reason_and_survives_updates,
        accounts_deleted_long_ago_are_purged_and_keep_their_journal,
        a_purge_removes_more_accounts_than_one_batch,
    },
    sealing::{
        a_secret_key_sealed_with_a_retired_key_is_refused,
    },
    rules::{
        a_taken_name_is_refused_and_changes_nothing,
        a_second_account_of_an_owner_is_a_conflict,
        a_taken_id_or_key_is_refused,
        an_unknown_affiliate_is_refused_and_changes_nothing,
        an_affiliate_is_registered_only_if_its_account_is_created,
        an_affiliate_in_use_cannot_be_deleted_or_renamed,
        edits_by_hand_that_would_widen_access_are_refused,
        several_changes_are_committed_together_or_not_at_all,
        the_undeclared_accounts_are_the_imported_and_the_retained,
    },
    concurrency::{
        of_many_creations_with_one_name_one_succeeds,
        of_many_updates_of_one_version_one_succeeds,
        concurrent_creations_register_an_affiliate_once,
        no_read_mixes_two_versions,
        concurrent_updates_lose_no_change,
        a_restore_during_a_purge_is_complete_or_a_conflict,
    },
    groups::{
        each_caller_hears_only_of_its_own_change,
        a_caller_that_gives_up_takes_no_other_change_along,
        crossing_changes_of_several_programs_end,
    },
    hand_edits::{
        invalid_settings_are_read_as_stored,
        an_empty_address_list_does_not_allow_any_address,
        an_unreadable_value_is_reported_with_its_table_column_and_row,
    },
    triggers::{
        a_change_that_a_trigger_widens_is_refused,
        other_changes_of_a_trigger_are_returned_as_stored,
        a_change_that_a_trigger_undoes_leaves_no_trace,
    },
    versions::{
        each_edit_by_hand_gives_a_new_version,
        an_edit_of_any_column_gives_a_new_version,
        a_change_planned_before_an_edit_by_hand_is_refused,
        edits_in_one_transaction_give_a_new_version,
        a_row_moved_to_another_account_gives_both_a_new_version,
        an_edit_by_hand_may_set_the_version,
        versions_of_one_cluster_are_listed_also_of_unreadable_accounts,
    },
    sweeping::{
        at_rest_no_account_is_told,
        each_change_of_an_account_is_told_once,
        accounts_that_come_and_go_are_told,
        pages_have_each_account_once,
        an_unreadable_account_does_not_hide_its_neighbours,
    },
    queries::{
        an_account_is_found_by_its_id_until_it_is_purged,
        the_whole_list_has_every_cluster_and_the_unowned_accounts,
        owners_of_all_clusters_and_all_states_are_listed,
        a_list_reports_the_accounts_that_cannot_be_read,
        accounts_are_found_by_the_name_of_their_resource_in_every_cluster,
        deleted_accounts_are_found_by_the_name_that_they_had,
        names_are_read_in_order_up_to_a_limit,
        the_journal_reads_back_as_it_was_written,
        journal_entries_written_by_hand_are_read_as_text,
        an_affiliate_is_registered_once,
    },
    staff::{
        a_suspension_with_a_new_reason_keeps_its_beginning,
        a_suspension_of_an_old_version_is_a_conflict,
        a_suspension_survives_deletion_and_restoration,
        a_rotation_records_each_key_pair_that_it_ends,
    },
    retention::{
        recent_unconfirmed_deletions_are_counted,
        an_account_that_cannot_be_purged_does_not_stop_the_purge,
        trimming_the_journal_keeps_the_first_and_the_last_entries,
    },
    schema::{
        migrating_twice_changes_nothing,
        a_database_keeps_its_identity,
        concurrent_migrations_succeed,
        names_that_look_the_same_are_equal_after_a_migration,
        an_older_schema_is_reported,
        a_newer_schema_that_only_adds_is_supported,
        a_newer_schema_that_needs_a_newer_program_is_refused,
        an_older_schema_is_migrated,
        an_altered_migration_is_detected,
    },
    logins::{
        each_kind_of_login_reads_back,
        an_assertion_is_accepted_once,
        of_concurrent_logins_with_one_assertion_one_succeeds,
        a_login_that_fails_does_not_affect_its_neighbours,
        concurrent_logins_each_get_their_own_answer,
        live_logins_are_listed,
        expired_rows_are_purged_in_batches,
        logins_do_not_keep_an_account,
        uses_have_the_earliest_first_and_the_latest_last,
        an_unreadable_login_is_reported,
    },
    refreshes::{
        a_refresh_replaces_the_generations,
        a_refused_refresh_leaves_no_trace,
        of_concurrent_refreshes_one_succeeds,
        an_ended_login_stays_ended,
    },
    dry_runs::{
        a_dry_run_answers_as_the_database_does,
    },
    page::{
        the_page_has_every_table_and_column,
        the_statements_of_the_page_work,
        a_secret_key_can_be_opened_as_the_page_describes,
    },
);
