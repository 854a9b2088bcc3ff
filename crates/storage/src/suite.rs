//! The tests that every implementation of [`Store`] passes.
//!
//! Each is a function over a [`Place`], a fresh one per test, and asks for nothing but what the
//! traits promise. The macro [`suite!`](crate::suite!) makes a test of each; a new function is
//! added to its list, which a test here holds. What only one implementation can show (a full disk,
//! a copy of its files) is tested beside it.

use std::sync::Arc;

use crate::store::{Pending, Store};

pub mod budgets;
pub mod commits;
pub mod fixtures;
pub mod journal;
pub mod keys;
pub mod ledger;
pub mod models;
pub mod money;
pub mod objects;
pub mod responses;
pub mod sessions;
pub mod slos;

/// Where a store lives.
pub trait Place: Send + Sync {
    /// Opens the store that lives here, new and empty at first. Opening it again, after the former
    /// handle was dropped, gives the same content; the handle may be dropped without a clean end.
    fn open(&self) -> Pending<Arc<dyn Store>>;
}

/// Makes a test of each function of the suite. `$place` is an expression that makes a fresh
/// [`Place`].
#[macro_export]
macro_rules! suite {
    ($place:expr) => {
        $crate::suite! { @tests $place;
            budgets {
                a_claim_takes_at_most_what_is_unclaimed,
                a_deleted_budget_limits_nothing_and_its_windows_stay_readable,
                a_lowered_limit_refuses_all,
                a_reservation_is_all_or_none_in_order_of_budget_id,
                a_slice_that_is_used_up_is_closed,
                a_window_that_ended_never_opens_again,
                an_unused_budget_has_no_window,
                budgets_are_kept_and_changed,
                money_of_a_slice_counts_in_the_window_of_its_claim,
                nothing_is_claimed_of_what_a_step_holds,
                open_slices_of_other_nodes_are_presumed_spent,
                what_the_provider_charged_replaces_what_was_presumed,
                a_rolling_window_counts_sixty_cells,
                a_top_up_raises_the_limit_once,
                what_a_rule_has_made_is_as_the_rule_is,
            }
            commits {
                a_refused_commit_changes_nothing,
                a_settlement_frees_money_for_a_reservation_of_the_same_commit,
                answered_commits_are_there_when_it_is_opened_again,
                many_tasks_never_pass_a_limit,
                refused_commits_fail_alone,
                sequences_grow_over_openings,
            }
            journal {
                a_former_epoch_writes_nothing,
                numbers_have_no_gaps_and_no_doubles,
                rows_are_read_as_they_were_written,
            }
            keys {
                a_key_and_its_budget_are_written_together_or_not_at_all,
                keys_are_kept_changed_and_deleted,
                neither_name_nor_secret_is_given_twice,
            }
            ledger {
                a_bill_over_the_bound_is_recorded_whole,
                a_charge_without_its_hold_is_recorded,
                a_row_is_read_as_it_was_written,
                a_row_that_comes_twice_moves_money_once,
                many_rows_in_one_commit_move_their_money_once,
                calls_are_found_by_each_filter,
                calls_are_listed_newest_first_and_in_pages,
            }
            models {
                models_are_kept_changed_and_deleted,
                what_was_taken_is_replaced_as_a_whole,
            }
            money {
                amounts_are_conserved,
            }
            objects {
                a_change_is_made_whole_or_not_at_all,
                only_the_newest_versions_of_routes_are_kept,
                only_so_many_bytes_of_routes_are_kept,
                what_goes_frees_its_names,
                what_is_tried_changes_nothing,
            }
            responses {
                a_chain_is_read_whole_or_known_to_be_too_long,
                a_chain_of_too_many_members_does_not_fit,
                a_session_is_forgotten_when_a_body_goes,
                a_session_that_is_whole_is_not_forgotten,
                forks_are_forgotten_with_what_they_were_forked_from,
                a_turn_that_has_ended_holds_no_money,
                an_equal_post_finds_its_turn,
                deleting_takes_every_body_and_leaves_the_rest,
                events_are_appended_and_never_replaced,
                events_with_line_breaks_are_kept,
                responses_are_kept_end_once_and_are_chained,
                what_an_open_turn_continues_is_not_deleted,
            }
            sessions {
                a_lease_that_changes_hands_fences_its_former_owner,
                a_name_stands_for_one_session,
                many_expire_in_several_writes,
                sessions_are_kept_changed_and_found,
                unused_names_are_forgotten_once_per_use,
                unused_families_expire_as_a_whole,
            }
            slos {
                counts_are_kept_replaced_and_forgotten,
            }
        }
    };
    (@tests $place:expr; $($family:ident { $($test:ident,)* })*) => {
        $(mod $family {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    $crate::suite::$family::$test(&$place).await;
                }
            )*
        })*
    };
}

#[cfg(test)]
mod tests;
