//! Owns work that keeps cores busy: done beside the runtime's own threads, which must not wait for it.

use futures::future::BoxFuture;

/// Does jobs beside each other and gives what they give, in their order; else why one broke off.
pub fn on_cores<T: Send + 'static>(
    jobs: Vec<Box<dyn FnOnce() -> T + Send>>,
) -> BoxFuture<'static, Result<Vec<T>, String>> {
    let under_way: Vec<_> = jobs.into_iter().map(tokio::task::spawn_blocking).collect();
    Box::pin(async move {
        let mut done = Vec::with_capacity(under_way.len());
        for job in under_way {
            done.push(job.await.map_err(|e| e.to_string())?);
        }
        Ok(done)
    })
}
