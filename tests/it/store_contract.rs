//! The contract of `ports::EventStore` and `ports::Lane`: every clause runs on every adapter.
//! A new adapter adds a constructor to `fixture` and its name to `contract!`.

mod accepts;
mod alone;
mod commits;
mod deaths;
mod expiries;
mod fixture;
mod fleets;
mod isolation;
mod marks;
mod model;
mod outboxes;
mod readings;
mod retries;
mod tenancy;
mod upgrades;
mod users;

/// One module of tests an adapter, one test a clause: `store_contract::sqlite::replay_gives_…`.
macro_rules! contract {
    ($($adapter:ident),+ => $clauses:tt) => { $( contract!(@ $adapter $clauses); )+ };
    (@ $adapter:ident { $($file:ident: $($clause:ident),+;)+ }) => {
        mod $adapter {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    let fixture = super::fixture::$adapter().await;
                    super::fixture::run(fixture, super::$file::$clause).await;
                }
            )+)+
        }
    };
}

contract!(memory, sqlite, postgres => {
    accepts:
        a_fresh_event_is_stored_as_it_was_given,
        replay_gives_the_first_answer,
        another_payload_under_a_key_is_a_conflict,
        the_same_key_twice_in_one_batch_makes_one_event,
        a_hundred_concurrent_copies_make_one_event,
        concurrent_batches_over_the_same_keys_all_come_through,
        keys_are_of_their_tenant,
        ids_far_from_the_clock_are_refused_and_nothing_is_written,
        an_empty_batch_does_nothing,
        a_batch_sent_again_is_all_replays;
    outboxes:
        one_row_names_the_fresh_events_in_their_order,
        a_batch_of_replays_writes_no_row,
        a_row_is_due_only_after_its_hold,
        two_takers_never_hold_the_same_row,
        kinds_and_limits_are_kept,
        settled_rows_are_gone_and_no_longer_counted;
    commits:
        a_commit_writes_everything_together,
        dead_letters_alone_write_no_row,
        a_second_disposition_is_a_duplicate_and_moves_no_chain,
        a_stale_epoch_is_fenced_and_the_rest_commits,
        epochs_rise_by_one_a_claim,
        a_successor_goes_on_with_the_chain_and_so_does_who_comes_back,
        two_writers_of_one_epoch_never_fork_a_chain,
        a_claim_ends_the_old_owners_commits;
    readings:
        ids_that_are_not_stored_are_left_out,
        pending_pages_are_bounded_on_both_sides,
        events_since_a_moment_come_in_pages,
        lists_are_newest_first_and_filtered,
        a_record_says_everything_of_its_event,
        audit_pages_join_to_the_whole,
        rejected_messages_are_kept_once;
    marks:
        the_ledger_balances_at_every_step,
        the_mark_stops_at_the_oldest_pending_event,
        the_mark_stays_a_minute_behind,
        many_movers_fold_every_event_once,
        the_mark_passes_what_waits_for_its_next_try,
        a_step_of_the_mark_beside_ends_and_replays_counts_once;
    retries:
        together_gives_first_marks_and_alone_counts,
        the_first_mark_alone_is_one,
        what_has_ended_or_was_never_stored_is_settled,
        marks_and_retries_are_fenced,
        a_postponed_event_waits,
        due_retries_come_in_the_order_in_which_they_are_due,
        what_waits_is_told_apart_from_what_is_put_off,
        a_commit_ends_marks_and_retries,
        marks_and_retries_move_no_chain,
        repairs_are_counted;
    deaths:
        dead_letters_are_listed_newest_first,
        a_replayed_dead_letter_is_pending_again,
        an_event_dies_and_is_replayed_again_and_again,
        a_discarded_dead_letter_stays_dead_and_is_listed_no_more,
        what_is_not_dead_is_left_alone,
        below_the_mark_the_totals_follow,
        of_many_acts_at_once_one_is_done;
    fleets:
        constants_and_clock,
        workers_are_shown_by_the_stores_clock,
        partitions_show_owner_epoch_and_backlog,
        there_are_no_other_partitions;
    model:
        random_interleavings_agree_with_a_naive_model;
});

/// The governing half: the stores that people govern.
mod governed {
    use super::*;

    contract!(sqlite, postgres => {
        expiries:
            a_day_goes_with_all_that_hangs_on_it_and_the_ledger_balances,
            each_reason_keeps_a_day_and_its_end_lets_it_go,
            the_longest_retention_of_a_days_tenants_counts,
            a_hold_between_the_look_and_the_drop_is_kept,
            a_hold_beside_a_drop_is_kept_or_comes_too_late,
            accepts_and_commits_go_on_while_a_day_goes,
            of_many_sweeps_at_once_each_day_goes_once,
            a_sweep_takes_what_a_naive_model_takes;
        tenancy:
            tenants_are_those_with_a_chain_or_a_row,
            retention_is_set_and_audited,
            holds_are_set_once_and_released_once,
            a_record_of_another_chain_is_refused;
    });
}
