//! The partners' programs.

pub async fn keys_as_files_change_while_the_program_runs() {}
pub async fn keys_as_variables_change_with_a_restart_within_the_overlap() {}
pub async fn a_suspended_and_a_deleted_account_no_longer_serve_a_pod() {}
