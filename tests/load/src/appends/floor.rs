//! What the kernel alone needs for the same: the same bytes into a file, and an HTTP exchange of
//! the same size with a process that does nothing else.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use tokio::task::JoinSet;
use world::{Folder, Launch, Output, free_addresses, pooled};

use crate::bare::{Bare, Durability};
use crate::request::Request;
use crate::system::listening;

/// Writes bodies of these sizes to one file, one after the other, each made durable where `sync`
/// says so; how long all of them take, in seconds. Once `limit` is over, the rest is extrapolated.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(
    path: &str,
    sizes: &[usize],
    sync: bool,
    limit: Duration,
) -> std::io::Result<f64> {
    let body = vec![b'x'; sizes.iter().copied().max().unwrap_or(0)];
    let (mut file, all) = (File::create(path)?, sizes.iter().sum::<usize>());
    let (begun, mut written) = (Instant::now(), 0);
    for size in sizes {
        file.write_all(&body[..*size])?;
        if sync {
            file.sync_data()?;
        }
        written += size;
        if begun.elapsed() > limit {
            break;
        }
    }
    Ok(begun.elapsed().as_secs_f64() * all as f64 / written.max(1) as f64)
}

/// An HTTP exchange with a bare process, as often as there is time.
pub(super) struct Echo<'a> {
    /// Exchanges in flight.
    pub(super) shards: u32,
    /// Of one request.
    pub(super) bytes: usize,
    /// Where the process writes what it is sent.
    pub(super) store: &'a Folder,
    /// Whether it does more than write.
    pub(super) durability: Durability,
    /// For how long.
    pub(super) limit: Duration,
}

impl Echo<'_> {
    /// How long each exchange took, in ms.
    ///
    /// # Errors
    /// The process does not answer.
    pub(super) async fn measure(&self) -> anyhow::Result<Vec<f64>> {
        let [listen] = free_addresses();
        let bare = Bare::Echo {
            listen: listen.clone(),
            file: self.store.file("echo"),
            durability: self.durability,
        };
        let launch = Launch::itself("bare echo", bare.arguments()?);
        let mut process = launch.writing_to(Output::Inherited).start();
        drop(listening(&mut process, &listen).await?);
        let client = pooled();
        let until = Instant::now() + self.limit;
        let mut asking = JoinSet::new();
        for _ in 0..self.shards {
            let (http, body, url) = (
                client.clone(),
                vec![b'x'; self.bytes],
                format!("http://{listen}/"),
            );
            asking.spawn(async move {
                let mut took_ms = Vec::new();
                while took_ms.is_empty() || Instant::now() < until {
                    let (request, begun) = (http.post(&url).body(body.clone()), Instant::now());
                    let _answer: IgnoredAny = Request(request).answer().await?;
                    took_ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
                }
                anyhow::Ok(took_ms)
            });
        }
        let mut all_ms = Vec::new();
        while let Some(took_ms) = asking.join_next().await {
            all_ms.append(&mut took_ms??);
        }
        process.kill().await;
        Ok(all_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_beyond_the_time_limit_are_extrapolated() {
        let store = Folder::new();
        let sizes = [1_000; 50];
        let all = write(&store.file("all"), &sizes, true, Duration::from_secs(60)).unwrap();
        assert_eq!(std::fs::metadata(store.file("all")).unwrap().len(), 50_000);
        let some = write(&store.file("some"), &sizes, true, Duration::ZERO).unwrap();
        assert_eq!(std::fs::metadata(store.file("some")).unwrap().len(), 1_000);
        assert!(all > 0.0 && some > 0.0);
    }
}
