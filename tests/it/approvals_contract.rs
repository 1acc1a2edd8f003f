//! The contract of `ports::Approvals`: every clause runs on every adapter.

mod clauses;
mod model;

/// One module of tests an adapter, one test a clause.
macro_rules! contract {
    ($($adapter:ident),+ => $clauses:tt) => { $( contract!(@ $adapter $clauses); )+ };
    (@ $adapter:ident { $($clause:ident),+ $(,)? }) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    super::clauses::$clause(&crate::office::Office::$adapter().await).await;
                }
            )+

            #[test]
            fn any_sequence_of_acts_agrees_with_a_naive_model() {
                super::model::any_sequence_agrees(|| crate::office::Office::$adapter());
            }
        }
    };
}

contract!(sqlite, postgres => {
    a_request_is_open_until_its_verdict,
    of_twenty_verdicts_at_once_one_stands,
    a_verdict_is_due_for_publication_at_once_and_once_in_its_hold,
    a_live_claim_holds_others_back,
    comments_are_kept_and_the_audit_holds_none_of_their_text,
    comments_and_claims_are_bounded,
    what_is_overdue_rises_once_whoever_looks,
    what_was_not_escalated_or_is_anothers_is_refused,
    nothing_is_done_without_its_record,
    lists_are_newest_first_and_filtered,
    the_database_itself_keeps_verdicts_to_open_requests,
});
