//! The tasks without which the hub would run, serve stale rooms and report no failure. When one of
//! them ends early, the hub ends too: its supervisor restarts it, and it reads its store.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// The critical tasks, by name.
#[derive(Debug, Default)]
pub(super) struct CriticalTasks {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl CriticalTasks {
    /// Runs another task.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(work);
        self.names.insert(handle.id(), name);
    }

    /// The name of the first task that ends, by itself or by a panic. Without tasks it waits forever.
    pub(super) async fn first_end(&mut self) -> &'static str {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => std::future::pending().await,
        };
        self.names.get(&id).copied().unwrap_or("unknown")
    }

    /// Waits until all tasks have ended.
    pub(super) async fn all_ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_named_like_one_that_ends() {
        let mut critical = CriticalTasks::default();
        critical.spawn("pending", std::future::pending());
        critical.spawn("broken", async { panic!("planned") });
        assert_eq!(critical.first_end().await, "broken");
        critical.spawn("ended", async {});
        assert_eq!(critical.first_end().await, "ended");
    }
}
