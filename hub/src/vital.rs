//! The tasks without which the hub would stay up, deaf, and say that all is well. When one of them
//! ends before its time, the hub ends too: it is started again, and reads its store.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

/// The tasks, by name.
#[derive(Debug, Default)]
pub(crate) struct Vital {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Vital {
    /// Runs one more.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(work);
        self.names.insert(handle.id(), name);
    }

    /// Waits for the first that ends, by itself or by a panic, and names it. Never ends without one.
    pub(crate) async fn ended(&mut self) -> &'static str {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(broken)) => broken.id(),
            None => std::future::pending().await,
        };
        self.names.get(&id).copied().unwrap_or("unknown")
    }

    /// Waits for all of them, after they were told to stop.
    pub(crate) async fn all(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_named_as_one_that_ends() {
        let mut vital = Vital::default();
        vital.spawn("deaf", std::future::pending());
        vital.spawn("broken", async { panic!("as planned") });
        assert_eq!(vital.ended().await, "broken");
        vital.spawn("ended", async {});
        assert_eq!(vital.ended().await, "ended");
    }
}
