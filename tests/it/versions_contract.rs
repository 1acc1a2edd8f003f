//! The contract of `ports::Versions`: every clause runs on every adapter.

mod bounds;
mod clauses;

/// One module of tests an adapter, one test a clause.
macro_rules! contract {
    ($($adapter:ident),+ => $clauses:tt) => { $( contract!(@ $adapter $clauses); )+ };
    (@ $adapter:ident { $($file:ident::$clause:ident),+ $(,)? }) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    super::$file::$clause(&crate::office::Office::$adapter().await).await;
                }
            )+
        }
    };
}

contract!(sqlite, postgres => {
    clauses::a_version_reads_back_as_it_was_registered,
    clauses::versions_are_counted_without_gaps_also_at_once,
    clauses::an_author_never_decides_and_nobody_decides_twice,
    clauses::only_what_is_approved_becomes_active,
    clauses::what_was_made_active_is_told_in_its_order,
    clauses::deactivating_leaves_nothing_and_is_told,
    clauses::pages_are_by_name_and_number_and_filtered,
    clauses::every_act_stands_on_the_control_chain,
    clauses::nothing_is_done_without_its_record,
    clauses::another_tenants_versions_are_not_there,
    bounds::the_database_itself_keeps_what_is_promised,
    bounds::a_content_that_was_changed_is_not_used,
    bounds::a_tenant_has_no_more_versions_than_it_may,
    bounds::a_fleet_has_no_more_active_models_than_it_may,
});
