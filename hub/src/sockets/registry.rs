//! The connections of this hub, counted under their bounds. A guard ends each count.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use metrics::gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client_address::Client;
use super::limits::RegistryLimits;
use crate::auth::Subject;

/// Names one connection of this hub.
pub type ConnectionId = u64;

/// The connections of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    limits: RegistryLimits,
    next_id: AtomicU64,
    connections: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
    subjects: Arc<DashMap<Subject, usize>>,
    /// Of the connections that have not authenticated; so it is no larger than their number.
    addresses: Arc<DashMap<IpAddr, usize>>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The hub is at its bound.
    Hub,
    /// The address is at its bound of connections that have not authenticated.
    Address,
}

/// One counted connection; dropping it ends the count.
pub struct Registration {
    registry: Registry,
    /// Names the connection.
    pub id: ConnectionId,
    subject: Option<Counted<Subject>>,
    /// Until the connection authenticates.
    unauthenticated: Option<(OwnedSemaphorePermit, Option<Counted<IpAddr>>)>,
    _connection: OwnedSemaphorePermit,
}

/// One connection among those of its key.
struct Counted<K: Eq + Hash> {
    counts: Arc<DashMap<K, usize>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Counted<K> {
    /// Counts one more connection of this key; `None` if it has `max`.
    fn new(counts: &Arc<DashMap<K, usize>>, key: K, max: usize) -> Option<Self> {
        let mut count = counts.entry(key.clone()).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        drop(count);
        let counts = Arc::clone(counts);
        Some(Self { counts, key })
    }
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        if let Some(mut count) = self.counts.get_mut(&self.key) {
            *count -= 1;
        }
        self.counts.remove_if(&self.key, |_, count| *count == 0);
    }
}

impl Registry {
    /// No connections yet.
    pub fn new(limits: RegistryLimits) -> Self {
        Self(Arc::new(Shared {
            next_id: AtomicU64::new(1),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            unauthenticated: Arc::new(Semaphore::new(limits.unauthenticated_max)),
            subjects: Arc::default(),
            addresses: Arc::default(),
            limits,
        }))
    }

    /// Counts a connection that has not authenticated.
    ///
    /// # Errors
    /// The hub or this client is at its bound.
    pub fn register(&self, client: Client) -> Result<Registration, Full> {
        let shared = &self.0;
        let address = match client {
            Client::At(address) => {
                let max = shared.limits.unauthenticated_per_address_max;
                let counted = Counted::new(&shared.addresses, address, max);
                Some(counted.ok_or(Full::Address)?)
            }
            Client::Unknown => None,
        };
        let take = |count: &Arc<Semaphore>| {
            let taken = Arc::clone(count).try_acquire_owned();
            taken.map_err(|_| Full::Hub)
        };
        let connection = take(&shared.connections)?;
        let unauthenticated = take(&shared.unauthenticated)?;
        gauge!("hub_sockets_connections").increment(1.0);
        gauge!("hub_sockets_unauthenticated").increment(1.0);
        Ok(Registration {
            registry: self.clone(),
            id: shared.next_id.fetch_add(1, Ordering::Relaxed),
            subject: None,
            unauthenticated: Some((unauthenticated, address)),
            _connection: connection,
        })
    }
}

impl Registration {
    /// The connection's name in frames and in the log.
    pub fn name(&self) -> String {
        format!("{:x}", self.id)
    }

    /// The connection has authenticated; false if its subject is at its bound.
    #[must_use]
    pub fn authenticate(&mut self, subject: &Subject) -> bool {
        if self.subject.is_none() {
            let shared = &self.registry.0;
            let max = shared.limits.connections_per_subject_max;
            self.subject = Counted::new(&shared.subjects, subject.clone(), max);
            if self.subject.is_some() {
                self.end_unauthenticated();
            }
        }
        self.subject.is_some()
    }

    fn end_unauthenticated(&mut self) {
        if self.unauthenticated.take().is_some() {
            gauge!("hub_sockets_unauthenticated").decrement(1.0);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.end_unauthenticated();
        gauge!("hub_sockets_connections").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(RegistryLimits {
            connections_max: 3,
            unauthenticated_max: 2,
            unauthenticated_per_address_max: 1,
            connections_per_subject_max: 1,
        })
    }

    #[test]
    fn connections_are_bounded_and_counted_until_they_end() {
        let registry = registry();
        let (mut first, second) = (
            registry.register(Client::Unknown).unwrap(),
            registry.register(Client::Unknown).unwrap(),
        );
        assert!(
            registry.register(Client::Unknown).is_err(),
            "two unauthenticated connections at once"
        );
        let ada = Subject::new("ada").unwrap();
        assert!(first.authenticate(&ada));
        let mut third = registry.register(Client::Unknown).unwrap();
        assert!(!third.authenticate(&ada), "one connection a subject");
        assert!(
            registry.register(Client::Unknown).is_err(),
            "three connections at once"
        );
        drop((first, second));
        assert!(third.authenticate(&ada));
        drop(third);
        assert!(registry.0.subjects.is_empty());
        assert_eq!(registry.0.connections.available_permits(), 3);
        assert_eq!(registry.0.unauthenticated.available_permits(), 2);
    }

    #[test]
    fn an_address_counts_a_connection_until_it_authenticates_or_ends() {
        let registry = registry();
        let here = Client::At([203, 0, 113, 9].into());
        let there = Client::At([203, 0, 113, 10].into());
        let mut first = registry.register(here).unwrap();
        assert_eq!(registry.register(here).err(), Some(Full::Address));
        let other = registry.register(there).unwrap();
        assert_eq!(registry.register(here).err(), Some(Full::Address));
        assert!(first.authenticate(&Subject::new("ada").unwrap()));
        let second = registry.register(here).unwrap();
        assert_eq!(registry.register(Client::Unknown).err(), Some(Full::Hub));
        drop((second, other, first));
        assert!(registry.0.addresses.is_empty());
    }
}
