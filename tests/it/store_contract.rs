//! The contract of `ports::EventStore` and `ports::Lane`: every clause runs on every adapter.
//! A new adapter adds a constructor to `fixture` and its name to `contract!`.

mod accepts;
mod alone;
mod commits;
mod fixture;
mod fleets;
mod marks;
mod model;
mod outboxes;
mod readings;

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
        many_movers_fold_every_event_once;
    fleets:
        constants_and_clock,
        workers_are_shown_by_the_stores_clock,
        partitions_show_owner_epoch_and_backlog,
        there_are_no_other_partitions;
    model:
        random_interleavings_agree_with_a_naive_model;
});
