//! The connections of this hub, counted under their bounds. A guard ends each count.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

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
    connections: AtomicUsize,
    unauthenticated: AtomicUsize,
    subjects: DashMap<Subject, usize>,
    /// Of the connections that have not authenticated; so it is no larger than their number.
    addresses: DashMap<IpAddr, usize>,
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
    subject: Option<Subject>,
    /// Until the connection authenticates.
    address: Option<IpAddr>,
}

impl Registry {
    /// No connections yet.
    pub fn new(limits: RegistryLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            next_id: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            unauthenticated: AtomicUsize::new(0),
            subjects: DashMap::new(),
            addresses: DashMap::new(),
        }))
    }

    /// Counts a connection that has not authenticated.
    ///
    /// # Errors
    /// The hub or this client is at its bound.
    pub fn register(&self, client: Client) -> Result<Registration, Full> {
        let shared = &self.0;
        let address = match client {
            Client::At(address) => Some(address),
            Client::Unknown => None,
        };
        if let Some(address) = address {
            let mut count = shared.addresses.entry(address).or_insert(0);
            if *count >= shared.limits.unauthenticated_per_address_max {
                return Err(Full::Address);
            }
            *count += 1;
        }
        if !take(&shared.connections, shared.limits.connections_max) {
            self.release(address);
            return Err(Full::Hub);
        }
        if !take(&shared.unauthenticated, shared.limits.unauthenticated_max) {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.release(address);
            return Err(Full::Hub);
        }
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        self.measure();
        Ok(Registration {
            registry: self.clone(),
            id,
            subject: None,
            address,
        })
    }

    /// Ends the count of one connection of this address.
    fn release(&self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(mut count) = self.0.addresses.get_mut(&address) {
            *count -= 1;
        }
        self.0.addresses.remove_if(&address, |_, count| *count == 0);
    }

    fn measure(&self) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge; exact up to 2^52 connections"
        )]
        {
            metrics::gauge!("hub_sockets_connections")
                .set(self.0.connections.load(Ordering::Relaxed) as f64);
            metrics::gauge!("hub_sockets_unauthenticated")
                .set(self.0.unauthenticated.load(Ordering::Relaxed) as f64);
        }
    }
}

impl Registration {
    /// The connection has authenticated; false if its subject is at its bound.
    #[must_use]
    pub fn authenticate(&mut self, subject: &Subject) -> bool {
        if self.subject.is_some() {
            return true;
        }
        let shared = &self.registry.0;
        let mut count = shared.subjects.entry(subject.clone()).or_insert(0);
        if *count >= shared.limits.connections_per_subject_max {
            return false;
        }
        *count += 1;
        drop(count);
        shared.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        self.subject = Some(subject.clone());
        self.registry.release(self.address.take());
        self.registry.measure();
        true
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let shared = &self.registry.0;
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.registry.release(self.address.take());
        match self.subject.take() {
            None => {
                shared.unauthenticated.fetch_sub(1, Ordering::Relaxed);
            }
            Some(subject) => {
                if let Some(mut count) = shared.subjects.get_mut(&subject) {
                    *count -= 1;
                }
                shared.subjects.remove_if(&subject, |_, count| *count == 0);
            }
        }
        self.registry.measure();
    }
}

fn take(count: &AtomicUsize, max: usize) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < max).then_some(now + 1)
        })
        .is_ok()
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
        assert_eq!(registry.0.connections.load(Ordering::Relaxed), 0);
        assert_eq!(registry.0.unauthenticated.load(Ordering::Relaxed), 0);
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
