//! The contract of `ports::Checkpoints`, and what stands on it (the notary, the export, the
//! verification of a store), on both adapters.

mod clauses;
pub(crate) mod fixture;
mod notary;
mod proof;
mod shortening;

/// One module of tests an adapter, one test a clause.
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

contract!(sqlite, postgres => {
    clauses:
        heads_are_the_ends_of_all_chains_in_pages,
        a_checkpoint_must_follow_the_last_one,
        of_two_that_append_at_once_one_is_first,
        signed_texts_are_never_changed,
        a_chain_is_shortened_below_an_anchor_and_only_so,
        what_must_not_be_shortened_is_refused;
    notary:
        what_has_grown_is_signed_and_nothing_else,
        two_notaries_share_one_chain_of_checkpoints,
        a_key_is_handed_over_once_and_a_strangers_is_refused,
        the_file_outside_has_every_checkpoint_whoever_signed_it,
        a_file_that_the_store_does_not_agree_with_is_left_alone;
    proof:
        a_store_is_exported_and_verified_elsewhere,
        the_export_of_one_tenant_names_no_other,
        what_a_superuser_does_is_found,
        a_shortened_chain_verifies;
    shortening:
        records_go_when_their_time_is_over_and_the_chain_still_verifies,
        what_is_held_or_speaks_of_a_stored_event_stays,
        a_hold_that_is_set_in_between_keeps_the_chain;
});
