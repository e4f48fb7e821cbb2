//! What every account database promises, kept by each adapter on a real database of its kind.
//!
//! A case is written once, against a fresh database, and becomes one test for each adapter.

mod accounts;
mod changes;
mod concurrency;
mod failures;
pub mod fixture;
mod hand_edits;
mod keeping;
mod kept;
mod keys;
mod life;
mod logins;
mod looking;
mod migrating;
mod page;
mod poolers;
mod rehearsals;
mod rules;
mod schema;
mod sealing;
mod staff;
mod switchover;
mod versions;

macro_rules! for_each_adapter {
    ($($room:ident::{$($case:ident),* $(,)?}),* $(,)?) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$room::$case(super::fixture::Fresh::sqlite()).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$room::$case(super::fixture::Fresh::postgres(stringify!($case)).await).await;
                }
            )*)*
        }
    };
}

for_each_adapter!(
    accounts::{
        every_field_reads_back,
        the_least_account_reads_back,
        hostile_text_is_only_text,
        an_account_is_found_by_its_name_whatever_the_case,
        nothing_is_found_where_nothing_is,
        a_list_has_what_each_owner_has_and_nothing_of_another_cluster,
        the_accounts_of_many_owners_are_found_in_one_read,
        who_holds_one_of_many_names_or_keys_is_found_in_one_read,
        what_others_wait_for_is_told_in_one_read,
        as_many_addresses_as_allowed_read_back,
        the_sealing_keys_in_use_are_told,
    },
    life::{
        each_field_is_updated_and_journalled,
        a_deleted_account_frees_its_name_and_keeps_its_keys,
        a_deleted_account_is_restored_as_it_was_made,
        a_restore_into_a_taken_name_changes_nothing,
        a_retained_account_stays_as_it_is,
        a_retiring_key_says_when_it_expires,
        a_key_that_was_lost_is_given_back,
        the_journal_tells_the_whole_life_and_no_key,
        a_change_to_an_account_that_is_not_there_is_a_conflict,
    },
    keys::{
        a_rotation_lets_the_old_pair_expire,
        a_rotation_without_overlap_leaves_one_pair,
        a_pair_that_was_revoked_or_purged_is_never_taken_back,
        expired_pairs_are_revoked_and_the_active_one_never,
        of_two_rotations_of_one_version_one_is_made,
        what_nobody_declares_can_be_adopted_and_nothing_else,
        a_suspension_is_read_with_its_reason_and_outlives_changes,
        what_was_deleted_long_ago_is_purged_and_its_history_kept,
        all_that_is_due_is_purged_however_much_it_is,
    },
    sealing::{
        what_is_sealed_with_a_retired_key_is_refused,
    },
    rules::{
        a_taken_name_is_refused_and_leaves_nothing,
        a_taken_owner_is_a_conflict_even_under_the_same_name,
        a_taken_id_or_key_is_refused,
        an_unknown_affiliate_is_refused_and_leaves_nothing,
        an_affiliate_is_registered_with_its_account_or_not_at_all,
        an_affiliate_in_use_cannot_be_deleted_or_renamed,
        what_would_widen_access_is_refused_to_hands_too,
        many_changes_are_made_together_or_not_at_all,
        what_no_resource_declares_is_what_was_imported_or_let_go,
    },
    concurrency::{
        of_many_who_want_one_name_one_gets_it,
        of_many_who_change_one_version_one_does,
        many_register_one_affiliate,
        no_read_is_torn_between_two_versions,
        counting_up_loses_nothing,
        what_comes_back_while_it_is_purged_stays_whole_or_is_told_to_look_again,
    },
    hand_edits::{
        wrong_settings_read_as_they_are,
        a_list_that_lost_its_rows_is_not_any_address,
        an_unreadable_value_is_named_by_its_place,
    },
    kept::{
        what_a_trigger_widens_is_not_made,
        what_a_trigger_changes_otherwise_is_made_and_answered_as_it_is,
        a_change_of_which_nothing_is_kept_leaves_no_trace,
    },
    versions::{
        each_edit_by_hand_is_another_version,
        every_column_counts,
        a_change_planned_before_an_edit_by_hand_is_refused,
        edits_in_one_transaction_are_a_new_version_together,
        a_part_that_moves_to_another_account_counts_for_both,
        a_version_that_is_given_is_taken,
        versions_are_those_of_the_cluster_whatever_cannot_be_read,
    },
    looking::{
        an_account_is_found_by_its_id_wherever_it_is_in_its_life,
        a_list_of_all_has_every_account_of_every_cluster_and_of_nobody,
        the_owners_are_those_of_every_cluster_whatever_became_of_their_accounts,
        a_list_has_what_can_be_read_and_names_the_rest,
        accounts_are_found_by_the_name_of_their_resource_in_every_cluster,
        deleted_accounts_are_found_by_the_name_that_they_had,
        names_are_read_in_order_up_to_a_limit,
        the_journal_reads_back_as_it_was_written,
        what_hands_wrote_into_the_journal_is_told_as_it_stands,
        an_affiliate_is_registered_once,
    },
    staff::{
        a_suspension_keeps_its_beginning_whatever_its_reason_becomes,
        a_suspension_of_a_version_that_has_changed_is_refused,
        a_suspension_outlives_a_deletion_and_what_follows,
        a_rotation_tells_each_pair_that_it_ends,
    },
    keeping::{
        deletions_of_late_are_counted_unless_they_were_confirmed,
        one_that_cannot_be_purged_keeps_no_other_from_going,
        the_journal_is_shortened_and_keeps_how_each_account_began_and_what_changed_last,
    },
    schema::{
        migrating_twice_changes_nothing,
        a_database_keeps_the_identity_that_it_was_made_with,
        many_migrate_at_once,
        names_that_look_the_same_are_one_after_migrating,
        an_older_schema_is_named,
        a_newer_schema_that_only_adds_is_worked_with,
        a_newer_schema_that_needs_a_newer_program_is_left_alone,
        an_older_schema_is_brought_up_to_date,
        an_altered_migration_is_noticed,
    },
    rehearsals::{
        what_is_rehearsed_is_what_is_answered,
    },
    page::{
        the_page_has_every_table_and_column,
        the_statements_of_the_page_do_what_it_says,
        the_page_tells_how_a_secret_key_is_opened,
    },
);
